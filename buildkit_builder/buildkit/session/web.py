"""Requests to token servers: whom they trust, by which proxy they go, and what a redirect is told."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    UnknownHandler,
)

import truststore

from buildkit_builder.buildkit.environment import environment
from buildkit_builder.buildkit.session.proxies import Proxy, proxy_for
from buildkit_builder.errors import RegistryError

_SECONDS = 30.0
_ANSWER_LIMIT = 1 << 20  # bytes


class UnreachableError(Exception):
    """There was no answer; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which servers are believed to be who they say.

    Attributes:
        ca_bundle: Certificates to trust beside the system's, a file or a folder, or `None`.
        insecure: Whether any certificate will do.
    """

    ca_bundle: Path | None = None
    insecure: bool = False

    def context(self, environ: Mapping[str, str]) -> ssl.SSLContext:
        """How connections are secured.

        Raises:
            RegistryError: The certificates cannot be read.
        """
        if self.insecure:
            anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            anyone.check_hostname = False
            anyone.verify_mode = ssl.CERT_NONE
            return anyone
        # The system's own, as its browsers have them; Python's store is empty on some.
        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The variables are OpenSSL's: where that is not what checks certificates, they count all the same.
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            with contextlib.suppress(OSError):  # as OpenSSL has it
                _add(context, Path(environ.get(name) or "/nonexistent"))
        if self.ca_bundle is not None:
            try:
                _add(context, self.ca_bundle)
            except OSError as error:  # `ssl.SSLError` is one
                why = error.strerror or error
                raise RegistryError(f"The certificates in {self.ca_bundle} cannot be read: {why}.") from error
        return context


def _add(context: ssl.SSLContext, bundle: Path) -> None:
    if bundle.is_dir():
        context.load_verify_locations(capath=str(bundle))
    else:
        context.load_verify_locations(cafile=str(bundle))


def fetch(request: Request, trust: Trust) -> bytes:
    """Sends a request and reads the answer; blocks.

    Raises:
        HTTPError: The answer is no success.
        UnreachableError: No answer came.
        RegistryError: The certificates or the proxy make no sense.
    """
    environ = environment()
    opener = OpenerDirector()
    for handler in (
        _Http(environ),
        _Https(environ, trust.context(environ)),
        _Redirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
        UnknownHandler(),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=_SECONDS) as response:
            body, until = bytearray(), time.monotonic() + _SECONDS
            while len(body) < _ANSWER_LIMIT and (data := response.read1(1 << 16)):
                body += data
                if time.monotonic() > until:
                    raise UnreachableError(f"it had not answered within {_SECONDS:g} seconds")
            return bytes(body)
    except HTTPError:
        raise
    except URLError as error:
        raise UnreachableError(_words(error.reason)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(_words(error)) from None


def _words(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({reason.verify_message or reason}). Add the one that signed it to this "
            "system's certificates, or name its file in `image.buildkit.ca_bundle`"
        )
    return str(reason).rstrip(".") or type(reason).__name__


def _by_proxy(request: Request, environ: Mapping[str, str]) -> Proxy | None:
    """Sends a request by the proxy of the environment, if there is one for it."""
    proxy = proxy_for(request.full_url, environ)
    if proxy is None:
        return None
    if proxy.scheme not in ("http", "https"):
        raise RegistryError(
            f"{request.type.upper()}_PROXY names the proxy {proxy.scheme}://{proxy.host}, and proxies are spoken to by "
            "http:// and https:// only; that is how they are asked for connections with TLS as well."
        )
    if proxy.user:
        pair = base64.b64encode(proxy.user.encode()).decode()
        request.add_unredirected_header("Proxy-Authorization", f"Basic {pair}")
    request.set_proxy(proxy.host, proxy.scheme)
    return proxy


class _Http(HTTPHandler):
    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._environ = environ

    def http_request(self, request: Request) -> Request:
        request = super().do_request_(request)
        _by_proxy(request, self._environ)
        return request


class _Https(HTTPSHandler):
    def __init__(self, environ: Mapping[str, str], context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._environ = environ
        self._trust = context
        self._proxy: Proxy | None = None

    def https_request(self, request: Request) -> Request:
        request = super().do_request_(request)
        self._proxy = _by_proxy(request, self._environ)
        return request

    def https_open(self, req: Request) -> HTTPResponse:
        by_tls = self._proxy is not None and self._proxy.scheme == "https"
        connection: Any = _TunnelByTls if by_tls else http.client.HTTPSConnection
        return self.do_open(connection, req, context=self._trust)


class _TunnelByTls(http.client.HTTPSConnection):
    """A connection with TLS through a proxy that itself is spoken to with TLS."""

    def __init__(self, host: str, *, context: ssl.SSLContext, **more: Any) -> None:
        super().__init__(host, context=context, **more)
        self._trust = context
        self._target = ""

    def set_tunnel(self, host: str, port: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().set_tunnel(host, port, headers)
        self._target = urlsplit(f"//{host}").hostname or ""

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        proxy = self._trust.wrap_socket(plain, server_hostname=self.host)
        # Python's TLS goes over a socket of the system's, and not over TLS.
        self.sock, far = socket.socketpair()
        self.sock.settimeout(self.timeout)
        threading.Thread(target=_pump, args=(proxy, far), daemon=True).start()
        self._tunnel()  # type: ignore[attr-defined] # what http.client does here
        self.sock = self._trust.wrap_socket(self.sock, server_hostname=self._target)


def _pump(proxy: ssl.SSLSocket, far: socket.socket) -> None:
    """Passes on what comes from either side, until one of them ends."""
    with proxy, far, contextlib.suppress(OSError):
        while True:
            for ready in [proxy] if proxy.pending() else select.select([proxy, far], [], [], _SECONDS)[0]:
                other = far if ready is proxy else proxy
                # What has arrived may be TLS's own, and no data.
                ready.setblocking(False)
                try:
                    data = ready.recv(1 << 16)
                except ssl.SSLWantReadError:
                    continue
                if not data:
                    return
                other.settimeout(_SECONDS)
                other.sendall(data)


class _Redirects(HTTPRedirectHandler):
    """Shows credentials only to the server they were meant for, wherever it sends the request."""

    def redirect_request(  # noqa: PLR0917 - urllib's own
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        same = _is_same_server(req.full_url, newurl)
        if req.data is not None and not (same and code in (307, 308)):
            return None
        redirected = Request(newurl.replace(" ", "%20"), data=req.data, headers=req.headers, method=req.get_method())
        if same and req.has_header("Authorization"):
            redirected.add_unredirected_header("Authorization", str(req.get_header("Authorization")))
        return redirected

    # Python 3.10 does not know it.
    http_error_308 = HTTPRedirectHandler.http_error_302


def _is_same_server(url: str, other: str) -> bool:
    here, there = urlsplit(url), urlsplit(other)
    if here[:2] == there[:2]:
        return True
    return (here.scheme, there.scheme) == ("http", "https") and (here.hostname, here.port or 80, there.port or 443) == (
        there.hostname,
        80,
        443,
    )
