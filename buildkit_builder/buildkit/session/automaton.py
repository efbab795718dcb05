"""Patterns with many wildcards, matched in a time that no choice of pattern and path can blow up.

Python's regexes try one way after the other. With `*a*a*a*a*a*a*b` and a long name of nothing but `a` they would be at
it for hours, and the patterns are the daemon's to choose.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# What `patterns` makes regexes of: any number of folders, anything, and single characters, perhaps any number of them.
_TOKEN = re.compile(
    r"(?P<folders>\(\?:\.\*/\)\?)|(?P<any>\.\*)|(?P<one>\[\^?(?:\\.|[^\]\\])+\]|\\.|[^\\])(?P<repeated>\*?)", re.DOTALL
)
_WITHOUT_WIDTH = frozenset({"^", r"\b", r"\B", r"\A"})

_Test = Callable[[str], object]


class Automaton:
    """All ways through a pattern at once: a bit for each place that the characters so far may have led to.

    Args:
        regex: What `patterns` made of the pattern, without its end.

    Raises:
        ValueError: It holds what matches between characters.
    """

    def __init__(self, regex: str) -> None:
        self._stays: list[_Test] = []  # of each place, the characters at which it may be stayed
        self._steps: list[_Test] = []  # and those that lead on
        self._skips: dict[int, int] = {}  # places that may be left for others without a character
        for token in _TOKEN.finditer(regex):
            place = len(self._stays)
            if token["folders"]:
                # Either nothing, or anything that ends with a slash.
                self._add(_nothing, _nothing)
                self._add(_anything, "/".__eq__)
                self._skips[place] = 0b110 << place
            elif token["any"] or token["repeated"]:
                self._add(_anything if token["any"] else _test(token["one"]), _nothing)
                self._skips[place] = 0b10 << place
            else:
                self._add(_nothing, _test(token["one"]))
        self._moves: dict[str, tuple[int, int]] = {}

    def _add(self, stays: _Test, steps: _Test) -> None:
        self._stays.append(stays)
        self._steps.append(steps)

    def __call__(self, path: str) -> bool:
        """Tells whether a path matches from its first character to its last."""
        places = self._reached(1)
        for char in path:
            stays, steps = self._moves.get(char) or self._learn(char)
            places = self._reached(places & stays | (places & steps) << 1)
            if not places:
                return False
        return bool(places >> len(self._stays))

    def _learn(self, char: str) -> tuple[int, int]:
        stays = sum(1 << place for place, test in enumerate(self._stays) if test(char))
        steps = sum(1 << place for place, test in enumerate(self._steps) if test(char))
        self._moves[char] = stays, steps
        return stays, steps

    def _reached(self, places: int) -> int:
        for place, others in self._skips.items():  # in order, so that skips may follow each other
            if places >> place & 1:
                places |= others
        return places


def _test(one: str) -> _Test:
    if one in _WITHOUT_WIDTH:
        raise ValueError(f"{one} matches no character")
    return re.compile(one, re.ASCII).fullmatch


def _anything(char: str) -> bool:
    return char != "\n"


def _nothing(char: str) -> bool:
    return False
