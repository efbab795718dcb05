from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from buildkit_builder.buildkit.api import events
from buildkit_builder.buildkit.wire import control_pb2, ops_pb2


def test_from_wire_reads_everything() -> None:
    """Every field of a status message arrives, times as seconds."""
    then = Timestamp(seconds=10, nanos=500_000_000)
    response = control_pb2.StatusResponse(
        vertexes=[
            control_pb2.Vertex(
                digest="d",
                inputs=["i"],
                name="n",
                cached=True,
                started=then,
                completed=then,
                error="e",
                progressGroup=ops_pb2.ProgressGroup(id="g", name="group", weak=True),
            )
        ],
        statuses=[
            control_pb2.VertexStatus(
                ID="s", vertex="d", name="n", current=1, total=2, timestamp=then, started=then, completed=then
            )
        ],
        logs=[control_pb2.VertexLog(vertex="d", timestamp=then, stream=2, msg=b"\xffline\n")],
        warnings=[
            control_pb2.VertexWarning(vertex="d", level=1, short=b"short", detail=[b"one", b"\xff"], url="https://u")
        ],
    )

    update = events.from_wire(response)

    assert update == events.StatusUpdate(
        vertexes=(
            events.VertexEvent(
                digest="d",
                inputs=("i",),
                name="n",
                cached=True,
                started=10.5,
                completed=10.5,
                error="e",
                group=events.ProgressGroup(id="g", name="group", weak=True),
            ),
        ),
        statuses=(
            events.StatusEvent(
                id="s", vertex="d", name="n", current=1, total=2, timestamp=10.5, started=10.5, completed=10.5
            ),
        ),
        logs=(events.LogEvent(vertex="d", stream=events.STDERR, data=b"\xffline\n", timestamp=10.5),),
        warnings=(events.WarningEvent(vertex="d", level=1, short="short", detail=("one", "\ufffd"), url="https://u"),),
    )


def test_from_wire_tells_unset_from_zero() -> None:
    """Times that the daemon did not send are `None`, not 1970."""
    response = control_pb2.StatusResponse(
        vertexes=[control_pb2.Vertex(digest="d", started=Timestamp())],
        statuses=[control_pb2.VertexStatus(ID="s")],
        logs=[control_pb2.VertexLog(vertex="d")],
    )

    update = events.from_wire(response)

    assert (0.0, None, None) == (update.vertexes[0].started, update.vertexes[0].completed, update.vertexes[0].group)
    assert (None, None) == (update.statuses[0].timestamp, update.logs[0].timestamp)
