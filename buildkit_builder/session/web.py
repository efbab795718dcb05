"""Requests to token servers: whom they trust, by which proxy they go, and what a redirect is told."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    BaseHandler,
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

from buildkit_builder import config
from buildkit_builder.errors import RegistryError
from buildkit_builder.session.proxies import proxy_for

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
        UnreachableError: There is none.
        RegistryError: The certificates or the proxy make no sense.
    """
    environ = config.environment()
    opener = OpenerDirector()
    for handler in (
        HTTPHandler(),
        HTTPSHandler(context=trust.context(environ)),
        _Proxies(environ),
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


class _Proxies(BaseHandler):
    """Sends requests by the proxies of the environment."""

    # After what says which host the request is for.
    handler_order = HTTPHandler.handler_order + 100

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def http_request(self, request: Request) -> Request:
        proxy = proxy_for(request.full_url, self._environ)
        if proxy is None:
            return request
        if proxy.scheme != "http" and (proxy.scheme != "https" or request.type == "https"):
            raise RegistryError(
                f"{request.type.upper()}_PROXY names the proxy {proxy.scheme}://{proxy.host}, and proxies are spoken "
                "to by http:// only; that is how they are asked for connections with TLS as well."
            )
        if proxy.user:
            pair = base64.b64encode(proxy.user.encode()).decode()
            request.add_unredirected_header("Proxy-Authorization", f"Basic {pair}")
        request.set_proxy(proxy.host, proxy.scheme)
        return request

    https_request = http_request


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
