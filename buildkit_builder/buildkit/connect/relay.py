"""Bytes between grpcio and a daemon that grpcio cannot dial itself.

grpcio takes an address, never a connection. So for everything but a plain unix socket it is given a private one, in a
folder that only this user may enter, and each connection it opens there is relayed to a connection that a `Dialer`
makes. The relay adds no protocol: bytes, back-pressure, half-close and loss pass through in both directions.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import weakref
from typing import Protocol, cast

from buildkit_builder.buildkit.find.sockets import private_folder

_BUFFER = 1 << 20
"""Bytes that may wait to be written before the other end is held: asyncio's own 64 KiB costs a third of the speed."""

_ACCEPT_TURNS = 3
"""Turns of the event loop within which a connection that asyncio has accepted is with its protocol."""


class Side(asyncio.Protocol):
    """One end of a relayed connection; what arrives here leaves at `peer`.

    Attributes:
        transport: What carries it, from the moment it stands.
        closed: Done when it is closed.
        heard: Whether anything has arrived.
        failure: Why it ended, where more is known than that it did.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.heard = False
        self.failure: Exception | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._peer: Side | None = None
        self._early = bytearray()
        self._ended = False

    def link(self, peer: Side) -> None:
        """Start relaying to `peer`, beginning with what came before there was one."""
        self._peer = peer
        if self._early:
            peer.send(bytes(self._early))
            self._early.clear()
        if self._ended:
            peer.end()
        if self.transport is None or self.transport.is_closing():
            peer.close()

    def send(self, data: bytes) -> None:
        """Write, unless the connection is going down."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def end(self) -> None:
        """Half-close, or close where the transport knows no half-close (TLS)."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def close(self) -> None:
        """Close once everything written has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close now."""
        if self.transport is not None:
            self.transport.abort()

    def hold(self, paused: bool) -> None:
        """Stop or resume reading."""
        if self.transport is None or self.transport.is_closing():
            return
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, or keep them until there is a peer (asyncio.Protocol)."""
        self.heard = True
        if self._peer is not None:
            self._peer.send(data)
        else:
            self._early += data

    def eof_received(self) -> bool:
        """Pass a half-close on (asyncio.Protocol)."""
        self._ended = True
        if self._peer is not None:
            self._peer.end()
        # TLS closes after the peer's end whatever is said here, and warns where told to stay open.
        return self.transport is not None and self.transport.can_write_eof()

    def pause_writing(self) -> None:
        """Take no more from the peer than can be written here (asyncio.Protocol)."""
        if self._peer is not None:
            self._peer.hold(True)

    def resume_writing(self) -> None:
        """Take from the peer again (asyncio.Protocol)."""
        if self._peer is not None:
            self._peer.hold(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the loss on at once (asyncio.Protocol)."""
        if isinstance(exc, ssl.SSLError) and self.failure is None:
            # What TLS says of a client without the right certificate comes after the handshake.
            self.failure = exc
        if not self.closed.done():
            self.closed.set_result(None)
        if self._peer is not None:
            self._peer.close()


class Dialer(Protocol):
    """Makes the daemon's end of one relayed connection."""

    async def dial(self) -> Side:
        """Connect, and say so only when HTTP/2 may begin."""
        ...


class Relay:
    """A private unix socket whose connections continue at a daemon. Close it, or leave its `async with`.

    Attributes:
        path: The socket.
        target: What grpcio dials.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._before: Exception | None = None
        self._latest: Side | None = None
        self._dialer = dialer
        self._sides: set[Side] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._closing = False
        self._folder = private_folder()
        # Should nobody close this, the folder still goes with the process.
        self._remove_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self.path = os.path.join(self._folder, "grpc")
        self.target = f"unix:{self.path}"

    @property
    def failure(self) -> Exception | None:
        """Why the latest connection could not be continued, or how it ended; `None` where nothing is known."""
        # grpcio opens another connection at once: until that one is of use, why the one before ended still counts.
        if self._latest is not None and (self._latest.failure or self._latest.heard):
            return self._latest.failure
        return self._before

    async def open(self) -> None:
        """Start accepting connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Accepted(self), self.path)

    async def close(self) -> None:
        """Drop every connection and remove the socket; nothing is left behind."""
        self._closing = True
        self._abort()
        if self._server is not None:
            await _stop_accepting(self._server)
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        await asyncio.gather(*self._abort())
        if self._server is not None:
            await self._server.wait_closed()
        self._remove_folder()

    async def __aenter__(self) -> Relay:
        try:
            await self.open()
        except BaseException:
            self._remove_folder()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def accept(self, near: Side) -> None:
        """Continue a connection of grpcio's at the daemon."""
        self._keep(near)
        if self._closing:
            near.abort()
            return
        near.hold(True)
        task = asyncio.get_running_loop().create_task(self._continue(near))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _continue(self, near: Side) -> None:
        try:
            far = await self._dialer.dial()
        except Exception as error:  # noqa: BLE001 - kept for whoever grpcio tells "unavailable", not knowing why
            self._before, self._latest = error, None
            near.abort()
            return
        self._before, self._latest = self.failure, far
        self._keep(far)
        far.link(near)
        near.link(far)
        near.hold(False)

    def _abort(self) -> list[asyncio.Future[None]]:
        """Abort every connection; what is returned is done when they are closed."""
        sides = tuple(self._sides)
        for side in sides:
            side.abort()
        return [side.closed for side in sides]

    def _keep(self, side: Side) -> None:
        self._sides.add(side)
        side.closed.add_done_callback(lambda _: self._sides.discard(side))


class _Accepted(Side):
    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._relay.accept(self)


async def _stop_accepting(server: asyncio.Server) -> None:
    """Close a server; whatever it has accepted is with its protocol by then."""
    # asyncio leaves a connection open for good that it accepts in the turn in which its server is closed.
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(_ACCEPT_TURNS):
        await asyncio.sleep(0)
    server.close()
