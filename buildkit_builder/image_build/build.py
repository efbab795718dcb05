"""One image, from its spec to where it belongs; and whether it is there already."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from buildkit_builder import config, llb
from buildkit_builder.config import Settings
from buildkit_builder.destination import Destination, push_from_engine
from buildkit_builder.image_build.job import (
    DockerfileJob,
    ImageJob,
    Spec,
    cache_entries,
    identity_of,
    read_by_daemon,
    ssh_agents,
)
from buildkit_builder.image_build.secret_values import all_secrets, redactor, secret_values
from buildkit_builder.image_build.sharing import shared
from buildkit_builder.lower.image import CA_SECRET
from buildkit_builder.progress.display import open_screen
from buildkit_builder.session.auth import Auth
from buildkit_builder.session.docker_config import DockerConfig
from buildkit_builder.session.filesync import FileSync
from buildkit_builder.session.secrets import Secrets
from buildkit_builder.solve import BuildRequest, BuildResult
from buildkit_builder.solve import build as solve_build
from buildkit_builder.solve.policy import mirrors
from buildkit_builder.solve.probe import PlatformProbe
from buildkit_builder.spec import ImageSpec, secrets_of


async def build(spec: Spec, settings: Settings) -> BuildResult:
    """Builds an image and pushes it, or loads it into the engine where it names no registry.

    Raises:
        BuildKitError: It failed; says where and why. What is wrong with the image itself is found before connecting.
    """
    environ = config.environment()
    secrets = all_secrets(secret_values(secrets_of(spec), environ), settings, environ)
    job = ImageJob.of(spec, settings) if isinstance(spec, ImageSpec) else DockerfileJob(spec)
    credentials = _credentials(spec, settings, environ)
    hidden = {name: value for name, value in secrets.items() if name != CA_SECRET}
    redact = redactor(hidden.values())
    async with shared(settings, environ) as (connection, screen):
        destination = await Destination.choose(spec, settings, connection)
        request = BuildRequest(
            title=spec.reference,
            frontend=job.frontend(settings, connection.endpoint.kind == "docker", destination.beside),
            exporters=(destination.exporter,),
            attachables=(
                FileSync(job.directories()),
                Secrets(secrets),
                Auth(credentials),
                *ssh_agents(settings, environ),
            ),
            frontend_attributes=read_by_daemon(spec, settings),
            cache_imports=cache_entries(settings.buildx.cache_from),
            cache_exports=cache_entries(settings.buildx.cache_to),
            source_policy=mirrors(dict(settings.registry_mirrors)),
            entitlements=("network.host",) if settings.buildx.extra.network == "host" else (),
            # The daemon's history keeps all that steps print, and the daemon does not take secrets out of it.
            internal=bool(hidden),
        )
        result = await solve_build(connection, request, screen.display(spec.reference, redact), redact=redact)
        if destination.pushed_by_engine:
            result = await push_from_engine(connection.endpoint, result, spec.reference, credentials)
        return result


async def look_up(
    reference: str, platforms: tuple[str, ...], settings: Settings, spec: Spec | None = None
) -> PlatformProbe:
    """Asks a registry what it has under a name.

    Args:
        reference: The name.
        platforms: The platforms asked for.
        settings: The settings.
        spec: What the image is to be; without it, only whether it is there is asked.

    Raises:
        BuildKitError: It cannot be told: no BuildKit, no such registry, credentials refused.
    """
    environ = config.environment()
    probe = PlatformProbe(
        reference=reference,
        platforms=tuple(llb.Platform.parse(name) for name in platforms),
        identity=identity_of(spec) if spec is not None else None,
    )
    async with shared(settings, environ) as (connection, _):
        if isinstance(spec, ImageSpec):
            local = connection.endpoint.kind == "docker" and not settings.buildx.extra.pull
            probe.base = (spec.base, "local" if local else "default")
        auth = Auth(_credentials(spec, settings, environ) if spec is not None else _docker_config(settings, environ))
        request = BuildRequest(
            title=reference, frontend=probe, attachables=(auth,), internal=True,
            source_policy=mirrors(dict(settings.registry_mirrors)),
        )  # fmt: skip
        quiet = open_screen("quiet", sys.stderr, environ=environ, clock=time.monotonic)
        await solve_build(connection, request, quiet.display(reference))
    return probe


def _credentials(spec: Spec, settings: Settings, environ: Mapping[str, str]) -> DockerConfig:
    """Docker's credentials, those of the image's own registry secret before them."""
    if spec.registry_secret is None:
        return _docker_config(settings, environ)
    (value,) = secret_values((spec.registry_secret,), environ).values()
    return _docker_config(settings, environ, value.decode(errors="replace"))


def _docker_config(settings: Settings, environ: Mapping[str, str], own: str = "") -> DockerConfig:
    file = settings.docker_config or config.docker_config_file(environ)
    return DockerConfig.load(file, auth_config=own or environ.get("DOCKER_AUTH_CONFIG", ""))
