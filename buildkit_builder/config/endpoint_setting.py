"""The `endpoint` setting: one address, or a list of nodes that build together, each for its own platforms.

In the file a node is an address or a map, in a variable `ADDRESS` or `PLATFORM=ADDRESS`, where several platforms are
joined by `+`:

```yaml
endpoint:
  - tcp://amd64.example:1234
  - {name: arm, address: tcp://arm64.example:1234, platforms: [linux/arm64, linux/arm/v7], tls: {ca: ca.pem}}
```

```
FLYTE_BUILDKIT_ENDPOINT=tcp://amd64.example:1234,linux/arm64+linux/arm/v7=tcp://arm64.example:1234
```
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from buildkit_builder.config import kinds
from buildkit_builder.config.kinds import Kind, UnfitError


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSettings:
    """Files and names for a TLS endpoint, as the settings `tls.*` say them."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One node of several.

    Attributes:
        address: Where it answers, as the `endpoint` setting of a single one would say.
        name: What progress calls it, or `None` for its address.
        platforms: What it is meant to build for; empty for what it runs without emulation.
        tls: Its own, or `None` for that of the settings.
    """

    address: str
    name: str | None = None
    platforms: tuple[str, ...] = ()
    tls: TLSSettings | None = None

    @property
    def title(self) -> str:
        """What progress calls it."""
        return self.name or re.sub(r"^[a-z+]+://", "", self.address)


_EXPECTED = "an address, or a list of nodes: addresses, or maps of address, name, platforms and tls"
_KEYS = ("address", "name", "platforms", "tls")
_TLS: Mapping[str, Kind] = {"ca": kinds.FILE, "cert": kinds.FILE, "key": kinds.FILE, "server_name": kinds.TEXT}
_ONE = rf"(?:{kinds.PLATFORM.pattern})"
_SEVERAL = rf"{_ONE}(?:\+{_ONE})*"
_WITH_PLATFORMS = re.compile(rf"(?P<platforms>{_SEVERAL})=(?P<address>.*)")
# The path of a socket may have commas in it: only what looks like an address begins another one.
_BETWEEN = re.compile(rf",(?=\s*(?:$|,|{_SEVERAL}=|(?:auto|docker)\s*(?:,|$)|[a-z+-]+://))")


def _parse(value: object, home: Path) -> str | tuple[NodeSettings, ...]:
    if not isinstance(value, (list, tuple)):
        return str(kinds.TEXT.parse(value, home))
    if not value:
        raise UnfitError(f"{_EXPECTED}; it is empty")
    nodes = tuple(_node(item, f"its node {number}", home) for number, item in enumerate(value, 1))
    for what, said in (("name", [node.title for node in nodes]), ("address", [node.address for node in nodes])):
        twice = next((text for text in said if said.count(text) > 1), None)
        if twice is not None:
            raise UnfitError(f"{_EXPECTED}; two nodes have the {what} {kinds.shown(twice)}")
    return nodes


def _node(value: object, which: str, home: Path) -> NodeSettings:
    given = value if isinstance(value, Mapping) else {"address": value}
    _refuse_unknown(given, _KEYS, which)
    if given.get("address") is None:
        raise UnfitError(f"{_EXPECTED}; {which} has no `address`")
    what = f"`address` of {which}" if given is value else which
    address = _part(kinds.TEXT, given["address"], what, home)
    name, platforms, tls = given.get("name"), given.get("platforms"), given.get("tls")
    return NodeSettings(
        address=address,
        name=None if name is None else _part(kinds.TEXT, name, f"`name` of {which}", home),
        platforms=() if platforms is None else _part(kinds.PLATFORMS, platforms, f"`platforms` of {which}", home),
        tls=None if tls is None else _tls(tls, which, home),
    )


def _tls(value: object, which: str, home: Path) -> TLSSettings:
    if not isinstance(value, Mapping):
        raise UnfitError(f"{_EXPECTED}; `tls` of {which} is {kinds.shown(value)}, but must be a map")
    names = tuple(field.name for field in fields(TLSSettings))
    _refuse_unknown(value, names, f"`tls` of {which}")
    read = {
        name: _part(_TLS[name], item, f"`tls.{name}` of {which}", home)
        for name, item in value.items()
        if item is not None
    }
    tls = TLSSettings(**read)
    if (tls.cert is None) != (tls.key is None):
        raise UnfitError(f"{_EXPECTED}; `tls` of {which} has one of cert and key, which need each other")
    return tls


def _part(kind: Kind, value: object, what: str, home: Path) -> Any:
    try:
        return kind.convert(value, is_text=False, home=home)
    except UnfitError as error:
        raise UnfitError(f"{_EXPECTED}; {what} is {kinds.shown(value)}, but must be {error}") from None


def _refuse_unknown(given: Mapping[Any, object], known: tuple[str, ...], which: str) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(kinds.text_of(key), known, n=1, cutoff=0.6)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
            raise UnfitError(f"{_EXPECTED}; {which} has the unknown key `{kinds.text_of(key)}`: {hint}")


def _split(text: str) -> object:
    items = [item.strip() for item in _BETWEEN.split(text) if item.strip()]
    nodes = [_of_text(item) for item in items]
    return nodes[0] if len(nodes) == 1 and isinstance(nodes[0], str) else nodes or text


def _of_text(item: str) -> object:
    found = _WITH_PLATFORMS.fullmatch(item)
    if found is None:
        return item
    return {"platforms": found["platforms"].split("+"), "address": found["address"]}


ENDPOINT = Kind(expected=_EXPECTED, parse=_parse, split=_split)
"""Text for a single endpoint, `NodeSettings` for each node of a list."""
