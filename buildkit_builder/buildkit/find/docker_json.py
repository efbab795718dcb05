"""JSON as Docker's own programs read it, which is more than JSON's standard: a file that works there works here.

Only the first value counts, whatever follows it; nothing at all is an empty object; names are compared without regard
to case; of a name that stands twice both count; bytes that are no UTF-8 stand for an unknown character. Read: Go's
`encoding/json`, by which docker/cli and docker-credential-helpers decode.
"""

from __future__ import annotations

import json
from typing import Any

_BLANKS = " \t\r\n"


class Members(dict[str, Any]):
    """A JSON object.

    Attributes:
        pairs: Its members as they are written, those that stand twice as well.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs

    def values_of(self, name: str) -> list[Any]:
        """All values of a member, the last one last."""
        return [value for key, value in self.pairs if key.casefold() == name.casefold()]


# Whole numbers as others, since Python refuses the longest.
_DECODER = json.JSONDecoder(object_pairs_hook=Members, parse_int=float)


def read_object(data: bytes) -> Members:
    """The first value of a text, which is an object; an empty one where there is nothing.

    Raises:
        ValueError: It is not JSON, or no object. The message never repeats the text, which may hold secrets.
    """
    text = data.decode("utf-8-sig", "replace").lstrip(_BLANKS)
    if not text:
        return Members([])
    try:
        value, _ = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON (line {error.lineno})") from None
    except (ValueError, RecursionError):
        raise ValueError("is not JSON that can be read") from None
    if value is None:
        return Members([])
    if not isinstance(value, Members):
        raise ValueError("is not a JSON object")
    return value


def text_of(members: Members, name: str) -> str:
    """A member that is text, `null` or absent.

    Raises:
        ValueError: It is something else.
    """
    found = ""
    for value in members.values_of(name):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"`{name}` is not a string")
        found = found if value is None else value
    # Half of a pair of surrogates is no character, and could not be encoded again.
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def object_of(members: Members, name: str) -> dict[str, Any]:
    """A member that is an object, `null` or absent; where it stands several times, all of them together.

    Raises:
        ValueError: It is something else.
    """
    found: dict[str, Any] = {}
    for value in members.values_of(name):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"`{name}` is not an object")
        found.update(value or {})
    return found
