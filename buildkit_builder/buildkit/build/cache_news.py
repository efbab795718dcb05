"""What the daemon says of build caches, in words: a cache that is not there, or cannot be used, is no failed step.

Protocol: buildkit `solver/llbsolver/bridge.go` for the names of imports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from buildkit_builder.buildkit.api import advice
from buildkit_builder.buildkit.api.events import StatusUpdate, VertexEvent

_IMPORT = "importing cache manifest from "
_UNKNOWN = re.compile(r'unknown cache (?:importer|exporter): "?(\w+)')
_MISSING = re.compile(r"not found|manifest unknown|name unknown|NAME_UNKNOWN|MANIFEST_UNKNOWN|404", re.IGNORECASE)
# What any other BuildKit writes.
_WITH_STORE = ("registry", "local", "gha")
# The daemon has a name and a number for what has no reference.
_NUMBERED = re.compile(r"(\w+):[0-9]{6,}")
# Each wrapping of an error says again what was being done.
_WRAPPINGS = re.compile(r"^(?:failed to (?:configure|solve|do request)[^:]*: |error writing [^:]*: )+")


@dataclass(slots=True)
class CacheNews:
    """Takes failures of caches out of what is shown, and puts a sentence in their place.

    Attributes:
        lines: What is to be said; whoever says it takes it away.
    """

    lines: list[str] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    def softened(self, update: StatusUpdate) -> StatusUpdate:
        """An update without errors of caches."""
        if not any(_fails(vertex) for vertex in update.vertexes):
            return update
        return replace(update, vertexes=tuple(self._softened(vertex) for vertex in update.vertexes))

    def _softened(self, vertex: VertexEvent) -> VertexEvent:
        if not _fails(vertex):
            return vertex
        where = vertex.name.removeprefix(_IMPORT)
        if where not in self._told:
            self._told.add(where)
            self.lines.append(not_read(where, vertex.error))
        return replace(vertex, error="")


def not_read(where: str, error: str) -> str:
    """That a cache could not be read."""
    name = _NUMBERED.sub(r"type \1", where)
    if unknown := _unknown(error):
        return unknown
    if _MISSING.search(error):
        return f"There is no build cache at {name} yet."
    return f"The build cache at {name} could not be read, and is done without: {said(error)}."


def not_written(where: str, error: str, *, can_have_store: bool = True) -> str:
    """That a cache could not be written.

    Args:
        where: The cache.
        error: What the daemon said.
        can_have_store: Whether the daemon, if it is a Docker Engine's, could have the containerd image store.
    """
    found = _UNKNOWN.search(error)
    if found is not None and found[1] in _WITH_STORE:
        return (
            f"A Docker Engine without the containerd image store writes no build cache of type {found[1]}, which is "
            f"done without. {advice.of_store(is_there=can_have_store)}"
        )
    return _unknown(error) or f"The image is built, but its build cache was not saved to {where}: {said(error)}."


def said(error: str) -> str:
    """An error's own words, in one line."""
    return " ".join(_WRAPPINGS.sub("", error).split()).rstrip(".")


def _unknown(error: str) -> str:
    found = _UNKNOWN.search(error)
    if found is None:
        return ""
    return (
        f"This daemon knows no build cache of type {found[1]}, which is done without. The BuildKit inside a Docker "
        "Engine has only registry, inline, local and gha; a buildkitd, such as that of "
        "`docker buildx create --driver docker-container`, has the others."
    )


def _fails(vertex: VertexEvent) -> bool:
    return (
        vertex.role is None
        and bool(vertex.error)
        and vertex.name.startswith(_IMPORT)
        and not vertex.error.endswith("context canceled")
    )
