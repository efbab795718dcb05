"""Which proxy a request takes, by the rules that Docker's own clients follow.

They are those of Go's `golang.org/x/net/http/httpproxy`: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, each also in lower case;
NO_PROXY names domains, networks and ports, and this machine is never proxied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from buildkit_builder.errors import RegistryError

_PORTS = {"http": 80, "https": 443}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy.

    Attributes:
        scheme: How it is spoken to.
        host: Its `host:port`.
        user: Who it lets in, `USER:PASSWORD`, or nothing.
    """

    scheme: str
    host: str
    user: str = field(default="", repr=False)


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for a web address, or `None`.

    Raises:
        RegistryError: The proxy's address is malformed, or its variable is set by a CGI server.
        ValueError: The web address is malformed.
    """
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    given = (environ.get(name.upper()) or environ.get(name) or "").strip()
    if not given or parts.scheme not in _PORTS:
        return None
    if parts.scheme == "http" and environ.get("REQUEST_METHOD"):
        # There it may come from a header of the request that is answered.
        raise RegistryError(
            "HTTP_PROXY is not used in a CGI program (REQUEST_METHOD is set), where a stranger may have set it; unset "
            "one of them."
        )
    excluded = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if not _is_proxied(parts.hostname or "", parts.port or _PORTS[parts.scheme], excluded):
        return None
    return _parsed(given, name.upper())


def _parsed(given: str, name: str) -> Proxy:
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    if not parts.hostname or not port:
        # Not its text: it may hold a password.
        raise RegistryError(f"{name} is not the address of a proxy that can be used: http://HOST:PORT is one.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return Proxy(scheme=parts.scheme, host=f"{host}:{port}", user=user)


def _is_proxied(host: str, port: int, excluded: str) -> bool:
    host = _ascii(host.lower())
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    entries = [entry.strip().lower() for entry in excluded.split(",")]
    return not any(_matches(entry, host, address, port) for entry in entries if entry)


def _matches(entry: str, host: str, address: _Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split(entry)
    if wanted and wanted != str(port):
        return False
    if address is not None or _address(name) is not None:
        return address is not None and address == _address(name)
    name = _ascii(name.removeprefix("*") if name.startswith("*.") else name)
    if name.startswith("."):
        return host.endswith(name)
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, str]:
    """Host and port of an entry, the latter empty for all."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        # Go takes brackets only with a port.
        return (host, rest[1:]) if rest.startswith(":") else (entry, "")
    host, colon, port = entry.partition(":")
    return (entry, "") if not colon or ":" in port else (host, port)


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _ascii(name: str) -> str:
    """A domain as the network knows it."""
    if name.isascii():
        return name
    dot = "." if name.startswith(".") else ""
    try:
        return dot + name.removeprefix(".").encode("idna").decode()
    except UnicodeError:
        return name
