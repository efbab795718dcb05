"""How a build is shown: the protocol of displays, and the choice among them.

A `Screen` is one stream; each build that writes to it has a `Display` of its own, with a title. Displays have no
threads and no timers: whoever runs the build calls `refresh` about ten times a second, on the loop's own thread.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Protocol, TextIO

from buildkit_builder.buildkit.api.events import StatusUpdate
from buildkit_builder.buildkit.environment import is_ci
from buildkit_builder.buildkit.progress.stream import Clock, Redact, Stream, unchanged
from buildkit_builder.errors import ConfigError

MODES = ("auto", "tty", "plain", "rawjson", "quiet")


class Display(Protocol):
    """Shows one build."""

    def update(self, update: StatusUpdate) -> None:
        """Take in what the daemon said."""

    def log(self, text: str) -> None:
        """Show a message of ours that belongs to no step."""

    def refresh(self) -> None:
        """Paint what changed; cheap, to be called often."""

    def done(self, error: BaseException | None) -> None:
        """The build is over. Shows its last state; later calls do nothing."""


class Screen(Protocol):
    """A stream that any number of builds are shown on, at once or one after another."""

    def display(self, title: str = "", redact: Redact = unchanged) -> Display:
        """Begin to show a build.

        Args:
            title: What the build is called where there are several.
            redact: Takes the values of secrets out of a text; applied to everything that is shown.
        """


def mode_of(mode: str, stream: TextIO | None, *, environ: Mapping[str, str]) -> str:
    """Which way of showing is meant.

    Args:
        mode: One of `MODES`; `auto` is `tty` where a person watches a capable terminal, else `plain`.
        stream: Where it will be shown.
        environ: The environment: `TERM` and `CI` are looked at.

    Raises:
        ConfigError: There is no such mode.
    """
    if mode not in MODES:
        near = difflib.get_close_matches(mode.lower(), MODES, n=1, cutoff=0.4)
        advice = f" Did you mean `{near[0]}`?" if near else ""
        raise ConfigError(f"There is no progress mode `{mode}`; the modes are {', '.join(MODES)}.{advice}")
    if mode != "auto":
        return mode
    capable = environ.get("TERM", "") != "dumb" and not is_ci(environ)
    return "tty" if capable and Stream(stream).is_terminal() else "plain"


def open_screen(mode: str, stream: TextIO | None, *, environ: Mapping[str, str], clock: Clock) -> Screen:
    """The screen for several builds.

    Args:
        mode: One of `MODES`.
        stream: Where to write, usually standard error.
        environ: The environment: `TERM`, `CI`, `NO_COLOR` and `COLORTERM` are looked at.
        clock: Seconds of a clock that only goes forward, as `time.monotonic`.

    Raises:
        ConfigError: There is no such mode.
    """
    # Each painter is imported when it is chosen: rich is heavy, and CI never needs it.
    match mode_of(mode, stream, environ=environ):
        case "tty" if stream is not None:
            from buildkit_builder.buildkit.progress.tty import TtyScreen

            return TtyScreen(stream, environ=environ, clock=clock)
        case "rawjson":
            from buildkit_builder.buildkit.progress.rawjson import RawJsonScreen

            return RawJsonScreen(stream, clock=clock)
        case "quiet":
            from buildkit_builder.buildkit.progress.quiet import QuietScreen

            return QuietScreen(stream, clock=clock)
        case _:
            from buildkit_builder.buildkit.progress.plain import PlainScreen

            return PlainScreen(stream, clock=clock)


def choose(
    mode: str,
    stream: TextIO | None,
    *,
    environ: Mapping[str, str],
    clock: Clock,
    title: str = "",
    redact: Redact = unchanged,
) -> Display:
    """The display of a single build; see `open_screen` and `Screen.display` for the arguments.

    Raises:
        ConfigError: There is no such mode.
    """
    return open_screen(mode, stream, environ=environ, clock=clock).display(title, redact)
