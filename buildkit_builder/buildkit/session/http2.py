"""The server's end of one HTTP/2 connection (RFC 9113) over a stream of bytes.

The daemon is the only peer there will ever be, so this is the protocol without its options: no push, no priorities,
no upgrade. What it takes care of is order, flow control in both directions, and being fast with many small messages:
frames gather in a buffer while the stream below is busy, and leave it in large pieces.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from buildkit_builder.buildkit.session import hpack
from buildkit_builder.buildkit.session.http2_stream import (
    STREAM_WINDOW,
    ConnectionClosedError,
    Inflow,
    ProtocolError,
    Stream,
)

_log = logging.getLogger(__name__)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_NO_ERROR, _REFUSED_STREAM = 0, 7
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 3, 4, 5  # identifiers of settings

_DEFAULT_WINDOW = 65_535
_DEFAULT_FRAME = 16_384
_LARGEST_WINDOW = (1 << 31) - 1
_LARGEST_FRAME = (1 << 24) - 1
_CONNECTION_WINDOW = 8 << 20
_OUTPUT_LIMIT = 512 << 10  # writers wait while this much is not yet sent
# What a peer may make us hold, whatever it does.
_STREAMS_LIMIT = 1000
_UNREAD_LIMIT = 32 << 20  # bytes of all streams together, beyond which the peer gets no credit
_UNSENT_LIMIT = 8 << 20  # bytes of answers to a peer that asks and does not listen


class ByteStream(Protocol):
    """What carries a connection: an ordered stream of bytes in both directions."""

    async def receive(self) -> bytes:
        """Returns the next bytes, or nothing when the peer has finished."""

    async def send(self, data: bytes) -> None:
        """Sends bytes, waiting while the peer takes no more; never called with none, nor twice at once."""


class Connection:
    """One connection; every request becomes a task that runs `serve`.

    Args:
        carrier: The stream of bytes below.
        serve: Answers one request; it must end the stream with `Stream.send_headers(…, last=True)`.
    """

    def __init__(self, carrier: ByteStream, serve: Callable[[Stream], Awaitable[None]]) -> None:
        self._carrier = carrier
        self._serve = serve
        self._decoder = hpack.Decoder()
        self._streams: dict[int, Stream] = {}
        self._tasks: dict[int, asyncio.Future[None]] = {}
        self._last_number = 0
        self._window = _DEFAULT_WINDOW
        self._peer_stream_window = _DEFAULT_WINDOW
        self._peer_frame = _DEFAULT_FRAME
        self._window_opened = asyncio.Event()
        self._inflow = Inflow(_CONNECTION_WINDOW)
        self._unread = 0  # bytes of all streams
        self._withheld = 0  # bytes that came and were not settled, because too many were not read
        self._output: list[bytes | memoryview] = []
        self._output_size = 0
        self._output_ready = asyncio.Event()
        self._output_room = asyncio.Event()
        self._header_block: tuple[int, bool, bytearray] | None = None
        self._closed = False
        self._frame_handlers: dict[int, Callable[[int, int, bytes], None]] = {
            _DATA: self._on_data,
            _HEADERS: self._on_headers,
            _RST_STREAM: self._on_reset,
            _SETTINGS: self._on_settings,
            _PING: self._on_ping,
            _WINDOW_UPDATE: self._on_window_update,
            _CONTINUATION: self._on_continuation,
        }

    async def run(self) -> None:
        """Serves until the peer ends the connection, breaks its rules, or this task is cancelled.

        On return no task of the connection is left.
        """
        settings = ((_MAX_CONCURRENT_STREAMS, _STREAMS_LIMIT), (_INITIAL_WINDOW_SIZE, STREAM_WINDOW))
        self._put_frame(_SETTINGS, 0, 0, b"".join(struct.pack(">HI", *setting) for setting in settings))
        self._grant(0, _CONNECTION_WINDOW - _DEFAULT_WINDOW)
        writer = asyncio.ensure_future(self._write())
        reader = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closed = True
            tasks = [*self._tasks.values(), reader, writer]
            for stream in self._streams.values():
                stream.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in (reader, writer):
            if not task.cancelled() and (error := task.exception()):
                raise error

    # Sending

    async def send_data(self, stream: Stream, data: bytes) -> None:
        """Sends data on a stream; see `Stream.send`."""
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            if stream.closed or self._closed:
                raise ConnectionClosedError
            if self._output_size >= _OUTPUT_LIMIT:
                self._output_room.clear()
                await self._output_room.wait()
                continue
            size = min(end - position, self._window, stream.window, self._peer_frame)
            if size <= 0:
                self._window_opened.clear()
                await self._window_opened.wait()
                continue
            self._put_frame(_DATA, 0, stream.number, view[position : position + size])
            self._window -= size
            stream.window -= size
            position += size

    def send_headers(self, stream: Stream, headers: Sequence[hpack.Header], *, last: bool) -> None:
        """Sends headers on a stream; see `Stream.send_headers`."""
        if stream.closed or self._closed:
            return
        block = hpack.encode(headers)
        kind, flags = _HEADERS, _END_STREAM if last else 0
        while len(block) > self._peer_frame:
            self._put_frame(kind, flags, stream.number, block[: self._peer_frame])
            block = block[self._peer_frame :]
            kind, flags = _CONTINUATION, 0
        self._put_frame(kind, flags | _END_HEADERS, stream.number, block)
        if last:
            if not stream.finished:
                # The answer is complete; the peer need not finish its request (RFC 9113 §8.1).
                self._put_frame(_RST_STREAM, 0, stream.number, struct.pack(">I", _NO_ERROR))
            self._forget(stream.number)

    def settle(self, stream: Stream, size: int) -> None:
        """Lets the peer send as much again as was read of a stream."""
        self._unread -= size
        self._settle_connection(0)
        if not stream.finished:
            self._grant(stream.number, stream.inflow.settle(size))

    def _settle_connection(self, size: int) -> None:
        # At once, and not when it is read: what one stream may hold is bounded by its own window. But the streams of
        # a peer that opens many and has none of them read would add up.
        self._withheld += size
        if self._unread <= _UNREAD_LIMIT:
            self._grant(0, self._inflow.settle(self._withheld))
            self._withheld = 0

    def _grant(self, number: int, size: int) -> None:
        if size and not self._closed:
            self._put_frame(_WINDOW_UPDATE, 0, number, struct.pack(">I", size))

    def _put_frame(self, kind: int, flags: int, number: int, payload: bytes | memoryview) -> None:
        size = len(payload)
        self._output.append(struct.pack(">HBBBI", size >> 8, size & 0xFF, kind, flags, number))
        self._output.append(payload)
        self._output_size += size + 9
        self._output_ready.set()

    async def _write(self) -> None:
        while True:
            await self._output_ready.wait()
            pieces, self._output, self._output_size = self._output, [], 0
            self._output_ready.clear()
            self._output_room.set()
            await self._carrier.send(b"".join(pieces))

    # Receiving

    async def _read(self) -> None:
        buffer = bytearray()
        greeted = False
        while data := await self._carrier.receive():
            buffer += data
            position = 0
            if not greeted:
                if not _PREFACE.startswith(buffer[: len(_PREFACE)]):
                    raise ProtocolError("the connection does not begin as HTTP/2 does")
                if len(buffer) < len(_PREFACE):
                    continue
                greeted, position = True, len(_PREFACE)
            while len(buffer) - position >= 9:
                high, low, kind, flags, number = struct.unpack_from(">HBBBI", buffer, position)
                end = position + 9 + (high << 8 | low)
                if end - position - 9 > _DEFAULT_FRAME:
                    raise ProtocolError("a frame is too large")
                if end > len(buffer):
                    break
                self._handle(kind, flags, number & 0x7FFF_FFFF, bytes(memoryview(buffer)[position + 9 : end]))
                position = end
            del buffer[:position]

    def _handle(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._header_block is not None and kind != _CONTINUATION:
            raise ProtocolError("a header block is interrupted")
        handler = self._frame_handlers.get(kind)
        if handler is None:
            return  # unknown kinds are ignored (RFC 9113 §4.1); of the known ones, priorities and the peer's farewell
        try:
            handler(flags, number, payload)
        except (struct.error, IndexError, hpack.HpackError) as error:
            raise ProtocolError(f"a frame of type {kind} is malformed: {error}") from error
        if self._output_size > _UNSENT_LIMIT:
            raise ProtocolError("the peer asks for more than it takes")

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & _PRIORITY:
            block = block[5:]
        self._header_block = (number, bool(flags & _END_STREAM), bytearray())
        self._on_header_block(flags, block)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._header_block is None or self._header_block[0] != number:
            raise ProtocolError("a header block is continued that was not begun")
        self._on_header_block(flags, payload)

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if not flags & _ACK:
            self._put_frame(_PING, _ACK, 0, payload)

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        self._inflow.take(len(payload))
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last_number:
                raise ProtocolError("data for a stream that was not opened")
            self._settle_connection(len(payload))
            return
        if stream.finished:
            raise ProtocolError("data after the end of a request")
        stream.inflow.take(len(payload))
        data = _unpadded(flags, payload)
        if data:
            self._unread += len(data)
            stream.feed(data)
        if flags & _END_STREAM:
            stream.finish()
        elif len(payload) > len(data):
            self._grant(number, stream.inflow.settle(len(payload) - len(data)))
        self._settle_connection(len(payload))

    def _on_header_block(self, flags: int, fragment: bytes) -> None:
        if self._header_block is None:
            return
        number, finished, block = self._header_block
        block += fragment
        if len(block) > self._decoder.max_list_size:
            raise ProtocolError("a header block is too large")
        if not flags & _END_HEADERS:
            return
        self._header_block = None
        headers = self._decoder.decode(bytes(block))
        stream = self._streams.get(number)
        if stream is None:
            if number <= self._last_number:
                return  # trailers of a request that we have already answered
            if not number % 2:
                raise ProtocolError("a client's stream has an even number")
            stream = self._open(number, headers)
        if stream is not None and finished:
            stream.finish()

    def _open(self, number: int, headers: list[hpack.Header]) -> Stream | None:
        self._last_number = number
        # Tasks, and not streams: what a peer begins and gives up at once takes a moment to be over.
        if len(self._tasks) >= _STREAMS_LIMIT:
            self._put_frame(_RST_STREAM, 0, number, struct.pack(">I", _REFUSED_STREAM))
            return None
        stream = Stream(self, number, headers, self._peer_stream_window)
        self._streams[number] = stream
        self._tasks[number] = task = asyncio.ensure_future(self._serve(stream))
        task.add_done_callback(lambda done: self._on_served(number, done))
        return stream

    def _on_served(self, number: int, task: asyncio.Future[None]) -> None:
        self._tasks.pop(number, None)
        if not task.cancelled() and (error := task.exception()):
            _log.error("serving a request of the daemon failed", exc_info=error)

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        size = struct.unpack(">I", payload)[0] & 0x7FFF_FFFF
        if number == 0:
            self._window = _widened(self._window, size)
        elif stream := self._streams.get(number):
            stream.window = _widened(stream.window, size)
        self._window_opened.set()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        for identifier, value in struct.iter_unpack(">HI", payload):
            if identifier == _INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise ProtocolError("a window is too large")
                for stream in self._streams.values():
                    stream.window = _widened(stream.window, value - self._peer_stream_window)
                self._peer_stream_window = value
            elif identifier == _MAX_FRAME_SIZE:
                if not _DEFAULT_FRAME <= value <= _LARGEST_FRAME:
                    raise ProtocolError(f"frames cannot have {value} bytes")
                self._peer_frame = min(value, _OUTPUT_LIMIT)
        self._put_frame(_SETTINGS, _ACK, 0, b"")
        self._window_opened.set()

    def _on_reset(self, flags: int, number: int, payload: bytes) -> None:
        task = self._tasks.get(number)
        self._forget(number)
        if task is not None:
            task.cancel()

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._unread -= stream.unread
            stream.close()
            self._settle_connection(0)
        self._window_opened.set()


def _widened(window: int, size: int) -> int:
    if window + size > _LARGEST_WINDOW:
        raise ProtocolError("a window is too large")
    return window + size


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    padding = payload[0]
    if padding >= len(payload):
        raise IndexError("padding is longer than the frame")
    return payload[1 : len(payload) - padding]
