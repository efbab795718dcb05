from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.empty_pb2 import Empty

from buildkit_builder.buildkit.session.content import ContentStores
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import content_pb2, services
from tests.buildkit.session.harness import EOF, Daemon, attach, ending

STORE = "local:cache"
BLOB = bytes(range(256)) * 10_000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon with one store."""
    async with attach(Session([ContentStores({STORE: tmp_path})])) as daemon:
        yield daemon


def path(method: str) -> str:
    return f"/{services.CONTENT}/{method}"


async def ask(daemon: Daemon, method: str, request: Any, response: Any, store: str | None = STORE) -> Any:
    metadata = [("buildkit-attachable-store-id", store)] if store is not None else []
    return await daemon.unary(path(method), request, response, metadata)


async def refused(daemon: Daemon, method: str, request: Any, store: str | None = STORE) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(daemon, method, request, Empty, store)
    return caught.value.code()


def stream(daemon: Daemon, method: str) -> Any:
    return daemon.stream(path(method), [("buildkit-attachable-store-id", STORE)])


class Writer:
    """A write as the daemon makes one: a request, its answer, the next request."""

    def __init__(self, daemon: Daemon) -> None:
        self.call = stream(daemon, "Write")

    async def send(self, action: Any, **fields: Any) -> content_pb2.WriteContentResponse:
        await self.call.write(content_pb2.WriteContentRequest(action=action, **fields).SerializeToString())
        return content_pb2.WriteContentResponse.FromString(await self.call.read())

    async def refused(self, action: Any, **fields: Any) -> grpc.StatusCode:
        await self.call.write(content_pb2.WriteContentRequest(action=action, **fields).SerializeToString())
        return await ending(self.call)


async def write(daemon: Daemon, blob: bytes) -> str:
    writer = Writer(daemon)
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    await writer.send(content_pb2.STAT, ref=digest, total=len(blob), expected=digest)
    if blob:
        await writer.send(content_pb2.WRITE, data=blob, offset=0)
    done = await writer.send(content_pb2.COMMIT, total=len(blob), offset=len(blob), expected=digest)
    assert len(blob) == done.offset
    await writer.call.done_writing()
    return digest


async def test_blobs_are_written_and_read(daemon: Daemon, tmp_path: Path) -> None:
    """A blob written in pieces lies in the layout, and is read whole or in part."""
    writer = Writer(daemon)
    begun = await writer.send(content_pb2.STAT, ref="r", total=len(BLOB), expected=DIGEST)
    half = await writer.send(content_pb2.WRITE, data=BLOB[:1_000_000], offset=0)
    rest = await writer.send(content_pb2.WRITE, data=BLOB[1_000_000:], offset=1_000_000)
    done = await writer.send(content_pb2.COMMIT, total=len(BLOB), offset=len(BLOB), expected=DIGEST)
    await writer.call.done_writing()

    assert await ending(writer.call) is grpc.StatusCode.OK
    assert [0, 1_000_000, len(BLOB), len(BLOB)] == [answer.offset for answer in (begun, half, rest, done)]
    assert DIGEST == done.digest
    assert BLOB == (tmp_path / "blobs" / "sha256" / DIGEST[7:]).read_bytes()
    assert ["blobs"] == [entry.name for entry in tmp_path.iterdir()]
    for offset, size, expected in (
        (0, 0, BLOB),
        (5, 10, BLOB[5:15]),
        (len(BLOB) - 3, 100, BLOB[-3:]),
        (7, -1, BLOB[7:]),
    ):
        call = stream(daemon, "Read")
        request = content_pb2.ReadContentRequest(digest=DIGEST, offset=offset, size=size)
        await call.write(request.SerializeToString())
        await call.done_writing()
        read, position = b"", offset
        while (message := await call.read()) is not EOF:
            chunk = content_pb2.ReadContentResponse.FromString(message)
            assert position == chunk.offset
            read += chunk.data
            position += len(chunk.data)
        assert expected == read


async def test_blobs_of_no_bytes(daemon: Daemon) -> None:
    """The empty blob can be written too."""
    digest = await write(daemon, b"")
    answer = await ask(daemon, "Info", content_pb2.InfoRequest(digest=digest), content_pb2.InfoResponse)

    assert (digest, 0) == (answer.info.digest, answer.info.size)


async def test_blobs_are_listed_and_deleted(daemon: Daemon) -> None:
    """What was written is listed with its size, and is gone when deleted."""
    digests = sorted([await write(daemon, b"one"), await write(daemon, b"two")])
    call = stream(daemon, "List")
    await call.write(b"")
    await call.done_writing()
    listed = content_pb2.ListContentResponse.FromString(await call.read())

    assert [(digest, 3) for digest in digests] == [(info.digest, info.size) for info in listed.info]
    await ask(daemon, "Delete", content_pb2.DeleteContentRequest(digest=digests[0]), Empty)
    assert await refused(daemon, "Info", content_pb2.InfoRequest(digest=digests[0])) is grpc.StatusCode.NOT_FOUND


async def test_labels_are_accepted(daemon: Daemon) -> None:
    """The daemon may set labels; it hears them back."""
    info = content_pb2.Info(digest=await write(daemon, b"x"), labels={"key": "value"})
    answer = await ask(daemon, "Update", content_pb2.UpdateRequest(info=info), content_pb2.UpdateResponse)

    assert {"key": "value"} == dict(answer.info.labels)


async def test_stores_are_chosen_by_id(daemon: Daemon) -> None:
    """No id is INVALID_ARGUMENT, an unknown one NOT_FOUND, and so is a path."""
    request = content_pb2.InfoRequest(digest=DIGEST)

    assert await refused(daemon, "Info", request, None) is grpc.StatusCode.INVALID_ARGUMENT
    assert await refused(daemon, "Info", request, "local:other") is grpc.StatusCode.NOT_FOUND
    assert await refused(daemon, "Info", request) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("digest", ["", "sha256:../../x", "sha256:" + "A" * 64, "md5:" + "a" * 32, "a" * 64])
async def test_digests_cannot_lead_elsewhere(daemon: Daemon, digest: str) -> None:
    """Only a sha256 digest names a blob."""
    assert await refused(daemon, "Info", content_pb2.InfoRequest(digest=digest)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_there_is_not_written_again(daemon: Daemon) -> None:
    """A blob that is there already ends the write with ALREADY_EXISTS, at its begin or at its end."""
    await write(daemon, BLOB)
    begin = Writer(daemon)
    assert await begin.refused(content_pb2.STAT, ref="a", expected=DIGEST) is grpc.StatusCode.ALREADY_EXISTS
    end = Writer(daemon)
    await end.send(content_pb2.WRITE, ref="b", data=BLOB)
    assert await end.refused(content_pb2.COMMIT, offset=len(BLOB)) is grpc.StatusCode.ALREADY_EXISTS


async def test_writes_are_checked(daemon: Daemon, tmp_path: Path) -> None:
    """A wrong digest, size or offset, or a missing ref, is refused and leaves nothing."""
    wrong = Writer(daemon)
    await wrong.send(content_pb2.WRITE, ref="a", data=b"other")
    assert await wrong.refused(content_pb2.COMMIT, expected=DIGEST) is grpc.StatusCode.FAILED_PRECONDITION
    short = Writer(daemon)
    await short.send(content_pb2.WRITE, ref="b", data=b"other", total=100)
    assert await short.refused(content_pb2.COMMIT) is grpc.StatusCode.FAILED_PRECONDITION
    gap = Writer(daemon)
    await gap.send(content_pb2.WRITE, ref="c", data=b"other")
    assert await gap.refused(content_pb2.WRITE, data=b"x", offset=7) is grpc.StatusCode.OUT_OF_RANGE
    assert await Writer(daemon).refused(content_pb2.STAT) is grpc.StatusCode.INVALID_ARGUMENT
    assert [] == [entry for entry in tmp_path.rglob("*") if entry.is_file()]


async def test_writes_can_be_watched_and_aborted(daemon: Daemon, tmp_path: Path) -> None:
    """While it is written a blob has a status; aborted, it has none and leaves nothing."""
    writer = Writer(daemon)
    await writer.send(content_pb2.WRITE, ref="r", data=b"12345", total=10)
    answer = await ask(daemon, "Status", content_pb2.StatusRequest(ref="r"), content_pb2.StatusResponse)
    listed = await ask(daemon, "ListStatuses", content_pb2.ListStatusesRequest(), content_pb2.ListStatusesResponse)

    assert ("r", 5, 10) == (answer.status.ref, answer.status.offset, answer.status.total)
    assert ["r"] == [status.ref for status in listed.statuses]
    assert await Writer(daemon).refused(content_pb2.STAT, ref="r") is grpc.StatusCode.UNAVAILABLE
    await ask(daemon, "Abort", content_pb2.AbortRequest(ref="r"), Empty)
    assert await refused(daemon, "Status", content_pb2.StatusRequest(ref="r")) is grpc.StatusCode.NOT_FOUND
    assert [] == [entry for entry in tmp_path.rglob("*") if entry.is_file()]


async def test_a_write_may_start_over(daemon: Daemon) -> None:
    """A write at offset 0 throws away what came before."""
    writer = Writer(daemon)
    await writer.send(content_pb2.WRITE, ref="r", data=b"wrong")
    await writer.send(content_pb2.WRITE, data=b"right", offset=0)
    done = await writer.send(content_pb2.COMMIT)

    assert f"sha256:{hashlib.sha256(b'right').hexdigest()}" == done.digest


async def test_reads_beyond_the_end(daemon: Daemon) -> None:
    """An offset past the end is OUT_OF_RANGE."""
    digest = await write(daemon, b"12345")
    call = stream(daemon, "Read")
    await call.write(content_pb2.ReadContentRequest(digest=digest, offset=6).SerializeToString())
    await call.done_writing()

    assert await ending(call) is grpc.StatusCode.OUT_OF_RANGE


async def test_many_writers_at_once(daemon: Daemon) -> None:
    """Layers are written side by side."""
    blobs = [bytes([number]) * 100_000 for number in range(20)]
    digests = await asyncio.gather(*(write(daemon, blob) for blob in blobs))

    assert 20 == len(set(digests))


async def test_a_store_to_be_read(tmp_path: Path) -> None:
    """What is only there to be read is neither written to nor removed from, and read as any other."""
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "blobs" / "sha256" / DIGEST.removeprefix("sha256:")).write_bytes(BLOB)
    async with attach(Session([ContentStores({STORE: tmp_path}, read_only=[STORE])])) as daemon:
        info = await ask(daemon, "Info", content_pb2.InfoRequest(digest=DIGEST), content_pb2.InfoResponse)
        removed = await refused(daemon, "Delete", content_pb2.DeleteContentRequest(digest=DIGEST))
        written = await ending(stream(daemon, "Write"))

    assert len(BLOB) == info.info.size
    assert [grpc.StatusCode.PERMISSION_DENIED] * 2 == [removed, written]
    assert (tmp_path / "blobs" / "sha256" / DIGEST.removeprefix("sha256:")).exists()
