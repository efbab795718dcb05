"""One image as it was ordered: what is the same on whichever daemon it is built."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from buildkit_builder import config
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, BuildResult, Exporter
from buildkit_builder.buildkit.build import build as solve_build
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.connect.connection import Connection
from buildkit_builder.buildkit.progress.display import Display
from buildkit_builder.buildkit.session.auth import Auth
from buildkit_builder.buildkit.session.content import ContentStores
from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.buildkit.session.filesync import FileSync
from buildkit_builder.buildkit.session.redaction import redactor
from buildkit_builder.buildkit.session.registries import Registries
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.buildkit.wire import sourcepolicy_pb2
from buildkit_builder.config import Settings
from buildkit_builder.flyte_plugin.image_build.build_inputs import (
    DockerfileJob,
    ImageJob,
    Spec,
    identity_of,
    job_of,
    read_by_daemon,
    ssh_agents,
)
from buildkit_builder.flyte_plugin.image_build.secret_values import all_secrets, secret_values
from buildkit_builder.flyte_plugin.image_build.sharing import Common
from buildkit_builder.image.caches import Caches
from buildkit_builder.image.destination import Destination, push_from_engine
from buildkit_builder.image.identity import Identity
from buildkit_builder.image.lower import CA_SECRET
from buildkit_builder.image.memory import Memory
from buildkit_builder.image.spec import secrets_of
from buildkit_builder.image.unforeseen import only_ours

_DAY_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An image to build.

    Attributes:
        spec: What it is made of.
        settings: The settings.
        platforms: What it is built for.
        job: What the spec asks of a build.
        identity: What it is made from.
        caches: What its builds read and write beside the image.
        secrets: Their values, by id.
        credentials: For registries.
        redact: Takes the values of secrets out of a text.
        notes: What the user is told beside what each build tells.
    """

    spec: Spec
    settings: Settings
    platforms: tuple[llb.Platform, ...]
    job: ImageJob | DockerfileJob
    identity: Identity
    caches: Caches
    credentials: DockerConfig = field(repr=False)
    secrets: Mapping[str, bytes] = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    redact: Callable[[str], str] = field(repr=False)
    notes: tuple[str, ...] = ()

    @classmethod
    async def of(cls, spec: Spec, settings: Settings, environ: Mapping[str, str]) -> Order:
        """Finds all that can be wrong with an image before anything is connected to.

        Raises:
            BuildKitError: A secret has no value, or a file that is needed cannot be read.
        """
        secrets = all_secrets(secret_values(secrets_of(spec), environ), settings, environ)
        platforms = llb.Platform.parse_each(spec.platforms)
        caches = Caches.of(spec.reference, platforms, settings, environ)
        job = job_of(spec, settings)
        hidden = [value for name, value in secrets.items() if name != CA_SECRET]
        return cls(
            spec=spec,
            settings=settings,
            platforms=platforms,
            caches=caches,
            job=job,
            identity=await identity_of(job, settings),
            credentials=credentials(spec, settings, environ),
            secrets=secrets,
            environ=environ,
            redact=redactor([*hidden, *(value.encode() for value in caches.credentials)]),
        )

    def of_unknown_files(self) -> Order:
        """Order the same with a label by which the image will count as changed."""
        note = "Files changed while the image was built. It is built again, and will be the next time as well."
        return replace(self, identity=self.identity.of_unknown_files(), notes=(note,))

    @property
    def internal(self) -> bool:
        """Whether it is kept out of the daemon's history, which keeps all that steps print, secrets and all."""
        return bool(self.secrets.keys() - {CA_SECRET})

    @property
    def _mirrors(self) -> Mirrors:
        return Mirrors(self.settings.registry_mirrors)

    @property
    def source_policy(self) -> sourcepolicy_pb2.Policy | None:
        """Has the daemon follow the mirrors where it names images itself: in a Dockerfile, and to list packages.

        Raises:
            ConfigError: Mirrors lead to each other.
        """
        names_images = self.job.has_dockerfile_lines or self.settings.sbom is not None
        return self._mirrors.policy() if names_images else None

    @property
    def _recorded(self) -> Memory:
        """Builds that daemons have in their histories."""
        return Memory(config.state_home(self.environ) / "buildkit-builder" / "builds", forgets_after=_DAY_SECONDS)

    def _name_on(self, connection: Connection) -> str:
        """What tells a build from others, on this daemon and on others."""
        return json.dumps([connection.endpoint.address, self.spec.reference, *self.spec.platforms])

    async def build_on(self, connection: Connection, common: Common, display: Display) -> BuildResult:
        """Builds it for all platforms on one daemon, and brings it where it belongs.

        Raises:
            BuildKitError: It failed; says where and why.
        """
        reference = self.spec.reference
        with only_ours(f"building {reference}", self.redact):
            destination = await Destination.choose(self.spec, self.settings, connection)
            result = await self._solve(connection, common, display, destination)
            if destination.pushed_by_engine:
                result = await push_from_engine(connection.endpoint, result, reference, self.credentials)
        return result

    async def _solve(
        self, connection: Connection, common: Common, display: Display, destination: Destination
    ) -> BuildResult:
        recorded, name = self._recorded, self._name_on(connection)
        # The daemon takes a fifth of an unchanged build's time to write down that it was done again.
        internal = self.internal or recorded.recall(name) is not None
        async with self.request(
            connection, common, self.platforms, destination.exporter, beside=destination.beside, internal=internal
        ) as request:
            try:
                result = await solve_build(connection, request, display, redact=self.redact)
            except BaseException:
                # Whoever builds it again wants to see what comes of it.
                recorded.forget(name)
                raise
        recorded.note(name, "done")
        return result

    @contextlib.asynccontextmanager
    async def request(
        self,
        connection: Connection,
        common: Common,
        platforms: tuple[llb.Platform, ...],
        exporter: Exporter,
        *,
        beside: str | None = None,
        internal: bool | None = None,
    ) -> AsyncIterator[BuildRequest]:
        """One build of it; what it shares with others is there while the context lasts.

        Args:
            connection: To the daemon.
            common: What builds share.
            platforms: What it is built for there.
            exporter: What becomes of it.
            beside: Where other platforms of it may be already, and stay.
            internal: Whether it is kept out of the daemon's history, if that is not for the image to say.
        """
        spec, settings, directories = self.spec, self.settings, self.job.directories()
        is_engine = connection.endpoint.kind == "docker"
        caches = self.caches.of_platforms(platforms)
        async with contextlib.AsyncExitStack() as stack:
            files = None
            # BuildKit 0.8 and 0.9 ask for local files in a session of the build, whichever is named.
            if directories and self.job.shares_files and not connection.daemon.is_before_0_11:
                files = await stack.enter_async_context(common.files(connection).serve(directories))
            yield BuildRequest(
                title=spec.reference,
                frontend=self.job.frontend(
                    settings, platforms, self.identity, is_engine=is_engine, beside=beside, cache_imports=caches.imports
                ),
                exporters=(exporter,),
                attachables=(
                    *([FileSync(directories)] if files is None else []),
                    Secrets(self.secrets),
                    auth(self.credentials, settings),
                    *ssh_agents(settings, self.environ),
                    *([ContentStores(caches.stores, read_only=caches.read_only)] if caches.stores else []),
                ),
                frontend_attributes=read_by_daemon(platforms, settings),
                cache_imports=caches.imports,
                cache_exports=caches.exports,
                notes=(*self.notes, *self.credentials.notes, *caches.notes),
                mirrors=self._mirrors,
                source_policy=self.source_policy,
                entitlements=("network.host",) if settings.buildx.extra.network == "host" else (),
                internal=self.internal if internal is None else internal,
                files=files,
                layers=common.layers(connection),
                lookups=common.lookups(lookup_key(connection, spec, settings)),
            )


def lookup_key(connection: Connection, spec: Spec | None, settings: Settings) -> Hashable:
    """What a daemon's answer depends on when it looks an image up: itself, the mirrors, and the credentials."""
    return connection.endpoint, settings, spec.registry_secret if spec is not None else None


def credentials(spec: Spec | None, settings: Settings, environ: Mapping[str, str]) -> DockerConfig:
    """Docker's credentials, those of the image's own registry secret before them.

    Raises:
        MissingSecretError: The registry secret has no value.
    """
    own = ""
    if spec is not None and spec.registry_secret is not None:
        (value,) = secret_values((spec.registry_secret,), environ).values()
        own = value.decode(errors="replace")
    file = settings.docker_config or config.docker_config_file(environ)
    return DockerConfig.load(file, auth_config=environ.get("DOCKER_AUTH_CONFIG", ""), registry_secret=own)


def auth(docker_config: DockerConfig, settings: Settings) -> Auth:
    """What serves registry credentials to a build."""
    return Auth(
        docker_config,
        registries=Registries(settings.credentials_for),
        ca_bundle=settings.ca_bundle,
        insecure_registries=settings.insecure_registries,
    )
