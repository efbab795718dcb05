"""The progress of one build: a pure reducer over what the daemon says.

`Trace.apply` takes one update and the time at which it came, and tells what changed; painters show that. The trace
reads no clock, prints nothing, and gives the same vertices for the same events in whatever order they came
(protocol: buildkit `api/services/control`, Status; how vertices are to be shown: `util/progress/progressui`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from buildkit_builder.buildkit.api.events import LogEvent, StatusEvent, StatusUpdate, VertexEvent, WarningEvent
from buildkit_builder.buildkit.progress import limits
from buildkit_builder.buildkit.progress.loglines import LineAssembler, LogLine
from buildkit_builder.buildkit.progress.vertex import CANCELLED_ERROR, Vertex, VertexRecord, group_snapshot

TAIL_LINES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one update changed.

    Attributes:
        vertices: Vertices that look different now, and are to be shown.
        statuses: Parts that moved, each with the key of its vertex.
        lines: Log lines that ended.
        warnings: Warnings, with the key of the vertex they are shown under.
    """

    vertices: tuple[Vertex, ...] = ()
    statuses: tuple[tuple[str, StatusEvent], ...] = ()
    lines: tuple[LogLine, ...] = ()
    warnings: tuple[WarningEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many vertices there are: in all, finished, and how many of those were cached."""

    total: int = 0
    finished: int = 0
    cached: int = 0


class Trace:
    """What is known of one build, within the bounds of `limits`.

    Args:
        tail_lines: How many of a vertex's last log lines are kept.
    """

    def __init__(self, *, tail_lines: int = TAIL_LINES) -> None:
        self._tail_lines = tail_lines
        self._records: dict[str, VertexRecord] = {}
        self._members: dict[str, list[str]] = {}
        self._snapshots: dict[str, Vertex] = {}
        self._assemblers: dict[str, dict[int, LineAssembler]] = {}
        self._tails: dict[str, deque[LogLine]] = {}  # the vertex that printed last comes last
        self._tail_bytes = 0
        self._parts = 0
        self._warnings: list[WarningEvent] = []
        self._skew: float | None = None

    def apply(self, update: StatusUpdate, now: float) -> Changes:
        """Take in one update.

        Statuses, logs and warnings of vertices that were never announced are dropped, and so are vertices whose role is
        a quiet one, as long as nothing is wrong with them.

        Args:
            update: What the daemon said.
            now: When it came, in seconds of any clock that only goes forward.

        Returns:
            What is different now.
        """
        self._measure_skew(update, now)
        touched: dict[str, None] = {}
        for event in update.vertexes:
            if not _is_unseen(event):
                touched.update(dict.fromkeys(self._take_vertex(event)))
        statuses = tuple(self._take_statuses(update.statuses))
        touched.update(dict.fromkeys(key for key, _ in statuses))
        changed = tuple(self._refresh(touched))
        lines = [*islice(self._take_logs(update.logs), limits.LINES)]
        for vertex in changed:
            if vertex.finished:
                lines.extend(self._flush(vertex))
        warnings = [
            replace(limits.cut_warning(warning), vertex=self._key_of(warning.vertex))
            for warning in update.warnings
            if warning.vertex in self._records
        ][: max(0, limits.WARNINGS - len(self._warnings))]
        self._warnings.extend(warnings)
        return Changes(vertices=changed, statuses=statuses, lines=tuple(lines), warnings=tuple(warnings))

    def finish(self, now: float, *, failed: bool) -> Changes:
        """The build is over: close what the daemon left open, as cancelled if the build failed.

        Args:
            now: The present time, by the clock of `apply`.
            failed: Whether the build ended with an error.
        """
        at = self.daemon_time(now)
        touched: dict[str, None] = {}
        for record in self._records.values():
            if record.state == "running":
                record.close(at, CANCELLED_ERROR if failed else "")
                touched[self._key_of(record.digest)] = None
        changed = tuple(self._refresh(touched))
        lines = [line for vertex in self._snapshots.values() for line in self._flush(vertex)]
        return Changes(vertices=changed, lines=tuple(lines))

    @property
    def vertices(self) -> tuple[Vertex, ...]:
        """Vertices that started, in the order in which they did; members of a group are one vertex."""
        shown = [vertex for vertex in self._snapshots.values() if vertex.state != "waiting"]
        return tuple(sorted(shown, key=lambda vertex: vertex.started or 0.0))

    @property
    def failures(self) -> tuple[Vertex, ...]:
        """Vertices that failed, the one that failed first in front; cancelled ones are not among them."""
        failed = [vertex for vertex in self._snapshots.values() if vertex.state == "error"]
        return tuple(sorted(failed, key=lambda vertex: vertex.completed or 0.0))

    @property
    def warnings(self) -> tuple[WarningEvent, ...]:
        """All warnings, in the order in which they came."""
        return tuple(self._warnings)

    @property
    def counts(self) -> Counts:
        """How many vertices are known, those that have not started included, and how many of them are finished."""
        vertices = self._snapshots.values()
        return Counts(
            total=len(vertices),
            finished=sum(vertex.finished for vertex in vertices),
            cached=sum(vertex.state == "cached" for vertex in vertices),
        )

    def vertex(self, digest: str) -> Vertex | None:
        """The vertex of this digest, or the group that it is shown under; `None` if it was never announced."""
        return self._snapshots.get(self._key_of(digest))

    def daemon_time(self, now: float) -> float:
        """The daemon's time at `now`, as well as the events tell it; `now` itself before the first of them."""
        return now - self._skew if self._skew is not None else now

    def log_tail(self, digest: str, n: int) -> tuple[str, ...]:
        """The last `n` lines that the vertex printed, oldest first.

        A line that is being rewritten by carriage returns counts as the last, in its last whole state.
        """
        if n <= 0:
            return ()
        key = self._key_of(digest)
        lines = [line.text for line in self._tails.get(key, ())]
        rewritten = (assembler.current for assembler in self._assemblers.get(key, {}).values())
        lines += [current.decode("utf-8", "replace") for current in rewritten if current]
        return tuple(lines[-n:])

    def _measure_skew(self, update: StatusUpdate, now: float) -> None:
        """The daemon's clock is not ours: what it calls the latest moment was not after `now`."""
        times = [time for vertex in update.vertexes for time in (vertex.started, vertex.completed)]
        times += [time for event in update.statuses for time in (event.timestamp, event.started, event.completed)]
        times += [event.timestamp for event in update.logs]
        known = [time for time in times if time is not None]
        if known:
            skew = now - max(known)
            self._skew = skew if self._skew is None else min(self._skew, skew)

    def _key_of(self, digest: str) -> str:
        record = self._records.get(digest)
        group = record.latest.group if record is not None else None
        return group.id if group is not None else digest

    def _take_vertex(self, event: VertexEvent) -> Iterable[str]:
        """Returns the keys under which something may look different."""
        record = self._records.get(event.digest)
        before = self._key_of(event.digest) if record is not None else None
        if record is None:
            if len(self._records) >= limits.VERTICES or len(event.digest) > limits.DIGEST:
                return {}
            record = self._records[event.digest] = VertexRecord(event.digest)
        record.take(_with_start(limits.cut_vertex(event)))
        after = self._key_of(event.digest)
        if before is not None and before != after:
            self._members[before].remove(event.digest)
        members = self._members.setdefault(after, [])
        if event.digest not in members:
            members.append(event.digest)
        return {after if before is None else before: None, after: None}

    def _take_statuses(self, events: Iterable[StatusEvent]) -> Iterable[tuple[str, StatusEvent]]:
        for event in map(limits.cut_status, events):
            record = self._records.get(event.vertex)
            if record is None or (self._parts >= limits.PARTS and event.id not in record.statuses):
                continue
            self._parts += event.id not in record.statuses
            if record.take_status(event):
                yield self._key_of(event.vertex), event

    def _refresh(self, keys: Iterable[str]) -> Iterable[Vertex]:
        """Make the snapshots of these keys anew, and give those that are to be shown and look different."""
        for key in keys:
            members = [self._records[digest] for digest in self._members.get(key, ())]
            if not members:
                self._forget(key)
                continue
            grouped = members[0].latest.group is not None
            snapshot = group_snapshot(key, members) if grouped else members[0].snapshot()
            if snapshot != self._snapshots.get(key):
                self._snapshots[key] = snapshot
                if snapshot.state != "waiting":
                    yield snapshot

    def _forget(self, key: str) -> None:
        """Nothing is shown under this key any more."""
        self._members.pop(key, None)
        self._snapshots.pop(key, None)
        self._assemblers.pop(key, None)
        self._tail_bytes -= sum(len(line.data) for line in self._tails.pop(key, ()))

    def _take_logs(self, events: Iterable[LogEvent]) -> Iterable[LogLine]:
        for event in map(limits.cut_log, events):
            if event.vertex in self._records:
                key = self._key_of(event.vertex)
                assembler = self._assemblers.setdefault(key, {}).setdefault(event.stream, LineAssembler())
                yield from self._keep(key, event.stream, assembler.feed(event.data), event.timestamp)

    def _flush(self, vertex: Vertex) -> Iterable[LogLine]:
        for stream, assembler in self._assemblers.get(vertex.key, {}).items():
            yield from self._keep(vertex.key, stream, assembler.flush(), vertex.completed)

    def _keep(self, key: str, stream: int, lines: Iterable[bytes], timestamp: float | None) -> Iterable[LogLine]:
        tail = self._tails.pop(key, None)
        self._tails[key] = tail = deque() if tail is None else tail
        for data in lines:
            line = LogLine(vertex=key, stream=stream, data=data, timestamp=timestamp)
            tail.append(line)
            self._tail_bytes += len(data)
            if len(tail) > self._tail_lines:
                self._tail_bytes -= len(tail.popleft().data)
            yield line
        while self._tail_bytes > limits.TAIL_BYTES and len(self._tails) > 1:
            self._tail_bytes -= sum(len(line.data) for line in self._tails.pop(next(iter(self._tails))))


def _is_unseen(event: VertexEvent) -> bool:
    role = event.role
    failed = event.error and not event.error.rstrip().endswith(CANCELLED_ERROR)
    return role is not None and role.quiet and (role.attempt or not failed)


def _with_start(event: VertexEvent) -> VertexEvent:
    """A vertex that ended without ever having been said to start, ran for no time at all."""
    if event.started is None and event.completed is not None:
        return replace(event, started=event.completed)
    return event
