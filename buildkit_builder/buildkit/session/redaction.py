"""Keeps the values of secrets out of what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_TELLING = 4


def redactor(values: Iterable[bytes]) -> Callable[[str], str]:
    """A function that takes these values out of a text, whole or, since logs come by lines, line by line."""
    found: set[str] = set()
    for value in values:
        text = value.decode(errors="replace").strip()
        lines = [line.strip() for line in text.splitlines()]
        # A line of a few characters, as a brace in a key file is, gives nothing away and is everywhere.
        found |= {text, *(line for line in lines if len(line) >= _TELLING)} - {""}
    texts = sorted(found, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in texts:
            text = text.replace(secret, "***")
        return text

    return redact
