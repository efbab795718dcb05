"""The daemon's end of a relayed connection: TCP, TLS, or a Docker Engine's `POST /grpc` upgrade."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Literal

from buildkit_builder.buildkit.connect.relay import Relay, Side
from buildkit_builder.buildkit.find.endpoint import TLS, Endpoint, split_tcp

_HEAD_MAX = 64 * 1024

UPGRADE_REQUEST = (
    b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"
)
"""Protocol: moby `daemon/server/router/grpc`, docker `client/hijack.go`; any API version serves the bare path."""


class UpgradeRefusedError(Exception):
    """A Docker Engine answered the upgrade with something else.

    Attributes:
        status: The HTTP status.
        said: The engine's message, on one line.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"the engine answered {status} to the upgrade: {said}" if said else f"it answered {status}")
        self.status = status
        self.said = said


class UpgradeSide(Side):
    """The daemon's end, which speaks HTTP/1.1 until the engine has switched protocols.

    Args:
        request: What asks for the upgrade.
        protocol: What the engine is to switch to.
    """

    def __init__(self, request: bytes = UPGRADE_REQUEST, protocol: str = "h2c") -> None:
        super().__init__()
        self._request = request
        self._protocol = protocol
        self._answer = bytearray()
        self._switched: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def upgrade(self) -> None:
        """Ask for the upgrade and wait for it.

        Raises:
            UpgradeRefusedError: The engine did not switch protocols.
        """
        self.send(self._request)
        await self._switched

    def received(self, data: bytes) -> None:
        """Take what comes after the switch: pass it on, or keep it until there is a peer."""
        super().data_received(data)

    def data_received(self, data: bytes) -> None:
        """As any side, but the answer to the upgrade comes first (asyncio.Protocol)."""
        if self._switched.done():
            self.received(data)
        else:
            self._answer += data
            self._read_answer(ended=False)

    def eof_received(self) -> bool:
        """As any side, but the answer to the upgrade comes first (asyncio.Protocol)."""
        self._read_answer(ended=True)
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """As any side, but the answer to the upgrade comes first (asyncio.Protocol)."""
        self._read_answer(ended=True)
        super().connection_lost(exc)

    def _read_answer(self, *, ended: bool) -> None:
        if self._switched.done():
            return
        head, blank, body = bytes(self._answer).partition(b"\r\n\r\n")
        if blank and (answer := Answer.parse(head)).status == 101:
            if answer.headers.get("upgrade", "").lower() == self._protocol:
                self._answer.clear()
                self._switched.set_result(None)
                # Whatever follows the blank line is of the new protocol already.
                if body:
                    self.received(body)
            else:
                words = f"it switched to another protocol than {self._protocol}"
                self._switched.set_exception(UpgradeRefusedError(101, words))
        elif ended or len(self._answer) > _HEAD_MAX or (blank and answer.complete(body)):
            self._switched.set_exception(
                UpgradeRefusedError(answer.status, answer.said(body))
                if blank
                else ConnectionError("it closed the connection without an HTTP answer")
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of an HTTP/1.1 answer; header names are lower case."""

    status: int
    headers: dict[str, str]

    @classmethod
    def parse(cls, head: bytes) -> Answer:
        """Read a head without its blank line; what is no HTTP answer gets status 0."""
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not first.startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            return cls(status=0, headers={})
        pairs = (line.partition(":") for line in lines)
        return cls(status=int(words[1]), headers={name.strip().lower(): value.strip() for name, _, value in pairs})

    def complete(self, body: bytes) -> bool:
        """Whether `body` is all of it; unknown lengths are complete when the connection ends."""
        length = self.headers.get("content-length", "")
        if length.isdigit():
            return len(body) >= int(length)
        return self.headers.get("transfer-encoding", "").lower() == "chunked" and body.endswith(b"0\r\n\r\n")

    def said(self, body: bytes) -> str:
        """The body on one line, JSON's `message` alone where there is one."""
        text = body.decode("utf-8", "replace")
        start, end = text.find("{"), text.rfind("}")
        if 0 <= start < end:
            try:
                message = json.loads(text[start : end + 1]).get("message")
            except (ValueError, AttributeError):
                message = None
            text = message if isinstance(message, str) else text
        return " ".join(text.split())[:500]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a daemon's connections go: a unix socket, or a TCP port with or without TLS.

    Attributes:
        path: The socket, as Python's `connect` takes it, or `None` for TCP.
        host: The host, for TCP.
        port: Its port.
        tls: How TCP is secured.
        relay: What carries on from the socket, where that is ours.
    """

    path: str | None = None
    host: str = ""
    port: int = 0
    tls: TLS | None = None
    relay: Relay | None = None

    @property
    def failure(self) -> Exception | None:
        """Why what carries on from the socket failed, where it did."""
        return self.relay.failure if self.relay else None

    @classmethod
    def of(cls, endpoint: Endpoint) -> Route:
        """The route of an endpoint.

        Raises:
            EndpointError: Its address is neither `unix://` nor `tcp://HOST:PORT`.
        """
        if endpoint.address.startswith("unix://"):
            return cls(path=endpoint.address.removeprefix("unix://"))
        host, port = split_tcp(endpoint.address)
        return cls(host=host, port=port, tls=endpoint.tls)

    @property
    def authority(self) -> str:
        """What HTTP/2 calls the server (protocol: buildkit `client/client.go`: the server name, else the host)."""
        return (self.tls and self.tls.server_name) or self.host or "localhost"

    async def connect(self, side: Side, *, alpn: Literal["h2", "http/1.1"]) -> None:
        """Open one connection with `side` as its protocol.

        Raises:
            OSError: It cannot be reached, or its certificate is not to be trusted.
        """
        loop = asyncio.get_running_loop()
        if self.path is not None:
            await loop.create_unix_connection(lambda: side, self.path)
            return
        context = ssl_context(self.tls, alpn) if self.tls else None
        name = self.authority if context else None
        await loop.create_connection(lambda: side, self.host, self.port, ssl=context, server_hostname=name)
        if side.transport is not None:
            _notice_silent_loss(side.transport.get_extra_info("socket"))


@dataclass(frozen=True, slots=True)
class Straight:
    """Dials a daemon that expects HTTP/2 at once: a buildkitd, or a Docker Engine from 29.2."""

    route: Route

    async def dial(self) -> Side:
        """Connect."""
        side = Side()
        await self.route.connect(side, alpn="h2")
        return side


@dataclass(frozen=True, slots=True)
class Upgraded:
    """Dials a Docker Engine through `POST /grpc`."""

    route: Route

    async def dial(self) -> Side:
        """Connect and upgrade."""
        side = UpgradeSide()
        try:
            await self.route.connect(side, alpn="http/1.1")
            await side.upgrade()
        except BaseException:
            side.abort()
            raise
        return side


def ssl_context(tls: TLS, alpn: str) -> ssl.SSLContext:
    """The client's side of `tls`.

    Raises:
        OSError: A file is missing, or holds no usable certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.ca:
        context.load_verify_locations(tls.ca)
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols([alpn])
    return context


def _notice_silent_loss(sock: socket.socket) -> None:
    """Have the kernel notice within about 17 s that a peer vanished without a word.

    gRPC's own keepalive cannot: the daemon drops clients that ping more than once in five minutes.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (("TCP_KEEPIDLE", 5), ("TCP_KEEPALIVE", 5), ("TCP_KEEPINTVL", 4), ("TCP_KEEPCNT", 3))
    for name, value in (*options, ("TCP_USER_TIMEOUT", 17_000)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
