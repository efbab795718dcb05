"""Names of the user's steps are shown as they are, whatever they look like, and nothing in them is obeyed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from buildkit_builder.buildkit.api.events import VertexEvent
from buildkit_builder.buildkit.llb import Role
from buildkit_builder.buildkit.progress import Trace, choose, summarize
from buildkit_builder.buildkit.progress.display import Display
from tests.buildkit.progress.support import Clock, Terminal, log, update, vertex

DIGEST = f"sha256:{'5' * 64}"

# What people may call a step, and what of it is shown.
LITERAL = [
    "with_commands make (wheels)",
    "with_commands make (emulated)",
    "with_commands make (scripts emulated)",
    "with_commands make (POSTPONED)",
    "[quiet] with_commands make",
    "[optional] with_commands make",
    "[internal] load build context",
    "[auth] a/b:pull token for ghcr.io",
    "[linux/arm64] make",
    "[2/3] RUN make",
    "#1 ERROR: all is lost",
    "exporting to image",
    "importing cache manifest from reg.example.com/x",
    "resolve docker.io/library/python:3.11",
    f"sha256:{'a' * 64}",
    "local://context",
    "docker-image://docker.io/library/python:3.11",
    "CACHED",
    "DONE 0.0s",
    "naïve 漢字 🚀",
    "{name} %s [bold red]x[/bold red] :smile:",
]
CLEANED = {
    "make\nDONE": "make DONE",
    "make\r\n#9 ERROR": "make #9 ERROR",
    "\x1b[2J\x1b[31mred\x1b[0m": "red",
    "\x1b]0;title\x07make": "make",
    "a\u202egnp.exe": "agnp.exe",
    "bell\x07 \x9b1Ax": "bell x",
}
NAMES = {**dict.fromkeys(LITERAL), **CLEANED}


def _step(name: str, *, error: str = "", role: Role | None = None) -> VertexEvent:
    return replace(vertex(DIGEST, 1.0, 2.0, name=name, error=error), role=role or Role())


def _ended(display: Display, step: VertexEvent) -> None:
    display.update(update(replace(step, completed=None, error=""), log(DIGEST, b"hello\n")))
    display.update(update(step))
    display.refresh()
    display.done(RuntimeError(step.error) if step.error else None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", ["", "exit code: 2"])
def test_plain_shows_them_as_they_are(name: str, error: str) -> None:
    """A step that ends with an error is an ERROR, and one that does not is DONE."""
    stream = io.StringIO()
    _ended(choose("plain", stream, environ={}, clock=Clock()), _step(name, error=error))

    header, said, outcome = stream.getvalue().splitlines()
    assert f"#1 {NAMES[name] or name}" == header
    assert ("#1 0.000 hello", f"#1 ERROR: {error}" if error else "#1 DONE 1.0s") == (said, outcome)


@pytest.mark.parametrize("name", NAMES)
def test_quiet_shows_them_as_they_are(name: str) -> None:
    """In the line that says which step failed."""
    stream = io.StringIO()
    _ended(choose("quiet", stream, environ={}, clock=Clock()), _step(name, error="exit code: 2"))

    assert [f"{NAMES[name] or name} failed: exit code: 2", "    hello"] == stream.getvalue().splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_rawjson_has_them_as_they_are(name: str) -> None:
    """A program gets every character."""
    stream = io.StringIO()
    _ended(choose("rawjson", stream, environ={}, clock=Clock()), _step(name))

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {name} == {event["name"] for line in lines for event in line.get("vertexes", ())}


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal wide enough for all of them."""
    terminal = Terminal(120, 24)
    yield terminal
    terminal.close()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("error", "word"), [("", "DONE"), ("exit code: 2", "ERROR")])
def test_the_live_view_shows_them_as_they_are(terminal: Terminal, name: str, error: str, word: str) -> None:
    """On one row, beside what became of the step."""
    display = choose("tty", terminal.stream, environ={"TERM": "xterm"}, clock=Clock(), title="app")
    _ended(display, _step(name, error=error))

    rows = terminal.look()
    shown = (NAMES[name] or name).replace("🚀", "").replace("漢字", "")
    # The emulator keeps an empty cell behind each wide character.
    assert rows[1].replace("🚀", "").replace("漢字", "").startswith(f" => {shown}")
    assert [word, "1.0s"] == rows[1].split()[-2:]
    assert (["    hello"] if error else []) == rows[2:]


@pytest.mark.parametrize("name", ["", " ", "\n\n", "\x1b[2J", "\u200e"])
@pytest.mark.parametrize("role", [None, Role()])
def test_a_step_without_a_name_has_a_title(name: str, role: Role | None) -> None:
    """Where nothing of a name can be seen, the vertex is told from others by its digest."""
    stream = io.StringIO()
    _ended(choose("plain", stream, environ={}, clock=Clock()), replace(_step("x", role=role), name=name, role=role))

    assert "#1 step 555555555555" == stream.getvalue().splitlines()[0]


def test_a_very_long_name_is_cut(terminal: Terminal) -> None:
    """To one row of the live view, and to what a person would read elsewhere."""
    stream = io.StringIO()
    long = "x" * 100_000
    _ended(choose("plain", stream, environ={}, clock=Clock()), _step(long))
    _ended(choose("tty", terminal.stream, environ={"TERM": "xterm"}, clock=Clock()), _step(long))

    assert len(stream.getvalue()) < 3_000
    assert 2 == len(terminal.look())


def test_only_a_role_postpones() -> None:
    """An attempt that fails is no error, whatever it is called; a step of the user's that fails is one."""
    trace = Trace()
    trace.apply(
        update(
            replace(_step("with_pip_packages numpy", error="exit code: 75", role=Role(attempt=True)), digest="a"),
            replace(_step("with_commands make (wheels)", error="exit code: 2"), digest="b"),
        ),
        3.0,
    )

    assert {"a": "postponed", "b": "error"} == {vertex.key: vertex.state for vertex in trace.vertices}
    assert ["b"] == [vertex.key for vertex in trace.failures]


def test_what_is_quiet_is_seen_when_it_fails() -> None:
    """Nobody is left with a failed build of which every step is well."""
    trace = Trace()
    quiet = _step("how to install", role=Role(quiet=True))

    assert () == trace.apply(update(quiet), 3.0).vertices
    assert () == trace.apply(update(replace(quiet, error="rpc: context canceled")), 3.0).vertices
    assert ["error"] == [vertex.state for vertex in trace.apply(update(replace(quiet, error="no room")), 3.0).vertices]


def test_a_users_step_is_a_step_of_the_image() -> None:
    """It counts as one, even if it is named as the daemon's own work is."""
    trace = Trace()
    trace.apply(update(_step("exporting to image")), 3.0)

    assert 1 == summarize(trace, ref="app", seconds=1).steps_run


def test_words_of_ours_are_not_shown_as_the_command() -> None:
    """Of a step that runs a script of this package the error says only how it ended."""
    stream = io.StringIO()
    said = (
        'process "/bin/sh -c . /dev/buildkit-builder-packages; install git" did not complete successfully: exit code: 1'
    )
    _ended(choose("plain", stream, environ={}, clock=Clock()), _step("apt", error=said, role=Role(script=True)))

    assert "#1 ERROR: its command did not complete successfully: exit code: 1" == stream.getvalue().splitlines()[-1]
