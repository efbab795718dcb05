from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_builder.errors import CredentialsError, RegistryError
from buildkit_builder.session.docker_config import Credentials
from buildkit_builder.session.tokens import Challenge, fetch_token
from tests.session.token_server import TokenServer, token_server

PASSWORD = Credentials(username="me", password="word")
IDENTITY = Credentials(identity_token="refresh")


@pytest.fixture
def server() -> Iterator[TokenServer]:
    """A token server."""
    with token_server() as state:
        yield state


def challenge(server: TokenServer, *scopes: str) -> Challenge:
    return Challenge(host="r.example", realm=server.address, service="registry", scopes=scopes or ("pull",))


def test_passwords_are_posted(server: TokenServer) -> None:
    """With a password the token is asked for as OAuth2 has it, with all scopes in one."""
    token = fetch_token(challenge(server, "a:pull", "b:push"), PASSWORD)

    assert "POST:me:a:pull b:push" == token.value
    assert [
        (
            "POST",
            {
                "client_id": ["buildkit-client"],
                "service": ["registry"],
                "scope": ["a:pull b:push"],
                "grant_type": ["password"],
                "username": ["me"],
                "password": ["word"],
            },
            "me",
        )
    ] == server.asked


def test_identity_tokens_are_refreshed(server: TokenServer) -> None:
    """An identity token is exchanged for an access token."""
    assert "POST:refreshed:pull" == fetch_token(challenge(server), IDENTITY).value


def test_without_credentials(server: TokenServer) -> None:
    """An anonymous token is asked for with GET, one parameter per scope."""
    assert "GET::a,b" == fetch_token(challenge(server, "a", "b"), Credentials()).value
    assert [("GET", {"service": ["registry"], "scope": ["a", "b"]}, "")] == server.asked


@pytest.mark.parametrize("status", [401, 404, 405])
def test_servers_without_post(server: TokenServer, status: int) -> None:
    """A server that does not know POST is asked again with GET."""
    server.post_status = status

    assert "GET:me:pull" == fetch_token(challenge(server), PASSWORD).value


def test_identity_tokens_where_post_is_forbidden(server: TokenServer) -> None:
    """Without a user name there is nothing to ask with after a 405."""
    server.post_status = 405

    with pytest.raises(RegistryError, match="said 405"):
        fetch_token(challenge(server), IDENTITY)
    assert 1 == len(server.asked)


def test_registry_tokens_are_used_as_they_are(server: TokenServer) -> None:
    """A static token needs no server."""
    assert "static" == fetch_token(challenge(server), Credentials(registry_token="static")).value
    assert [] == server.asked


def test_refused_credentials(server: TokenServer) -> None:
    """Wrong credentials are an error that names registry, user and scope, and what to do."""
    wrong = Credentials(username="me", password="hunter2")

    with pytest.raises(
        CredentialsError, match=r"r\.example refused the credentials of me: .* said 401.*docker login"
    ) as caught:
        fetch_token(challenge(server), wrong)
    assert "hunter2" not in str(caught.value)


def test_refused_anonymous_requests(server: TokenServer) -> None:
    """A registry that wants an account says so."""
    server.get_status = 403

    with pytest.raises(CredentialsError, match="refused a request without credentials"):
        fetch_token(challenge(server), Credentials())


@pytest.mark.parametrize(
    ("extra", "expires_in", "issued_at"),
    [
        ({"expires_in": 300, "issued_at": "2024-01-02T03:04:05Z"}, 300, 1_704_164_645),
        ({"expires_in": 0, "issued_at": "2024-01-02T03:04:05.123456789Z"}, 60, 1_704_164_645),
        ({}, 60, None),
        ({"issued_at": "yesterday", "expires_in": "soon"}, 60, None),
    ],
)
def test_lifetimes(server: TokenServer, extra: dict[str, object], expires_in: int, issued_at: int | None) -> None:
    """Lifetimes are the server's, or a minute from now where it says none."""
    server.extra = extra
    before = int(time.time())
    token = fetch_token(challenge(server), Credentials())

    assert expires_in == token.expires_in
    assert issued_at == token.issued_at if issued_at else before <= token.issued_at <= time.time()


def test_answers_without_a_token(server: TokenServer) -> None:
    """An answer that holds no token is an error."""
    server.extra = {"token": ""}

    with pytest.raises(RegistryError, match="without a token"):
        fetch_token(challenge(server), Credentials())


def test_redirects_do_not_carry_credentials(server: TokenServer) -> None:
    """A redirect to another host is followed without the password; to the same host with it."""
    server.post_status = 404
    with token_server() as other:
        server.redirect = other.address

        assert "GET::" == fetch_token(challenge(server), PASSWORD).value
        assert [("GET", {}, "")] == other.asked


def test_servers_that_are_not_there() -> None:
    """A server that cannot be reached is named together with its registry."""
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1 of r\.example cannot be reached"):
        fetch_token(Challenge(host="r.example", realm="http://127.0.0.1:1/token"), PASSWORD)


@pytest.mark.parametrize("realm", ["", "file:///etc/passwd", "ftp://x/"])
def test_realms_that_are_no_web_addresses(realm: str) -> None:
    """A registry cannot make us read files."""
    with pytest.raises(RegistryError, match="no web address"):
        fetch_token(Challenge(host="r.example", realm=realm), Credentials())


def test_certificates_are_checked(tmp_path: Path) -> None:
    """A bundle that is not there is noticed before anything is sent."""
    with pytest.raises(RegistryError, match="missing cannot be read: No such file"):
        fetch_token(
            Challenge(host="r.example", realm="https://127.0.0.1:1/"), Credentials(), ca_bundle=tmp_path / "missing"
        )
