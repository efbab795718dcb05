from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from buildkit_builder.buildkit.connect.dialers import Route, Straight
from buildkit_builder.buildkit.connect.relay import Relay
from buildkit_builder.buildkit.find.sockets import private_folder

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Daemon:
    """Something that listens on a unix socket, and is asked to close its connections by a test."""

    def __init__(self, path: Path, handle: Handler) -> None:
        self.path = str(path)
        self.writers: list[asyncio.StreamWriter] = []
        self.accepted = asyncio.Semaphore(0)
        self._handle = handle
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Daemon:
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.accepted.release()
        await self._handle(reader, writer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and end when it ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do nothing."""


async def open_relayed(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(relay.target.removeprefix("unix:"))


@pytest.fixture
async def echoing(tmp_path: Path) -> AsyncIterator[Relay]:
    """A relay to a daemon that echoes."""
    async with Daemon(tmp_path / "d", echo) as daemon, Relay(Straight(Route(path=daemon.path))) as relay:
        yield relay


async def test_bytes_pass_in_order_and_half_close_too(echoing: Relay) -> None:
    """Many megabytes come back unchanged, then the end that was sent comes back as well."""
    payload = os.urandom(1 << 20) * 16
    reader, writer = await open_relayed(echoing)

    async def send() -> None:
        writer.write(payload)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    received = await reader.read()
    await sending
    writer.close()

    assert payload == received


async def test_connections_are_independent(echoing: Relay) -> None:
    """Each connection has a daemon's end of its own."""
    connections = [await open_relayed(echoing) for _ in range(5)]
    for number, (_, writer) in enumerate(connections):
        writer.write(b"%d" % number)
        writer.write_eof()

    answers = [await reader.read() for reader, _ in connections]
    for _, writer in connections:
        writer.close()

    assert [b"0", b"1", b"2", b"3", b"4"] == answers


async def test_slow_reader_holds_the_sender(tmp_path: Path) -> None:
    """A client that does not read stops the daemon's writing before much is buffered."""
    written = 0
    stuck = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        chunk = bytes(1 << 16)
        for _ in range(1024):
            writer.write(chunk)
            try:
                await asyncio.wait_for(asyncio.shield(writer.drain()), 0.5)
            except asyncio.TimeoutError:
                stuck.set()
                return
            written += len(chunk)

    async with Daemon(tmp_path / "d", flood) as daemon, Relay(Straight(Route(path=daemon.path))) as relay:
        _, writer = await open_relayed(relay)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(stuck.wait(), 30)
        writer.transport.abort()

    assert written < 8 << 20


async def test_lost_daemon_ends_the_client(tmp_path: Path) -> None:
    """When the daemon's end breaks, the client's end is over at once."""
    async with Daemon(tmp_path / "d", silent) as daemon, Relay(Straight(Route(path=daemon.path))) as relay:
        reader, writer = await open_relayed(relay)
        await daemon.accepted.acquire()
        daemon.writers[0].transport.abort()

        assert b"" == await asyncio.wait_for(reader.read(), 10)
        writer.close()


async def test_lost_client_ends_the_daemons_connection(tmp_path: Path) -> None:
    """When the client's end breaks, the daemon sees the end at once."""
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.set_result(await reader.read())

    async with Daemon(tmp_path / "d", wait_for_end) as daemon, Relay(Straight(Route(path=daemon.path))) as relay:
        _, writer = await open_relayed(relay)
        await daemon.accepted.acquire()
        writer.transport.abort()

        assert b"" == await asyncio.wait_for(ended, 10)


async def test_unreachable_daemon_is_remembered(tmp_path: Path) -> None:
    """A daemon that cannot be dialled ends the client's connection, and the reason is kept."""
    async with Relay(Straight(Route(path=str(tmp_path / "nobody")))) as relay:
        reader, writer = await open_relayed(relay)
        received = await reader.read()
        writer.close()

        assert b"" == received
        assert isinstance(relay.failure, FileNotFoundError)


async def test_socket_is_private_and_goes(tmp_path: Path) -> None:
    """The socket lies in a folder of mode 0700, which is gone after `close`."""
    relay = Relay(Straight(Route(path=str(tmp_path / "nobody"))))
    async with relay:
        folder = Path(relay.target.removeprefix("unix:")).parent

        assert 0o700 == stat.S_IMODE(folder.stat().st_mode)

    assert not folder.exists()


async def test_close_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing with connections open, held and half-closed leaves no task, no file descriptor and no folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with Daemon(tmp_path / "d", silent) as daemon:
        before = len(os.listdir("/dev/fd"))
        async with Relay(Straight(Route(path=daemon.path))) as relay:
            pairs = [await open_relayed(relay) for _ in range(3)]
            for _ in pairs:
                await daemon.accepted.acquire()
            pairs[0][1].write(bytes(8 << 20))
            pairs[1][1].write_eof()
        for _, writer in pairs:
            writer.transport.abort()
            with pytest.raises(ConnectionError):
                await writer.drain()
        for writer in daemon.writers:
            writer.transport.abort()
        while len(os.listdir("/dev/fd")) > before:
            await asyncio.sleep(0)

        assert [] == list(tmp_path.glob("bkb-*"))
        assert {asyncio.current_task()} == asyncio.all_tasks()


def test_private_folder_avoids_long_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the temporary folder's path is too long for a socket, another one is taken."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    folder = private_folder()
    os.rmdir(folder)

    assert len(folder) < 100
    assert [] == list(long.iterdir())
