from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from rich.live import Live

from buildkit_builder.buildkit.api.events import StatusEvent, WarningEvent
from buildkit_builder.buildkit.progress.tty import TtyScreen
from tests.buildkit.progress.support import Clock, Terminal, log, update, vertex

MakeTerminal = Callable[[int, int], Terminal]


@pytest.fixture
def make_terminal() -> Iterator[MakeTerminal]:
    """Makes terminals, and closes them."""
    made: list[Terminal] = []

    def make(columns: int, rows: int) -> Terminal:
        made.append(Terminal(columns, rows))
        return made[-1]

    yield make
    for terminal in made:
        terminal.close()


def _screen(terminal: Terminal, clock: Clock) -> TtyScreen:
    return TtyScreen(terminal.stream, environ={"TERM": "xterm-256color"}, clock=clock)


def test_what_a_person_sees_during_and_after_a_build(make_terminal: MakeTerminal) -> None:
    """Running steps show their parts and last lines; afterwards every step is one line with its outcome."""
    terminal, clock = make_terminal(64, 14), Clock()
    display = _screen(terminal, clock).display("my-image")
    base = "docker-image://docker.io/library/python:3.11@sha256:0123"

    display.update(update(vertex("a", 10.0, 10.2, name=base, cached=True), vertex("b", name="with_source_folder")))
    display.update(
        update(
            vertex("c", 11.0, name="with_pip_packages numpy, pandas"),
            log("c", b"\x1b[1mCollecting\x1b[0m numpy\n 10%\r 50%\r 6"),
            StatusEvent(id="sha256:0123456789abcdef", vertex="c", current=5_000_000, total=40_000_000, started=11.0),
        )
    )
    clock.forward(1.25)
    display.refresh()

    assert terminal.look() == [
        "[+] my-image 1.2s (1/3)",
        " => base image python:3.11                     CACHED      0.2s",
        " => with_pip_packages numpy, pandas    5.0 MB              1.2s",
        "    layer 0123456789ab       5.0 MB / 40.0 MB              1.2s",
        "    Collecting numpy",
        "     50%",
    ]
    assert terminal.cursor == (6, 0)

    clock.forward(1)
    display.update(
        update(
            vertex("c", 11.0, 13.0, name="with_pip_packages numpy, pandas"),
            vertex("b", 13.0, 13.5, name="with_source_folder"),
        )
    )
    display.done(None)

    assert terminal.look() == [
        "[+] my-image 2.2s (3/3)",
        " => base image python:3.11                     CACHED      0.2s",
        " => with_pip_packages numpy, pandas    5.0 MB  DONE        2.0s",
        " => with_source_folder                         DONE        0.5s",
    ]
    assert terminal.cursor == (4, 0)


def test_failed_step_keeps_its_log_on_the_screen(make_terminal: MakeTerminal) -> None:
    """What a failed step printed stays to be read, and the steps it stopped are marked."""
    terminal, clock = make_terminal(60, 24), Clock()
    display = _screen(terminal, clock).display("app")
    display.update(update(vertex("a", 1.0, name="with_commands make"), vertex("b", 1.0, name="with_apt_packages git")))
    display.update(update(log("a", b"".join(b"line %d\n" % number for number in range(12)))))
    display.update(
        update(
            vertex("a", 1.0, 2.0, name="with_commands make", error="exit code: 2"),
            WarningEvent(vertex="a", level=1, short="old syntax", detail=("use the new",)),
        )
    )
    display.refresh()
    display.done(RuntimeError("failed"))

    assert terminal.look() == [
        "[+] app 0.0s (2/2)",
        " => with_commands make                     ERROR       1.0s",
        *(f"    line {number}" for number in range(12)),
        " => with_apt_packages git                  CANCELED    1.0s",
        "warning: old syntax",
        "    use the new",
    ]


def test_only_the_view_is_repainted(make_terminal: MakeTerminal) -> None:
    """What was on the terminal before, and messages that come meanwhile, are never overwritten."""
    terminal, clock = make_terminal(50, 10), Clock()
    terminal.stream.write("$ flyte build\r\n")
    display = _screen(terminal, clock).display("app")
    for second in range(5):
        display.update(update(vertex("a", 1.0, name="with_pip_packages numpy"), log("a", b"line %d\n" % second)))
        display.refresh()
        clock.forward(1)
    display.log("using the cache of main")
    display.update(update(vertex("a", 1.0, 2.0, name="with_pip_packages numpy")))
    display.refresh()
    clock.forward(1)
    display.refresh()

    assert terminal.look() == [
        "$ flyte build",
        "using the cache of main",
        "[+] app 6.0s (1/1)",
        " => with_pip_packages numpy      DONE        1.0s",
    ]


def test_builds_share_one_view(make_terminal: MakeTerminal) -> None:
    """Each build has a section; one that is over stays above, with all its steps, and the others go on below."""
    terminal, clock = make_terminal(50, 12), Clock()
    screen = _screen(terminal, clock)
    one, two = screen.display("one"), screen.display("two")
    one.update(update(vertex("a", 1.0, name="with_apt_packages git")))
    two.update(update(vertex("a", 1.0, name="with_pip_packages numpy")))
    one.refresh()

    assert terminal.look() == [
        "[+] one 0.0s (0/1)",
        " => with_apt_packages git                    0.0s",
        "[+] two 0.0s (0/1)",
        " => with_pip_packages numpy                  0.0s",
    ]

    clock.forward(1)
    two.update(update(vertex("a", 1.0, 2.0, name="with_pip_packages numpy")))
    two.done(None)

    assert terminal.look() == [
        "[+] two 1.0s (1/1)",
        " => with_pip_packages numpy      DONE        1.0s",
        "[+] one 1.0s (0/1)",
        " => with_apt_packages git                    1.0s",
    ]
    one.done(None)
    assert terminal.look()[2:] == [
        "[+] one 1.0s (1/1)",
        " => with_apt_packages git        DONE        1.0s",
    ]


def test_view_fits_a_low_terminal(make_terminal: MakeTerminal) -> None:
    """More steps than rows do not scroll the view away: it stays whole and in place."""
    terminal, clock = make_terminal(50, 8), Clock()
    display = _screen(terminal, clock).display("app")
    for number in range(20):
        end = float(number + 2) if number < 19 else None
        display.update(update(vertex(f"v{number}", number + 1.0, end, name=f"step {number}")))
        display.refresh()
        clock.forward(1)
    display.refresh()

    assert terminal.look() == [
        "[+] app 20.0s (19/20)",
        " => 16 steps finished",
        " => step 16                      DONE        1.0s",
        " => step 17                      DONE        1.0s",
        " => step 18                      DONE        1.0s",
        " => step 19                                  2.0s",
    ]


def test_view_follows_the_width(make_terminal: MakeTerminal) -> None:
    """A window that is made wider shows more of each line."""
    terminal, clock = make_terminal(30, 10), Clock()
    display = _screen(terminal, clock).display("app")
    display.update(update(vertex("a", 1.0, name="with_pip_packages numpy, 漢字漢字")))
    display.refresh()

    assert terminal.look() == ["[+] app 0.0s (0/1)", " => with_pip_packages n… 0.0s"]

    terminal.resize(50, 10)
    clock.forward(1)
    display.refresh()

    assert terminal.look() == ["[+] app 1.0s (0/1)", " => with_pip_packages numpy, 漢字漢字        1.0s"]


def test_narrower_window_has_wrapped_what_was_painted(make_terminal: MakeTerminal) -> None:
    """After the window became narrower the view is cleared from where its wrapped first row now begins."""
    terminal, clock = make_terminal(40, 10), Clock()
    display = _screen(terminal, clock).display("app")
    display.update(update(vertex("a", 1.0, name="with_pip_packages numpy")))
    display.refresh()
    terminal.resize(20, 10)
    terminal.written = b""

    clock.forward(1)
    display.refresh()
    terminal.look()

    # One row of 18 columns and one of 39: three rows of at most 20.
    assert terminal.written.startswith(b"\r\x1b[3A\x1b[J")


@pytest.mark.parametrize("columns", [0, 1, 2, 5, 11])
def test_terminal_without_room(make_terminal: MakeTerminal, columns: int) -> None:
    """A terminal that says it has no columns is taken for a usual one, and one with very few is not overrun."""
    terminal, clock = make_terminal(columns, 10), Clock()
    display = _screen(terminal, clock).display("app")
    display.update(update(vertex("a", 1.0, name="with_pip_packages numpy"), log("a", "漢字漢字\n".encode())))
    display.refresh()
    display.done(None)

    rows = terminal.look()
    assert len(rows) <= 2
    assert rows[0].startswith("[")
    assert all(len(row) <= max(1, (columns or 80) - 1) for row in rows)


def test_paints_ten_times_a_second_at_most(make_terminal: MakeTerminal) -> None:
    """However often it is told to, the view is painted ten times a second at most."""
    terminal, clock = make_terminal(60, 10), Clock()
    display = _screen(terminal, clock).display("app")
    display.update(update(vertex("a", 1.0)))
    for _ in range(128):
        display.refresh()
        clock.forward(1 / 128)

    terminal.look()
    # 128 calls in one second by the clock, each frame begins at the left edge.
    assert 8 <= terminal.written.count(b"[+] app") <= 10


def test_view_that_has_not_changed_is_not_written_again() -> None:
    """When every build is over there is nothing to paint."""
    stream = io.StringIO()
    clock = Clock()
    display = TtyScreen(stream, environ={}, clock=clock).display("app")
    display.done(None)
    before = stream.getvalue()

    clock.forward(5)
    display.refresh()

    assert before == stream.getvalue()


def test_control_sequences_of_a_step_do_nothing(make_terminal: MakeTerminal) -> None:
    """A step that prints cursor movements cannot spoil the view."""
    terminal, clock = make_terminal(40, 10), Clock()
    terminal.stream.write("$ flyte build\r\n")
    display = _screen(terminal, clock).display("app")
    display.update(update(vertex("a", 1.0, name="evil\x1b[2J"), log("a", b"\x1b[2J\x1b[1;1Hboo\x07\x1b]0;t\x07\n")))
    display.refresh()

    assert terminal.look() == [
        "$ flyte build",
        "[+] app 0.0s (0/1)",
        " => evil                           0.0s",
        "    boo",
    ]


def test_colours_follow_the_environment() -> None:
    """There are colours on a capable terminal, and none where the user wants none."""

    def painted(environ: dict[str, str]) -> str:
        stream = io.StringIO()
        display = TtyScreen(stream, environ=environ, clock=Clock()).display("app")
        display.update(update(vertex("a", 1.0, 2.0, cached=True)))
        display.done(None)
        return stream.getvalue()

    assert "\x1b[36m => step a" in painted({"TERM": "xterm-256color"})
    assert "\x1b[36m" not in painted({"TERM": "xterm-256color", "NO_COLOR": "1"})


def test_ascii_stream_is_painted_in_ascii() -> None:
    """A terminal whose encoding is ASCII gets three dots for an ellipsis, and no error."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    display = TtyScreen(stream, environ={"NO_COLOR": "1"}, clock=Clock()).display("app")
    display.update(update(vertex("a", 1.0, name="with_commands " + "x" * 80), log("a", "naïve\n".encode())))
    display.refresh()

    assert b"xxx... " in raw.getvalue()
    assert b"na?ve" in raw.getvalue()


def test_spinner_of_the_command_line_does_no_harm(make_terminal: MakeTerminal) -> None:
    """Beside a rich spinner, which stands in for the stream meanwhile, the view stays whole, the spinner under it."""
    terminal, clock = make_terminal(40, 10), Clock()
    console = Console(file=terminal.stream, force_terminal=True, width=39, _environ={"TERM": "xterm"})
    with Live("Building...", console=console, auto_refresh=False, redirect_stderr=False, redirect_stdout=False) as live:
        proxy = type("FileProxy", (), {"rich_proxied_file": terminal.stream, "encoding": "utf-8"})()
        display = TtyScreen(proxy, environ={"TERM": "xterm"}, clock=clock).display("app")
        for number in range(3):
            display.update(update(vertex(f"v{number}", number + 1.0, number + 2.0)))
            live.refresh()
            display.refresh()
            live.refresh()
            clock.forward(1)
        seen = terminal.look()
        display.done(None)
        live.refresh()
        left = terminal.look()

    assert seen == [
        "[+] app 2.0s (3/3)",
        " => step v0            DONE        1.0s",
        " => step v1            DONE        1.0s",
        " => step v2            DONE        1.0s",
        "Building...",
    ]
    assert left == ["[+] app 3.0s (3/3)", *seen[1:]]


def test_what_others_print_stays_above_the_view(make_terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that other code prints on the same terminal are neither lost nor do they spoil the view."""
    terminal, clock = make_terminal(50, 10), Clock()
    monkeypatch.setattr("sys.stderr", terminal.stream)
    display = _screen(terminal, clock).display("app")
    display.update(update(vertex("a", 1.0, name="with_pip_packages numpy")))
    display.refresh()

    sys.stderr.write("image one is built\n")
    Console(stderr=True, force_terminal=True, _environ={"TERM": "xterm"}).print("[bold]and two[/bold]")
    sys.stderr.write("half")
    clock.forward(1)
    display.refresh()

    assert terminal.look() == [
        "image one is built",
        "and two",
        "[+] app 1.0s (0/1)",
        " => with_pip_packages numpy                  1.0s",
    ]
    assert sys.stderr.isatty()

    held = sys.stderr
    display.done(None)
    assert sys.stderr is terminal.stream
    print(" of it", file=held, flush=True)
    assert terminal.look()[2:] == [
        "[+] app 1.0s (1/1)",
        " => with_pip_packages numpy      DONE        1.0s",
        "half of it",
    ]


def test_streams_elsewhere_are_left_alone(make_terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is not the view's terminal is not touched."""
    terminal, elsewhere = make_terminal(50, 10), io.StringIO()
    monkeypatch.setattr("sys.stdout", elsewhere)
    monkeypatch.setattr("sys.stderr", make_terminal(50, 10).stream)
    other = sys.stderr
    display = _screen(terminal, Clock()).display("app")
    display.update(update(vertex("a", 1.0)))
    display.refresh()

    assert sys.stdout is elsewhere
    assert sys.stderr is other
    display.done(None)


def test_view_that_is_given_a_stand_in_paints_on_the_terminal(
    make_terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that begins while another holds the stream writes to the terminal and not to the other view."""
    terminal, clock = make_terminal(50, 10), Clock()
    monkeypatch.setattr("sys.stderr", terminal.stream)
    first = _screen(terminal, clock).display("first")
    first.refresh()
    second = TtyScreen(sys.stderr, environ={"TERM": "xterm"}, clock=clock).display("second")

    second.done(None)

    assert terminal.look() == ["[+] first 0.0s (0/0)", "[+] second 0.0s (0/0)"]
    first.done(None)
