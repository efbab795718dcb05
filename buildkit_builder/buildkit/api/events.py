"""What a daemon tells of a build while it runs, as plain values.

Protocol: buildkit `api/services/control`, `solver/progress.go`. Digests are `sha256:…` strings; times are seconds since
1970, or `None` where the daemon has not said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit_builder.buildkit.api.timestamps import seconds
from buildkit_builder.buildkit.llb.role import Role

if TYPE_CHECKING:
    from buildkit_builder.buildkit.wire import control_pb2

STDOUT = 1
STDERR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressGroup:
    """Vertexes to be shown as one.

    Attributes:
        id: Shared by the members.
        name: What to show.
        weak: This member alone does not make the group appear.
    """

    id: str
    name: str
    weak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexEvent:
    """The newest state of one vertex; it is sent again on every change, and a vertex may run several times.

    Attributes:
        digest: Identifies the vertex.
        inputs: Digests of the vertexes it depends on.
        name: What to show.
        cached: Its result was in the cache.
        started: When this run began.
        completed: When this run ended.
        error: What went wrong, or the empty string.
        group: The group it is shown in, or `None`.
        role: What the build that is followed knows of it, or `None` for one that it did not name; no daemon says it.
    """

    digest: str
    inputs: tuple[str, ...] = ()
    name: str = ""
    cached: bool = False
    started: float | None = None
    completed: float | None = None
    error: str = ""
    group: ProgressGroup | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """Progress of one thing inside a vertex, for example one layer of a pull.

    Attributes:
        id: Unique within the vertex.
        vertex: Digest of the vertex.
        name: What is being done.
        current: Units done, most often bytes.
        total: Units in all; 0 where unknown.
        timestamp: When this was so.
        started: When it began.
        completed: When it ended.
    """

    id: str
    vertex: str
    name: str = ""
    current: int = 0
    total: int = 0
    timestamp: float | None = None
    started: float | None = None
    completed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """A piece of a vertex's output; it may begin and end within a line.

    Attributes:
        vertex: Digest of the vertex.
        stream: `STDOUT` or `STDERR`.
        data: The bytes.
        timestamp: When they were printed.
    """

    vertex: str
    stream: int
    data: bytes
    timestamp: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningEvent:
    """A warning about a vertex.

    Attributes:
        vertex: Digest of the vertex.
        level: Its weight; 1 is usual.
        short: One line.
        detail: More lines.
        url: Where to read on, or the empty string.
    """

    vertex: str
    level: int
    short: str
    detail: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUpdate:
    """One message of the status stream."""

    vertexes: tuple[VertexEvent, ...] = ()
    statuses: tuple[StatusEvent, ...] = ()
    logs: tuple[LogEvent, ...] = ()
    warnings: tuple[WarningEvent, ...] = ()


def from_wire(response: control_pb2.StatusResponse) -> StatusUpdate:
    """Read one message of `Control.Status`."""
    return StatusUpdate(
        vertexes=tuple(_vertex(vertex) for vertex in response.vertexes),
        statuses=tuple(
            StatusEvent(
                id=status.ID,
                vertex=status.vertex,
                name=status.name,
                current=status.current,
                total=status.total,
                timestamp=seconds(status.timestamp) if status.HasField("timestamp") else None,
                started=seconds(status.started) if status.HasField("started") else None,
                completed=seconds(status.completed) if status.HasField("completed") else None,
            )
            for status in response.statuses
        ),
        logs=tuple(
            LogEvent(
                vertex=log.vertex,
                stream=log.stream,
                data=log.msg,
                timestamp=seconds(log.timestamp) if log.HasField("timestamp") else None,
            )
            for log in response.logs
        ),
        warnings=tuple(
            WarningEvent(
                vertex=warning.vertex,
                level=warning.level,
                short=warning.short.decode("utf-8", "replace"),
                detail=tuple(line.decode("utf-8", "replace") for line in warning.detail),
                url=warning.url,
            )
            for warning in response.warnings
        ),
    )


def _vertex(vertex: control_pb2.Vertex) -> VertexEvent:
    group = None
    if vertex.HasField("progressGroup"):
        wire = vertex.progressGroup
        group = ProgressGroup(id=wire.id, name=wire.name, weak=wire.weak)
    return VertexEvent(
        digest=vertex.digest,
        inputs=tuple(vertex.inputs),
        name=vertex.name,
        cached=vertex.cached,
        started=seconds(vertex.started) if vertex.HasField("started") else None,
        completed=seconds(vertex.completed) if vertex.HasField("completed") else None,
        error=vertex.error,
        group=group,
    )
