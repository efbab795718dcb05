"""A daemon that speaks HTTP/2 frame by frame, as no library would let it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from buildkit_builder.buildkit.session import hpack
from buildkit_builder.buildkit.session.session import Session
from tests.buildkit.session.harness import MemoryCall

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8


def frame(kind: int, flags: int = 0, number: int = 0, payload: bytes = b"") -> bytes:
    """One frame, be it right or wrong."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, number) + payload


def request(number: int, path: str, headers: Iterable[hpack.Header] = (), *, flags: int = END_HEADERS) -> bytes:
    """The headers of a call."""
    block = hpack.encode([(b":method", b"POST"), (b":path", path.encode()), *headers])
    return frame(HEADERS, flags, number, block)


def message(data: bytes, *, size: int | None = None) -> bytes:
    """A gRPC message; `size` is what it says that it has."""
    return struct.pack(">BI", 0, len(data) if size is None else size) + data


@dataclass
class Peer:
    """The daemon's end.

    Attributes:
        session: What it attacks.
        call: What carries the bytes.
        received: Kind, flags, stream and payload of the frames that came, while `listen` runs.
    """

    session: Session
    call: MemoryCall = field(default_factory=MemoryCall)
    received: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    async def send(self, *frames: bytes) -> None:
        """Sends bytes as they are, in pieces as a daemon's; stops when nobody takes them any more."""
        data = b"".join(frames)
        for start in range(0, len(data), 32 << 10):
            sending = asyncio.ensure_future(self.call.to_session.put(data[start : start + (32 << 10)]))
            ended = asyncio.ensure_future(self.session.wait_ended())
            await asyncio.wait((sending, ended), return_when=asyncio.FIRST_COMPLETED)
            taken = sending.done()
            for task in (sending, ended):
                task.cancel()
            await asyncio.wait((sending, ended))
            if not taken:
                return

    async def listen(self) -> None:
        """Takes what comes, without end."""
        buffer = b""
        while True:
            buffer += await self.call.from_session.get()
            while len(buffer) >= 9:
                head, flags, number = struct.unpack(">IBI", buffer[:9])
                size, kind = head >> 8, head & 0xFF
                if len(buffer) < 9 + size:
                    break
                self.received.append((kind, flags, number, buffer[9 : 9 + size]))
                buffer = buffer[9 + size :]

    def payloads(self, kind: int, number: int | None = None) -> list[bytes]:
        """What the frames of one kind held."""
        return [data for found, _, stream, data in self.received if found == kind and number in (None, stream)]

    async def until(self, kind: int, number: int) -> None:
        """Waits for a frame; a test's time limit is the limit."""
        while not any((kind, number) == (found, stream) for found, _, stream, _ in self.received):
            await asyncio.sleep(0)

    def session_control(self) -> _Control:
        """What the session opens itself on."""
        return _Control(self.call)


class _Control:
    def __init__(self, call: MemoryCall) -> None:
        self._call = call

    def session(self, metadata: Sequence[tuple[str, str]]) -> MemoryCall:
        return self._call


@contextlib.asynccontextmanager
async def attacked(session: Session, *, deaf: bool = False) -> AsyncIterator[Peer]:
    """A session in the hands of a peer, who has greeted it.

    Args:
        session: What is attacked.
        deaf: Whether the peer takes nothing of what is sent to it.
    """
    peer = Peer(session)
    async with session.open(peer.session_control()):
        listening = asyncio.ensure_future(asyncio.sleep(0) if deaf else peer.listen())
        await peer.send(PREFACE, frame(SETTINGS))
        try:
            yield peer
        finally:
            listening.cancel()
            await asyncio.wait((listening,))
