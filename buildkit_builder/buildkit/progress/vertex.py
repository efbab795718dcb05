"""One line of the progress view, as a value, and how it follows from what the daemon said of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from buildkit_builder.buildkit.api.events import StatusEvent, VertexEvent
from buildkit_builder.buildkit.llb.role import Role
from buildkit_builder.buildkit.progress.limits import RUNS
from buildkit_builder.buildkit.progress.phrasing import is_internal, plain_name
from buildkit_builder.buildkit.terminal import printable

State = Literal["waiting", "running", "done", "cached", "error", "cancelled", "postponed"]
CANCELLED_ERROR = "context canceled"
# How daemons wrap the failure of a command in its own text.
_PROCESS = re.compile(r'process ".*" did not complete', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One run of a vertex; `completed` is `None` while it runs. Seconds by the daemon's clock."""

    started: float
    completed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """A vertex, or a group of them, at one moment.

    Attributes:
        key: The vertex's digest, or the group's id.
        name: As the build calls it that is followed, or else the daemon.
        state: `waiting` until it first starts; `cancelled` when it was stopped because of something else;
            `postponed` when it was tried ahead of what it turned out to need.
        error: What went wrong, for the states `error`, `cancelled` and `postponed`.
        intervals: When it ran: in order, not overlapping.
        statuses: Its parts, in the order in which they appeared.
        digests: Digests of the vertices it stands for.
        inputs: Digests of the vertices it needs.
        is_group: It stands for a progress group.
        role: What the build knows of it; `None` for one that is the daemon's, or a frontend's.
    """

    key: str
    name: str
    state: State
    error: str = ""
    intervals: tuple[Interval, ...] = ()
    statuses: tuple[StatusEvent, ...] = ()
    digests: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    is_group: bool = False
    role: Role | None = None

    @property
    def title(self) -> str:
        """What it is called in front of the user: a name that the build gave it is left as it is."""
        name = plain_name(self.name) if self.role is None else self.name
        return name if printable(name).strip() else f"step {self.key.removeprefix('sha256:')[:12]}"

    @property
    def is_internal(self) -> bool:
        """It is the daemon's own work and no step of the image."""
        return self.role is None and is_internal(self.name)

    @property
    def said(self) -> str:
        """What went wrong, without a command that nobody but this package wrote."""
        if self.role is not None and self.role.script:
            return _PROCESS.sub("its command did not complete", self.error)
        return self.error

    @property
    def finished(self) -> bool:
        """It ran and does not run any more."""
        return self.state not in ("waiting", "running")

    @property
    def started(self) -> float | None:
        """When it first started, by the daemon's clock."""
        return self.intervals[0].started if self.intervals else None

    @property
    def completed(self) -> float | None:
        """When its last run ended, by the daemon's clock; `None` while it runs."""
        return self.intervals[-1].completed if self.intervals else None

    def seconds(self, at: float) -> float:
        """How long it ran up to `at` (daemon's clock), all its runs together."""
        ends = [(run.started, at if run.completed is None else run.completed) for run in self.intervals]
        return sum((max(0.0, end - start) for start, end in ends), 0.0)


class VertexRecord:
    """All that was said of one digest.

    Taking in an event is commutative and idempotent: what results depends on which events came, not on their order.
    """

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.latest = VertexEvent(digest=digest)
        self.runs: dict[float, float | None] = {}
        self.statuses: dict[str, StatusEvent] = {}

    def take(self, event: VertexEvent) -> None:
        """Take in one event of this digest."""
        if event.started is not None and (event.started in self.runs or len(self.runs) < RUNS):
            known = self.runs.get(event.started)
            ends = [end for end in (known, event.completed) if end is not None]
            self.runs[event.started] = max(ends) if ends else None
        if _recency(event) > _recency(self.latest):
            self.latest = event

    def take_status(self, event: StatusEvent) -> bool:
        """Take in how far one part is; returns whether that was news."""
        known = self.statuses.get(event.id)
        if known is not None and _status_recency(event) <= _status_recency(known):
            return False
        self.statuses[event.id] = event
        return True

    def close(self, at: float, error: str) -> None:
        """End a run that the daemon left open."""
        if self.state == "running":
            latest = self.latest
            self.take(
                VertexEvent(
                    digest=self.digest,
                    inputs=latest.inputs,
                    name=latest.name,
                    started=latest.started,
                    completed=max(at, latest.started or at),
                    error=error,
                    group=latest.group,
                    role=latest.role,
                )
            )

    @property
    def state(self) -> State:
        """What its latest run came to."""
        latest = self.latest
        if latest.started is None:
            return "waiting"
        if latest.completed is None:
            return "running"
        if latest.error.rstrip().endswith(CANCELLED_ERROR):
            return "cancelled"
        if latest.error:
            return "postponed" if latest.role is not None and latest.role.attempt else "error"
        return "cached" if latest.cached else "done"

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """Its runs. An earlier run whose end was never told ended with the latest."""
        end = self.latest.completed
        return merged(
            Interval(started=started, completed=completed if completed is not None else end)
            for started, completed in self.runs.items()
        )

    def snapshot(self) -> Vertex:
        """Its present state as a value."""
        return Vertex(
            key=self.digest,
            name=self.latest.name,
            state=self.state,
            error=self.latest.error,
            intervals=self.intervals,
            statuses=tuple(self.statuses.values()),
            digests=(self.digest,),
            inputs=self.latest.inputs,
            role=self.latest.role,
        )


def group_snapshot(key: str, members: Sequence[VertexRecord]) -> Vertex:
    """The vertex that stands for all members of a progress group.

    It is hidden (`waiting`) until a member starts that is not weak, cached only when all are, and fails with the
    error of the member that failed first.
    """
    begun = [member for member in members if member.state != "waiting"]
    failed = [member for member in begun if member.state == "error"]
    states = {member.state for member in begun}
    first = min(failed, key=lambda member: (member.latest.completed or 0.0, member.digest), default=None)
    names = sorted({member.latest.group.name for member in members if member.latest.group})
    return Vertex(
        key=key,
        name=next((name for name in names if name), key),
        state=_group_state(states, shown=any(not _is_weak(member) for member in begun)),
        error=first.latest.error if first else CANCELLED_ERROR if "cancelled" in states else "",
        intervals=merged(interval for member in begun for interval in member.intervals),
        statuses=tuple(status for member in members for status in member.statuses.values()),
        digests=tuple(member.digest for member in members),
        inputs=tuple(dict.fromkeys(digest for member in members for digest in member.latest.inputs)),
        is_group=True,
    )


def merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Intervals in order, those that overlap or touch joined into one."""
    result: list[Interval] = []
    for interval in sorted(intervals, key=lambda item: item.started):
        last = result[-1] if result else None
        if last is None or (last.completed is not None and last.completed < interval.started):
            result.append(interval)
        elif last.completed is not None:
            open_ended = interval.completed is None
            completed = None if open_ended else max(last.completed, interval.completed or last.completed)
            result[-1] = Interval(started=last.started, completed=completed)
    return tuple(result)


def _group_state(states: set[State], *, shown: bool) -> State:
    if not shown:
        return "waiting"
    order: tuple[State, ...] = ("error", "running", "cancelled", "postponed", "done", "cached")
    return next(state for state in order if state in states)


def _is_weak(record: VertexRecord) -> bool:
    return record.latest.group is not None and record.latest.group.weak


def _recency(event: VertexEvent) -> tuple[object, ...]:
    """Sorts the events of one digest: by run, then by its end; the rest only makes the order total."""
    group = event.group
    return (
        event.started is not None,
        event.started or 0.0,
        event.completed is not None,
        event.completed or 0.0,
        event.error,
        event.cached,
        event.name,
        event.inputs,
        (group.id, group.name, group.weak) if group else ("", "", False),
    )


def _status_recency(event: StatusEvent) -> tuple[object, ...]:
    return (
        event.timestamp is not None,
        event.timestamp or 0.0,
        event.completed is not None,
        event.completed or 0.0,
        event.current,
        event.total,
        event.started is not None,
        event.started or 0.0,
        event.name,
    )
