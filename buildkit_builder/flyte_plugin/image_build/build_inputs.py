"""What a spec asks of a build: a frontend, local directories, an identity."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from buildkit_builder import config
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build.request import CacheEntry, Frontend
from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.buildkit.session.patterns import Matcher
from buildkit_builder.buildkit.session.ssh import SshAgent
from buildkit_builder.config import Settings
from buildkit_builder.config.buildx import EXTRA_ARGS
from buildkit_builder.errors import ConfigError
from buildkit_builder.flyte_plugin import reader
from buildkit_builder.flyte_plugin.reader import read_patterns, read_text
from buildkit_builder.image import contents
from buildkit_builder.image.dockerfile import DockerfileFrontend
from buildkit_builder.image.frontend import ImageFrontend
from buildkit_builder.image.identity import Identity
from buildkit_builder.image.lower import Environment
from buildkit_builder.image.memory import Memory
from buildkit_builder.image.plan import DockerfileLines, LocalSource, Plan, plan
from buildkit_builder.image.spec import DockerfileSpec, ImageSpec, LabelsLayer, UvProjectLayer
from buildkit_builder.image.unforeseen import only_ours

_MADE_UP = 1 << 40  # the bit that marks addresses of groups, which no card has

Spec = ImageSpec | DockerfileSpec


def job_of(spec: Spec, settings: Settings) -> ImageJob | DockerfileJob:
    """What a spec asks of a build.

    Raises:
        ImageError: A file that says how the image is made cannot be read, or makes no sense.
    """
    return ImageJob.of(spec, settings) if isinstance(spec, ImageSpec) else DockerfileJob.of(spec)


async def identity_of(job: ImageJob | DockerfileJob, settings: Settings) -> Identity:
    """What an image is made from, in a thread, since it may read many files: other builds need not wait for that."""

    def read() -> Identity:
        # Not every error gets out of a thread: a `StopIteration` would be waited for, for ever.
        with only_ours("reading local files"):
            return job.identity(settings)

    return await asyncio.to_thread(read)


@dataclass(frozen=True, slots=True)
class ImageJob:
    """An image of layers."""

    spec: ImageSpec
    plan: Plan
    # A source's name tells what its files are.
    shares_files: ClassVar[bool] = True

    @property
    def has_dockerfile_lines(self) -> bool:
        """Whether the daemon's own Dockerfile frontend has a part in it."""
        return any(isinstance(step, DockerfileLines) for step in self.plan.steps)

    @classmethod
    def of(cls, spec: ImageSpec, settings: Settings) -> ImageJob:
        """Plans an image."""
        return cls(spec, plan(_labelled(spec, settings), dict(settings.buildx.extra.build_args)))

    def directories(self) -> list[LocalDirectory]:
        """The local files that the daemon may ask for."""
        return [_directory(source) for source in self.plan.sources]

    def identity(self, settings: Settings) -> Identity:
        """What the image is made from. Reads its files."""
        projects = [layer for layer in self.spec.layers if isinstance(layer, UvProjectLayer)]
        needed = [LocalSource(name="", files=files) for layer in projects for _, files in layer.editables]
        return Identity.of(
            self.spec,
            files=contents.digest_of(f"projects of {self.spec.reference.rpartition(':')[0]}", map(_directory, needed)),
            sources=contents.digest_of_tagged(self.spec.reference, self.directories()),
            settings=_that_show(settings),
        )

    def frontend(
        self,
        settings: Settings,
        platforms: tuple[llb.Platform, ...],
        identity: Identity,
        *,
        is_engine: bool,
        beside: str | None,
        cache_imports: tuple[CacheEntry, ...] = (),
    ) -> Frontend:
        """What makes the image.

        Args:
            settings: The settings.
            platforms: What it is built for on this daemon.
            identity: What it is made from.
            is_engine: Whether the daemon is a Docker Engine, which has images of its own.
            beside: Where other platforms of the image may be already.
            cache_imports: Where steps may be found that were run elsewhere.
        """
        extra = settings.buildx.extra
        state = config.state_home(config.environment()) / "buildkit-builder"
        return ImageFrontend(
            attempts=Memory(state / "attempts"),
            seen=Memory(state / "images"),
            plan=self.plan,
            platforms=platforms,
            prefer_local=is_engine and not extra.pull,
            cache_imports=cache_imports,
            identity=identity,
            beside=beside,
            environment=_surroundings(
                settings, {source.name: _shared_key(source.files.root) for source in self.plan.sources}
            ),
        )


def _labelled(spec: ImageSpec, settings: Settings) -> ImageSpec:
    """With the labels of the settings, which come last, as `docker buildx build --label` has it."""
    labels = settings.labels
    return replace(spec, layers=(*spec.layers, LabelsLayer(labels=labels))) if labels else spec


@dataclass(frozen=True, slots=True)
class DockerfileJob:
    """An image of a Dockerfile."""

    spec: DockerfileSpec
    text: str
    ignore: tuple[str, ...]
    # A Dockerfile's frontend knows its folders only as `context` and `dockerfile`.
    shares_files: ClassVar[bool] = False
    has_dockerfile_lines: ClassVar[bool] = True

    @classmethod
    def of(cls, spec: DockerfileSpec) -> DockerfileJob:
        """Reads what the daemon's frontend will read.

        Raises:
            MissingSourceError: A file cannot be read.
            ImageError: A pattern makes no sense.
        """
        text = read_text(spec.dockerfile, "from_dockerfile", errors="replace")
        own = spec.dockerfile.with_name(f"{spec.dockerfile.name}.dockerignore")
        ignore = next((file for file in (own, spec.dockerfile.with_name(".dockerignore")) if file.is_file()), None)
        return cls(spec, text, read_patterns(ignore, "from_dockerfile") if ignore is not None else ())

    def directories(self) -> list[LocalDirectory]:
        """The local files that the daemon may ask for."""
        folder = self.spec.dockerfile.parent
        return [LocalDirectory("context", folder), LocalDirectory("dockerfile", folder)]

    def identity(self, settings: Settings) -> Identity:
        """What the image is made from. Reads its files."""
        context, _ = self.directories()
        return Identity.of(
            self.spec,
            text=self.text,
            files=contents.digest_of(f"context {context.root.absolute()}", [context], self.ignore),
            settings=_that_show(settings),
        )

    def frontend(
        self,
        settings: Settings,
        platforms: tuple[llb.Platform, ...],
        identity: Identity,
        *,
        is_engine: bool,
        beside: str | None,
        cache_imports: tuple[CacheEntry, ...] = (),
    ) -> Frontend:
        """What makes the image.

        Args:
            settings: The settings.
            platforms: What it is built for on this daemon.
            identity: What it is made from.
            is_engine: Whether the daemon is a Docker Engine, which has images of its own.
            beside: Where other platforms of the image may be already.
            cache_imports: Where steps may be found that were run elsewhere.
        """
        extra = settings.buildx.extra
        shared_key = _shared_key(self.spec.dockerfile.parent)
        return DockerfileFrontend(
            filename=self.spec.dockerfile.name,
            text=self.text,
            platforms=platforms,
            prefer_local=is_engine and not extra.pull,
            cache_imports=cache_imports,
            identity=identity,
            beside=beside,
            options={
                "sharedkey:localdir:context": shared_key,
                "sharedkey:localdir:dockerfile": shared_key,
                **_surroundings(settings).dockerfile_options(),
                **{f"label:{name}": value for name, value in settings.labels},
            },
        )


def _directory(source: LocalSource) -> LocalDirectory:
    """The files of a source, as Flyte's own builder would copy them: links to files as files, no empty folders."""
    files = source.files
    if files.kind == "file":
        return LocalDirectory(source.name, files.root.parent, files={files.root.name: files.root.resolve()})
    if files.only is not None:
        listed = {path: files.root / path for path in files.only}
        return LocalDirectory(source.name, files.root, files=listed, symlinks="copy-files")
    keeps, enters = reader.keeps(files.ignore), reader.enters(files.ignore)
    outer = Matcher(files.outer)

    def keep(path: str, _is_folder: bool) -> bool:
        return path in files.always or (keeps(path) and not outer.matches(f"{files.place}{path}"))

    def descend(path: str) -> bool:
        # What is left out as a whole is not even listed: a `.venv` may hold more files than all the rest.
        excepted = keeps(path) and outer.may_except_below(f"{files.place}{path}")
        return excepted or enters(path) or any(always.startswith(f"{path}/") for always in files.always)

    return LocalDirectory(
        source.name,
        files.root,
        keep=keep,
        descend=descend,
        symlinks="copy-files",
        empty_dirs=False,
        # Flyte's own builder makes the folders anew.
        folder_mode=0o755,
    )


def _shared_key(root: Path) -> str:
    """Under what the daemon keeps its copy of a folder: this machine's folder, whoever builds from it."""
    node = uuid.getnode()
    # Where no network card has an address, Python makes one up, another one in every process.
    machine = socket.gethostname() if node & _MADE_UP else f"{node:x}"
    return hashlib.sha256(machine.encode() + b":" + os.fsencode(root)).hexdigest()


def _that_show(settings: Settings) -> dict[str, object]:
    """Settings that make another image, by the part of its identity that they are.

    Not those that only say how it is made, or from where: proxies and certificates, mirrors, caches, hosts and
    networks of steps. They leave no trace in an image, or are this machine's affair.
    """
    packing = (settings.compression, settings.compression_level, settings.force_compression, settings.oci_media_types)
    proxies = [f"{kind}_proxy" for kind in ("http", "https", "no", "all", "ftp")]
    arguments = [pair for pair in settings.buildx.extra.build_args if pair[0].lower() not in proxies]
    attestations = (settings.provenance, settings.sbom)
    return {
        "labels": settings.labels,
        "annotations": settings.annotations,
        "args": arguments,
        "epoch": settings.epoch,
        "packing": packing if packing != (None, None, False, None) else None,
        "attests": attestations if attestations != (None, None) else None,
    }


def _surroundings(settings: Settings, shared_keys: Mapping[str, str] = MappingProxyType({})) -> Environment:
    extra = settings.buildx.extra
    return Environment(
        shared_keys=shared_keys,
        proxy=_proxy(settings),
        ca_bundle=settings.ca_bundle is not None,
        network=extra.network,
        extra_hosts=extra.add_hosts,
        no_cache=extra.no_cache,
        epoch=settings.epoch or "",
        side_by_side=settings.parallel,
        build_args=extra.build_args,
    )


def _proxy(settings: Settings) -> llb.ProxyEnv | None:
    """The proxies of steps; as build arguments, where they go by the names they have as variables, they win."""
    given = {name.lower(): value for name, value in settings.buildx.extra.build_args}
    proxy = llb.ProxyEnv(
        http=given.get("http_proxy", settings.http_proxy or ""),
        https=given.get("https_proxy", settings.https_proxy or ""),
        no=given.get("no_proxy", settings.no_proxy or ""),
        all=given.get("all_proxy", settings.all_proxy or ""),
    )
    return proxy if proxy != llb.ProxyEnv() else None


def read_by_daemon(platforms: tuple[llb.Platform, ...], settings: Settings) -> dict[str, str]:
    """What the daemon reads whatever the frontend: what the result is for, its time, and what is to attest it."""
    attestations = {"provenance": settings.provenance, "sbom": settings.sbom}
    epoch = settings.epoch
    return {
        "platform": ",".join(map(str, platforms)),
        **({"build-arg:SOURCE_DATE_EPOCH": epoch} if epoch else {}),
        **{f"attest:{name}": value for name, value in attestations.items() if value is not None},
    }


def ssh_agents(settings: Settings, environ: Mapping[str, str]) -> tuple[SshAgent, ...]:
    """The agents that steps may use.

    Raises:
        ConfigError: One is no socket.
    """
    sockets: dict[str, Path] = {}
    for argument in settings.buildx.extra.ssh:
        paths = argument.paths or tuple(Path(path) for path in [environ.get("SSH_AUTH_SOCK")] if path)
        if len(paths) != 1 or not paths[0].is_socket():
            found = ", ".join(map(str, argument.paths)) or "SSH_AUTH_SOCK, which is not set or leads nowhere"
            raise ConfigError(
                f"{EXTRA_ARGS}: --ssh {argument.id} is to be the socket of an ssh agent, and names {found}. "
                "Start an agent (`ssh-agent`), add the keys to it (`ssh-add`), and name its socket."
            )
        sockets[argument.id] = paths[0]
    return (SshAgent(sockets),) if sockets else ()
