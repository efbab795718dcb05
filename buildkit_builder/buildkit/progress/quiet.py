"""Nothing, unless the build fails."""

from __future__ import annotations

from typing import TextIO

from buildkit_builder.buildkit.api.events import StatusUpdate
from buildkit_builder.buildkit.progress.stream import Clock, Redact, Stream, cleaned, unchanged
from buildkit_builder.buildkit.progress.trace import Trace

_TAIL = 20


class QuietScreen:
    """A stream that only failed builds write to.

    Args:
        stream: Where they write.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, stream: TextIO | None, *, clock: Clock) -> None:
        self._output = Stream(stream)
        self._clock = clock

    def display(self, title: str = "", redact: Redact = unchanged) -> QuietDisplay:
        """Begin to follow a build; the title is printed with a failed step."""
        return QuietDisplay(self._output, self._clock, title, redact)


class QuietDisplay:
    """Follows one build, to say on failure which step failed and what it printed last."""

    def __init__(self, output: Stream, clock: Clock, title: str, redact: Redact) -> None:
        self._output = output
        self._clock = clock
        self._title = title
        self._redact = redact
        self._trace = Trace()
        self._done = False

    def update(self, update: StatusUpdate) -> None:
        """Remember what the daemon said."""
        self._trace.apply(update, self._clock())

    def log(self, text: str) -> None:
        """Nothing."""

    def refresh(self) -> None:
        """Nothing."""

    def done(self, error: BaseException | None) -> None:
        """Print the step that failed first and its last lines, if one did."""
        if self._done:
            return
        self._done = True
        self._trace.finish(self._clock(), failed=error is not None)
        failures = self._trace.failures
        if error is None or not failures:
            return
        failed = failures[0]
        title = f"[{self._title}] " if self._title else ""
        lines = [f"{title}{failed.title} failed: {failed.said}"]
        lines += [f"    {line}" for line in self._trace.log_tail(failed.key, _TAIL)]
        self._output.write("".join(f"{cleaned(line, self._redact)}\n" for line in lines))
