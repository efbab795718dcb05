"""Which daemon to talk to: settings, environment and Docker's contexts become one `Endpoint`.

Nothing is dialled here. The order is: the `endpoint` setting, BUILDKIT_HOST, Docker (DOCKER_HOST, then
DOCKER_CONTEXT, then the context of `docker context use`, which is the order of Docker's own command line), and last
the default sockets that exist.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from buildkit_builder.client import docker_context
from buildkit_builder.client.docker_context import DockerContext
from buildkit_builder.errors import EndpointError

Kind = Literal["docker", "buildkit"]

SCHEMES = ("docker", "docker+unix", "docker+tcp", "unix", "tcp")
"""What an address may begin with."""

_FORMS = (
    "`docker` (the Docker Engine in use), `docker://CONTEXT`, `docker+unix:///PATH`, `docker+tcp://HOST:PORT`, "
    "`unix:///PATH` and `tcp://HOST:PORT` (a buildkitd)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """What the settings say about the daemon; everything may be left out.

    Attributes:
        address: The `endpoint` setting.
        tls_ca: Path of the CA bundle for a `tcp` address.
        tls_cert: Path of the client certificate; needs `tls_key` and `tls_ca`.
        tls_key: Path of the client certificate's key.
        tls_server_name: The name to check in the server's certificate, where it is not the address's host.
        docker_context: The Docker context to use for an engine.
    """

    address: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_server_name: str | None = None
    docker_context: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """How a `tcp` connection is secured.

    Attributes:
        ca: Path of the CA bundle; `None` only where `verify` is false.
        cert: Path of the client certificate, or `None`.
        key: Path of its key, or `None`.
        server_name: The name to check instead of the address's host.
        verify: Whether the server's certificate is checked at all.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One daemon.

    Attributes:
        address: `unix:///PATH` or `tcp://HOST:PORT`.
        kind: Whether a Docker Engine or a bare buildkitd is expected there.
        tls: For `tcp` only.
        reason: Why this one, as the rest of a sentence that begins with "it was chosen because".
    """

    address: str
    kind: Kind
    tls: TLS | None = None
    reason: str = "it was given"


def resolve(
    options: EndpointOptions,
    *,
    environ: Mapping[str, str],
    home: Path,
    exists: Callable[[str], bool] = os.path.exists,
) -> Endpoint:
    """Choose the daemon.

    Args:
        options: From the settings.
        environ: The environment.
        home: The user's home folder, below which Docker keeps its config.
        exists: Whether there is a file at a path; asked of the default sockets only.

    Raises:
        EndpointError: The address, the Docker context or the TLS files make no sense, or nothing was found.
    """
    docker = _Docker(options, environ, home, exists)
    if options.address:
        return _given(options.address, "the `endpoint` setting names it", options, docker)
    if options.docker_context:
        return docker.engine("")
    if environ.get("BUILDKIT_HOST"):
        return _given(environ["BUILDKIT_HOST"], "BUILDKIT_HOST names it", options, docker)
    return docker.in_use() or _default_socket(environ, home, exists)


def split_tcp(address: str) -> tuple[str, int]:
    """The host and port of a `tcp://HOST:PORT` address; brackets around an IPv6 host are dropped.

    Raises:
        EndpointError: There is no host, or no port.
    """
    # urlsplit would lower-case the host, which TLS names and logs should keep as written.
    host, colon, port = address.removeprefix("tcp://").rstrip("/").rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or (":" in host and not bracketed):
        raise EndpointError(f"The address `{address}` is not of the form tcp://HOST:PORT.")
    return (host[1:-1] if bracketed else host), int(port)


class _Docker:
    """The Docker Engine that the settings, the environment and Docker's config agree on."""

    def __init__(
        self, options: EndpointOptions, environ: Mapping[str, str], home: Path, exists: Callable[[str], bool]
    ) -> None:
        self._options = options
        self._environ = environ
        self._home = home
        self._exists = exists
        self._folder = docker_context.config_folder(environ, home)

    def in_use(self) -> Endpoint | None:
        """What `docker` itself would talk to, or `None` where that is the default socket."""
        # DOCKER_HOST comes before DOCKER_CONTEXT: docker/cli `cli/command/cli.go`, and seen with Docker 28.2.
        if host := self._environ.get("DOCKER_HOST"):
            return self._at(host, self._tls_of_environment(), "DOCKER_HOST names it")
        if name := self._environ.get("DOCKER_CONTEXT"):
            return self._of_context(name, f"DOCKER_CONTEXT chooses the Docker context `{name}`")
        if name := docker_context.current_context(self._folder):
            reason = f"`{name}` is the Docker context in use ({self._folder / 'config.json'})"
            return self._of_context(name, reason)
        return None

    def engine(self, name: str) -> Endpoint:
        """The engine of a context named by the settings."""
        name = name or self._options.docker_context or docker_context.DEFAULT
        reason = f"the settings choose the Docker context `{name}`"
        if found := self._of_context(name, reason):
            return found
        # As in Docker's own command line, the context `default` is DOCKER_HOST or the default socket.
        if host := self._environ.get("DOCKER_HOST"):
            return self._at(host, self._tls_of_environment(), f"{reason}, and DOCKER_HOST names it")
        return self.default_socket()

    def default_socket(self) -> Endpoint:
        """The first default socket of an engine, Docker's own where there is none."""
        return _default_socket(self._environ, self._home, self._exists, docker_only=True)

    def _of_context(self, name: str, reason: str) -> Endpoint | None:
        if name == docker_context.DEFAULT:
            return None
        context = docker_context.load(name, self._folder)
        return self._at(context.host, _tls_of_context(context), reason)

    def _at(self, host: str, tls: TLS | None, reason: str) -> Endpoint:
        scheme, separator, rest = host.partition("://")
        if not separator:
            scheme, rest = "tcp", host
        if scheme == "unix":
            return Endpoint(address=_unix(f"unix://{rest}", self._options), kind="docker", reason=reason)
        if scheme != "tcp":
            raise EndpointError(
                f"The Docker Engine at `{host}` was chosen because {reason}, but this version reaches engines over "
                "unix:// and tcp:// only. Forward its socket to this machine, or set the `endpoint` setting."
            )
        tls = _tls_of_options(self._options) or tls
        rest = rest.rstrip("/")
        if not rest.rpartition(":")[2].isdigit() or rest.endswith("]"):
            # Docker's registered ports: docker/cli `opts/hosts.go`.
            rest = f"{rest}:{2376 if tls else 2375}"
        split_tcp(f"tcp://{rest}")
        return Endpoint(address=f"tcp://{rest}", kind="docker", tls=tls, reason=reason)

    def _tls_of_environment(self) -> TLS | None:
        verify = bool(self._environ.get("DOCKER_TLS_VERIFY"))
        if not verify and not self._environ.get("DOCKER_TLS"):
            return None
        folder = Path(self._environ.get("DOCKER_CERT_PATH") or self._folder)
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
        return _paired(tls, f"the Docker certificates in {folder}")


def _given(address: str, reason: str, options: EndpointOptions, docker: _Docker) -> Endpoint:
    """Read an address written by the user, in the settings or in BUILDKIT_HOST."""
    scheme, separator, rest = address.partition("://")
    if scheme not in SCHEMES or (not separator and scheme != "docker"):
        nearest = difflib.get_close_matches(scheme, SCHEMES, n=1, cutoff=0.5)
        if address.startswith("/"):
            hint = f" Did you mean `unix://{address}`?"
        else:
            hint = f" Did you mean `{nearest[0]}`?" if nearest else ""
        raise EndpointError(f"The address `{address}` ({reason}) is of no known form.{hint} Known are {_FORMS}.")
    if scheme == "docker":
        found = docker.engine(rest) if rest or options.docker_context else docker.in_use()
        found = found or docker.default_socket()
        return replace(found, reason=f"{reason} (`{address}`; {found.reason})")
    kind: Kind = "docker" if scheme.startswith("docker+") else "buildkit"
    address = address.removeprefix("docker+")
    if scheme.endswith("unix"):
        return Endpoint(address=_unix(address, options), kind=kind, reason=reason)
    address = address.rstrip("/")
    split_tcp(address)
    return Endpoint(address=address, kind=kind, tls=_tls_of_options(options), reason=reason)


def _unix(address: str, options: EndpointOptions) -> str:
    if not address.startswith("unix:///"):
        raise EndpointError(f"The address `{address}` is not of the form unix:///PATH, with three slashes.")
    if _tls_of_options(options):
        raise EndpointError(f"TLS settings are given, but `{address}` is a unix socket, which has no TLS.")
    return address


def _tls_of_options(options: EndpointOptions) -> TLS | None:
    files = {"ca": options.tls_ca, "cert": options.tls_cert, "key": options.tls_key}
    if not any((*files.values(), options.tls_server_name)):
        return None
    if not options.tls_ca:
        # Without one the pool of trusted roots would be empty (protocol: buildkit `client/client.go`).
        raise EndpointError(
            "TLS without CA: set `tls.ca` to the CA bundle that signed the daemon's certificate as well."
        )
    for name, path in files.items():
        if path and not os.path.isfile(path):
            raise EndpointError(f"The TLS file `{path}` (tls {name}) is not there.")
    tls = TLS(ca=options.tls_ca, cert=options.tls_cert, key=options.tls_key, server_name=options.tls_server_name)
    return _paired(tls, "the TLS settings")


def _tls_of_context(context: DockerContext) -> TLS | None:
    if not (context.ca or context.cert or context.key or context.skip_tls_verify):
        return None
    tls = TLS(ca=context.ca, cert=context.cert, key=context.key, verify=not context.skip_tls_verify)
    if tls.verify and tls.ca is None:
        raise EndpointError(f"TLS without CA: the Docker context `{context.name}` has a certificate, but no ca.pem.")
    return _paired(tls, f"the Docker context `{context.name}`")


def _paired(tls: TLS, where: str) -> TLS:
    if bool(tls.cert) != bool(tls.key):
        there, missing = ("certificate", "key") if tls.cert else ("key", "certificate")
        raise EndpointError(f"There is a TLS client {there} in {where}, but no {missing}; give both or neither.")
    return tls


def _default_socket(
    environ: Mapping[str, str],
    home: Path,
    exists: Callable[[str], bool],
    *,
    docker_only: bool = False,
) -> Endpoint:
    runtime = environ.get("XDG_RUNTIME_DIR")
    candidates: list[tuple[Kind, str, str]] = [
        ("docker", "/var/run/docker.sock", "Docker's default socket"),
        ("docker", str(home / ".docker/run/docker.sock"), "Docker Desktop's socket"),
        ("buildkit", "/run/buildkit/buildkitd.sock", "buildkitd's default socket"),
    ]
    if runtime:
        candidates.append(("docker", f"{runtime}/docker.sock", "the socket of a rootless Docker"))
        candidates.append(("buildkit", f"{runtime}/buildkit/buildkitd.sock", "the socket of a rootless buildkitd"))
    if docker_only:
        candidates = [candidate for candidate in candidates if candidate[0] == "docker"]
    for kind, path, what in candidates:
        if exists(path):
            return Endpoint(address=f"unix://{path}", kind=kind, reason=f"it is {what}, and nothing else is configured")
    if docker_only:
        kind, path, what = candidates[0]
        return Endpoint(address=f"unix://{path}", kind=kind, reason=f"it is {what}")
    places = ", ".join(path for _, path, _ in candidates)
    raise EndpointError(
        "No BuildKit was found: the `endpoint` setting, BUILDKIT_HOST, DOCKER_HOST and DOCKER_CONTEXT are not set, no "
        f"Docker context is in use, and there is no socket at {places}. Start Docker, or set the `endpoint` setting to "
        f"one of {_FORMS}."
    )
