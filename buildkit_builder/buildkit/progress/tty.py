"""The live view for a terminal: one section per build, one line per step, the last log lines of running steps."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TextIO, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from buildkit_builder.buildkit.api.events import StatusEvent, StatusUpdate, WarningEvent
from buildkit_builder.buildkit.progress.bystanders import Bystanders, StandIn
from buildkit_builder.buildkit.progress.live_lines import Block, Line, Section, fit, whole
from buildkit_builder.buildkit.progress.phrasing import amount_of, human_bytes, human_seconds, plain_name, short_title
from buildkit_builder.buildkit.progress.stream import Clock, Redact, Stream, cleaned, unchanged
from buildkit_builder.buildkit.progress.trace import Trace
from buildkit_builder.buildkit.progress.vertex import State, Vertex

PAINT_INTERVAL = 0.1
LIVE_LOG_LINES = 6
FAILED_LOG_LINES = 20

_STATES: Mapping[State, tuple[str, str]] = {
    "waiting": ("", ""),
    "running": ("", ""),
    "done": ("DONE", "green"),
    "cached": ("CACHED", "cyan"),
    "error": ("ERROR", "bold red"),
    "cancelled": ("CANCELED", "yellow"),
    "postponed": ("POSTPONED", "yellow"),
}


class TtyScreen:
    """A terminal on which all builds of the process share one live view.

    What is finished is printed once and scrolls away; what runs is repainted in place below it. The cursor rests on
    the line under the view, so that another program's spinner on that line does no harm.

    Args:
        stream: The terminal.
        environ: The environment: `TERM`, `COLORTERM` and `NO_COLOR` say what colours there are.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, stream: TextIO, *, environ: Mapping[str, str], clock: Clock) -> None:
        # A rich spinner that is shown meanwhile (Flyte's command line does) puts a proxy in the place of
        # sys.stderr that would print our cursor movements as text.
        if isinstance(stream, StandIn):
            stream = stream.replaced
        terminal = cast(TextIO, getattr(stream, "rich_proxied_file", stream))
        self._output = Stream(terminal)
        self._bystanders = Bystanders(terminal, self._show_above)
        # Other code prints from its own threads.
        self._lock = threading.RLock()
        self._clock = clock
        self._console = Console(
            file=terminal,
            force_terminal=True,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
            _environ=dict(environ),
        )
        self._ellipsis = "…" if self._output.can_write("…") else "..."
        self._builds: list[TtyDisplay] = []
        self._painted: list[str] = []
        self._painted_at: float | None = None
        self._painting = 0.0

    def display(self, title: str = "", redact: Redact = unchanged) -> TtyDisplay:
        """Begin to show a build, in a section of its own."""
        build = TtyDisplay(self, self._clock, title, redact)
        self._builds.append(build)
        return build

    def refresh(self) -> None:
        """Paint, unless that was done less than a tenth of a second ago."""
        now = self._clock()
        # A view that takes long to paint, of thousands of steps, must not leave the build without time.
        if self._painted_at is None or now - self._painted_at >= max(PAINT_INTERVAL, 4 * self._painting):
            self.paint()
            self._painting = self._clock() - now

    def paint(self, above: Sequence[Line] = (), foreign: str = "") -> None:
        """Paint the view now.

        Args:
            above: Lines that are printed once, above the view, and stay.
            foreign: Whole lines of somebody else, printed there as they are.
        """
        with self._lock:
            self._paint(above, foreign)

    def _paint(self, above: Sequence[Line], foreign: str) -> None:
        self._painted_at = self._clock()
        columns, rows = self._output.size()
        # One column stays free: a full row makes some terminals wrap, and then the rows cannot be counted.
        width = max(1, columns - 1)
        several = len(self._builds) > 1
        sections = [build.section(brief=several) for build in self._builds]
        # One row is the cursor's, one stays free for a shell's or another program's line.
        live = [self._fitted(line, width) for line in fit(sections, rows - 2)]
        kept = [self._fitted(line, width) for line in above]
        plain = [text.plain for text in live]
        if plain == self._painted and not kept and not foreign:
            return
        height = 0 if foreign else len(live) + len(kept)
        erasure = self._erasure(columns, rows, height)
        self._output.write(erasure + foreign + self._rendered([*kept, *live], width))
        self._painted = plain
        if live:
            self._bystanders.keep_aside()
        else:
            self._bystanders.let_go()

    def _show_above(self, lines: str) -> None:
        self.paint(foreign=lines)

    def close(self, build: TtyDisplay, above: Sequence[Line]) -> None:
        """This build is over: print its last state and take it out of the view."""
        if build in self._builds:
            self._builds.remove(build)
            self.paint(above)

    def _erasure(self, columns: int, rows: int, height: int) -> str:
        """What brings the cursor to the top of the view, and clears it if the next one will not cover it.

        A terminal that became narrower has wrapped the rows painted before.
        """
        painted = [max(1, -(-cell_len(line) // columns)) for line in self._painted]
        up = min(sum(painted), max(0, rows - 1))
        covered = height >= up and sum(painted) == len(painted)
        return "\r" + (f"\x1b[{up}A" if up else "") + ("" if covered else "\x1b[J")

    def _rendered(self, lines: Sequence[Text], width: int) -> str:
        parts: list[str] = []
        self._console.width = width
        for line in lines:
            with self._console.capture() as capture:
                self._console.print(line, end="", no_wrap=True, crop=False, overflow="ignore")
            parts.append(f"\x1b[2K{capture.get()}\n")
        return "".join(parts)

    def _fitted(self, line: Line, width: int) -> Text:
        """The line as wide as the row: the left part cut or padded, the right part whole if it leaves room."""
        right = line.right if cell_len(line.right) + 12 <= width else ""
        room = width - cell_len(right) - (1 if right else 0)
        left = self._cut(line.left, room)
        text = Text(left, style=line.style)
        if right:
            text.append(" " * (room - cell_len(left) + 1))
            text.append(right)
        return text

    def _cut(self, text: str, width: int) -> str:
        if cell_len(text) <= width:
            return text
        mark = self._ellipsis if width > cell_len(self._ellipsis) else ""
        return set_cell_size(text, max(0, width - cell_len(mark))).rstrip() + mark


class TtyDisplay:
    """One build's section of the live view."""

    def __init__(self, screen: TtyScreen, clock: Clock, title: str, redact: Redact) -> None:
        self._screen = screen
        self._clock = clock
        self._title = title
        self._redact = redact
        self._trace = Trace()
        self._began = clock()
        self._done = False

    def update(self, update: StatusUpdate) -> None:
        """Take in what the daemon said; it is painted by the next `refresh`."""
        if not self._done:
            self._trace.apply(update, self._clock())

    def log(self, text: str) -> None:
        """Print a message of ours above the view."""
        self._screen.paint([Line(left=self._cleaned(line)) for line in text.splitlines()])

    def refresh(self) -> None:
        """Paint all builds of the screen, ten times a second at most."""
        self._screen.refresh()

    def done(self, error: BaseException | None) -> None:
        """Leave the last state of all steps on the screen, with more of the log of those that failed."""
        if self._done:
            return
        self._done = True
        self._trace.finish(self._clock(), failed=error is not None)
        warnings = [line for warning in self._trace.warnings for line in self._warning(warning)]
        self._screen.close(self, [*whole(self.section()), *warnings])

    def section(self, *, brief: bool = False) -> Section:
        """The build's present state, not yet cut to any size.

        Args:
            brief: Whether its title is to be short.
        """
        now = self._clock()
        counts = self._trace.counts
        title = self._cleaned(short_title(self._title) if brief else self._title) or "building"
        header = Line(
            left=f"[+] {title} {human_seconds(now - self._began)} ({counts.finished}/{counts.total})", style="bold blue"
        )
        at = self._trace.daemon_time(now)
        return Section(header=header, blocks=tuple(self._block(vertex, at) for vertex in self._trace.vertices))

    def _block(self, vertex: Vertex, at: float) -> Block:
        word, style = _STATES[vertex.state]
        right = f"{_bytes_of(vertex):>10}  {word:<8} {human_seconds(vertex.seconds(at)):>7}"
        head = Line(left=f" => {self._cleaned(vertex.title)}", right=right.lstrip(), style=style)
        running, failed = vertex.state == "running", vertex.state == "error"
        logs = self._trace.log_tail(vertex.key, LIVE_LOG_LINES if not self._done else FAILED_LOG_LINES)
        return Block(
            head=head,
            active=running or failed,
            cached=vertex.state == "cached",
            parts=tuple(self._part(status, at) for status in vertex.statuses if running and status.completed is None),
            logs=tuple(Line(left=f"    {self._cleaned(line)}", style="dim") for line in logs if running or failed),
        )

    def _part(self, status: StatusEvent, at: float) -> Line:
        amount = amount_of(status.current, status.total)
        since = human_seconds(at - status.started) if status.started is not None else ""
        return Line(
            left=f"    {self._cleaned(plain_name(status.name or status.id))}",
            right=f"{amount}  {'':<8} {since:>7}".strip(),
            style="dim",
        )

    def _warning(self, warning: WarningEvent) -> list[Line]:
        more = [*warning.detail, *([warning.url] if warning.url else [])]
        texts = [f"warning: {warning.short}", *(f"    {line}" for line in more)]
        return [Line(left=self._cleaned(text), style="yellow") for text in texts]

    def _cleaned(self, text: str) -> str:
        return cleaned(text, self._redact)


def _bytes_of(vertex: Vertex) -> str:
    """All bytes that the parts of a vertex have moved; empty where none did."""
    total = sum(status.current for status in vertex.statuses)
    return human_bytes(total) if total else ""
