"""What other code prints on the terminal while a live view is shown there.

Left alone, it would be written below the view and overwritten by the next paint. So while the view is up, `sys.stdout`
and `sys.stderr` are replaced, where they are the same terminal, by stand-ins that hand whole lines to the view, which
prints them above itself. It is what `rich.live.Live` does, too.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO, cast

_NAMES = ("stdout", "stderr")


class StandIn:
    """Takes the place of a stream; hands on what is written line by line, and is the stream in all other respects."""

    def __init__(self, stream: TextIO, show: Callable[[str], None]) -> None:
        self.replaced = stream
        self._show: Callable[[str], None] | None = show
        self._pending = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Show the lines that this completes."""
        with self._lock:
            if self._show is None:
                return self.replaced.write(text)
            whole, end, rest = (self._pending + text).rpartition("\n")
            self._pending = rest
        if end:
            self._show(whole + end)
        return len(text)

    def flush(self) -> None:
        """Nothing to do for whole lines; half of one stays until its end comes."""
        if self._show is None:
            self.replaced.flush()

    def release(self) -> None:
        """Be only a name for the stream from now on, for whoever still holds this."""
        with self._lock:
            self._show, rest, self._pending = None, self._pending, ""
        if rest:
            self.replaced.write(rest)
            self.replaced.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.replaced, name)


class Bystanders:
    """Keeps the stand-ins in their places while a view is shown.

    Args:
        stream: The terminal.
        show: Prints whole lines above the view; may be called from any thread.
    """

    def __init__(self, stream: TextIO, show: Callable[[str], None]) -> None:
        self._stream = stream
        self._show = show
        self._placed: dict[str, StandIn] = {}

    def keep_aside(self) -> None:
        """Put the stand-ins in place, where they are not yet."""
        for name in _NAMES:
            current = getattr(sys, name)
            # A rich spinner has replaced the stream already, and puts it back itself.
            taken = isinstance(current, StandIn) or hasattr(current, "rich_proxied_file")
            if not taken and _same_terminal(current, self._stream):
                self._placed[name] = StandIn(current, self._show)
                setattr(sys, name, cast(TextIO, self._placed[name]))

    def let_go(self) -> None:
        """Give the streams back."""
        for name, stand_in in self._placed.items():
            if getattr(sys, name) is stand_in:
                setattr(sys, name, stand_in.replaced)
            stand_in.release()
        self._placed.clear()


def _same_terminal(one: TextIO | None, other: TextIO) -> bool:
    try:
        return one is not None and one.isatty() and os.fstat(one.fileno()).st_rdev == os.fstat(other.fileno()).st_rdev
    except (OSError, ValueError, AttributeError):
        return False
