"""Registries of the tests' own: one for everybody, one that wants a password, and one that only ever fails."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "user", "right-password"
# The password's bcrypt; Python has no bcrypt of its own.
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuBO.kmgTJhdt40M5ZyHgFmcpBdUb9aS.\n"
_UP_SECONDS = 30
# Ends the registry when its own input ends, be it that whoever holds the other side was killed.
_KEEPER = '"$0" serve "$1" & cat; kill $!; wait; if [ -n "$2" ]; then rm -rf "$2"; fi'


@dataclass(frozen=True, kw_only=True)
class PrivateRegistry:
    """A registry that lets `USER` in, with `PASSWORD`, and nobody else.

    Attributes:
        address: `host:port`.
        storage: The folder that it keeps everything in.
    """

    address: str
    storage: Path

    def has(self, name: str) -> bool:
        """Whether anything was ever tagged under the name."""
        tags = self.storage / "docker/registry/v2/repositories" / name / "_manifests/tags"
        return tags.is_dir() and any(tags.iterdir())


@contextlib.contextmanager
def private_registry(program: Path, folder: Path) -> Iterator[PrivateRegistry]:
    """Starts a registry that asks for a password, and ends it.

    Args:
        program: `docker-registry`.
        folder: For its files; made.
    """
    folder.mkdir()
    (folder / "htpasswd").write_text(_HTPASSWD)
    with serving(program, folder, f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}\n") as address:
        yield PrivateRegistry(address=address, storage=folder / "storage")


@contextlib.contextmanager
def open_registry(program: Path, folder: Path) -> Iterator[str]:
    """Starts a registry that lets everybody in, and ends it and all that it holds; gives its `host:port`.

    Args:
        program: `docker-registry`.
        folder: For its files; made.
    """
    folder.mkdir()
    with serving(program, folder, forget=folder) as address:
        yield address


@contextlib.contextmanager
def serving(program: Path, folder: Path, more: str = "", forget: Path | None = None) -> Iterator[str]:
    """Starts a registry, and ends it; gives its `host:port`.

    Args:
        program: `docker-registry`.
        folder: For its files.
        more: What is to be added to its config.
        forget: A folder to remove in the end.
    """
    (folder / "config.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'storage'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:0'}}\n{more}"
    )
    command = ["sh", "-c", _KEEPER, str(program), str(folder / "config.yml"), str(forget or "")]
    with (folder / "log").open("wb") as log:
        keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    with keeper:  # closes its input, and waits
        yield _address(folder / "log", keeper)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where it says that it listens; the port is the system's choice."""
    deadline = time.monotonic() + _UP_SECONDS
    while True:
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def auth(user: str, password: str) -> str:
    """The `auth` of a Docker config's entry."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@contextlib.contextmanager
def answering(status: int, body: bytes = b"{}") -> Iterator[str]:
    """A server that answers every request alike; gives its `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        # So that what is no request at all, as a TLS greeting, gets an answer with a status line, too.
        default_request_version = "HTTP/1.0"

        def answer(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer  # noqa: N815 - the names are the server's

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
