"""A proxy in this process: it passes requests on, and connects (CONNECT), whatever the host, to one server."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class WebProxy:
    """What it did.

    Attributes:
        target: The port of this machine that everything is passed on to.
        asked: Method and address of each request.
        shown: What each was shown as `Proxy-Authorization`.
        wants: What it lets nobody in without, or nothing.
        port: Where it listens.
    """

    target: int
    wants: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    port: int = 0


class _Handler(BaseHTTPRequestHandler):
    state: WebProxy

    def _may(self) -> bool:
        self.state.asked.append((self.command, self.path))
        self.state.shown.append(self.headers.get("Proxy-Authorization", ""))
        if self.state.wants and self.state.wants != self.state.shown[-1]:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        return True

    def do_CONNECT(self) -> None:
        if not self._may():
            return
        with socket.create_connection(("127.0.0.1", self.state.target)) as there:
            self.send_response(200)
            self.end_headers()
            here = self.connection
            while True:
                waiting = isinstance(here, ssl.SSLSocket) and here.pending()
                for ready in [here] if waiting else select.select([here, there], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    (there if ready is here else here).sendall(data)

    def do_GET(self) -> None:
        if not self._may():
            return
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", 0))
        headers = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
        passed = HTTPConnection("127.0.0.1", self.state.target)
        passed.request(self.command, f"{parts.path}?{parts.query}", self.rfile.read(length), headers)
        answer = passed.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name == "Location":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        passed.close()

    do_POST = do_GET  # noqa: N815 - the name is the server's

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def web_proxy(target: int, tls: ssl.SSLContext | None = None) -> Iterator[WebProxy]:
    """Runs a proxy in front of a port of this machine, spoken to with TLS where a context for it is given."""
    state = WebProxy(target)
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        state.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
