"""One build as it was asked for, and how it is carried out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.events import StatusUpdate
from buildkit_builder.buildkit.build.exporters import Exporter
from buildkit_builder.buildkit.build.request import BuildRequest, BuildResult, Frontend
from buildkit_builder.buildkit.build.run import build
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.environment import docker_config_file, environment, home
from buildkit_builder.buildkit.find.discovery import resolve
from buildkit_builder.buildkit.find.endpoint import EndpointOptions
from buildkit_builder.buildkit.front.dockerfiles import Dockerfile
from buildkit_builder.buildkit.front.frontend import DockerfileFrontend, Modes, PlatformFrontend, RecipeFrontend
from buildkit_builder.buildkit.front.needs import Needs
from buildkit_builder.buildkit.front.recipe import Recipe
from buildkit_builder.buildkit.progress.display import Display, choose
from buildkit_builder.buildkit.session.attachable import Attachable
from buildkit_builder.buildkit.session.auth import Auth
from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.buildkit.session.filesync import FileSync
from buildkit_builder.buildkit.session.redaction import redactor
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.buildkit.session.ssh import SshAgent

Progress = str | Callable[[StatusUpdate], None]
Target = Recipe | Dockerfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to build, and what to build it with.

    Attributes:
        target: What to build.
        platforms: What to build it for; empty for the daemon's own platform.
        endpoint: Where BuildKit answers, or `None` to look for it.
        docker_config: Docker's config.json, or `None` for the usual one.
        progress: How progress is shown, or what is called with it.
        pull: Whether a Docker Engine asks the registry for images that it has.
        connect_timeout: Seconds until a daemon that does not answer is an error.
    """

    target: Target
    platforms: tuple[llb.Platform, ...] = ()
    endpoint: str | None = None
    docker_config: Path | None = None
    progress: Progress = "auto"
    pull: bool = False
    connect_timeout: float = 10.0

    async def run(
        self,
        title: str,
        wrap: Callable[[PlatformFrontend], Frontend] | None = None,
        *,
        exporters: tuple[Exporter, ...] = (),
        check: Callable[[bool], None] | None = None,
    ) -> tuple[BuildResult, tuple[llb.Platform, ...]]:
        """Connect, build and close the connection.

        Args:
            title: What progress and errors call the build.
            wrap: Makes the frontend of the one that builds the target; such builds stay out of the history.
            exporters: What becomes of the result.
            check: Told whether the daemon is a Docker Engine, before anything is built.

        Returns:
            The result, and the platforms that it is for.

        Raises:
            BuildKitError: It failed; says where and why.
        """
        environ = environment()
        needs = self.target.needs()
        redact = redactor(needs.secrets.values())
        display = self._display(title, redact)
        where = resolve(EndpointOptions(address=self.endpoint), environ=environ, home=home(environ))
        async with await connect(where, timeout=self.connect_timeout) as connection:
            is_engine = connection.endpoint.kind == "docker"
            if check is not None:
                check(is_engine)
            frontend = self._frontend(("local", "pull") if is_engine and not self.pull else ("default",))
            request = BuildRequest(
                title=title,
                frontend=frontend if wrap is None else wrap(frontend),
                exporters=exporters,
                attachables=self._attachables(needs),
                frontend_attributes={"platform": ",".join(map(str, self.platforms))} if self.platforms else {},
                # The history keeps all that steps print, secrets and all.
                internal=wrap is not None or bool(needs.secrets),
            )
            result = await build(connection, request, display, redact=redact)
        if isinstance(display, _Callback) and display.failure is not None:
            raise display.failure
        return result, frontend.platforms

    def _frontend(self, modes: Modes) -> PlatformFrontend:
        if isinstance(self.target, Dockerfile):
            options, text = self.target.options(), self.target.text()
            return DockerfileFrontend(options=options, text=text, modes=modes, platforms=self.platforms)
        return RecipeFrontend(recipe=self.target, modes=modes, platforms=self.platforms)

    def _attachables(self, needs: Needs) -> tuple[Attachable, ...]:
        environ = environment()
        file = self.docker_config.expanduser() if self.docker_config else docker_config_file(environ)
        config = DockerConfig.load(file, auth_config=environ.get("DOCKER_AUTH_CONFIG", ""))
        return (
            Auth(config),
            FileSync(needs.directories.values()),
            *([Secrets(needs.secrets)] if needs.secrets else []),
            *([SshAgent(needs.agents)] if needs.agents else []),
        )

    def _display(self, title: str, redact: Callable[[str], str]) -> Display:
        if callable(self.progress):
            return _Callback(self.progress, redact)
        environ = environment()
        return choose(self.progress, sys.stderr, environ=environ, clock=time.monotonic, title=title, redact=redact)


@dataclass(slots=True)
class _Callback:
    """Tells a function of the user what the daemon says.

    Attributes:
        failure: What the function raised. It is not called again, and the build goes on.
    """

    call: Callable[[StatusUpdate], None]
    redact: Callable[[str], str]
    failure: Exception | None = field(default=None, init=False)

    def update(self, update: StatusUpdate) -> None:
        """Call the function, without the values of secrets."""
        if self.failure is not None:
            return
        logs = tuple(replace(log, data=self._redacted(log.data)) for log in update.logs)
        try:
            self.call(replace(update, logs=logs))
        except Exception as error:  # noqa: BLE001 - the user's own function may raise anything
            self.failure = error

    def log(self, text: str) -> None:
        """Do nothing: messages of ours are no events of the daemon."""

    def refresh(self) -> None:
        """Do nothing: there is nothing to paint."""

    def done(self, error: BaseException | None) -> None:
        """Do nothing: the caller of the build hears of its end."""

    def _redacted(self, data: bytes) -> bytes:
        return self.redact(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")
