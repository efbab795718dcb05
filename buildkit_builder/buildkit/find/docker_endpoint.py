"""Which Docker Engine: what the settings, the environment and Docker's own config agree on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from buildkit_builder.buildkit.find import dial_commands, docker_context
from buildkit_builder.buildkit.find.docker_context import DockerContext
from buildkit_builder.buildkit.find.endpoint import (
    TLS,
    Endpoint,
    EndpointOptions,
    checked,
    refuse_tls,
    said,
    split_tcp,
    tls_of,
    unix_address,
)
from buildkit_builder.buildkit.find.sockets import DOCKER_SOCKET, Probe, default_sockets
from buildkit_builder.errors import EndpointError


class DockerEndpoints:
    """The engines that a user's settings, environment and Docker contexts name.

    Attributes:
        folder: Where Docker keeps its config.
    """

    def __init__(self, options: EndpointOptions, environ: Mapping[str, str], home: Path, probe: Probe) -> None:
        self.folder = docker_context.config_folder(environ, home)
        self._options = options
        self._environ = environ
        self._home = home
        self._probe = probe

    def of_environment(self) -> Endpoint | None:
        """The engine that a variable names, or `None` where none does."""
        # DOCKER_HOST comes before DOCKER_CONTEXT: docker/cli `cli/command/cli.go`, and seen with Docker 28.2.
        if host := said(self._environ, "DOCKER_HOST"):
            return self.at(host, self._tls_of_environment(), "DOCKER_HOST names it")
        if name := said(self._environ, "DOCKER_CONTEXT"):
            return self._of_context(name, f"DOCKER_CONTEXT chooses the Docker context `{name}`")
        return None

    def of_context_in_use(self) -> Endpoint | None:
        """The engine that `docker context use` has chosen, or `None` where that is the default socket."""
        if name := docker_context.current_context(self.folder):
            reason = f"`{name}` is the Docker context in use ({self.folder / 'config.json'})"
            return self._of_context(name, reason)
        return None

    def in_use(self) -> Endpoint:
        """The engine that `docker` itself would talk to."""
        found = self.of_environment()
        if found is None and not said(self._environ, "DOCKER_CONTEXT"):
            found = self.of_context_in_use()
        return found or self.default_socket()

    def engine(self, name: str, reason: str) -> Endpoint:
        """The engine of a context by its name; `default` is DOCKER_HOST, or the default socket."""
        if found := self._of_context(name, reason):
            return found
        if host := said(self._environ, "DOCKER_HOST"):
            return self.at(host, self._tls_of_environment(), f"{reason}, and DOCKER_HOST names it")
        return self.default_socket()

    def default_socket(self) -> Endpoint:
        """The first default socket of an engine where somebody listens, Docker's own where nobody does."""
        engines = [place for place in default_sockets(self._environ, self._home) if place.kind == "docker"]
        chosen = next((place for place in engines if not self._probe(place.path)), engines[0])
        return chosen.endpoint(f"it is {chosen.what}")

    def known(self, name: str) -> bool:
        """Whether there is a context of that name."""
        return name in (docker_context.DEFAULT, *docker_context.names(self.folder))

    def key(self) -> str:
        """What buildx calls the engine in use: the context's name, or the address of the context `default`.

        Source: docker/buildx `util/dockerutil/context.go`.
        """
        host = said(self._environ, "DOCKER_HOST")
        name = said(self._environ, "DOCKER_CONTEXT") or docker_context.current_context(self.folder)
        if host or not name or name == docker_context.DEFAULT:
            return host or f"unix://{DOCKER_SOCKET}"
        return name

    def at(self, host: str, tls: TLS | None, reason: str) -> Endpoint:
        """The engine at an address in DOCKER_HOST's spelling."""
        host = host.strip()
        scheme, separator, rest = host.partition("://")
        if not separator:
            scheme, rest = "tcp", host
        if scheme == "unix":
            refuse_tls(self._options, host)
            address = unix_address(f"unix://{rest or DOCKER_SOCKET}")
            return Endpoint(address=address, kind="docker", reason=reason)
        if scheme == "ssh":
            refuse_tls(self._options, host)
            dial_commands.SshPlace.parse(host)
            return Endpoint(address=host, kind="docker", reason=reason)
        if scheme != "tcp":
            raise EndpointError(
                f"The Docker Engine at `{host}` was chosen because {reason}, but engines are reached over unix://, "
                "tcp:// and ssh:// only. Set the `endpoint` setting to an address of one of these."
            )
        tls = tls_of(self._options) or tls
        rest = rest.rstrip("/")
        if not rest or rest.startswith(":"):
            rest = f"localhost{rest}"
        if not rest.rpartition(":")[2].isdigit() or rest.endswith("]"):
            # Docker's registered ports: docker/cli `opts/hosts.go`.
            rest = f"{rest}:{2376 if tls else 2375}"
        split_tcp(f"tcp://{rest}")
        return Endpoint(address=f"tcp://{rest}", kind="docker", tls=tls, reason=reason)

    def _of_context(self, name: str, reason: str) -> Endpoint | None:
        if name == docker_context.DEFAULT:
            return None
        context = docker_context.load(name, self.folder)
        return self.at(context.host, _tls_of_context(context), reason)

    def _tls_of_environment(self) -> TLS | None:
        verify = bool(self._environ.get("DOCKER_TLS_VERIFY"))
        if not verify and not self._environ.get("DOCKER_TLS"):
            return None
        folder = Path(self._environ.get("DOCKER_CERT_PATH") or self.folder)
        tls = TLS(
            ca=docker_context.present(folder / "ca.pem"),
            cert=docker_context.present(folder / "cert.pem"),
            key=docker_context.present(folder / "key.pem"),
            verify=verify,
        )
        if verify and tls.ca is None:
            raise EndpointError(
                f"TLS without CA: DOCKER_TLS_VERIFY is set, but there is no ca.pem in {folder}. "
                "Put it there, or point DOCKER_CERT_PATH at the folder that has it."
            )
        return checked(tls, f"the Docker certificates in {folder}")


def _tls_of_context(context: DockerContext) -> TLS | None:
    if not (context.ca or context.cert or context.key or context.skip_tls_verify):
        return None
    tls = TLS(ca=context.ca, cert=context.cert, key=context.key, verify=not context.skip_tls_verify)
    if tls.verify and tls.ca is None:
        raise EndpointError(f"TLS without CA: the Docker context `{context.name}` has a certificate, but no ca.pem.")
    return checked(tls, f"the Docker context `{context.name}`")
