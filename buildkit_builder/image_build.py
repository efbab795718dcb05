"""One image, from its spec to where it belongs: what Flyte's front door and the background process share."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import click

from buildkit_builder import config, contents, flyte_image, llb
from buildkit_builder.client import endpoint as endpoints
from buildkit_builder.client.connection import Connection, Pool
from buildkit_builder.client.endpoint import Endpoint
from buildkit_builder.config import Settings
from buildkit_builder.config.buildx import EXTRA_ARGS
from buildkit_builder.destination import Destination, push_from_engine
from buildkit_builder.errors import ConfigError, MissingSecretError
from buildkit_builder.identity import Identity
from buildkit_builder.lower import Environment
from buildkit_builder.lower.image import CA_SECRET
from buildkit_builder.plan import LocalSource, Plan, Run, plan
from buildkit_builder.progress.display import Screen, open_screen
from buildkit_builder.session.auth import Auth
from buildkit_builder.session.docker_config import DockerConfig
from buildkit_builder.session.filesync import FileSync, LocalDirectory
from buildkit_builder.session.patterns import parse_dockerignore
from buildkit_builder.session.secrets import Secrets
from buildkit_builder.session.ssh import SshAgent
from buildkit_builder.solve import BuildRequest, BuildResult
from buildkit_builder.solve import build as solve_build
from buildkit_builder.solve.dockerfile import DockerfileFrontend
from buildkit_builder.solve.frontend import ImageFrontend
from buildkit_builder.solve.policy import mirrors
from buildkit_builder.solve.probe import PlatformProbe
from buildkit_builder.solve.request import CacheEntry, Frontend
from buildkit_builder.spec import DockerfileSpec, ImageSpec, LabelsLayer, SecretRef, UvProjectLayer, secrets_of

Spec = ImageSpec | DockerfileSpec


async def build(spec: Spec, settings: Settings) -> BuildResult:
    """Builds an image and pushes it, or loads it into the engine where it names no registry.

    Raises:
        BuildKitError: It failed; says where and why. What is wrong with the image itself is found before connecting.
    """
    environ = config.environment()
    secrets = _all_secrets(secret_values(secrets_of(spec), environ), settings, environ)
    job = _ImageJob.of(spec, settings) if isinstance(spec, ImageSpec) else _DockerfileJob(spec)
    credentials = _credentials(spec, settings, environ)
    hidden = {name: value for name, value in secrets.items() if name != CA_SECRET}
    redact = redactor(hidden.values())
    async with _shared(settings, environ) as (connection, screen):
        destination = await Destination.choose(spec, settings, connection)
        request = BuildRequest(
            title=spec.reference,
            frontend=job.frontend(settings, connection.endpoint.kind == "docker", destination.beside),
            exporters=(destination.exporter,),
            attachables=(
                FileSync(job.directories()),
                Secrets(secrets),
                Auth(credentials),
                *_ssh_agents(settings, environ),
            ),
            frontend_attributes=_read_by_daemon(spec, settings),
            cache_imports=_cache(settings.buildx.cache_from),
            cache_exports=_cache(settings.buildx.cache_to),
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
    async with _shared(settings, environ) as (connection, _):
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


def identity_of(spec: Spec) -> Identity:
    """What an image is made from, with the local files that its tag does not cover, as far as that is quick."""
    if isinstance(spec, DockerfileSpec):
        folder = spec.dockerfile.parent
        own = spec.dockerfile.with_name(f"{spec.dockerfile.name}.dockerignore")
        ignore = next((file for file in (own, folder / ".dockerignore") if file.is_file()), None)
        patterns = parse_dockerignore(ignore.read_text(encoding="utf-8")) if ignore is not None else ()
        return Identity.of(spec, contents.digest_of([LocalDirectory("context", folder)], tuple(patterns)))
    projects = [layer for layer in spec.layers if isinstance(layer, UvProjectLayer)]
    needed = [files for layer in projects for _, files in layer.editables]
    return Identity.of(spec, contents.digest_of(_directory(LocalSource(name="", files=files)) for files in needed))


# --- what a build is made of ---


@dataclass(frozen=True, slots=True)
class _ImageJob:
    """An image of layers."""

    spec: ImageSpec
    plan: Plan

    @classmethod
    def of(cls, spec: ImageSpec, settings: Settings) -> _ImageJob:
        return cls(spec, plan(_labelled(spec, settings), dict(settings.buildx.extra.build_args)))

    def directories(self) -> list[LocalDirectory]:
        return [_directory(source) for source in self.plan.sources]

    def frontend(self, settings: Settings, is_engine: bool, beside: str | None) -> Frontend:
        extra = settings.buildx.extra
        return ImageFrontend(
            plan=self.plan,
            platforms=_platforms(self.spec),
            prefer_local=is_engine and not extra.pull,
            cache_imports=_cache(settings.buildx.cache_from),
            identity=identity_of(self.spec),
            beside=beside,
            environment=_surroundings(
                settings, {source.name: _shared_key(source.files.root) for source in self.plan.sources}
            ),
        )


def _labelled(spec: ImageSpec, settings: Settings) -> ImageSpec:
    """With the labels of the extra arguments, which come last, as `docker buildx build --label` has it."""
    labels = settings.buildx.extra.labels
    return replace(spec, layers=(*spec.layers, LabelsLayer(labels=labels))) if labels else spec


@dataclass(frozen=True, slots=True)
class _DockerfileJob:
    """An image of a Dockerfile."""

    spec: DockerfileSpec

    def directories(self) -> list[LocalDirectory]:
        folder = self.spec.dockerfile.parent
        return [LocalDirectory("context", folder), LocalDirectory("dockerfile", folder)]

    def frontend(self, settings: Settings, is_engine: bool, beside: str | None) -> Frontend:
        extra = settings.buildx.extra
        shared_key = _shared_key(self.spec.dockerfile.parent)
        return DockerfileFrontend(
            filename=self.spec.dockerfile.name,
            platforms=_platforms(self.spec),
            prefer_local=is_engine and not extra.pull,
            cache_imports=_cache(settings.buildx.cache_from),
            identity=identity_of(self.spec),
            beside=beside,
            options={
                "sharedkey:localdir:context": shared_key,
                "sharedkey:localdir:dockerfile": shared_key,
                **_surroundings(settings).dockerfile_options(),
                **{f"build-arg:{name}": value for name, value in extra.build_args},
                **{f"label:{name}": value for name, value in extra.labels},
            },
        )


def _platforms(spec: Spec) -> tuple[llb.Platform, ...]:
    return tuple(llb.Platform.parse(name) for name in spec.platforms)


def _directory(source: LocalSource) -> LocalDirectory:
    """The files of a source, as Flyte's own builder would copy them: links to files as files, no empty folders."""
    files = source.files
    if files.kind == "file":
        return LocalDirectory(source.name, files.root.parent, files={files.root.name: files.root.resolve()})
    if files.only is not None:
        listed = {path: files.root / path for path in files.only}
        return LocalDirectory(source.name, files.root, files=listed, symlinks="copy-files")
    keeps, enters = flyte_image.keeps(files.ignore), flyte_image.enters(files.ignore)
    return LocalDirectory(
        source.name,
        files.root,
        keep=lambda path, _is_folder: path in files.always or keeps(path),
        # What is left out as a whole is not even listed: a `.venv` may hold more files than all the rest.
        descend=lambda path: enters(path) or any(always.startswith(f"{path}/") for always in files.always),
        symlinks="copy-files",
        empty_dirs=False,
    )


def _shared_key(root: Path) -> str:
    """Under what the daemon keeps its copy of a folder: this machine's folder, whoever builds from it."""
    return hashlib.sha256(f"{uuid.getnode():x}:{root}".encode()).hexdigest()


def _surroundings(settings: Settings, shared_keys: Mapping[str, str] = MappingProxyType({})) -> Environment:
    extra = settings.buildx.extra
    return Environment(
        shared_keys=shared_keys,
        proxy=_proxy(settings),
        ca_bundle=settings.ca_bundle is not None,
        network=extra.network,
        extra_hosts=extra.add_hosts,
        no_cache=extra.no_cache,
    )


def _credentials(spec: Spec, settings: Settings, environ: Mapping[str, str]) -> DockerConfig:
    """Docker's credentials, those of the image's own registry secret before them."""
    if spec.registry_secret is None:
        return _docker_config(settings, environ)
    (value,) = secret_values((spec.registry_secret,), environ).values()
    return _docker_config(settings, environ, value.decode(errors="replace"))


def _docker_config(settings: Settings, environ: Mapping[str, str], own: str = "") -> DockerConfig:
    file = settings.docker_config or config.docker_config_file(environ)
    return DockerConfig.load(file, auth_config=own or environ.get("DOCKER_AUTH_CONFIG", ""))


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


def _read_by_daemon(spec: Spec, settings: Settings) -> dict[str, str]:
    """What the daemon reads whatever the frontend: what the result is for, and the time it is to say it is from."""
    epoch = dict(settings.buildx.extra.build_args).get("SOURCE_DATE_EPOCH")
    return {
        "platform": ",".join(spec.platforms),
        **({"build-arg:SOURCE_DATE_EPOCH": epoch} if epoch else {}),
    }


def _ssh_agents(settings: Settings, environ: Mapping[str, str]) -> tuple[SshAgent, ...]:
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


def _cache(option: config.CacheOption | None) -> tuple[CacheEntry, ...]:
    if option is None:
        return ()
    if option.type == "local":
        raise ConfigError("A cache of `type=local` is not supported yet; use `type=registry,ref=…`.")
    return (CacheEntry(type=option.type, attributes=dict(option.attributes)),)


# --- secrets ---


def secret_values(secrets: tuple[SecretRef, ...], environ: Mapping[str, str]) -> dict[str, bytes]:
    """The values of secrets, by id, from the environment or from `/etc/secrets`, as Flyte's own builder has them.

    Raises:
        MissingSecretError: One has no value; says where it was looked for.
    """
    values: dict[str, bytes] = {}
    for secret in secrets:
        if environ.get(secret.source_variable):
            values[secret.id] = environ[secret.source_variable].encode(errors="surrogateescape")
            continue
        try:
            values[secret.id] = Path(secret.source_file).read_bytes()
        except OSError as error:
            raise MissingSecretError(
                f"The secret `{secret.id.removeprefix('flyte/')}` has no value: set the variable "
                f"{secret.source_variable}, or put it into the file {secret.source_file} ({error.strerror})."
            ) from error
    return values


_TELLING = 4


def redactor(values: Iterable[bytes]) -> Callable[[str], str]:
    """A function that takes these values out of a text, whole or, since logs come by lines, line by line."""
    found: set[str] = set()
    for value in values:
        text = value.decode(errors="replace").strip()
        lines = [line.strip() for line in text.splitlines()]
        # A line of a few characters, as a brace in a key file is, gives nothing away and is everywhere.
        found |= {text, *(line for line in lines if len(line) >= _TELLING)} - {""}
    texts = sorted(found, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in texts:
            text = text.replace(secret, "***")
        return text

    return redact


def _all_secrets(values: Mapping[str, bytes], settings: Settings, environ: Mapping[str, str]) -> dict[str, bytes]:
    secrets = dict(values)
    for secret in settings.buildx.extra.secrets:
        if secret.source is not None:
            try:
                secrets[secret.id] = secret.source.read_bytes()
            except OSError as error:
                raise MissingSecretError(
                    f"The secret `{secret.id}` of {EXTRA_ARGS} has no value: the file {secret.source} cannot be read "
                    f"({error.strerror})."
                ) from error
        else:
            secrets[secret.id] = environ.get(secret.env or secret.id, "").encode(errors="surrogateescape")
    if settings.ca_bundle is not None:
        secrets[CA_SECRET] = settings.ca_bundle.read_bytes()
    return secrets


# --- what builds at the same time share ---


@dataclass
class _Shared:
    """One connection per daemon and one view of the progress, for all builds of an event loop that overlap."""

    pool: Pool
    screen: Screen
    users: int = 0


_running: dict[asyncio.AbstractEventLoop, _Shared] = {}


@contextlib.asynccontextmanager
async def _shared(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[tuple[Connection, Screen]]:
    loop = asyncio.get_running_loop()
    shared = _running.get(loop)
    if shared is None:
        screen = open_screen(settings.progress, sys.stderr, environ=environ, clock=time.monotonic)
        shared = _running[loop] = _Shared(Pool(timeout=settings.connect_timeout), screen)
    shared.users += 1
    try:
        yield await shared.pool.get(find_endpoint(settings, environ)), shared.screen
    finally:
        shared.users -= 1
        if shared.users == 0:
            del _running[loop]
            await shared.pool.close()


def find_endpoint(settings: Settings, environ: Mapping[str, str]) -> Endpoint:
    """The daemon that the settings and the environment lead to.

    Raises:
        EndpointError: None was found, or an address makes no sense.
    """
    tls = settings.tls
    builder = settings.buildx.builder
    options = endpoints.EndpointOptions(
        address=settings.endpoint,
        tls_ca=str(tls.ca) if tls.ca else None,
        tls_cert=str(tls.cert) if tls.cert else None,
        tls_key=str(tls.key) if tls.key else None,
        tls_server_name=tls.server_name,
        docker_context=builder if builder != "default" else None,
    )
    return endpoints.resolve(options, environ=environ, home=config.home(environ))


# --- without a build ---


def print_plan(spec: Spec) -> None:
    """Prints what would be built. Connects to nothing."""
    click.echo(f"{spec.reference} for {', '.join(spec.platforms)}")
    if isinstance(spec, DockerfileSpec):
        click.echo(f"  Dockerfile {spec.dockerfile}")
    else:
        _print_steps(plan(spec))
    click.echo("Dry run: nothing was built.")


def _print_steps(planned: Plan) -> None:
    click.echo(f"  base {planned.base}")
    for step in planned.steps:
        name = getattr(step, "name", None)
        if name is None:
            continue
        click.echo(f"  {name}")
        if isinstance(step, Run):
            click.echo(f"      {step.command}")
