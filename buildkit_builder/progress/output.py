"""The stream that a display writes to, and text made fit for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TextIO

Redact = Callable[[str], str]

_ESCAPE_SEQUENCES = re.compile(
    r"""
    (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]?                  # CSI: colours, cursor movements
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f]) [^\x07\x1b\x9c]* (?:\x07|\x1b\\|\x9c)?   # OSC, DCS and other strings
    | \x1b [ -/]* [0-~]?                                   # the short ones
    """,
    re.VERBOSE,
)
# Controls of the terminal, and the marks that turn the direction of writing or hide what follows.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def unchanged(text: str) -> str:
    """The redaction of a build that has no secrets."""
    return text


def printable(text: str) -> str:
    """One line of text without anything that a terminal would obey: tabs become spaces, controls vanish."""
    line = _ESCAPE_SEQUENCES.sub("", text) if "\x1b" in text or _UNPRINTABLE.search(text) else text
    line = line.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
    return _UNPRINTABLE.sub("", line.expandtabs(8))


def cleaned(text: str, redact: Redact) -> str:
    """One line without secret values and without anything that a terminal would obey.

    Redaction comes before and after: a value may hold control characters, or be torn apart by some in the log.
    """
    return redact(printable(redact(text)))


class Output:
    """Writes to a stream, whatever its encoding, and stops quietly when nobody reads it any more.

    A build does not fail because the terminal that showed it was closed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._closed = False

    def write(self, text: str) -> None:
        """Write and flush; characters that the stream's encoding lacks become question marks."""
        if self._closed or not text:
            return
        try:
            self._stream.write(text.encode(self._encoding, "replace").decode(self._encoding))
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
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal; 80 and 24 where it does not say."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError, AttributeError):
            return 80, 24
        return columns if columns > 0 else 80, rows if rows > 0 else 24
