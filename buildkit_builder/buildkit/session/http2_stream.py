"""One request of an HTTP/2 connection and its answer, and how much of it a peer may send ahead (RFC 9113 §5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from buildkit_builder.buildkit.session import hpack

STREAM_WINDOW = 1 << 20  # what a peer may send on a stream before we have read it


class ConnectionClosedError(Exception):
    """The peer has reset the stream, or the connection has ended."""


class ProtocolError(Exception):
    """The peer broke the rules; the connection cannot go on."""


class Inflow:
    """What a peer may still send, on one stream or on all of a connection.

    Args:
        window: Bytes that it may be ahead of us.
    """

    def __init__(self, window: int) -> None:
        self._worth_telling = window // 4
        self._allowed = window
        self._owed = 0

    def take(self, size: int) -> None:
        """Counts what came.

        Raises:
            ProtocolError: The peer sent more than it was allowed to.
        """
        self._allowed -= size
        if self._allowed < 0:
            raise ProtocolError("more data came than was allowed")

    def settle(self, size: int) -> int:
        """Counts what is done with; returns how much more the peer is to be allowed now, 0 for too little to tell."""
        self._owed += size
        if self._owed < self._worth_telling:
            return 0
        credit, self._owed = self._owed, 0
        self._allowed += credit
        return credit


class Carrier(Protocol):
    """The connection that a stream belongs to."""

    async def send_data(self, stream: Stream, data: bytes) -> None:
        """Sends data of an answer."""

    def send_headers(self, stream: Stream, headers: Sequence[hpack.Header], *, last: bool) -> None:
        """Sends headers of an answer."""

    def settle(self, stream: Stream, size: int) -> None:
        """Takes notice of data that a stream has been read of."""


class Stream:
    """One request and its answer.

    Attributes:
        headers: The request's headers, in order.
        window: Bytes that we may send.
        inflow: Bytes that the peer may send.
        unread: Bytes that have come and were not read.
    """

    def __init__(self, connection: Carrier, number: int, headers: list[hpack.Header], window: int) -> None:
        self.headers = headers
        self.number = number
        self.window = window
        self.inflow = Inflow(STREAM_WINDOW)
        self.unread = 0
        self.finished = False  # the peer sends no more
        self.closed = False
        self._connection = connection
        self._received: list[bytes] = []
        self._arrived = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Takes data of the request that has arrived."""
        self.unread += len(data)
        self._received.append(data)
        self._arrived.set()

    def finish(self) -> None:
        """Notes that the request is complete."""
        self.finished = True
        self._arrived.set()

    def close(self) -> None:
        """Notes that nothing more can be sent or read."""
        self.closed = True
        self.unread = 0
        self._received.clear()
        self._arrived.set()

    async def receive(self) -> bytes:
        """Waits for data of the request.

        Returns:
            All bytes that have arrived since the last call; nothing when the peer has finished.

        Raises:
            ConnectionClosedError: The stream was reset.
        """
        while not self._received:
            if self.closed:
                raise ConnectionClosedError
            if self.finished:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        data = self._received[0] if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        self.unread = 0
        self._connection.settle(self, len(data))
        return data

    async def send(self, data: bytes) -> None:
        """Sends data of the answer, waiting for the peer's windows and for room below.

        Raises:
            ConnectionClosedError: The stream was reset.
        """
        await self._connection.send_data(self, data)

    def send_headers(self, headers: Sequence[hpack.Header], *, last: bool = False) -> None:
        """Sends headers, or with `last` trailers that end the answer."""
        self._connection.send_headers(self, headers, last=last)
