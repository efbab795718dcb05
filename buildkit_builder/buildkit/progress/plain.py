"""Numbered lines for logs and CI: every line says which step it belongs to, and nothing is ever overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from buildkit_builder.buildkit.api.events import StatusEvent, StatusUpdate, WarningEvent
from buildkit_builder.buildkit.progress.loglines import LogLine
from buildkit_builder.buildkit.progress.phrasing import amount_of, human_seconds, plain_name, short_title
from buildkit_builder.buildkit.progress.stream import Clock, Redact, Stream, cleaned, unchanged
from buildkit_builder.buildkit.progress.trace import Changes, Trace
from buildkit_builder.buildkit.progress.vertex import Vertex

_STATUS_SECONDS = 5.0
_STATUS_SHARE = 0.05
# What has no size is mostly over in a moment: one line at its end is enough then.
_SIZELESS_SECONDS = 1.0


class PlainScreen:
    """A stream of lines that several builds may write to.

    Args:
        stream: Where the lines go.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, stream: TextIO | None, *, clock: Clock) -> None:
        self._output = Stream(stream)
        self._clock = clock
        self._open: list[PlainDisplay] = []

    def display(self, title: str = "", redact: Redact = unchanged) -> PlainDisplay:
        """Begin to show a build; its lines carry the title as soon as another build is shown beside it."""
        display = PlainDisplay(self, self._output, self._clock, title, redact)
        self._open.append(display)
        if len(self._open) > 1:
            for build in self._open:
                build.titled = True
        return display

    def close(self, display: PlainDisplay) -> None:
        """This build is over."""
        if display in self._open:
            self._open.remove(display)


@dataclass(frozen=True, slots=True)
class _Printed:
    """What was last printed about a part of a step."""

    current: int
    completed: bool
    at: float


class PlainDisplay:
    """The lines of one build.

    Attributes:
        titled: Each line begins with the build's title.
    """

    def __init__(self, screen: PlainScreen, output: Stream, clock: Clock, title: str, redact: Redact) -> None:
        self.titled = False
        self._screen = screen
        self._output = output
        self._clock = clock
        self._title = title
        self._redact = redact
        self._trace = Trace()
        self._numbers: dict[str, int] = {}
        self._outcomes: dict[str, str] = {}
        self._statuses: dict[tuple[str, str], _Printed] = {}
        self._held: dict[tuple[str, str], tuple[float, StatusEvent]] = {}
        self._done = False

    def update(self, update: StatusUpdate) -> None:
        """Print what is new."""
        if not self._done:
            now = self._clock()
            self._show(self._trace.apply(update, now), now)

    def log(self, text: str) -> None:
        """Print a message of ours that belongs to no step."""
        self._print(text.splitlines())

    def refresh(self) -> None:
        """Print what was held back because it might have been over in a moment, and was not."""
        now = self._clock()
        due = [status for since, status in self._held.values() if now - since >= _SIZELESS_SECONDS]
        self._print([line for status in due for line in self._status_line(status, now)])

    def done(self, error: BaseException | None) -> None:
        """Print the end of steps that the daemon left open."""
        if not self._done:
            self._done = True
            now = self._clock()
            self._show(self._trace.finish(now, failed=error is not None), now)
            self._screen.close(self)

    def _show(self, changes: Changes, now: float) -> None:
        lines: list[str] = []
        for vertex in changes.vertices:
            lines += self._header(vertex)
        for _, status in changes.statuses:
            lines += self._status_line(status, now)
        lines += [line for log in changes.lines for line in self._log_line(log)]
        lines += [line for warning in changes.warnings for line in self._warning(warning)]
        for vertex in changes.vertices:
            lines += self._outcome(vertex, now)
        self._print(lines)

    def _print(self, lines: list[str]) -> None:
        prefix = f"[{short_title(self._title)}] " if self.titled and self._title else ""
        self._output.write("".join(f"{cleaned(prefix + line, self._redact).rstrip()}\n" for line in lines))

    def _header(self, vertex: Vertex) -> list[str]:
        """The first line of a step, which gives it its number."""
        if vertex.key in self._numbers:
            return []
        number = self._numbers[vertex.key] = len(self._numbers) + 1
        return [f"#{number} {vertex.title}"]

    def _outcome(self, vertex: Vertex, now: float) -> list[str]:
        """How a step ended; again only if it ran again and that changed something."""
        if not vertex.finished:
            return []
        match vertex.state:
            case "cached":
                text = "CACHED"
            case "cancelled":
                text = "CANCELED"
            case "postponed":
                text = "POSTPONED"
            case "error":
                text = f"ERROR: {vertex.said}"
            case _:
                text = f"DONE {human_seconds(vertex.seconds(self._trace.daemon_time(now)))}"
        if self._outcomes.get(vertex.key) == text:
            return []
        self._outcomes[vertex.key] = text
        return [f"#{self._numbers[vertex.key]} {text}"]

    def _log_line(self, line: LogLine) -> list[str]:
        vertex = self._trace.vertex(line.vertex)
        if vertex is None:
            return []
        header = self._header(vertex)
        since = max(0.0, line.timestamp - vertex.started) if line.timestamp and vertex.started else 0.0
        return [*header, f"#{self._numbers[vertex.key]} {since:.3f} {line.text}"]

    def _warning(self, warning: WarningEvent) -> list[str]:
        vertex = self._trace.vertex(warning.vertex)
        if vertex is None:
            return []
        header = self._header(vertex)
        mark = f"#{self._numbers[vertex.key]} WARNING:"
        more = [*warning.detail, *([warning.url] if warning.url else [])]
        return [*header, f"{mark} {warning.short}", *(f"{mark}   {line}" for line in more)]

    def _status_line(self, status: StatusEvent, now: float) -> list[str]:
        """A part of a step: again after 5 % of its size, after 5 seconds, and when it is complete."""
        vertex = self._trace.vertex(status.vertex)
        number = self._numbers.get(vertex.key) if vertex is not None else None
        if number is None:
            return []
        identity = (status.vertex, status.id)
        completed = status.completed is not None
        if status.total == 0 and not completed and identity not in self._statuses:
            since, _ = self._held.get(identity, (now, status))
            self._held[identity] = (since, status)
            if now - since < _SIZELESS_SECONDS:
                return []
        if not _is_due(status, self._statuses.get(identity), now):
            return []
        self._held.pop(identity, None)
        self._statuses[identity] = _Printed(current=status.current, completed=completed, at=now)
        words = [plain_name(status.name or status.id), amount_of(status.current, status.total)]
        if status.started is not None:
            end = status.completed if status.completed is not None else status.timestamp
            words.append(human_seconds((end or status.started) - status.started))
        words.append("done" if completed else "")
        return [f"#{number} {' '.join(word for word in words if word)}"]


def _is_due(status: StatusEvent, printed: _Printed | None, now: float) -> bool:
    if printed is None:
        return True
    if printed.completed:
        return False
    if status.completed is not None or now - printed.at >= _STATUS_SECONDS:
        return True
    return status.total > 0 and status.current - printed.current >= _STATUS_SHARE * status.total
