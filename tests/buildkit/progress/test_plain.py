from __future__ import annotations

import io

from buildkit_builder.buildkit.api.events import StatusEvent, WarningEvent
from buildkit_builder.buildkit.progress.plain import PlainScreen
from tests.buildkit.progress.support import Clock, log, update, vertex

GOLDEN = """\
#1 base image python:3.11
#1 CACHED
#2 with_pip_packages numpy
#3 with_apt_packages git
#2 0.512 Collecting numpy
#2 0.700   Downloading
#2 WARNING: slow mirror
#2 WARNING:   it took long
#3 0.250 E: no such package
#3 ERROR: exit code: 100
#2 CANCELED
"""


def test_build_that_fails() -> None:
    """Every line has the number of its step, and says in plain words what happened to it."""
    stream, clock = io.StringIO(), Clock()
    display = PlainScreen(stream, clock=clock).display("image")

    display.update(update(vertex("a", 1.0, 1.0, name="docker-image://docker.io/library/python:3.11", cached=True)))
    display.update(update(vertex("b", 2.0, name="with_pip_packages numpy"), log("b", b"Collec", 2.3)))
    display.update(update(vertex("c", 2.25, name="with_apt_packages git"), log("b", b"ting numpy\n", 2.512)))
    display.update(
        update(
            log("b", b"\x1b[32m  Downloading\x1b[0m\n", 2.7),
            WarningEvent(vertex="b", level=1, short="slow mirror", detail=("it took long",)),
        )
    )
    display.update(
        update(
            log("c", b"E: no such package", 2.4),
            vertex("c", 2.25, 2.5, name="with_apt_packages git", error="exit code: 100"),
        )
    )
    display.done(RuntimeError("failed"))

    assert GOLDEN == stream.getvalue()


def test_duration_is_of_all_runs() -> None:
    """A step that ran twice says so again, with both runs added up."""
    stream = io.StringIO()
    display = PlainScreen(stream, clock=Clock()).display()

    display.update(update(vertex("a", 1.0)))
    display.update(update(vertex("a", 1.0, 1.5)))
    display.update(update(vertex("a", 1.0, 1.5), vertex("a", 3.0)))
    display.update(update(vertex("a", 3.0, 5.0)))

    assert stream.getvalue() == "#1 step a\n#1 DONE 0.5s\n#1 DONE 2.5s\n"


def test_status_is_printed_when_it_moved() -> None:
    """A part of a step is printed at first, after 5 %, after 5 seconds, and when it is complete, once."""
    stream, clock = io.StringIO(), Clock()
    display = PlainScreen(stream, clock=clock).display()

    def tell(current: int, *, completed: float | None = None) -> None:
        display.update(
            update(
                StatusEvent(
                    id="sha256:0123456789abcdef",
                    vertex="a",
                    current=current,
                    total=100_000_000,
                    started=1.0,
                    timestamp=1.0 + current / 1e8,
                    completed=completed,
                )
            )
        )

    display.update(update(vertex("a", 1.0)))
    tell(0)
    tell(4_000_000)
    tell(6_000_000)
    clock.forward(5)
    tell(7_000_000)
    tell(100_000_000, completed=3.0)
    tell(100_000_000, completed=3.5)

    assert stream.getvalue().splitlines() == [
        "#1 step a",
        "#1 layer 0123456789ab 0 B / 100.0 MB 0.0s",
        "#1 layer 0123456789ab 6.0 MB / 100.0 MB 0.1s",
        "#1 layer 0123456789ab 7.0 MB / 100.0 MB 0.1s",
        "#1 layer 0123456789ab 100.0 MB / 100.0 MB 2.0s done",
    ]


def test_part_without_size_is_printed_when_it_lasts() -> None:
    """What has no size is one line at its end, unless it takes more than a second."""
    stream, clock = io.StringIO(), Clock()
    display = PlainScreen(stream, clock=clock).display()

    def tell(name: str, completed: float | None = None) -> None:
        display.update(
            update(StatusEvent(id=name, vertex="a", started=1.0, timestamp=completed or 1.0, completed=completed))
        )

    display.update(update(vertex("a", 1.0, name="exporting to image")))
    tell("exporting layers")
    display.refresh()
    tell("exporting layers", 1.2)
    tell("pushing layers")
    clock.forward(1)
    display.refresh()
    display.refresh()
    tell("pushing layers", 4.0)

    assert stream.getvalue().splitlines() == [
        "#1 exporting the image",
        "#1 packing the layers 0.2s done",
        "#1 pushing the layers 0.0s",
        "#1 pushing the layers 3.0s done",
    ]


def test_several_builds_carry_their_titles() -> None:
    """Once a second build is shown, lines say which build they are of; a build on its own needs no title."""
    stream = io.StringIO()
    screen = PlainScreen(stream, clock=Clock())
    one = screen.display("one")
    one.update(update(vertex("a", 1.0)))
    two = screen.display("registry.example/two")
    two.log("hello\nworld")
    two.update(update(vertex("a", 1.0, 2.0)))
    one.done(None)
    two.done(None)
    screen.display("three").log("alone")

    assert stream.getvalue().splitlines() == [
        "#1 step a",
        "[two] hello",
        "[two] world",
        "[two] #1 step a",
        "[two] #1 DONE 1.0s",
        "[one] #1 DONE 0.0s",
        "alone",
    ]
