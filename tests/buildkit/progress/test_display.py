from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from buildkit_builder.buildkit.progress import MODES, choose
from buildkit_builder.buildkit.progress.display import mode_of, open_screen
from buildkit_builder.buildkit.progress.plain import PlainDisplay
from buildkit_builder.buildkit.progress.quiet import QuietDisplay
from buildkit_builder.buildkit.progress.rawjson import RawJsonDisplay
from buildkit_builder.buildkit.progress.tty import TtyDisplay
from buildkit_builder.errors import ConfigError
from tests.buildkit.progress.support import Clock, Terminal, log, update, vertex


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of the usual size."""
    terminal = Terminal(80, 24)
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    ("expected", "environ"),
    [
        ("tty", {"TERM": "xterm-256color"}),
        ("tty", {}),
        ("tty", {"TERM": "xterm", "CI": "false"}),
        ("plain", {"TERM": "dumb"}),
        ("plain", {"TERM": "xterm", "CI": "true"}),
    ],
)
def test_auto_on_a_terminal(terminal: Terminal, expected: str, environ: dict[str, str]) -> None:
    """A person at a capable terminal gets the live view, CI and dumb terminals get lines."""
    assert expected == mode_of("auto", terminal.stream, environ=environ)


def test_auto_on_a_pipe() -> None:
    """Where nobody watches, lines are printed."""
    assert mode_of("auto", io.StringIO(), environ={"TERM": "xterm"}) == "plain"


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("tty", TtyDisplay), ("plain", PlainDisplay), ("rawjson", RawJsonDisplay), ("quiet", QuietDisplay)],
)
def test_mode_is_obeyed(mode: str, kind: type) -> None:
    """A mode that is named is used whatever the stream is."""
    display = choose(mode, io.StringIO(), environ={"CI": "1"}, clock=Clock())

    assert kind is type(display)


@pytest.mark.parametrize(("mode", "near"), [("tyy", "tty"), ("PLAIN", "plain"), ("json", "rawjson")])
def test_unknown_mode_names_the_nearest(mode: str, near: str) -> None:
    """A misspelt mode is answered with the one that was meant, and all there are."""
    with pytest.raises(ConfigError, match=f"no progress mode `{mode}`.*Did you mean `{near}`"):
        choose(mode, io.StringIO(), environ={}, clock=Clock())


def test_unknown_mode_that_is_like_none() -> None:
    """A mode that resembles none is answered with the list."""
    with pytest.raises(ConfigError, match=r"auto, tty, plain, rawjson, quiet\.$"):
        choose("xxxxxxxx", io.StringIO(), environ={}, clock=Clock())


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_shown(mode: str) -> None:
    """Names, log lines split into chunks, errors and messages are redacted in every mode."""
    stream = io.StringIO()
    screen = open_screen(mode, stream, environ={}, clock=Clock())
    display = screen.display("hunter2", lambda text: text.replace("hunter2", "***"))

    display.log("hello hunter2")
    display.update(update(vertex("a", 1.0, name="use hunter2"), log("a", b"pass hun"), log("a", b"ter2 \r ok hunt")))
    display.refresh()
    display.update(update(log("a", b"er2\n"), vertex("a", 1.0, 2.0, name="use hunter2", error="bad hunter2")))
    display.refresh()
    display.done(RuntimeError("no hunter2"))

    assert "***" in stream.getvalue()
    assert "hunt" not in stream.getvalue()


@pytest.mark.parametrize("mode", MODES)
def test_done_is_said_once(mode: str) -> None:
    """What comes after the end of a build changes nothing on the screen."""
    stream = io.StringIO()
    display = choose(mode, stream, environ={}, clock=Clock())
    display.update(update(vertex("a", 1.0, 2.0)))
    display.done(None)
    before = stream.getvalue()

    display.done(RuntimeError())
    display.update(update(vertex("b", 3.0, 4.0)))
    display.refresh()

    assert before == stream.getvalue()
