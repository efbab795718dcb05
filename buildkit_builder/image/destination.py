"""Where an image goes: to its registry, pushed by the daemon or by the engine around it, or into the engine's store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api import advice, failures
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.build import BuildResult, Exporter, LoadIntoEngine, Push
from buildkit_builder.buildkit.build.exporters import Compression
from buildkit_builder.buildkit.connect import docker_engine
from buildkit_builder.buildkit.connect.connection import Connection, route_to
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session.credentials import Credentials
from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.buildkit.session.registries import is_insecure
from buildkit_builder.config import Settings
from buildkit_builder.errors import CapabilityError, DaemonLostError, ImageError
from buildkit_builder.image.spec import DockerfileSpec, ImageSpec
from buildkit_builder.image.unforeseen import only_ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """What the daemon is to do with an image.

    Attributes:
        exporter: Given to the daemon.
        pushed_by_engine: Whether the engine has to push it afterwards: without the containerd image store, the
            BuildKit inside an engine cannot.
        beside: The name it is pushed to, where other platforms of it may be already, or `None`.
    """

    exporter: Exporter
    pushed_by_engine: bool = False
    beside: str | None = None

    @classmethod
    async def choose(cls, spec: ImageSpec | DockerfileSpec, settings: Settings, connection: Connection) -> Destination:
        """Chooses by what the image names and what the daemon can do.

        Raises:
            CapabilityError: An engine without the containerd image store is asked for what only that can hold.
            ImageError: The image names no registry, and there is no engine to keep it.
        """
        endpoint = connection.endpoint
        if endpoint.kind == "docker" and not await _has_containerd_store(connection):
            _refuse_without_store(spec, settings, connection)
            return cls(exporter=LoadIntoEngine(reference=spec.reference), pushed_by_engine=spec.push)
        if spec.push:
            return cls(exporter=_push(spec.reference, settings), beside=spec.reference)
        if endpoint.kind != "docker":
            raise ImageError(
                f"The image {spec.reference} names no registry, and {endpoint.address} is a buildkitd, which keeps no "
                "images. Set `image.registry` in the config, or build with a Docker Engine."
            )
        annotations = settings.annotations
        return cls(exporter=LoadIntoEngine(reference=spec.reference, annotations=annotations))


def _refuse_without_store(spec: ImageSpec | DockerfileSpec, settings: Settings, connection: Connection) -> None:
    """What an engine without the containerd image store would leave out without a word, or do as something else.

    Raises:
        CapabilityError: The image asks for it.
    """
    compression = settings.compression
    wanted = (
        (
            len(spec.platforms) > 1,
            f"hold an image of several platforms ({', '.join(spec.platforms)})",
            "name one platform in `image.buildkit.platforms`",
        ),
        (
            bool(settings.annotations),
            "annotate an image",
            "take `annotations` out of the settings (and `--annotation` out of FLYTE_DOCKER_BUILD_EXTRA_ARGS)",
        ),
        (
            settings.provenance is not None or settings.sbom is not None,
            "attest an image (`provenance`, `sbom`)",
            "leave them out",
        ),
        (compression not in (None, "gzip"), f"pack layers as {compression}", "leave `compression` out"),
        (settings.force_compression, "pack the layers of the base anew", "leave `force_compression` out"),
        (settings.oci_media_types is True, "push OCI media types", "leave `oci_media_types` out"),
        (
            settings.epoch is not None,
            "set the time of an image",
            "leave `source_date_epoch` out, and SOURCE_DATE_EPOCH unset",
        ),
    )
    for is_wanted, what, instead in wanted:
        if is_wanted:
            raise CapabilityError(
                f"The Docker Engine at {connection.endpoint.address} cannot {what}: it is without the containerd image "
                f"store. {_store_advice(connection)} Or {instead}."
            )


def _store_advice(connection: Connection) -> str:
    return advice.of_store(is_there=not connection.daemon.is_before_0_11)


async def push_part(spec: ImageSpec | DockerfileSpec, settings: Settings, connection: Connection, node: str) -> Push:
    """How one of several nodes pushes what it has built for some of an image's platforms: without a tag.

    Args:
        spec: The image.
        settings: The settings.
        connection: To the node.
        node: What the user calls it.

    Raises:
        CapabilityError: It is an engine without the containerd image store, which cannot.
    """
    if connection.endpoint.kind == "docker" and not await _has_containerd_store(connection):
        raise CapabilityError(
            f"The node {node}, a Docker Engine, cannot push one platform of an image by its digest: it is without the "
            f"containerd image store. {_store_advice(connection)}"
        )
    # Annotations belong to what gets the tag.
    return replace(_push(spec.reference, settings), by_digest=True, annotations=())


def push_joined(spec: ImageSpec | DockerfileSpec, settings: Settings) -> Push:
    """How what several nodes have pushed is put under the tag; its layers are packed already, and stay as they are."""
    push = _push(spec.reference, settings)
    return replace(push, compression=replace(push.compression, force=False), rewrite_timestamps=False)


async def push_from_engine(
    endpoint: Endpoint, result: BuildResult, reference: str, credentials: DockerConfig
) -> BuildResult:
    """Has an engine push an image that was loaded into it.

    Raises:
        RegistryError: The registry refused it.
        DaemonLostError: The engine went away.
    """
    name = llb.ImageReference.parse(reference)
    found = await asyncio.to_thread(credentials.lookup, name.domain)
    try:
        async with route_to(endpoint) as route:
            try:
                digest = await docker_engine.push(route, name, _shown(found))
            except docker_engine.PushRefusedError:
                newer = await asyncio.to_thread(lambda: credentials.lookup(name.domain, refused=found))
                if newer == found:
                    raise
                digest = await docker_engine.push(route, name, _shown(newer))
    except docker_engine.PushRefusedError as error:
        credentials.forget(name.domain)
        raise failures.refused_push(str(error), reference) from error
    except OSError as error:
        raise DaemonLostError(f"The Docker Engine went away while it was pushing {reference}: {error}.") from error
    return replace(result, digest=digest or result.digest)


def _shown(credentials: Credentials) -> dict[str, str]:
    shown = {
        "username": credentials.username,
        "password": credentials.password,
        "identitytoken": credentials.identity_token,
        "registrytoken": credentials.registry_token,
    }
    return {name: value for name, value in shown.items() if value}


async def _has_containerd_store(connection: Connection) -> bool:
    with only_ours("asking where the daemon can put an image"):
        workers = await Control(connection.channel).list_workers()
    return any(worker.snapshotter for worker in workers)


def _push(reference: str, settings: Settings) -> Push:
    return Push(
        reference=reference,
        insecure=is_insecure(llb.ImageReference.parse(reference).domain, settings.insecure_registries),
        compression=Compression(type=settings.compression, level=settings.level, force=settings.force_compression),
        oci_media_types=settings.oci_media_types,
        annotations=settings.annotations,
        rewrite_timestamps=settings.epoch is not None,
    )
