"""What an endpoint is: one daemon's address, how its connection is secured, and why it was chosen.

Nothing is looked for here (see `discovery`) and nothing is dialled (see `connection`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from buildkit_builder.errors import EndpointError

Kind = Literal["docker", "buildkit"]

AUTO = "auto"
"""The address that means "find one"."""

SCHEMES = (
    AUTO,
    "docker",
    "docker+unix",
    "docker+tcp",
    "docker+ssh",
    "unix",
    "tcp",
    "ssh",
    "docker-container",
    "podman-container",
    "kube-pod",
    "buildx",
)
"""What an address may begin with."""

FORMS = (
    "`auto`, `docker` (the Docker Engine in use), `docker://CONTEXT`, `docker+unix:///PATH`, "
    "`docker+tcp://HOST:PORT`, `docker+ssh://HOST`, `buildx://BUILDER`, and for a buildkitd `unix:///PATH`, "
    "`tcp://HOST:PORT`, `ssh://HOST`, `docker-container://NAME`, `podman-container://NAME` and `kube-pod://POD`"
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
        builder: The buildx builder, or the Docker context, to use.
    """

    address: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_server_name: str | None = None
    builder: str | None = None


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
        address: `unix:///PATH`, `tcp://HOST:PORT`, `ssh://…`, `docker-container://NAME`, `podman-container://NAME`,
            `kube-pod://POD` or `buildx://BUILDER`, the last for what only `docker buildx` itself can reach.
        kind: Whether a Docker Engine or a bare buildkitd is expected there.
        tls: For `tcp` only.
        engine: The Docker Engine that runs the container of a `docker-container` address.
        reason: Why this one, as the rest of a sentence that begins with "it was chosen because".
    """

    address: str
    kind: Kind
    tls: TLS | None = None
    engine: Endpoint | None = None
    reason: str = "it was given"

    @property
    def scheme(self) -> str:
        """What the address begins with."""
        return self.address.partition("://")[0]


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


def unix_address(address: str) -> str:
    """The address of a unix socket, its path made absolute; `@NAME` is one without a path, as Linux has them.

    Raises:
        EndpointError: It has no path, or one that leads nowhere from the working folder.
    """
    path = address.removeprefix("unix://")
    if path.startswith("/") or (path.startswith("@") and len(path) > 1):
        return address
    if path and os.path.exists(path):
        return f"unix://{os.path.abspath(path)}"
    raise EndpointError(f"The address `{address}` is not of the form unix:///PATH, with three slashes.")


def said(environ: Mapping[str, str], name: str) -> str:
    """What a variable says, without the blanks and the line break that a shell or a file has put around it."""
    return environ.get(name, "").strip()


def tls_of(options: EndpointOptions) -> TLS | None:
    """The TLS that the settings ask for, or `None`.

    Raises:
        EndpointError: There is no CA, a file is missing, or there is half a pair.
    """
    files = {"ca": options.tls_ca, "cert": options.tls_cert, "key": options.tls_key}
    if not any((*files.values(), options.tls_server_name)):
        return None
    if not options.tls_ca:
        # Without one the pool of trusted roots would be empty (protocol: buildkit `client/client.go`).
        raise EndpointError(
            "TLS without CA: set `tls.ca` to the CA bundle that signed the daemon's certificate as well."
        )
    tls = TLS(ca=options.tls_ca, cert=options.tls_cert, key=options.tls_key, server_name=options.tls_server_name)
    return checked(tls, "the TLS settings")


def refuse_tls(options: EndpointOptions, address: str) -> None:
    """Make sure that TLS settings are not silently of no use.

    Raises:
        EndpointError: There are some, and the address is not one of TCP.
    """
    if tls_of(options):
        raise EndpointError(
            f"TLS settings are given, but `{address}` has no TLS; only a `tcp://` address has. Take them out, or set "
            "the `endpoint` setting to such an address."
        )


def checked(tls: TLS, where: str) -> TLS:
    """The TLS itself, where it can be used.

    Args:
        tls: What is to be used.
        where: Where it comes from, for the message.

    Raises:
        EndpointError: A file is missing, or there is half a pair.
    """
    for name, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if path and not os.path.isfile(path):
            raise EndpointError(f"The TLS file `{path}` (tls {name}) of {where} is not there.")
    if bool(tls.cert) != bool(tls.key):
        there, missing = ("certificate", "key") if tls.cert else ("key", "certificate")
        raise EndpointError(f"There is a TLS client {there} in {where}, but no {missing}; give both or neither.")
    return tls
