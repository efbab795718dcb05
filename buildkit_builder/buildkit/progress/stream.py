"""The stream that a display writes to, and text made fit for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

from buildkit_builder.buildkit.terminal import printable

Redact = Callable[[str], str]
Clock = Callable[[], float]


def unchanged(text: str) -> str:
    """The redaction of a build that has no secrets."""
    return text


def cleaned(text: str, redact: Redact) -> str:
    """One line without secret values and without anything that a terminal would obey.

    Redaction comes before and after: a value may hold control characters, or be torn apart by some in the log.
    """
    return redact(printable(redact(text)))


class Stream:
    """Writes to a stream, whatever its encoding, and stops quietly when nobody reads it any more.

    A build does not fail because the terminal that showed it was closed, nor where there never was a stream (Python has
    `None` for standard error then), or one that somebody wrote and that can only be written to.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._closed = stream is None

    def write(self, text: str) -> None:
        """Write and flush; characters that the stream's encoding lacks become question marks."""
        if self._stream is None or self._closed or not text:
            return
        try:
            self._stream.write(text.encode(self._encoding, "replace").decode(self._encoding))
            if hasattr(self._stream, "flush"):
                self._stream.flush()
        except (OSError, ValueError):  # a broken pipe, or a closed file
            self._closed = True

    def can_write(self, text: str) -> bool:
        """Whether the stream's encoding has all these characters."""
        try:
            text.encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True

    def is_terminal(self) -> bool:
        """Whether a person's terminal is at the other end."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError, AttributeError):
            return False

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal; 80 and 24 where it does not say."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno() if self._stream is not None else -1)
        except (OSError, ValueError, AttributeError):
            return 80, 24
        return columns if columns > 0 else 80, rows if rows > 0 else 24
