"""Words of a Dockerfile: quoting and variables, as its `ENV` and `WORKDIR` understand them.

Protocol of the language: buildkit `frontend/dockerfile/shell` and `docs/reference.md`, "Environment replacement".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_SPECIAL = "@*#?-$!"


class WordError(ValueError):
    """A word that a Dockerfile would refuse; the message says why."""


_CONTINUED = re.compile(r"(?:(?<=[^\\])|^)\\[ \t]*$")


def join_lines(text: str) -> str:
    r"""Joins lines that end in a backslash, as a Dockerfile does: comments and empty lines between them are left out.

    What a Dockerfile would take for more than one instruction is left as it is, and so is what it would join to the
    instruction that follows.
    """
    first, *rest = text.rstrip("\n").split("\n")
    joined, continued = _CONTINUED.subn("", first)
    for line in rest:
        if not continued:
            return text
        if line.strip() and not line.lstrip().startswith("#"):
            part, continued = _CONTINUED.subn("", line)
            joined += part
    return text if continued else joined


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Processes one word: removes its quotes and puts in its variables.

    Args:
        text: The word, white space and all.
        variables: What `$name` stands for; a missing one is empty.

    Raises:
        WordError: An unfinished quote or `${`, a modifier that is not known, or a `${name:?message}` that is unset.
    """
    return _read(_Reader(text, variables).word, "")


def expand_value(text: str, variables: Mapping[str, str]) -> str:
    """Processes the value of a variable, which may hold white space.

    Where a Dockerfile takes the text for one word, this is `expand`. Any other text (`ENV` would cut it at its spaces,
    or refuse it) is taken as it is, only its variables put in.

    Raises:
        WordError: As `expand`.
    """
    if _is_one_word(text):
        return expand(text, variables)
    return _read(_Reader(text, variables).plain)


def _read(how: Callable[..., str], *arguments: str) -> str:
    try:
        return how(*arguments)
    except RecursionError:
        raise WordError("its ${ are nested too deeply") from None


def _is_one_word(text: str) -> bool:
    """Whether a Dockerfile would take the text as a single word, and not cut it at a space."""
    quote = ""
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            return False
    return not quote


@dataclass
class _Reader:
    text: str
    variables: Mapping[str, str]
    at: int = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def word(self, stop: str) -> str:
        parts: list[str] = []
        while (char := self.peek()) and char != stop:
            self.at += 1
            if char == "'":
                parts.append(self.single_quoted())
            elif char == '"':
                parts.append(self.double_quoted())
            elif char == "$":
                parts.append(self.variable())
            elif char == "\\":
                parts.append(self.take() or "\\")
            else:
                parts.append(char)
        return "".join(parts)

    def plain(self) -> str:
        parts: list[str] = []
        while char := self.take():
            if char == "$":
                parts.append(self.variable())
            elif char == "\\" and self.peek() == "$":
                parts.append(self.take())
            else:
                parts.append(char)
        return "".join(parts)

    def single_quoted(self) -> str:
        end = self.text.find("'", self.at)
        if end < 0:
            raise WordError("a ' is not closed")
        inner, self.at = self.text[self.at : end], end + 1
        return inner

    def double_quoted(self) -> str:
        parts: list[str] = []
        while (char := self.take()) != '"':
            if not char:
                raise WordError('a " is not closed')
            if char == "$":
                parts.append(self.variable())
            elif char == "\\" and self.peek() in ('"', "$", "\\"):
                parts.append(self.take())
            else:
                parts.append(char)
        return "".join(parts)

    def variable(self) -> str:
        if self.peek() == "{":
            self.at += 1
            return self.braced()
        name = self.name()
        return self.variables.get(name, "") if name else "$"

    def name(self) -> str:
        """A name, a number, or one of the shell's special parameters; the last two never have a value here."""
        start = self.at
        if self.peek() and self.peek() in _SPECIAL:
            self.at += 1
        elif self.peek().isdecimal():
            while self.peek().isdecimal():
                self.at += 1
        else:
            while (char := self.peek()) and (char == "_" or char.isalpha() or char.isdecimal()):
                self.at += 1
        return self.text[start : self.at]

    def braced(self) -> str:
        name = self.name()
        if not name:
            raise WordError("a ${ has no name")
        value = self.variables.get(name)
        char = self.take()
        if char == "}":
            return value or ""
        if char == ":":
            return self.modified(name, value or None, self.take())
        if char in ("-", "+", "?"):
            return self.modified(name, value, char)
        raise WordError(f"${{{name}… has a modifier that is not known, or is not closed")

    def modified(self, name: str, value: str | None, modifier: str) -> str:
        word = self.word("}")
        if self.take() != "}":
            raise WordError(f"${{{name}… is not closed")
        if modifier == "-":
            return word if value is None else value
        if modifier == "+":
            return "" if value is None else word
        if modifier == "?":
            if value is None:
                raise WordError(f"{name}: {word or 'is not set'}")
            return value
        raise WordError(f"${{{name}:{modifier} is not a modifier that is known")
