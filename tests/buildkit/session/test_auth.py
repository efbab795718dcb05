from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buildkit_builder.buildkit.session.auth import Auth
from buildkit_builder.buildkit.session.credentials import Credentials
from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.buildkit.session.registries import Registries
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.auth_pb2 import (
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
    GetTokenAuthorityRequest,
    GetTokenAuthorityResponse,
    VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
)
from buildkit_builder.config import Settings
from buildkit_builder.errors import CredentialsError
from buildkit_builder.flyte_plugin.image_build import ordered_image
from tests.buildkit.session.harness import attach
from tests.buildkit.session.token_server import TokenServer, token_server
from tests.fakes import certificates

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


# --- credential helpers ---


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The helper `test` on the PATH: it says the password that the file `now` holds, and counts its runs in `runs`."""
    path = tmp_path / "docker-credential-test"
    path.write_text(
        f"""#!/bin/sh
echo run >> {tmp_path}/runs
word=$(cat {tmp_path}/now) || {{ echo locked; exit 1; }}
echo "{{\\"Username\\": \\"me\\", \\"Secret\\": \\"$word\\"}}"
"""
    )
    path.chmod(0o755)
    (tmp_path / "now").write_text("word")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def runs(helper: Path) -> int:
    """How often it has run."""
    return len((helper / "runs").read_text().split())


HELPED = DockerConfig(store="test")


async def token(server: TokenServer, auth: Auth, host: str = "r") -> str:
    request = FetchTokenRequest(Host=host, Realm=server.address, Scopes=["a:pull"])
    answer = await ask(auth, services.AUTH_FETCH_TOKEN, request, FetchTokenResponse)
    value: str = answer.Token
    return value


async def test_one_process_answers_a_whole_session(helper: Path) -> None:
    """Sixteen questions of all kinds at once run the helper once; those of the next session not at all."""
    with token_server() as server:
        for _ in range(2):
            async with attach(Session([auth_of(HELPED)])) as daemon:
                requests: list[tuple[str, Any, Any]] = [
                    (services.AUTH_CREDENTIALS, CredentialsRequest(Host="r"), CredentialsResponse),
                    (services.AUTH_GET_TOKEN_AUTHORITY, GetTokenAuthorityRequest(Host="r"), GetTokenAuthorityResponse),
                    (services.AUTH_FETCH_TOKEN, FetchTokenRequest(Host="r", Realm=server.address), FetchTokenResponse),
                    (
                        services.AUTH_VERIFY_TOKEN_AUTHORITY,
                        VerifyTokenAuthorityRequest(Host="r"),
                        VerifyTokenAuthorityResponse,
                    ),
                ]
                await asyncio.gather(*(daemon.unary(*request) for request in requests * 4))

    assert 1 == runs(helper)


async def test_a_helper_that_fails_runs_once_a_session(helper: Path) -> None:
    """All questions of a session hear the failure; the next session asks again."""
    (helper / "now").unlink()
    async with attach(Session([auth_of(HELPED)])) as daemon:
        for _ in range(4):
            with pytest.raises(grpc.aio.AioRpcError, match="locked"):
                await daemon.unary(services.AUTH_CREDENTIALS, CredentialsRequest(Host="r"), CredentialsResponse)
    assert 1 == runs(helper)
    (helper / "now").write_text("word")

    assert ("me", "word") == await credentials(auth_of(HELPED), "r")


async def test_a_kept_password_that_is_refused_is_asked_for_again(helper: Path) -> None:
    """A helper's short-lived password is renewed where a token server refuses it, in the same question."""
    with token_server() as server:
        assert "POST:me:a:pull" == await token(server, auth_of(HELPED))
        server.users = {"me": "second"}
        (helper / "now").write_text("second")

        assert "POST:me:a:pull" == await token(server, auth_of(HELPED))
        assert 2 == runs(helper)
        assert ("me", "second") == await credentials(auth_of(HELPED), "r")
    assert 2 == runs(helper)


async def test_a_wrong_password_is_asked_for_once_more(helper: Path) -> None:
    """Where the helper says the same again, that is it: refused, and no third time."""
    auth = auth_of(HELPED)
    with token_server() as server:
        server.users = {"me": "other"}
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match="r refused the credentials of me"):
                await token(server, auth)

    assert 2 == runs(helper)


async def test_after_a_failure_helpers_are_asked_anew(helper: Path) -> None:
    """Of passwords that go to the daemon only the build's end tells whether they were any good."""
    auth = auth_of(HELPED)
    await credentials(auth, "r")
    (helper / "now").write_text("second")
    assert ("me", "word") == await credentials(auth_of(HELPED), "r")
    auth.forget()

    assert ("me", "second") == await credentials(auth_of(HELPED), "r")


async def test_passwords_that_are_not_utf8() -> None:
    """A token is fetched with them, and they make a key; to the daemon they cannot be passed on, which is said."""
    auth = auth_of(DockerConfig(auths={"r": Credentials(username="me", password="p\udce4ss")}))
    with token_server() as server:
        server.users = {"me": "p\udce4ss"}
        assert "POST:me:a:pull" == await token(server, auth)
    request = GetTokenAuthorityRequest(Host="r")
    assert 32 == len((await ask(auth, services.AUTH_GET_TOKEN_AUTHORITY, request, GetTokenAuthorityResponse)).PublicKey)
    with pytest.raises(grpc.aio.AioRpcError, match="The password for r is not UTF-8"):
        await credentials(auth, "r")


async def test_an_entry_is_judged_when_its_registry_is_asked_for(tmp_path: Path) -> None:
    """A broken entry of the config ends only what needs it, and names itself and the file."""
    (tmp_path / "config.json").write_text('{"auths": {"bad": {"auth": "!"}, "r": {"username": "me", "password": "w"}}}')
    auth = auth_of(DockerConfig.load(tmp_path))

    assert ("me", "w") == await credentials(auth, "r")
    assert ("", "") == await credentials(auth, "other")
    with pytest.raises(grpc.aio.AioRpcError, match=r"The entry of bad in the Docker config .*config\.json"):
        await credentials(auth, "bad")


# --- whom token servers are trusted by ---


async def test_trust_comes_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ca_bundle` and `insecure_registries` hold for the fetching of tokens."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    certs = certificates.make(tmp_path)
    everybody = Registries(("*",))
    with token_server(certs.https()) as server:
        with pytest.raises(grpc.aio.AioRpcError, match="its certificate is not trusted"):
            await token(server, Auth(CONFIG, registries=everybody))
        for settings in (Settings(ca_bundle=certs.ca), Settings(insecure_registries=("r",))):
            assert "POST:me:a:pull" == await token(
                server, ordered_image.auth(CONFIG, replace(settings, credentials_for=("*",)))
            )
