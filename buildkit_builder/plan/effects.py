"""What a step reads and writes, and which earlier steps it therefore has to see.

A step sees a tree of files that the steps it depends on have made, and no others: what it does not depend on may be
done beside it. Effects are places: an absolute path, which stands for all below it, or one of three that are no path.
They are a promise about what can matter, not a list of files: whatever cannot be told is `EVERYTHING`.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

EVERYTHING = "*"
# What the distribution's packages are made of and decide by: its folders, and the package manager's state.
SYSTEM = "system"
# The system's Python, which environments are links to.
INTERPRETER = "interpreter"

_SYSTEM_FOLDERS = frozenset(
    ["bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "usr", "var"]
)
# Below these folders, but no package knows of them: tools that are put there for the builder's own use.
TOOLS = frozenset(["/usr/bin/uv", "/usr/local/bin/pixi"])
UV_SETTINGS = frozenset(["/etc/uv", "/etc/xdg/uv"])
# Folders that a base has: who writes below one does not decide whose it is.
_COMMON_FOLDERS = frozenset(
    ["/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr/local", "/usr/local/bin", "/usr/local/lib"]
)


@dataclass(frozen=True, slots=True)
class Effects:
    """What a step reads and what it writes; a step that changes a place need not say that it reads it."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *, reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> Effects:
        """Effects from places."""
        return cls(frozenset(reads), frozenset(writes))

    def follow(self, earlier: Effects) -> bool:
        """Whether a step with these effects has to see what an earlier one did."""
        return any(
            _same(written, place) for written in earlier.writes for place in self.reads
        ) or any(_meet(one, other) for one in earlier.writes for other in self.writes)  # fmt: skip


BARRIER = Effects.of(reads=(EVERYTHING,), writes=(EVERYTHING,))


def _same(one: str, other: str) -> bool:
    """Whether a file may be in both places."""
    if EVERYTHING in (one, other):
        return True
    if SYSTEM in (one, other):
        place = other if one == SYSTEM else one
        return place == SYSTEM or (place != INTERPRETER and _is_of_system(place))
    return _is_below(one, other) or _is_below(other, one)


def _meet(one: str, other: str) -> bool:
    """Whether it matters which of two places is written first.

    Besides files, folders can be common to both: the one who makes a folder decides whose it is.
    """
    if _same(one, other):
        return True
    if {SYSTEM, INTERPRETER} & {one, other}:
        return False
    return posixpath.commonpath([one, other]) not in _COMMON_FOLDERS and one not in TOOLS and other not in TOOLS


def _is_of_system(path: str) -> bool:
    top = path.split("/")[1] if path != "/" else ""
    return not top or (top in _SYSTEM_FOLDERS and path not in TOOLS | UV_SETTINGS)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
