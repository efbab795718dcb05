"""Bearer tokens for registries, fetched by us so that passwords stay on this machine.

Protocol: the distribution project's token and OAuth2 specifications; the order of attempts is that of buildkit
`session/auth/authprovider`.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from buildkit_builder.errors import CredentialsError, RegistryError
from buildkit_builder.session.docker_config import Credentials

_SECONDS = 30.0
_EXPIRES_IN = 60  # seconds, where the server says nothing
_ANSWER_LIMIT = 1 << 20  # bytes
# Registries that know only GET answer a POST with these.
_NO_POST = frozenset({401, 404})
_NO_POST_WITH_USER = frozenset({401, 404, 405})


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a registry said is needed to get in.

    Attributes:
        host: The registry's API host.
        realm: The address of its token server.
        service: The registry's name there.
        scopes: What is to be done, such as `repository:name:pull,push`.
        client_id: Who asks.
    """

    host: str
    realm: str
    service: str = ""
    scopes: Sequence[str] = ()
    client_id: str = "buildkit-client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token.

    Attributes:
        value: The token.
        expires_in: Seconds that it is good for.
        issued_at: Seconds since 1970.
    """

    value: str = field(repr=False)
    expires_in: int
    issued_at: int


def fetch_token(challenge: Challenge, credentials: Credentials, *, ca_bundle: Path | None = None) -> Token:
    """Fetches a token; blocks.

    Proxies are taken from the environment, as `urllib` does.

    Args:
        challenge: What the registry wants.
        credentials: What to show the token server; empty ones for an anonymous token.
        ca_bundle: The certificates to trust, a file or a folder; without it the system's.

    Raises:
        CredentialsError: The server refused the credentials.
        RegistryError: The server cannot be reached, or gave no token.
    """
    if credentials.registry_token:
        return Token(value=credentials.registry_token, expires_in=_EXPIRES_IN, issued_at=int(time.time()))
    if urlsplit(challenge.realm).scheme not in ("http", "https"):
        raise RegistryError(f"The token server of {challenge.host} has no web address: {challenge.realm!r}.")
    server = _TokenServer(challenge, credentials, ca_bundle)
    if not credentials.secret:
        return server.get()
    try:
        return server.post()
    except HTTPError as error:
        if error.code not in (_NO_POST_WITH_USER if credentials.username else _NO_POST):
            raise server.refused(error) from None
    return server.get()


class _TokenServer:
    def __init__(self, challenge: Challenge, credentials: Credentials, ca_bundle: Path | None) -> None:
        self._challenge = challenge
        self._credentials = credentials
        self._ca_bundle = ca_bundle

    def post(self) -> Token:
        """Asks as OAuth2 does.

        Raises:
            HTTPError: The server refused, perhaps because it does not know this way.
        """
        challenge, credentials = self._challenge, self._credentials
        form = {"client_id": challenge.client_id, "service": challenge.service}
        if challenge.scopes:
            form["scope"] = " ".join(challenge.scopes)
        if credentials.identity_token:
            form |= {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
        else:
            form |= {"grant_type": "password", "username": credentials.username, "password": credentials.password}
        request = Request(challenge.realm, data=urlencode(form).encode(), method="POST")
        request.add_header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
        return self._token(request)

    def get(self) -> Token:
        challenge, credentials = self._challenge, self._credentials
        query = [("service", challenge.service)] if challenge.service else []
        query += [("scope", scope) for scope in challenge.scopes]
        separator = "&" if urlsplit(challenge.realm).query else "?"
        request = Request(challenge.realm + (separator + urlencode(query) if query else ""))
        if credentials.secret:
            pair = f"{credentials.username}:{credentials.secret}".encode()
            request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
        try:
            return self._token(request)
        except HTTPError as error:
            raise self.refused(error) from None

    def refused(self, error: HTTPError) -> RegistryError:
        error.close()
        challenge = self._challenge
        said = f"the token server {urlsplit(challenge.realm).netloc} said {error.code} {error.reason}"
        if error.code in (401, 403):
            shown = f"the credentials of {self._credentials.username or 'the Docker config'}"
            shown = shown if self._credentials.secret else "a request without credentials"
            return CredentialsError(
                f"{challenge.host} refused {shown}: {said}. Run `docker login {challenge.host}` with an account that "
                f"may do this: {', '.join(challenge.scopes) or 'log in'}."
            )
        return RegistryError(f"{challenge.host} gave no token: {said}.")

    def _token(self, request: Request) -> Token:
        request.add_header("Accept", "application/json")
        request.add_header("User-Agent", "buildkit_builder")
        opener = build_opener(HTTPSHandler(context=_trust(self._ca_bundle)), _Redirects())
        try:
            with opener.open(request, timeout=_SECONDS) as response:
                answer = json.loads(response.read(_ANSWER_LIMIT))
        except HTTPError:
            raise
        except (URLError, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise RegistryError(
                f"The token server {urlsplit(self._challenge.realm).netloc} of {self._challenge.host} cannot be "
                f"reached: {reason}."
            ) from None
        except ValueError:
            answer = None
        return self._parsed(answer)

    def _parsed(self, answer: Any) -> Token:
        value = (answer.get("access_token") or answer.get("token")) if isinstance(answer, dict) else None
        if not isinstance(value, str) or not value:
            raise RegistryError(f"The token server of {self._challenge.host} answered without a token.")
        expires_in = answer.get("expires_in")
        return Token(
            value=value,
            expires_in=int(expires_in) if isinstance(expires_in, (int, float)) and expires_in > 0 else _EXPIRES_IN,
            issued_at=_seconds(answer.get("issued_at")),
        )


class _Redirects(HTTPRedirectHandler):
    """Follows redirects of a GET, but shows the credentials only to the host they were meant for."""

    def redirect_request(  # noqa: PLR0917 - urllib's own
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if req.data is not None:
            return None
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        if redirected is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            redirected.remove_header("Authorization")
        return redirected


def _trust(ca_bundle: Path | None) -> ssl.SSLContext:
    if ca_bundle is None:
        return ssl.create_default_context()
    try:
        if ca_bundle.is_dir():
            return ssl.create_default_context(capath=str(ca_bundle))
        return ssl.create_default_context(cafile=str(ca_bundle))
    except OSError as error:  # `ssl.SSLError` is one
        raise RegistryError(f"The certificates in {ca_bundle} cannot be read: {error.strerror or error}.") from error


def _seconds(issued_at: Any) -> int:
    if isinstance(issued_at, str) and issued_at:
        # Before Python 3.11 `fromisoformat` knows neither `Z` nor nanoseconds; whole seconds do.
        try:
            return int(datetime.fromisoformat(issued_at[:19] + "+00:00").timestamp())
        except ValueError:
            pass
    return int(time.time())
