from __future__ import annotations

import io

from buildkit_builder.buildkit.progress.quiet import QuietScreen
from tests.buildkit.progress.support import Clock, log, update, vertex


def test_success_is_silent() -> None:
    """A build that succeeds prints nothing at all."""
    stream = io.StringIO()
    display = QuietScreen(stream, clock=Clock()).display("image")

    display.log("hello")
    display.update(update(vertex("a", 1.0, 2.0), log("a", b"noise\n")))
    display.refresh()
    display.done(None)

    assert stream.getvalue() == ""


def test_failure_shows_the_step_and_what_it_printed_last() -> None:
    """A build that fails says which step failed first, and gives its last lines."""
    stream = io.StringIO()
    display = QuietScreen(stream, clock=Clock()).display("image")
    lines = "".join(f"line {number}\n" for number in range(50)).encode()

    display.update(update(vertex("a", 1.0), vertex("b", 1.0), log("b", lines)))
    display.update(update(vertex("b", 1.0, 2.0, name="with_commands make", error="exit code: 2")))
    display.done(RuntimeError("failed"))

    expected = ["[image] with_commands make failed: exit code: 2", *(f"    line {number}" for number in range(30, 50))]
    assert expected == stream.getvalue().splitlines()


def test_failure_without_a_failed_step_is_left_to_the_error() -> None:
    """Where no step failed there is nothing to add to the error that is raised."""
    stream = io.StringIO()
    display = QuietScreen(stream, clock=Clock()).display()

    display.update(update(vertex("a", 1.0)))
    display.done(RuntimeError("no connection"))

    assert stream.getvalue() == ""
