from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path

import pytest

from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.buildkit.session.http2_stream import ProtocolError
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.secrets_pb2 import GetSecretRequest, GetSecretResponse
from tests.buildkit.session.harness import MemoryCall, attach, bridged, raw, write_tree


class Control:
    """Hands out one call."""

    def __init__(self, call: MemoryCall) -> None:
        self.call = call

    def session(self, metadata: object) -> MemoryCall:
        return self.call


async def test_metadata() -> None:
    """The session introduces itself with its id, its shared key, and one header per method, all in lower case."""
    session = Session([Secrets({}), FileSync([])], shared_key="key")
    async with attach(session) as daemon:
        assert [
            ("x-docker-expose-session-uuid", session.id),
            ("x-docker-expose-session-sharedkey", "key"),
            ("x-docker-expose-session-grpc-method", "/grpc.health.v1.Health/Check"),
            ("x-docker-expose-session-grpc-method", "/moby.buildkit.secrets.v1.Secrets/GetSecret"),
            ("x-docker-expose-session-grpc-method", "/moby.filesync.v1.FileSync/DiffCopy"),
        ] == list(daemon.metadata)


async def test_ids_differ() -> None:
    """Two sessions never share an id."""
    assert Session([]).id != Session([]).id


async def test_health_is_always_answered() -> None:
    """A session without services says that it is serving."""
    async with attach(Session([])) as daemon:
        method = raw(daemon.channel).unary_unary(services.HEALTH_CHECK)

        assert b"\x08\x01" == await method(b"")


async def test_no_message_is_empty(tmp_path: Path) -> None:
    """The tunnel never sends a message of no bytes, which daemons would read as old bytes, and none near 4 MiB."""
    write_tree(tmp_path, {f"{number}": b"x" * number * 1000 for number in range(500)})
    async with attach(Session([FileSync([LocalDirectory("src", tmp_path)])])) as daemon:
        tree = await daemon.pull("src")

        assert 500 == len(tree.contents)
        assert min(daemon.call.sizes) > 0
        assert max(daemon.call.sizes) < 2 << 20


async def test_closing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After use no task, thread, descriptor or temporary file of the session is left."""
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))  # others of this machine use the usual one
    write_tree(tmp_path, {f"{number}": b"x" * 100_000 for number in range(50)})

    async def use() -> MemoryCall:
        async with attach(Session([FileSync([LocalDirectory("src", tmp_path)])])) as daemon:
            await daemon.pull("src")
            daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src")])  # still running at the end
            return daemon.call

    await use()
    await asyncio.sleep(0)
    before = (threading.active_count(), len(asyncio.all_tasks()), set(os.listdir(tempfile.gettempdir())))
    descriptors = len(os.listdir("/dev/fd"))
    call = await use()
    await asyncio.sleep(0)

    assert call.cancelled
    assert before == (threading.active_count(), len(asyncio.all_tasks()), set(os.listdir(tempfile.gettempdir())))
    assert descriptors >= len(os.listdir("/dev/fd"))  # what an earlier test left may be gone meanwhile
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("buildkit-session")]


async def test_closing_waits_for_a_running_thread() -> None:
    """A function that still runs when the session closes is waited for, without stopping the loop."""
    started, release = threading.Event(), threading.Event()

    def slow() -> bytes:
        started.set()
        release.wait()
        return b""

    session = Session([Secrets({"slow": slow})])
    async with attach(session) as daemon:
        asking = asyncio.ensure_future(
            daemon.unary(services.SECRETS_GET_SECRET, GetSecretRequest(ID="slow"), GetSecretResponse)
        )
        await asyncio.get_running_loop().run_in_executor(None, started.wait)
        asyncio.get_running_loop().call_later(0.05, release.set)
    await asyncio.gather(asking, return_exceptions=True)

    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("buildkit-session")]


async def test_a_peer_that_speaks_something_else_is_refused() -> None:
    """A tunnel that does not carry HTTP/2 ends the session, and says why."""
    call = MemoryCall()
    session = Session([])
    async with session.open(Control(call)):
        await call.to_session.put(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(session.wait_ended(), 10)

    assert isinstance(session.lost, ProtocolError)


async def test_the_end_of_the_tunnel_ends_the_session() -> None:
    """A daemon that closes the stream is noticed."""
    call = MemoryCall()
    session = Session([])
    async with session.open(Control(call)):
        await call.to_session.put(None)
        await asyncio.wait_for(session.wait_ended(), 10)

    assert session.lost is None


@pytest.mark.parametrize("junk", [b"\x00\x00\x04\x08\x00\x00\x00\x00", b"\x00\x00\x01\x00\x00\x00\x00\x00\x63x"])
async def test_malformed_frames_end_the_session(junk: bytes) -> None:
    """A frame cut short is waited for; data for a stream that never was is a breach of protocol."""
    call = MemoryCall()
    session = Session([])
    async with session.open(Control(call)):
        await call.to_session.put(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + junk)
        await call.to_session.put(None)
        await asyncio.wait_for(session.wait_ended(), 10)

    assert (junk[3] == 0) is isinstance(session.lost, ProtocolError)


async def test_the_tunnel_may_split_anywhere() -> None:
    """Bytes that arrive one at a time are the same stream."""
    call, slow = MemoryCall(), MemoryCall()

    async def crumble() -> None:
        while True:
            data = await slow.to_session.get()
            assert data is not None
            for byte in data:
                await call.to_session.put(bytes([byte]))

    slow.from_session = call.from_session
    crumbling = asyncio.ensure_future(crumble())
    async with Session([]).open(Control(call)), bridged(slow) as channel:
        assert b"\x08\x01" == await raw(channel).unary_unary(services.HEALTH_CHECK)(b"")
    crumbling.cancel()
    await asyncio.gather(crumbling, return_exceptions=True)
