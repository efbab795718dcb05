"""Which proxy a request takes: the rules of Go's clients, by table, and then by a real proxy."""

from __future__ import annotations

import base64
import gc
import warnings
from pathlib import Path

import pytest

from buildkit_builder.buildkit.session.credentials import Credentials
from buildkit_builder.buildkit.session.proxies import Proxy, proxy_for
from buildkit_builder.buildkit.session.tokens import Challenge, fetch_token
from buildkit_builder.errors import RegistryError
from tests.buildkit.session.token_server import token_server
from tests.buildkit.session.web_proxy import web_proxy
from tests.fakes import certificates

NO_PROXY = (
    "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, "
    "2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64, ported.example:80, "
    "10.9.8.7/16, Übung.example, *upper.example, [2001:db8::9], :1, , 10.1.1.1/99"
)


@pytest.mark.parametrize(
    ("host", "proxied"),
    [
        ("localhost", False),
        ("LOCALHOST", False),
        ("localhost:8080", False),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("[::1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("localhost.net", True),
        ("local.localhost", True),
        ("127.example", True),
        ("[::2]", True),
        ("192.168.1.1", False),
        ("192.168.1.1:99", False),
        ("192.168.1.2", True),
        ("192.168.1.2:81", False),
        ("192.168.1.3", False),
        ("192.168.1.4", True),
        ("10.0.0.2", False),
        ("[::ffff:10.0.0.2]", False),
        ("10.0.0.4", True),
        ("10.9.1.1", False),
        ("10.1.1.1", True),
        ("[2001:db8::52:0:1]", False),
        ("[2001:db8::52:0:2]", True),
        ("[2001:db8::52:0:2]:443", False),
        ("[2001:db8::52:0:3]", False),
        ("[2001:db8::9]", True),
        ("[2002:db8:a::123]", False),
        ("[fe80::424b:c8be:1643:a1b6]", True),
        ("barbaz.net", True),
        ("www.barbaz.net", False),
        ("barbarbaz.net", True),
        ("foobar.com", False),
        ("FooBar.com", False),
        ("www.foobar.com", False),
        ("foofoobar.com", True),
        ("foobar.com.evil.example", True),
        ("wildcard.io", True),
        ("nested.wildcard.io", False),
        ("deeply.nested.wildcard.io", False),
        ("awildcard.io", True),
        ("x.upper.example", True),
        ("ported.example", False),
        ("ported.example:81", True),
        ("übung.example", False),
        ("www.xn--bung-zra.example", False),
    ],
)
def test_which_hosts_are_reached_without_a_proxy(host: str, proxied: bool) -> None:
    """NO_PROXY names domains, addresses, networks and ports; this machine is never proxied."""
    environ = {"HTTP_PROXY": "proxy:3128", "NO_PROXY": NO_PROXY}

    assert proxied is (proxy_for(f"http://{host}/token", environ) is not None)
    assert proxy_for(f"http://{host}/", {**environ, "NO_PROXY": "*"}) is None
    assert proxy_for(f"http://{host}/", {**environ, "NO_PROXY": "other.example,*"}) is None


@pytest.mark.parametrize(
    ("excluded", "host"),
    [("192.0.2.0/24", "192.0.2.77"), ("*.corp.example", "auth.corp.example"), ("", "127.0.0.1"), ("", "localhost")],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_urllib_would_have_sent_to_the_proxy(excluded: str, host: str, scheme: str) -> None:
    """The reported ones: networks, `*.` and loopback."""
    environ = {"HTTP_PROXY": "http://proxy:1", "HTTPS_PROXY": "http://proxy:1", "no_proxy": excluded}

    assert proxy_for(f"{scheme}://{host}:5000/token", environ) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:8080", Proxy(scheme="http", host="127.0.0.1:8080")),
        ("cache.corp.example:1234", Proxy(scheme="http", host="cache.corp.example:1234")),
        ("cache.corp.example", Proxy(scheme="http", host="cache.corp.example:80")),
        ("http://cache.corp.example/", Proxy(scheme="http", host="cache.corp.example:80")),
        ("https://cache.corp.example", Proxy(scheme="https", host="cache.corp.example:443")),
        ("HTTP://[::1]:3128", Proxy(scheme="http", host="[::1]:3128")),
        ("http://me:p%40ss@cache:1", Proxy(scheme="http", host="cache:1", user="me:p@ss")),
        ("me:word@cache:1", Proxy(scheme="http", host="cache:1", user="me:word")),
        (" http://cache:1 \n", Proxy(scheme="http", host="cache:1")),
        ("http://me@cache:1", Proxy(scheme="http", host="cache:1", user="me:")),
    ],
)
def test_how_a_proxy_may_be_written(given: str, expected: Proxy) -> None:
    """With and without a scheme, a port, a user; the password is not shown."""
    found = proxy_for("https://r.example/", {"HTTPS_PROXY": given})

    assert expected == found
    assert "word" not in repr(found)


@pytest.mark.parametrize("given", ["http://", "http://cache:port", "cache:99999", "http://[bad", "foo://host"])
def test_a_proxy_that_is_none(given: str) -> None:
    """A proxy that makes no sense is an error, not a way around it, and is not shown."""
    with pytest.raises(RegistryError, match="HTTPS_PROXY is not the address of a proxy") as caught:
        proxy_for("https://r.example/", {"HTTPS_PROXY": given})
    assert "cache" not in str(caught.value)


def test_which_variable_counts() -> None:
    """Each scheme has its own; upper case comes first; an empty one is none; ALL_PROXY is no variable of Go's."""
    both = {"HTTP_PROXY": "upper:1", "http_proxy": "lower:1", "HTTPS_PROXY": "", "https_proxy": "secure:1"}

    def host(url: str, environ: dict[str, str]) -> str | None:
        found = proxy_for(url, environ)
        return found.host if found else None

    assert "upper:1" == host("http://r.example", both)
    assert "secure:1" == host("https://r.example", both)
    assert "lower:1" == host("http://r.example", {"http_proxy": "lower:1"})
    assert host("https://r.example", {"HTTP_PROXY": "upper:1", "ALL_PROXY": "all:1"}) is None
    assert host("ftp://r.example", {"FTP_PROXY": "ftp:1"}) is None
    assert host("http://r.example", {**both, "no_proxy": "r.example"}) is None
    assert "upper:1" == host("http://r.example", {**both, "NO_PROXY": "x", "no_proxy": "r.example"})


def test_a_cgi_program_takes_no_http_proxy() -> None:
    """There a stranger sets HTTP_PROXY with a header; HTTPS_PROXY cannot be set so."""
    environ = {"HTTP_PROXY": "evil:1", "HTTPS_PROXY": "good:1", "REQUEST_METHOD": "GET"}

    with pytest.raises(RegistryError, match="REQUEST_METHOD is set"):
        proxy_for("http://r.example", environ)
    assert proxy_for("https://r.example", environ) == Proxy(scheme="http", host="good:1")


# --- by a proxy ---

PASSWORD = Credentials(username="me", password="word")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies of its own."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("user", ["", "me:p%40ss@"])
def test_tokens_come_through_a_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, secure: bool) -> None:
    """A server with TLS is reached by CONNECT, with the proxy's password for the proxy alone; so by one with TLS."""
    certs = certificates.make(tmp_path, name="auth.example")
    with token_server(certs.https()) as server, web_proxy(server.port, certs.https() if secure else None) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"{'https' if secure else 'http'}://{user}127.0.0.1:{proxy.port}")
        proxy.wants = f"Basic {base64.b64encode(b'me:p@ss').decode()}" if user else ""
        challenge = Challenge(host="r.example", realm="https://auth.example/token", scopes=("pull",))
        token = fetch_token(challenge, PASSWORD, ca_bundle=certs.ca)

        again = fetch_token(challenge, Credentials(), ca_bundle=certs.ca)

    assert ("POST:me:pull", "GET::pull") == (token.value, again.value)
    assert [("CONNECT", "auth.example:443")] * 2 == proxy.asked
    assert [proxy.wants] * 2 == proxy.shown


def test_a_proxy_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy with TLS that nobody vouches for is not spoken to."""
    certs = certificates.make(tmp_path)
    with token_server(certs.https()) as server, web_proxy(server.port, certs.https()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://me:word@127.0.0.1:{proxy.port}")
        with pytest.raises(RegistryError, match="its certificate is not trusted"):
            fetch_token(Challenge(host="r.example", realm="https://auth.example/token"), PASSWORD)

    assert [] == proxy.asked


def test_a_proxy_that_wants_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that lets nobody in is told, and nothing is sent around it."""
    with token_server() as server, web_proxy(server.port) as proxy:
        proxy.wants = "Basic x"
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:wrong@127.0.0.1:{proxy.port}")
        with pytest.raises(RegistryError, match=r"auth\.example of r\.example cannot be reached: .*407") as caught:
            fetch_token(Challenge(host="r.example", realm="https://auth.example/token"), PASSWORD)

    assert "wrong" not in str(caught.value)
    assert [] == server.asked
    # Python 3.10 leaves the refused tunnel's answer open until it is collected; another test would be blamed for it.
    del caught
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("secure", [False, True])
def test_tokens_without_tls_come_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    """A server without TLS is asked for by its whole address, of a proxy with TLS as well."""
    certs = certificates.make(tmp_path)
    tls = certs.https() if secure else None
    with token_server() as server, web_proxy(server.port, tls) as proxy:
        monkeypatch.setenv("http_proxy", f"{'https' if secure else 'http'}://u:w@127.0.0.1:{proxy.port}")
        challenge = Challenge(host="r.example", realm="http://auth.example/token")
        token = fetch_token(challenge, Credentials(), ca_bundle=certs.ca)

    assert ("GET::", [("GET", "http://auth.example/token")]) == (token.value, proxy.asked)
    assert [f"Basic {base64.b64encode(b'u:w').decode()}"] == proxy.shown


def test_loopback_is_not_proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of this machine is asked directly, where the proxy would not find it."""
    with token_server() as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert "GET::" == fetch_token(Challenge(host="r.example", realm=server.address), Credentials()).value


def test_each_redirect_takes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to a host that is not proxied is followed directly, without the proxy's password."""
    with token_server() as server, token_server() as other, web_proxy(server.port) as proxy:
        server.redirect = other.address
        monkeypatch.setenv("HTTP_PROXY", f"http://u:w@127.0.0.1:{proxy.port}")
        token = fetch_token(Challenge(host="r.example", realm="http://auth.example/token"), Credentials())

    assert ("GET::", 1) == (token.value, len(proxy.asked))
    assert [("GET", {}, "")] == other.asked


@pytest.mark.parametrize("given", ["socks5://proxy:1080"])
def test_proxies_that_are_spoken_to_otherwise(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """A proxy that is not spoken to by HTTP is an error that names it."""
    monkeypatch.setenv("HTTPS_PROXY", given)

    with pytest.raises(RegistryError, match="HTTPS_PROXY names the proxy socks5://proxy:1080"):
        fetch_token(Challenge(host="r.example", realm="https://auth.example/token"), Credentials())
