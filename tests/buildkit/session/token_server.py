"""A registry's token server, in this process."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class TokenServer:
    """What it does and what it was asked.

    Attributes:
        users: Name to password.
        refresh: Refresh tokens that are good.
        post_status: What every POST is answered with, if not 200.
        get_status: What every GET is answered with, if not 200.
        redirect: Where every GET is sent, if anywhere.
        redirect_once: Whether that path itself answers.
        extra: What the answer holds besides the token.
        asked: Method, parameters, and the user of each request that brought one.
        post_redirect: Status and address that every POST is sent elsewhere with, if anywhere.
        address: Where it listens.
        port: Its port.
    """

    users: dict[str, str] = field(default_factory=lambda: {"me": "word"})
    refresh: tuple[str, ...] = ("refresh",)
    post_status: int = 200
    get_status: int = 200
    redirect: str = ""
    redirect_once: bool = False
    post_redirect: tuple[int, str] | None = None
    extra: dict[str, object] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, list[str]], str]] = field(default_factory=list)
    address: str = ""
    port: int = 0

    def answer(self, method: str, parameters: dict[str, list[str]], user: str | None) -> tuple[int, dict[str, object]]:
        """Judges a request; `user` is `None` for one whose credentials are wrong."""
        self.asked.append((method, parameters, user or ""))
        status = self.post_status if method == "POST" else self.get_status
        if status != 200 or user is None:
            return (status if status != 200 else 401), {"error": "no"}
        key = "access_token" if method == "POST" else "token"
        return 200, {key: f"{method}:{user}:{','.join(parameters.get('scope', []))}", **self.extra}


class _Handler(BaseHTTPRequestHandler):
    state: TokenServer

    def do_GET(self) -> None:
        if self.state.redirect and not (self.state.redirect_once and self.path == self.state.redirect):
            self.send_response(307)
            self.send_header("Location", self.state.redirect)
            self.end_headers()
            return
        user: str | None = ""
        if header := self.headers["Authorization"]:
            pair = base64.b64decode(header.removeprefix("Basic ")).decode("utf-8", "surrogateescape")
            name, _, word = pair.partition(":")
            user = name if self.state.users.get(name) == word or word in self.state.refresh else None
        self._reply(*self.state.answer("GET", parse_qs(urlsplit(self.path).query), user))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode(), errors="surrogateescape")
        if self.state.post_redirect is not None and "again" not in self.path:
            status, address = self.state.post_redirect
            self.send_response(status)
            self.send_header("Location", address)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        user: str | None = form.get("username", [""])[0]
        if form["grant_type"] == ["refresh_token"]:
            user = "refreshed" if form["refresh_token"][0] in self.state.refresh else None
        elif self.state.users.get(user or "") != form["password"][0]:
            user = None
        self._reply(*self.state.answer("POST", form, user))

    def _reply(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing is printed of clients that do not trust this."""


@contextlib.contextmanager
def token_server(tls: ssl.SSLContext | None = None) -> Iterator[TokenServer]:
    """Runs a token server, with TLS where a context for it is given."""
    state = TokenServer()
    handler = type("Handler", (_Handler,), {"state": state})
    with _Server(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        state.port = server.server_port
        state.address = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/token"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
