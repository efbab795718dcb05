r"""Patterns of `.dockerignore` files and of local sources, with the rules of moby/patternmatcher.

A pattern is a path with `*`, `?`, `[…]` and `\` as in Go's `path/filepath.Match`, and `**` for any number of folders.
It matches a path or any folder above it. One that begins with `!` takes back what an earlier one matched; the last
that applies decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from buildkit_builder.buildkit.session.automaton import Automaton

_GLOB = frozenset("*[]?^\\")
_REPEATED = frozenset({"[^/]*", r"\[^/]*", "(?:.*/)?", ".*"})
_QUICK_WILDCARDS = 2  # more of them could take a regex forever
_REGEX_ESCAPES = frozenset("dDsSwWbBAafnrtv")  # after a backslash these mean the same in Go's and Python's regexes


class PatternError(ValueError):
    """A pattern is malformed."""


class Matcher:
    """A compiled list of patterns.

    Args:
        patterns: In order; empty ones are ignored.

    Raises:
        PatternError: One is malformed.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules: list[tuple[bool, Callable[[str], object]]] = []
        positive: list[str] = []
        exceptions: list[str] = []
        for pattern in patterns:
            cleaned = _clean(pattern.strip())
            if not cleaned:
                continue
            exception = cleaned.startswith("!")
            if exception:
                cleaned = cleaned[1:]
                if not cleaned:
                    raise PatternError('the pattern "!" excepts nothing')
            _check(cleaned)
            self._rules.append((exception, _compile(cleaned)))
            (exceptions if exception else positive).append(cleaned)
        self._below_positive = _Reach(positive)
        self._below_exceptions = _Reach(exceptions)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, path: str, above: int = 0) -> tuple[bool, int]:
        """Matches one path, given what was found for the folder it is in.

        Args:
            path: Relative, with `/`.
            above: The second value that `match` returned for the folder, 0 at the top.

        Returns:
            Whether the path is matched, and which patterns applied (for its children).
        """
        matched = False
        applied = 0
        bit = 1
        for exception, test in self._rules:
            # As upstream, an exception from nothing is not tried, and so does not hold for what is in a folder. But a
            # pattern does that matches what is matched already: what an exception takes back there, it matches again.
            if above & bit or ((matched or not exception) and test(path)):
                applied |= bit
                matched = not exception
            bit <<= 1
        return matched, applied

    def matches(self, path: str) -> bool:
        """Tells whether a path, or the nearest folder above it that decides, is matched."""
        position = path.find("/")
        applied = 0
        while position >= 0:
            _, applied = self.match(path[:position], applied)
            position = path.find("/", position + 1)
        return self.match(path, applied)[0]

    def may_match_below(self, folder: str) -> bool:
        """Tells whether anything in a folder that is not matched itself could be."""
        return self._below_positive.touches(folder)

    def may_except_below(self, folder: str) -> bool:
        """Tells whether an exception could take back something in a folder that is matched."""
        return self._below_exceptions.touches(folder)


class _Reach:
    """Where a set of patterns can match: below which folders, as far as it can be told without looking."""

    def __init__(self, patterns: list[str]) -> None:
        heads = [pattern.removesuffix("/**").removesuffix("/*") for pattern in patterns]
        self._anywhere = any(not _GLOB.isdisjoint(head) for head in heads)
        self._heads = tuple(head + "/" for head in heads)

    def touches(self, folder: str) -> bool:
        if self._anywhere:
            return True
        prefix = folder + "/"
        return any(head.startswith(prefix) for head in self._heads)


def read_dockerignore(file: Path) -> list[str]:
    """Reads the patterns of a `.dockerignore` file; what is not UTF-8 in it matches nothing, as with Docker's clients.

    Raises:
        OSError: It cannot be read.
    """
    return parse_dockerignore(file.read_bytes().decode(errors="surrogateescape"))


def parse_dockerignore(text: str) -> list[str]:
    """Reads the patterns of a `.dockerignore` file.

    Args:
        text: The file's content.

    Returns:
        The patterns in order, cleaned, without comments (lines that begin with `#`) and blank lines.
    """
    patterns: list[str] = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        exception = "!" if pattern.startswith("!") else ""
        pattern = pattern[len(exception) :].strip()
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        patterns.append(exception + pattern)
    return patterns


def _clean(path: str) -> str:
    # `normpath` keeps two leading slashes, as POSIX allows; Go's `filepath.Clean` does not.
    return posixpath.normpath("/" + path.lstrip("/") if path.startswith("/") else path) if path else ""


def _check(pattern: str) -> None:
    """Refuses what Go's `filepath.Match` calls a bad pattern."""
    position, end = 0, len(pattern)
    while position < end:
        char = pattern[position]
        position += 1
        if char == "\\":
            if position == end:
                raise PatternError(f"the pattern {pattern!r} ends with a backslash")
            position += 1
        elif char == "[":
            position = _check_class(pattern, position)


def _check_class(pattern: str, position: int) -> int:
    if pattern.startswith("^", position):
        position += 1
    members = 0
    while True:
        if members and pattern.startswith("]", position):
            return position + 1
        position = _check_member(pattern, position)
        if pattern.startswith("-", position):
            position = _check_member(pattern, position + 1)
        members += 1


def _check_member(pattern: str, position: int) -> int:
    if pattern.startswith("\\", position):
        position += 1
    elif pattern.startswith(("-", "]"), position):
        raise PatternError(f"the pattern {pattern!r} has a malformed class in brackets")
    if position >= len(pattern):
        raise PatternError(f"the pattern {pattern!r} has a bracket that is not closed")
    return position + 1


def _compile(pattern: str) -> Callable[[str], object]:
    if _GLOB.isdisjoint(pattern) or _GLOB.isdisjoint(pattern.replace("^", "")):
        return pattern.__eq__
    if pattern == "**":
        return lambda path: True
    if pattern.startswith("**") and _GLOB.isdisjoint(pattern[2:].replace("^", "")):
        suffix = pattern[2:]
        whole = suffix[1:] if suffix.startswith("/") else None
        return lambda path: path.endswith(suffix) or path == whole
    if pattern.endswith("**") and _GLOB.isdisjoint(pattern[:-2].replace("^", "")):
        prefix = pattern[:-2]
        return lambda path: path.startswith(prefix)
    try:
        pieces = _translate(pattern)
        regex = "".join(pieces)
        compiled = re.compile(regex + r"\Z", re.ASCII)
        if sum(piece in _REPEATED for piece in pieces) <= _QUICK_WILDCARDS:
            return compiled.match
        return Automaton(regex)
    except (re.error, ValueError) as error:
        raise PatternError(f"the pattern {pattern!r} is malformed: {error}") from error


def _translate(pattern: str) -> list[str]:
    """Translates as upstream does, special characters inside brackets included."""
    regex: list[str] = []
    position, end = 0, len(pattern)
    while position < end:
        char = pattern[position]
        position += 1
        if char == "*":
            if not pattern.startswith("*", position):
                regex.append(_bracket(regex) + "^/]*")
                continue
            position += 1
            if pattern.startswith("/", position):
                position += 1
            regex.append("(?:.*/)?" if position < end else ".*")
        elif char == "?":
            regex.append(_bracket(regex) + "^/]")
        elif char == "\\":
            regex.append(_escape(pattern, pattern[position]))
            position += 1
        elif char == "[":
            regex.append(_bracket(regex))
        elif char in ".+()|{}$&~":
            regex.append("\\" + char)
        else:
            regex.append(char)
    return regex


def _bracket(regex: list[str]) -> str:
    """A bracket; where one has just been opened, it is a member of the class, and Python warns about `[[`."""
    return r"\[" if regex[-1:] == ["["] or regex[-2:] == ["[", "^"] else "["


def _escape(pattern: str, char: str) -> str:
    if char in _REGEX_ESCAPES:
        return "\\" + char
    if char.isascii() and char.isalnum():
        raise PatternError(f"the pattern {pattern!r} has an unknown escape")
    return re.escape(char)
