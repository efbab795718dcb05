from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buildkit_builder.errors import CredentialsError
from buildkit_builder.session.auth import Auth
from buildkit_builder.session.docker_config import Credentials, DockerConfig
from buildkit_builder.session.registries import Registries
from buildkit_builder.session.session import Session
from buildkit_builder.wire import services
from buildkit_builder.wire.auth_pb2 import (
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
    GetTokenAuthorityRequest,
    GetTokenAuthorityResponse,
    VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
)
from tests.session.harness import attach
from tests.session.token_server import token_server

CONFIG = DockerConfig(
    auths={
        "r": Credentials(username="me", password="word"),
        "identity": Credentials(username="me", identity_token="refresh"),
    }
)


def auth_of(config: DockerConfig = CONFIG, *hosts: str) -> Auth:
    """Serves some registries; all of them where none is named."""
    return Auth(config, registries=Registries(hosts or ("*",)))


async def ask(auth: Auth, path: str, request: Any, response: Any) -> Any:
    async with attach(Session([auth])) as daemon:
        return await daemon.unary(path, request, response)


async def credentials(auth: Auth, host: str) -> tuple[str, str]:
    answer = await ask(auth, services.AUTH_CREDENTIALS, CredentialsRequest(Host=host), CredentialsResponse)
    return answer.Username, answer.Secret


async def public_key(config: DockerConfig, host: str, salt: bytes) -> bytes:
    request = GetTokenAuthorityRequest(Host=host, Salt=salt)
    answer = await ask(auth_of(config), services.AUTH_GET_TOKEN_AUTHORITY, request, GetTokenAuthorityResponse)
    key: bytes = answer.PublicKey
    return key


async def test_credentials() -> None:
    """Passwords come with their user, identity tokens alone, and what is not there as nothing."""
    assert ("me", "word") == await credentials(auth_of(), "r")
    assert ("", "refresh") == await credentials(auth_of(), "identity")
    assert ("", "") == await credentials(auth_of(), "other")


async def test_only_the_builds_registries_are_answered() -> None:
    """Of a registry that the build has nothing to do with there are no credentials, no key, and no token."""
    auth = auth_of(CONFIG, "identity")

    assert ("", "") == await credentials(auth, "r")
    assert ("", "refresh") == await credentials(auth, "identity")
    assert ["r"] == auth.registries.withheld
    with token_server() as server:
        fetch = FetchTokenRequest(Host="r", Realm=server.address)
        for path, request, response in (
            (services.AUTH_GET_TOKEN_AUTHORITY, GetTokenAuthorityRequest(Host="r"), GetTokenAuthorityResponse),
            (services.AUTH_VERIFY_TOKEN_AUTHORITY, VerifyTokenAuthorityRequest(Host="r"), VerifyTokenAuthorityResponse),
            (services.AUTH_FETCH_TOKEN, fetch, FetchTokenResponse),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="names no image of r") as caught:
                await ask(auth, path, request, response)

            # The daemon then goes there by itself, with nothing of ours.
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert [] == server.asked
    assert [] == auth.errors


async def test_tokens_are_fetched_here() -> None:
    """The daemon gets a token for the scopes it named, never the password."""
    with token_server() as server:
        request = FetchTokenRequest(
            ClientID="buildkit-client", Host="r", Realm=server.address, Service="registry", Scopes=["a:pull", "b:push"]
        )
        server.extra = {"expires_in": 300}
        answer = await ask(auth_of(), services.AUTH_FETCH_TOKEN, request, FetchTokenResponse)

        assert ("POST:me:a:pull b:push", 300) == (answer.Token, answer.ExpiresIn)
        assert answer.IssuedAt > 1_700_000_000


async def test_the_authority_proves_the_credentials() -> None:
    """The key is the same in every session with the same credentials, and what it signs can be checked with it."""
    salt, payload = b"s" * 32, b"p" * 32
    key = await public_key(CONFIG, "r", salt)
    signed = await ask(
        auth_of(),
        services.AUTH_VERIFY_TOKEN_AUTHORITY,
        VerifyTokenAuthorityRequest(Host="r", Payload=payload, Salt=salt),
        VerifyTokenAuthorityResponse,
    )

    assert 32 == len(key)
    assert payload == signed.Signed[64:]
    Ed25519PublicKey.from_public_bytes(key).verify(signed.Signed[:64], payload)  # raises if it does not fit


async def test_different_credentials_have_different_authorities() -> None:
    """Another password, host or salt gives another key; all anonymous sessions share one."""
    salt = b"s" * 32
    other = DockerConfig(auths={"r": Credentials(username="me", password="other")})
    keys = [
        await public_key(CONFIG, "r", salt),
        await public_key(CONFIG, "r", b"t" * 32),
        await public_key(CONFIG, "identity", salt),
        await public_key(other, "r", salt),
        await public_key(CONFIG, "nobody", salt),
    ]

    assert 5 == len(set(keys))
    assert keys[4] == await public_key(other, "elsewhere", salt)


@pytest.mark.parametrize(
    ("path", "request_", "response"),
    [
        (services.AUTH_CREDENTIALS, CredentialsRequest(Host="r"), CredentialsResponse),
        (services.AUTH_GET_TOKEN_AUTHORITY, GetTokenAuthorityRequest(Host="r"), GetTokenAuthorityResponse),
        (services.AUTH_FETCH_TOKEN, FetchTokenRequest(Host="r"), FetchTokenResponse),
    ],
)
async def test_missing_helpers_are_named(path: str, request_: Any, response: Any) -> None:
    """A helper that is not installed fails the question with its name, and is kept in `errors`."""
    auth = auth_of(DockerConfig(store="nowhere"))
    session = Session([auth])
    async with attach(session) as daemon:
        with pytest.raises(grpc.aio.AioRpcError, match="docker-credential-nowhere") as caught:
            await daemon.unary(path, request_, response)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [CredentialsError] == [type(error) for error in auth.errors]
    assert session.failure is None


async def test_refused_tokens_are_told() -> None:
    """What the token server said reaches the daemon, and `errors`."""
    auth = auth_of(DockerConfig(auths={"r": Credentials(username="me", password="wrong")}))
    with token_server() as server, pytest.raises(grpc.aio.AioRpcError, match="r refused the credentials of me"):
        await ask(
            auth, services.AUTH_FETCH_TOKEN, FetchTokenRequest(Host="r", Realm=server.address), FetchTokenResponse
        )

    assert [CredentialsError] == [type(error) for error in auth.errors]
