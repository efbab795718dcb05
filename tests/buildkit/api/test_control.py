from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from buildkit_builder.buildkit.api.control import Control, DaemonInfo, UsageRecord, Worker
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.buildkit.wire import control_pb2, gateway_pb2, ops_pb2, services
from tests.fakes.buildkit import SNAPSHOTTER, FakeBuildKit, Refusal


@pytest.fixture
async def fake() -> AsyncIterator[FakeBuildKit]:
    async with FakeBuildKit(platforms=(("linux", "amd64"), ("linux", "arm64"))) as daemon:
        yield daemon


@pytest.fixture
async def connection(fake: FakeBuildKit) -> AsyncIterator[Connection]:
    async with await connect(Endpoint(address=fake.address, kind="buildkit")) as opened:
        yield opened


@pytest.fixture
def control(connection: Connection) -> Control:
    return Control(connection.channel)


async def test_info(control: Control) -> None:
    """Version, revision and package arrive."""
    expected = DaemonInfo(version="v0.25.2", revision="fake", package="github.com/moby/buildkit")

    assert expected == await control.info()


async def test_workers(control: Control) -> None:
    """Workers arrive with labels and platforms."""
    (worker,) = await control.list_workers()

    assert worker == Worker(
        id="worker",
        labels={SNAPSHOTTER: "overlayfs"},
        platforms=(Platform(), Platform(architecture="arm64")),
        version="v0.25.2",
    )
    assert "overlayfs" == worker.snapshotter


async def test_solve_gives_what_exporters_say(fake: FakeBuildKit, control: Control) -> None:
    """A solve with a graph ends with the exporters' answer, and the request arrives as it was."""
    fake.exporter_response = {"containerimage.digest": "sha256:d"}
    request = control_pb2.SolveRequest(Ref="r", Definition=ops_pb2.Definition())

    assert {"containerimage.digest": "sha256:d"} == await control.solve(request)
    assert [request] == fake.called(services.CONTROL_SOLVE)


async def test_cancelling_solve_cancels_the_build(fake: FakeBuildKit, control: Control) -> None:
    """A task that is cancelled takes the daemon's build with it."""
    solving = asyncio.ensure_future(control.solve(control_pb2.SolveRequest(Ref="r")))
    build = await fake.until_build("r")

    solving.cancel()

    await build.ended.wait()
    assert build.cancelled


async def test_status_follows_a_build_to_its_end(fake: FakeBuildKit, control: Control) -> None:
    """Progress arrives as events until the build has ended."""
    solving = asyncio.ensure_future(control.solve(control_pb2.SolveRequest(Ref="r")))
    build = await fake.until_build("r")
    build.tell(control_pb2.StatusResponse(vertexes=[control_pb2.Vertex(digest="d", name="one")]))
    build.tell(control_pb2.StatusResponse(logs=[control_pb2.VertexLog(vertex="d", msg=b"two")]))
    build.returned.set_result(gateway_pb2.ReturnRequest(result=gateway_pb2.Result()))

    updates = [update async for update in control.status("r")]
    await solving

    assert [("one",), ()] == [tuple(vertex.name for vertex in update.vertexes) for update in updates]
    assert [(), (b"two",)] == [tuple(log.data for log in update.logs) for update in updates]


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNKNOWN])
async def test_status_asks_again_for_an_unknown_build(
    fake: FakeBuildKit, control: Control, code: grpc.StatusCode
) -> None:
    """A build that the daemon does not know yet is asked for again, whichever way the daemon says so."""
    fake.refuse(services.CONTROL_STATUS, "no such job r", code=code)
    fake.answer(
        services.CONTROL_STATUS, control_pb2.StatusResponse(vertexes=[control_pb2.Vertex(digest="d", name="one")])
    )

    updates = [update async for update in control.status("r")]

    assert "one" == updates[0].vertexes[0].name
    assert 2 == len(fake.called(services.CONTROL_STATUS))


async def test_status_gives_up_on_an_unknown_build(control: Control) -> None:
    """A build that stays unknown is an error once patience has run out."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext_of(control.status("r", patience=0))

    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


async def test_status_does_not_hide_other_errors(fake: FakeBuildKit, control: Control) -> None:
    """An error that is not about an unknown build is raised at once."""
    fake.answer(services.CONTROL_STATUS, Refusal("broken"))

    with pytest.raises(grpc.aio.AioRpcError, match="broken"):
        await anext_of(control.status("r"))

    assert 1 == len(fake.called(services.CONTROL_STATUS))


async def test_disk_usage_and_prune(fake: FakeBuildKit, control: Control) -> None:
    """Records arrive in our own words, and prune's limits leave in the daemon's."""
    fake.prunes = [
        control_pb2.UsageRecord(
            ID="i", RecordType="regular", Size=5, Shared=True, CreatedAt=Timestamp(seconds=9), Parents=["p"]
        )
    ]
    expected = (UsageRecord(id="i", kind="regular", size=5, shared=True, created=9.0, parents=("p",)),)

    assert expected == await control.disk_usage(filters=("type==regular",))
    assert expected == tuple(
        [record async for record in control.prune(everything=True, keep_seconds=1.5, max_used_bytes=7)]
    )
    assert [control_pb2.PruneRequest(all=True, keepDuration=1_500_000_000, maxUsedSpace=7)] == fake.called(
        services.CONTROL_PRUNE
    )


async def test_session_carries_bytes_and_headers(fake: FakeBuildKit, control: Control) -> None:
    """The session's headers arrive, and the daemon's first bytes are those of an HTTP/2 client."""
    call = control.session((("x-docker-expose-session-uuid", "s"), ("x-docker-expose-session-sharedkey", "k")))
    first = await call.read()
    await fake.until_session("s")
    call.cancel()

    assert first.data.startswith(b"PRI * HTTP/2.0")
    assert "k" == dict(fake.session_metadata["s"])["x-docker-expose-session-sharedkey"]


async def anext_of(updates: AsyncIterator[object]) -> object:
    """The first of them (`anext` as a coroutine)."""
    return await updates.__anext__()
