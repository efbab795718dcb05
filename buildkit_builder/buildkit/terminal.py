"""Text of others made fit for a terminal: daemons, registries and steps may print what a terminal would obey."""

from __future__ import annotations

import re

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


def printable(text: str) -> str:
    """One line of text without anything that a terminal would obey: tabs become spaces, controls vanish."""
    return printable_lines(text.replace("\r\n", " ").replace("\n", " ").replace("\r", " "))


def printable_lines(text: str) -> str:
    """Text of several lines without anything that a terminal would obey; ends of lines stay."""
    line = _ESCAPE_SEQUENCES.sub("", text) if "\x1b" in text or _UNPRINTABLE.search(text) else text
    return _UNPRINTABLE.sub("", line.expandtabs(8))
