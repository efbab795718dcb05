"""What differs between two images: config by config, file by file, as text that can be read."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.integration.registry import Entry, PulledImage
from tests.parity.differences import IGNORED, Ignored, What

LINES_MAX = 60
# When it was made and of what layers; not what it is.
UNCOMPARED = ("created", "history", "rootfs")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that differs.

    Attributes:
        name: The path, or the config's key.
        lines: What it is in theirs and in ours, as a unified diff without its head.
        row: The row of the table that allows it, or `None`.
    """

    name: str
    what: What
    lines: tuple[str, ...]
    row: Ignored | None


def compare(theirs: PulledImage, ours: PulledImage) -> list[Difference]:
    """Everything in which two images differ, allowed or not; each may name itself in `_F_IMG_ID`."""
    return [*_configs(_flat(theirs), _flat(ours)), *_trees(theirs, ours)]


def _flat(image: PulledImage) -> dict[str, Any]:
    """A config with its inner part's keys beside its own, and labels one by one; empty values are none."""
    config = image.config
    inner = dict(config.get("config") or {})
    itself = f"_F_IMG_ID={image.reference}"
    inner["Env"] = ["_F_IMG_ID=(its name)" if entry == itself else entry for entry in inner.get("Env") or ()]
    labels = inner.pop("Labels", None) or {}
    found = {key: value for key, value in config.items() if key not in ("config", *UNCOMPARED)}
    found |= {f"config.{key}": value for key, value in inner.items()}
    found |= {f"config.Labels.{key}": value for key, value in labels.items()}
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}


def _configs(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterable[Difference]:
    for key in sorted({*theirs, *ours}):
        if theirs.get(key) != ours.get(key):
            lines = _diff(_text(theirs.get(key)), _text(ours.get(key)))
            yield Difference(name=key, what="config", lines=lines, row=_row(key, "config"))


def _text(value: Any) -> list[str]:
    return [] if value is None else json.dumps(value, indent=1, sort_keys=True).splitlines()


def _trees(theirs: PulledImage, ours: PulledImage) -> Iterable[Difference]:
    left, right = theirs.tree(), ours.tree()
    for path in sorted({*left, *right}):
        one, other = left.get(path), right.get(path)
        if one is None or other is None:
            line = f"-{_about(one)}" if one else f"+{_about(other)}"
            yield Difference(name=path, what="path", lines=(line,), row=_row(path, "path"))
        elif _about(one) != _about(other):
            yield Difference(
                name=path, what="path", lines=(f"-{_about(one)}", f"+{_about(other)}"), row=_row(path, "path")
            )
        elif one.digest != other.digest:
            lines = _diff(_lines(one), _lines(other)) or (f"-{one.digest}", f"+{other.digest}")
            row = _row(path, "content")
            if row is not None and row.without(one.content) != row.without(other.content):
                row = None
            yield Difference(name=path, what="content", lines=lines, row=row)


def _about(entry: Entry | None) -> str:
    """What is compared of a file besides its bytes."""
    if entry is None:
        return ""
    link = f" → {entry.link}" if entry.link else ""
    xattrs = f" {dict(entry.xattrs)}" if entry.xattrs else ""
    return f"{entry.kind} {entry.mode:04o} {entry.uid}:{entry.gid}{link}{xattrs}"


def _lines(entry: Entry) -> list[str]:
    try:
        return entry.content.decode().splitlines()
    except UnicodeDecodeError:
        return [f"binary, {entry.size} bytes, sha256 {entry.digest}"]


def _diff(theirs: list[str], ours: list[str]) -> tuple[str, ...]:
    return tuple(
        line for line in difflib.unified_diff(theirs, ours, lineterm="", n=0) if line[:3] not in ("---", "+++")
    )


def _row(name: str, what: What) -> Ignored | None:
    return next((row for row in IGNORED if row.covers(name, what)), None)


def report(differences: Iterable[Difference]) -> str:
    """Differences as a text of not too many lines."""
    lines: list[str] = []
    for difference in differences:
        lines.append(f"{difference.what} {difference.name}")
        lines += [f"  {line[:160]}" for line in difference.lines[:12]]
    left = len(lines) - LINES_MAX
    return "\n".join([*lines[:LINES_MAX], *([f"… and {left} lines more"] if left > 0 else [])])
