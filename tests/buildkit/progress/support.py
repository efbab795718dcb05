"""A clock that is set by hand, a terminal that can be looked at, and short ways to say what a daemon says."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
from typing import TextIO

import pyte

from buildkit_builder.buildkit.api.events import (
    LogEvent,
    ProgressGroup,
    StatusEvent,
    StatusUpdate,
    VertexEvent,
    WarningEvent,
)

Event = VertexEvent | StatusEvent | LogEvent | WarningEvent


class Clock:
    """Stands still until it is told to move."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


def update(*events: Event) -> StatusUpdate:
    """One message with these events."""
    return StatusUpdate(
        vertexes=tuple(event for event in events if isinstance(event, VertexEvent)),
        statuses=tuple(event for event in events if isinstance(event, StatusEvent)),
        logs=tuple(event for event in events if isinstance(event, LogEvent)),
        warnings=tuple(event for event in events if isinstance(event, WarningEvent)),
    )


def vertex(
    digest: str,
    started: float | None = None,
    completed: float | None = None,
    *,
    name: str = "",
    cached: bool = False,
    error: str = "",
    group: ProgressGroup | None = None,
) -> VertexEvent:
    """A vertex event, named after its digest unless told otherwise."""
    return VertexEvent(
        digest=digest,
        name=name or f"step {digest}",
        started=started,
        completed=completed,
        cached=cached,
        error=error,
        group=group,
    )


def log(digest: str, data: bytes, timestamp: float | None = None, *, stream: int = 1) -> LogEvent:
    """A chunk of a step's output."""
    return LogEvent(vertex=digest, stream=stream, data=data, timestamp=timestamp)


class Terminal:
    """A real pseudo-terminal with an emulator at its other end.

    Attributes:
        stream: What a program writes to.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self._screen = pyte.Screen(columns, rows)
        self._emulator = pyte.ByteStream(self._screen)
        self.written = b""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """The person changes the window's size."""
        self.look()
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows or 24, columns or 80)

    def look(self) -> list[str]:
        """What the person sees: the rows, without the empty ones at the end."""
        self.stream.flush()
        # What was written to a pseudo-terminal can be read at once, so there is nothing to wait for.
        while select.select([self._master], [], [], 0)[0]:
            data = os.read(self._master, 65536)
            self.written += data
            self._emulator.feed(data)
        rows = [str(row).rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column of the cursor."""
        self.look()
        return self._screen.cursor.y, self._screen.cursor.x

    def close(self) -> None:
        """Hang up."""
        self.stream.close()
        os.close(self._master)
