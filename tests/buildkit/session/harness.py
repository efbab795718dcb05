"""The daemon's side of a session, in this process: grpcio's own client at the other end of the tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import control_pb2, services
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet, Stat

EOF: Any = vars(grpc.aio)["EOF"]  # its stubs do not know it
LIMITS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 16 << 20),
    ("grpc.absolute_max_metadata_size", 16 << 20),
]


def raw(channel: grpc.aio.Channel) -> Any:
    """The channel without its types, which insist on serializers; without any, messages are bytes."""
    return channel


class MemoryCall:
    """A `Control.Session` call that ends in this process; each direction holds a few messages."""

    def __init__(self) -> None:
        self.to_session: asyncio.Queue[bytes | None] = asyncio.Queue(4)
        self.from_session: asyncio.Queue[bytes] = asyncio.Queue(4)
        self.sizes: list[int] = []
        self.cancelled = False
        self.broken: Exception | None = None

    async def read(self) -> object:
        data = await self.to_session.get()
        if self.broken is not None:
            raise self.broken
        return EOF if data is None else control_pb2.BytesMessage(data=data)

    async def write(self, message: control_pb2.BytesMessage) -> None:
        self.sizes.append(len(message.data))
        await self.from_session.put(message.data)

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Daemon:
    """What a test does as the daemon.

    Attributes:
        channel: Calls the session's services.
        call: The call that carries them.
        metadata: What the session was introduced with.
    """

    channel: grpc.aio.Channel
    call: MemoryCall
    metadata: Sequence[tuple[str, str]]

    async def unary(self, path: str, request: Any, response: Any, metadata: Sequence[tuple[str, str]] = ()) -> Any:
        """Calls a method of one message each way."""
        method: Any = self.channel.unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
        )
        return await method(request, metadata=tuple(metadata))

    def stream(self, path: str, metadata: Sequence[tuple[str, str]] = ()) -> Any:
        """Opens a method of many messages each way, as bytes."""
        return raw(self.channel).stream_stream(path)(metadata=tuple(metadata))

    async def pull(self, name: str, **options: Any) -> Tree:
        """Reads a local source as the daemon does; see `pull`."""
        return await pull(self, name, **options)


class _Control:
    def __init__(self, call: MemoryCall) -> None:
        self.call = call
        self.metadata: Sequence[tuple[str, str]] = ()

    def session(self, metadata: Sequence[tuple[str, str]]) -> MemoryCall:
        self.metadata = metadata
        return self.call


@contextlib.asynccontextmanager
async def attach(session: Session) -> AsyncIterator[Daemon]:
    """Opens a session towards a daemon of this process."""
    control = _Control(MemoryCall())
    async with session.open(control):
        async with bridged(control.call) as channel:
            yield Daemon(channel, control.call, control.metadata)


@contextlib.asynccontextmanager
async def bridged(call: MemoryCall) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to whatever serves HTTP/2 behind a call."""
    folder = tempfile.mkdtemp(prefix="bridge-")
    pumps: list[asyncio.Future[None]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def down() -> None:
            while data := await reader.read(32 << 10):
                await call.to_session.put(data)

        async def up() -> None:
            while True:
                writer.write(await call.from_session.get())
                await writer.drain()

        pumps.extend((asyncio.ensure_future(down()), asyncio.ensure_future(up())))
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        writer.close()

    server = await asyncio.start_unix_server(connected, f"{folder}/s")
    channel = grpc.aio.insecure_channel(f"unix:{folder}/s", options=LIMITS)
    try:
        yield channel
    finally:
        await channel.close(None)
        server.close()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        shutil.rmtree(folder)


@dataclass
class Tree:
    """What came of a local source.

    Attributes:
        stats: The listing, in order.
        contents: What was asked for, by path.
        error: What the sender said instead of finishing, or `""`.
    """

    stats: list[Stat] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    error: str = ""

    @property
    def paths(self) -> list[str]:
        return [stat.path for stat in self.stats]

    def stat(self, path: str) -> Stat:
        return next(stat for stat in self.stats if stat.path == path)


def is_file(stat: Stat) -> bool:
    return not stat.mode & 0x8F28_0000 and not stat.linkname


async def pull(
    daemon: Daemon,
    name: str,
    *,
    metadata: Iterable[tuple[str, str]] = (),
    wanted: Callable[[Stat], bool] = is_file,
    listed: Callable[[], object] | None = None,
) -> Tree:
    """Receives a tree as fsutil does.

    Args:
        daemon: Whose channel to use.
        name: The `dir-name`.
        metadata: What else to ask with.
        wanted: Which entries to request.
        listed: Called when the listing is complete; nothing is requested before.
    """
    call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", name), *metadata])
    tree = Tree()
    try:
        await _receive_listing(call, tree)
        if listed is not None:
            listed()
        await _receive_contents(call, tree, wanted)
    except grpc.aio.AioRpcError:
        if not tree.error:
            raise
    return tree


async def _next_packet(call: Any, tree: Tree) -> Packet:
    message = await call.read()
    packet = Packet.FromString(message)
    if packet.type == Packet.PACKET_ERR:
        tree.error = packet.data.decode()
        await call.read()  # raises: the call has failed
    return packet


async def _receive_listing(call: Any, tree: Tree) -> None:
    while (packet := await _next_packet(call, tree)).HasField("stat"):
        tree.stats.append(packet.stat)
    assert packet == Packet()


async def _receive_contents(call: Any, tree: Tree, wanted: Callable[[Stat], bool]) -> None:
    contents = {number: bytearray() for number, stat in enumerate(tree.stats) if wanted(stat)}
    for number in contents:
        await call.write(Packet(type=Packet.PACKET_REQ, ID=number).SerializeToString())
    while len(tree.contents) < len(contents):
        packet = await _next_packet(call, tree)
        assert packet.type == Packet.PACKET_DATA
        contents[packet.ID] += packet.data
        if not packet.data:
            tree.contents[tree.stats[packet.ID].path] = bytes(contents[packet.ID])
    await call.write(Packet(type=Packet.PACKET_FIN).SerializeToString())
    assert (await _next_packet(call, tree)).type == Packet.PACKET_FIN
    assert await call.code() is grpc.StatusCode.OK


async def ending(call: Any) -> grpc.StatusCode:
    """Takes what a call still sends, without which its status does not come, and returns the status."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not EOF:
            pass
    code: grpc.StatusCode = await call.code()
    return code


def write_tree(root: Path, files: Mapping[str, bytes]) -> None:
    """Makes files, and the folders they are in."""
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
