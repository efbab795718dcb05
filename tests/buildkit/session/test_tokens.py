from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import truststore

from buildkit_builder.buildkit.session.credentials import Credentials
from buildkit_builder.buildkit.session.tokens import Challenge, fetch_token
from buildkit_builder.buildkit.session.web import Trust
from buildkit_builder.errors import CredentialsError, RegistryError
from tests.buildkit.session.token_server import TokenServer, token_server
from tests.buildkit.session.web_proxy import web_proxy
from tests.fakes import certificates
from tests.fakes.certificates import Certificates

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


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    """A bundle that is not there is noticed before anything is sent."""
    with pytest.raises(RegistryError, match="missing cannot be read: No such file"):
        fetch_token(
            Challenge(host="r.example", realm="https://127.0.0.1:1/"), Credentials(), ca_bundle=tmp_path / "missing"
        )
    (tmp_path / "empty").write_text("no certificate")
    with pytest.raises(RegistryError, match="empty cannot be read"):
        fetch_token(
            Challenge(host="r.example", realm="https://127.0.0.1:1/"), Credentials(), ca_bundle=tmp_path / "empty"
        )


# --- whom is trusted ---


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and a token server that it vouches for."""

    certs: Certificates
    server: TokenServer


@pytest.fixture
def authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Authority]]:
    """Two companies that nobody else knows, in a system that trusts whom it trusts."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            certs = certificates.make(tmp_path / name)
            found.append(Authority(certs, stack.enter_context(token_server(certs.https()))))
        yield found


def test_a_certificate_that_nobody_vouches_for(authorities: list[Authority]) -> None:
    """It is refused, the password is not sent, and the sentence says what to do."""
    (one, _) = authorities

    with pytest.raises(
        RegistryError,
        match=r"token server 127\.0\.0\.1:\d+ of r\.example cannot be reached: its certificate is not trusted",
    ) as caught:
        fetch_token(challenge(one.server), PASSWORD)
    assert "`image.buildkit.ca_bundle`" in str(caught.value)
    assert [] == one.server.asked


def test_the_bundle_is_added_to_the_system(authorities: list[Authority], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system trusts is trusted as well with a bundle of one's own, and both without each other are not."""
    one, two = authorities
    monkeypatch.setenv("SSL_CERT_FILE", str(one.certs.ca))

    for authority, bundle in ((one, None), (one, two.certs.ca), (two, two.certs.ca)):
        assert "POST:me:pull" == fetch_token(challenge(authority.server), PASSWORD, ca_bundle=bundle).value
    with pytest.raises(RegistryError, match="not trusted"):
        fetch_token(challenge(two.server), PASSWORD)
    # One that is not there, or is empty, is nobody's.
    for nothing in ("/nonexistent", "/dev/null", ""):
        monkeypatch.setenv("SSL_CERT_FILE", nothing)
        assert "POST:me:pull" == fetch_token(challenge(one.server), PASSWORD, ca_bundle=one.certs.ca).value


def test_the_systems_certificates_are_used(tmp_path: Path) -> None:
    """Python's own store is empty on some systems: it is the system's that counts, with and without a bundle."""
    assert isinstance(Trust().context({}), truststore.SSLContext)
    assert isinstance(Trust(ca_bundle=certificates.make(tmp_path).ca).context({}), truststore.SSLContext)


@pytest.mark.parametrize("declared", ["r.example", "r.example:5000", "{server}", "127.0.0.1"])
def test_insecure_registries_hold_at_the_token_server(authorities: list[Authority], declared: str) -> None:
    """As for Docker Engine: the token server of an insecure registry, or one that is named itself, is not checked."""
    one, two = authorities
    names = (declared.format(server=one.server.address.split("/")[2]),)
    asked = Challenge(host="r.example:5000", realm=one.server.address, scopes=("pull",))

    assert "POST:me:pull" == fetch_token(asked, PASSWORD, insecure_registries=names).value
    if declared != "127.0.0.1":
        other = Challenge(host="other.example", realm=two.server.address)
        with pytest.raises(RegistryError, match="not trusted"):
            fetch_token(other, PASSWORD, insecure_registries=names)
    assert [] == two.server.asked


def test_passwords_are_not_sent_in_clear() -> None:
    """A registry with TLS may not have the password sent where everybody on the way could read it."""
    asked = Challenge(host="r.example", realm="http://auth.example:81/token?x=1")

    for shown in (PASSWORD, IDENTITY):
        with pytest.raises(
            RegistryError,
            match=r"r\.example wants its password sent to http://auth\.example:81/token, .* it was not sent",
        ) as caught:
            fetch_token(asked, shown)
        assert "`image.buildkit.insecure_registries`" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "declared"),
    [("r.example", ("r.example",)), ("localhost:5000", ()), ("[::1]:5000", ()), ("r.example", ("auth.example",))],
)
def test_where_passwords_may_be_sent_in_clear(
    monkeypatch: pytest.MonkeyPatch, host: str, declared: tuple[str, ...]
) -> None:
    """For a registry that has no TLS, or a token server that is declared so, it is sent; without one it always is."""
    with token_server() as server, web_proxy(server.port) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        asked = Challenge(host=host, realm="http://auth.example/token")
        assert "POST:me:" == fetch_token(asked, PASSWORD, insecure_registries=declared).value
        anonymous = Challenge(host="r.example", realm="http://auth.example/token")
        assert "GET::" == fetch_token(anonymous, Credentials()).value


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_forms_with_passwords_are_not_passed_on(server: TokenServer, status: int) -> None:
    """A server that sends a POST to another host gets an error that names both; the other is not asked."""
    with token_server() as other:
        server.post_redirect = (status, other.address)
        with pytest.raises(
            RegistryError, match=rf"said {status} .*, which leads to {other.address}; the password was not"
        ):
            fetch_token(challenge(server), PASSWORD)

        assert [] == other.asked


@pytest.mark.parametrize("status", [307, 308])
def test_forms_are_sent_again_to_the_same_host(server: TokenServer, status: int) -> None:
    """Another path of the same server is asked with the same form."""
    server.post_redirect = (status, server.address + "/again")

    assert "POST:me:pull" == fetch_token(challenge(server), PASSWORD).value


def test_redirects_within_a_host_carry_credentials(server: TokenServer) -> None:
    """Another path of the same server is shown the password; a server with TLS keeps it from one without."""
    server.post_status = 404
    server.redirect = "/elsewhere"
    server.redirect_once = True

    assert "GET:me:" == fetch_token(challenge(server), PASSWORD).value


def test_redirects_from_tls_do_not_carry_credentials(authorities: list[Authority], server: TokenServer) -> None:
    """The same host without TLS is another one."""
    one, _ = authorities
    one.server.post_status = 404
    one.server.redirect = server.address

    assert "GET::" == fetch_token(challenge(one.server), PASSWORD, ca_bundle=one.certs.ca).value


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1:1/x", "file:///etc/passwd", "data:,x", "http://", "http://[bad", "//"]
)
def test_redirects_that_lead_nowhere(server: TokenServer, address: str) -> None:
    """A token server cannot make us read files, nor hang or crash."""
    server.redirect = address

    with pytest.raises(RegistryError):
        fetch_token(challenge(server), Credentials())


def test_redirects_without_end(server: TokenServer) -> None:
    """A server that leads to itself is left after some turns."""
    server.redirect = server.address

    with pytest.raises(RegistryError, match="loop"):
        fetch_token(challenge(server), Credentials())


# --- odd servers and words ---


@pytest.mark.parametrize(
    "realm",
    ["http://", "https:///token", "http://[bad/token", "http://127.0.0.1:99999999/", "http://127.0.0.1:x/",
     "http://127.0.0.1:1/a b", "http://127.0.0.1:1/a\nb", "http://ü.invalid/", "http://u:p@127.0.0.1:1/"],
)  # fmt: skip
def test_realms_that_make_no_sense(realm: str) -> None:
    """Whatever a registry names, the error is one of ours."""
    with pytest.raises(RegistryError, match=r"r\.example"):
        fetch_token(Challenge(host="r.example", realm=realm), Credentials())


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"\x16\x03\x01"]
)
def test_servers_that_do_not_speak_http(said: bytes) -> None:
    """An answer that is none, or half of one, is one of our errors."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        realm = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(RegistryError, match=r"r\.example"):
            fetch_token(Challenge(host="r.example", realm=realm), Credentials())
        thread.join()


@pytest.mark.parametrize("post_status", [200, 404])
def test_passwords_that_are_not_utf8(server: TokenServer, post_status: int) -> None:
    """As with docker, a password in Latin-1 comes to the server as it went in."""
    server.users = {"me": "p\udce4ss"}
    server.post_status = post_status

    token = fetch_token(challenge(server), Credentials(username="me", password="p\udce4ss"))

    assert token.value.endswith(":me:pull")
