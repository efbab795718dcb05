"""What goes wrong between machines: a registry behind a proxy that spoils its answers, and a network that is cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

_BLOCK = 64 << 10
_TLS_HANDSHAKE = b"\x16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The registry says this instead of doing what it was asked."""

    status: int
    headers: tuple[str, ...] = ()
    body: bytes = b'{"errors": [{"code": "UNKNOWN", "message": "spoiled"}]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The connection is closed after so many bytes of the request's body, or else of the answer."""

    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Every block of bytes takes so many seconds, and so does the answer's beginning."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing ever comes back."""


Fault = Answered | Broken | Slow | Silent
Rule = Callable[[str, str], Fault | None]
"""What becomes of a request, by its method and path."""


def healthy(method: str, path: str) -> Fault | None:
    """Lets everything through."""
    return None


class Spoiling:
    """A rule that spoils some requests: those of a kind, and of them so many as are given.

    Args:
        fault: What becomes of them.
        method: Their method.
        path: What stands in their path.
        times: How many of them; all others are let through.
    """

    def __init__(self, fault: Fault, *, method: str, path: str, times: int = 1_000_000) -> None:
        self.fault = fault
        self.spoilt = 0
        self._method, self._path, self._times = method, path, times

    def __call__(self, method: str, path: str) -> Fault | None:
        if method != self._method or self._path not in path or self.spoilt >= self._times:
            return None
        self.spoilt += 1
        return self.fault


@dataclass
class Guard:
    """Lets those in who bring a token that is still good, and gives tokens to who knows the password.

    Attributes:
        password: Of the user `me`; may change.
        granted: Tokens given so far.
    """

    password: str
    granted: int = 0
    _good: set[str] = field(default_factory=set)

    def revoke(self) -> None:
        """Every token has expired."""
        self._good.clear()

    def token(self, form: str) -> Answered:
        """The token server's answer."""
        given = parse_qs(form)
        if given.get("password") != [self.password]:
            return Answered(status=401)
        self.granted += 1
        token = f"token-{self.granted}"
        self._good.add(token)
        return Answered(status=200, body=json.dumps({"access_token": token, "expires_in": 3600}).encode())

    def judge(self, address: str, path: str, head: bytes) -> Answered | None:
        """Refuses a request that brings no token, or one that has expired."""
        brought = re.search(rb"(?i)\r\nauthorization: bearer (\S+)\r\n", head)
        if brought and brought[1].decode() in self._good:
            return None
        name = re.match(r"/v2/(.+)/(?:blobs|manifests)/", path)
        scope = f'scope="repository:{name[1]}:pull,push",' if name else ""
        expired = 'error="invalid_token"' if brought else ""
        challenge = f'Www-Authenticate: Bearer realm="http://{address}/token",service="guard",{scope}{expired}'
        return Answered(status=401, headers=(challenge.rstrip(","),))


@dataclass
class RegistryProxy:
    """A registry that may fail on demand.

    Attributes:
        upstream: `host:port` of the real one.
        rule: What becomes of each request.
        guard: Who is let in; everybody where there is none.
        address: `host:port` of this one.
        asked: Method and path of every request.
    """

    upstream: str
    rule: Rule = healthy
    guard: Guard | None = None
    address: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    _seen: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, method: str, path: str) -> None:
        """Waits for a request; a test's time limit is the limit."""
        async with self._seen:
            await self._seen.wait_for(lambda: any(method == verb and path in where for verb, where in self.asked))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and closes."""
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(1)
            if first == _TLS_HANDSHAKE:
                # As Go's own servers say to who speaks TLS to them; a daemon that may then goes on without.
                writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                await writer.drain()
                return
            head = first + await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.decode("latin-1").split(" ", 2)
            async with self._seen:
                self.asked.append((method, path))
                self._seen.notify_all()
            fault = self.rule(method, path)
            if self.guard is not None and path.startswith("/token"):
                fault = self.guard.token((await reader.readexactly(_length(head))).decode())
                head = b""
            elif self.guard is not None and fault is None:
                fault = self.guard.judge(self.address, path, head)
            await self._answer(fault, head, reader, writer)

    async def _answer(
        self, fault: Fault | None, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if isinstance(fault, Silent):
            await reader.read()  # until whoever asked gives up
            return
        if isinstance(fault, Answered):
            await _drain(head, reader)
            lines = [f"HTTP/1.1 {fault.status} Spoiled", *fault.headers, f"Content-Length: {len(fault.body)}"]
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + fault.body)
            await writer.drain()
            return
        host, _, port = self.upstream.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        try:
            # One request a connection, so that the daemon holds none of ours open.
            up_writer.write(head[:-2] + b"Connection: close\r\n\r\n")
            inward = asyncio.ensure_future(_pump(reader, up_writer, fault))
            outward = asyncio.ensure_future(_pump(up_reader, writer, fault))
            broken = isinstance(fault, Broken) and _length(head) > 0
            await asyncio.wait((inward if broken else outward,))
            for task in (inward, outward):
                task.cancel()
            await asyncio.gather(inward, outward, return_exceptions=True)
        finally:
            up_writer.transport.abort()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def _drain(head: bytes, reader: asyncio.StreamReader) -> None:
    if b"transfer-encoding: chunked" in head.lower():
        await reader.readuntil(b"0\r\n\r\n")
    await reader.readexactly(_length(head))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
    left = fault.after if isinstance(fault, Broken) else None
    with contextlib.suppress(OSError):
        while data := await reader.read(_BLOCK if left is None else min(_BLOCK, left)):
            if isinstance(fault, Slow):
                await asyncio.sleep(fault.seconds)
            writer.write(data)
            await writer.drain()
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return


@contextlib.asynccontextmanager
async def registry_proxy(
    upstream: str, rule: Rule = healthy, guard: Guard | None = None
) -> AsyncIterator[RegistryProxy]:
    """Puts a proxy in front of a registry that speaks plain HTTP."""
    proxy = RegistryProxy(upstream, rule, guard)
    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(proxy.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


class Network:
    """TCP in front of a daemon's unix socket, which can be cut.

    Attributes:
        address: `tcp://…` of this side.
        carried: Bytes that went through.
    """

    def __init__(self, path: str) -> None:
        self.address = ""
        self.carried = 0
        self._path = path
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Lets nothing through any more, and says so to nobody: as when a cable is pulled."""
        self._flows.clear()

    def resume(self) -> None:
        """Lets everything through again; connections from before stay as they are."""
        self._flows.set()

    def close(self) -> None:
        """Closes all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one connection."""
        await self._flows.wait()
        up_reader, up_writer = await asyncio.open_unix_connection(self._path)
        both = {writer, up_writer}
        self._writers |= both
        try:
            pumps = [asyncio.ensure_future(self._carry(*way)) for way in ((reader, up_writer), (up_reader, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._writers -= both
            for end in both:
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_BLOCK):
                await self._flows.wait()
                self.carried += len(data)
                writer.write(data)
                await writer.drain()

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begins to carry a connection."""
        task = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def end(self) -> None:
        """Closes what is left."""
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@contextlib.asynccontextmanager
async def network(docker_host: str) -> AsyncIterator[Network]:
    """A network between us and a daemon on a unix socket."""
    net = Network(urlsplit(docker_host).path)
    server = await asyncio.start_server(net.accepted, "127.0.0.1", 0)
    net.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield net
    finally:
        server.close()
        await net.end()
