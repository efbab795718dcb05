"""A real registry that wants tokens, and the token server, with TLS, that it sends everybody to."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.fakes.certificates import Certificates
from tests.integration.servers import PASSWORD, USER, serving

_SERVICE = "test"


@dataclass(kw_only=True)
class TokenRegistry:
    """The two of them.

    Attributes:
        address: The registry's `host:port`.
        storage: The folder that it keeps everything in.
        asked: Who asked the token server for a token, in order.
    """

    address: str = ""
    storage: Path = Path()
    asked: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether anything was ever tagged under the name."""
        tags = self.storage / "docker/registry/v2/repositories" / name / "_manifests/tags"
        return tags.is_dir() and any(tags.iterdir())


@contextlib.contextmanager
def token_registry(
    program: Path, folder: Path, certs: Certificates, *, tls: bool = True, host: str = "localhost"
) -> Iterator[TokenRegistry]:
    """Starts both, and ends them.

    Args:
        program: `docker-registry`.
        folder: For its files; made.
        certs: The token server's, with which it also signs.
        tls: Whether the token server has TLS.
        host: What the registry calls the token server.
    """
    folder.mkdir()
    found = TokenRegistry(storage=folder / "storage")
    with _token_server(certs, found.asked, tls=tls) as port:
        realm = f"{'https' if tls else 'http'}://{host}:{port}/token"
        wanted = f"realm: '{realm}', service: {_SERVICE}, issuer: {_SERVICE}, rootcertbundle: '{certs.ca}'"
        with serving(program, folder, f"auth: {{token: {{{wanted}}}}}\n") as address:
            found.address = address
            yield found


@contextlib.contextmanager
def _token_server(certs: Certificates, asked: list[str], *, tls: bool) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown = base64.b64decode(self.headers.get("Authorization", "Basic ").removeprefix("Basic ")).decode()
            self._answer(shown, parse_qs(urlsplit(self.path).query))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._answer(":".join(form.get(name, [""])[0] for name in ("username", "password")), form)

        def _answer(self, shown: str, form: dict[str, list[str]]) -> None:
            asked.append(shown.partition(":")[0])
            known = shown == f"{USER}:{PASSWORD}"
            scopes = " ".join(form.get("scope", [])).split()
            token = _token(certs, scopes) if known else ""
            body = json.dumps({"access_token": token, "token": token, "expires_in": 300} if known else {}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = certs.https().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _token(certs: Certificates, scopes: list[str]) -> str:
    """A token as the distribution project specifies it: a JWT with the certificate of who signed it."""
    certificate = x509.load_pem_x509_certificate(certs.server.read_bytes()).public_bytes(serialization.Encoding.DER)
    key = serialization.load_pem_private_key(certs.server_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    access = [scope.split(":", 1)[:1] + scope.split(":", 1)[1].rsplit(":", 1) for scope in scopes]
    now = int(time.time())
    claims = {
        "iss": _SERVICE, "aud": _SERVICE, "sub": USER, "jti": f"{now}", "iat": now, "nbf": now - 60, "exp": now + 300,
        "access": [{"type": kind, "name": name, "actions": actions.split(",")} for kind, name, actions in access],
    }  # fmt: skip
    header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(certificate).decode()]}
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
    numbers = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_encoded(b''.join(number.to_bytes(32, 'big') for number in numbers))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
