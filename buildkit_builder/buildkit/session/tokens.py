"""Bearer tokens for registries, fetched by us so that passwords stay on this machine.

Protocol: the distribution project's token and OAuth2 specifications; the order of attempts is that of buildkit
`session/auth/authprovider`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request

from buildkit_builder.buildkit.session.credentials import Credentials
from buildkit_builder.buildkit.session.registries import is_declared, is_insecure
from buildkit_builder.buildkit.session.web import Trust, UnreachableError, fetch
from buildkit_builder.errors import CredentialsError, RegistryError

_EXPIRES_IN = 60  # seconds, where the server says nothing
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


def fetch_token(
    challenge: Challenge,
    credentials: Credentials,
    *,
    ca_bundle: Path | None = None,
    insecure_registries: Sequence[str] = (),
) -> Token:
    """Fetches a token; blocks.

    Proxies are those of the environment, by the rules of `session.proxies`. The token server of a registry that is
    declared insecure is insecure as well, as it is for Docker Engine: its certificate is not checked.

    Args:
        challenge: What the registry wants.
        credentials: What to show the token server; empty ones for an anonymous token.
        ca_bundle: Certificates to trust beside the system's, a file or a folder.
        insecure_registries: Registries and token servers without TLS, or with an untrusted certificate.

    Raises:
        CredentialsError: The server refused the credentials.
        RegistryError: The server cannot be reached, gave no token, or may not be shown the credentials.
    """
    if credentials.registry_token:
        return Token(value=credentials.registry_token, expires_in=_EXPIRES_IN, issued_at=int(time.time()))
    try:
        realm = urlsplit(challenge.realm)
        host = realm.netloc.rpartition("@")[2]
    except ValueError:
        realm, host = urlsplit(""), ""
    if realm.scheme not in ("http", "https") or not host:
        raise RegistryError(f"The token server of {challenge.host} has no web address: {challenge.realm!r}.")
    if realm.scheme == "http" and credentials.secret and not _may_be_clear(challenge.host, host, insecure_registries):
        raise RegistryError(
            f"{challenge.host} wants its password sent to {realm.scheme}://{host}{realm.path}, where everybody on the "
            f"way could read it; it was not sent. If {challenge.host} is to be trusted without TLS, name it in "
            "`image.buildkit.insecure_registries`."
        )
    trust = Trust(
        ca_bundle=ca_bundle,
        insecure=any(is_declared(name, insecure_registries) for name in (challenge.host, host)),
    )
    server = _TokenServer(challenge, host, credentials, trust)
    if not credentials.secret:
        return server.get()
    try:
        return server.post()
    except HTTPError as error:
        if error.code not in (_NO_POST_WITH_USER if credentials.username else _NO_POST):
            raise server.refused(error) from None
        error.close()
    return server.get()


def _may_be_clear(registry: str, server: str, insecure: Sequence[str]) -> bool:
    return is_insecure(registry, insecure) or is_insecure(server, insecure)


class _TokenServer:
    def __init__(self, challenge: Challenge, host: str, credentials: Credentials, trust: Trust) -> None:
        self._challenge = challenge
        self._host = host
        self._credentials = credentials
        self._trust = trust

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
        return self._token(
            challenge.realm,
            urlencode(form, errors="surrogateescape").encode(),
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        )

    def get(self) -> Token:
        challenge, credentials = self._challenge, self._credentials
        query = [("service", challenge.service)] if challenge.service else []
        query += [("scope", scope) for scope in challenge.scopes]
        separator = "&" if urlsplit(challenge.realm).query else "?"
        try:
            return self._token(
                challenge.realm + (separator + urlencode(query) if query else ""),
                authorization=_basic(credentials) if credentials.secret else "",
            )
        except HTTPError as error:
            raise self.refused(error) from None

    def refused(self, error: HTTPError) -> RegistryError:
        error.close()
        challenge = self._challenge
        said = f"the token server {self._host} said {error.code} {error.reason}"
        if error.code in (401, 403):
            shown = f"the credentials of {self._credentials.username or 'the Docker config'}"
            shown = shown if self._credentials.secret else "a request without credentials"
            return CredentialsError(
                f"{challenge.host} refused {shown}: {said}. Run `docker login {challenge.host}` with an account that "
                f"may do this: {', '.join(challenge.scopes) or 'log in'}."
            )
        if 300 <= error.code < 400:
            # A form with a password is not for whomever it is passed on to.
            said += f", which leads to {error.headers.get('Location', 'nowhere')}; the password was not sent there"
        return RegistryError(f"{challenge.host} gave no token: {said}.")

    def _token(
        self,
        url: str,
        form: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
    ) -> Token:
        headers = {"Accept": "application/json", "User-Agent": "buildkit_builder", **(headers or {})}
        try:
            request = Request(url, data=form, headers=headers)
            if authorization:
                request.add_unredirected_header("Authorization", authorization)
            body = fetch(request, self._trust)
        except (UnreachableError, ValueError) as error:
            raise RegistryError(
                f"The token server {self._host} of {self._challenge.host} cannot be reached: {error}."
            ) from None
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
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


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.secret}".encode("utf-8", "surrogateescape")
    return f"Basic {base64.b64encode(pair).decode()}"


def _seconds(issued_at: Any) -> int:
    if isinstance(issued_at, str) and issued_at:
        # Before Python 3.11 `fromisoformat` knows neither `Z` nor nanoseconds; whole seconds do.
        try:
            return int(datetime.fromisoformat(issued_at[:19] + "+00:00").timestamp())
        except ValueError:
            pass
    return int(time.time())
