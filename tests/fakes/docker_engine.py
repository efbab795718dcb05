"""The few HTTP answers of a Docker Engine that matter here, in front of anything that speaks gRPC on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import tempfile

PREFACE = b"PRI * HTTP/2.0"


class FakeEngine:
    """A Docker Engine. Enter it to serve.

    Args:
        backend: The unix socket of the BuildKit behind it.
        api: The API version it claims; from 1.53 on it also takes gRPC without the upgrade.
        refusal: Answer the upgrade with this status and message.
        tls: Serve on a TCP port of this machine with TLS.
        tcp: Serve on a TCP port of this machine.
        early: Send the daemon's first HTTP/2 bytes together with the answer to the upgrade.

    Attributes:
        address: Where it listens, as DOCKER_HOST would say it.
        requests: First lines of the HTTP requests, in order; `PRI …` stands for a connection without upgrade.
        protocols: What ALPN chose, per connection with TLS.
    """

    def __init__(
        self,
        backend: str,
        *,
        api: str = "1.51",
        refusal: tuple[int, str] | None = None,
        tls: ssl.SSLContext | None = None,
        tcp: bool = False,
        early: bool = False,
    ) -> None:
        self.address = ""
        self.requests: list[str] = []
        self.protocols: list[str | None] = []
        self.open_connections = 0
        self._backend = backend
        self._api = api
        self._refusal = refusal
        self._tls = tls
        self._tcp = tcp or tls is not None
        self._early = early
        self._folder = tempfile.mkdtemp(prefix="fake-")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeEngine:
        if self._tcp:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
            port = self._server.sockets[0].getsockname()[1]
            self.address = f"tcp://127.0.0.1:{port}"
        else:
            path = os.path.join(self._folder, "docker.sock")
            self._server = await asyncio.start_unix_server(self._accept, path)
            self.address = f"unix://{path}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._server is not None:
            self._server.close()
        await self.drop()
        shutil.rmtree(self._folder)

    async def drop(self) -> None:
        """Break every connection."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before it begins closes nothing.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            if self._tls is not None:
                self.protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
            head = await reader.readuntil(b"\r\n\r\n")
            first = head.split(b"\r\n")[0].decode()
            self.requests.append(first)
            if head.startswith(PREFACE):
                if self._direct:
                    await self._relay(head, reader, writer)
                return
            await self._answer(first, head.decode().lower(), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away, which is its right
        finally:
            self.open_connections -= 1
            writer.transport.abort()

    @property
    def _direct(self) -> bool:
        return tuple(int(number) for number in self._api.split(".")) >= (1, 53)

    async def _answer(self, first: str, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if first.startswith("GET /_ping"):
            writer.write(_http(200, b"OK", f"Api-Version: {self._api}\r\nServer: Docker/fake (linux)\r\n"))
            await writer.drain()
        elif not first.startswith("POST /grpc") or "upgrade: h2c" not in head:
            writer.write(_http(404, json.dumps({"message": "page not found"}).encode()))
            await writer.drain()
        elif self._refusal is not None:
            status, message = self._refusal
            writer.write(_http(status, json.dumps({"message": message}).encode()))
            await writer.drain()
        else:
            accept = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            await self._relay(b"", reader, writer, greeting=accept)

    async def _relay(
        self, sent: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: bytes = b""
    ) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(self._backend)
        if self._early:
            greeting += await back_reader.read(4096)
        writer.write(greeting)
        back_writer.write(sent)
        pumps = [asyncio.ensure_future(pump(reader, back_writer)), asyncio.ensure_future(pump(back_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back_writer.transport.abort()
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and pass the end on."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(256 * 1024):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _http(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Fake\r\n{headers}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
