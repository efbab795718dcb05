"""The builders that `docker buildx create` has stored, and which of them `docker buildx use` chose.

Facts only, and only read: buildx itself writes while it reads. Source: docker/buildx `store`, `util/confutil`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit_builder.buildkit.find.docker_context import read_json
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.errors import EndpointError

_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNode:
    """One node of a stored builder.

    Attributes:
        name: Its name; a container's is made from it.
        endpoint: For the driver `docker-container` a Docker context or an engine's address, for `remote` BuildKit's.
        platforms: What it was told to build for; mostly none.
        options: The options of its driver.
    """

    name: str
    endpoint: str
    platforms: tuple[Platform, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBuilder:
    """A stored builder.

    Attributes:
        name: Its name.
        driver: How its nodes are run: `docker-container`, `remote`, `kubernetes`, or one that buildx may learn.
        nodes: Its nodes, in buildx's order.
    """

    name: str
    driver: str
    nodes: tuple[StoredNode, ...]


@dataclass(frozen=True, slots=True)
class BuildxStore:
    """buildx's folder."""

    folder: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], docker: Path) -> BuildxStore:
        """The store of a user: BUILDX_CONFIG, else the folder `buildx` beside Docker's config."""
        return cls(Path(environ.get("BUILDX_CONFIG") or docker / "buildx"))

    def names(self) -> tuple[str, ...]:
        """The stored builders, sorted."""
        try:
            return tuple(sorted(entry.name for entry in (self.folder / "instances").iterdir()))
        except OSError:
            return ()

    def builder(self, name: str) -> StoredBuilder | None:
        """A builder by its name, or `None` where there is none.

        Raises:
            EndpointError: Its file is not what buildx writes.
        """
        name = name.lower()
        if not _NAME.fullmatch(name):
            return None
        path = self.folder / "instances" / name
        stored = read_json(path)
        if not stored:
            return None
        nodes = stored.get("Nodes")
        if not isinstance(nodes, list) or not nodes or not all(isinstance(node, dict) for node in nodes):
            raise EndpointError(f"buildx's file {path} lists no nodes. `docker buildx rm {name}` removes it.")
        return StoredBuilder(
            name=str(stored.get("Name") or name),
            driver=str(stored.get("Driver") or ""),
            nodes=tuple(_node(node, path) for node in nodes),
        )

    def current(self, key: str) -> StoredBuilder | None:
        """The builder in use with a Docker engine, or `None` where that is the engine's own.

        Args:
            key: What buildx calls the engine: its context, or the address of the context `default`.
        """
        current = read_json(self.folder / "current")
        if name := current.get("Name"):
            builder = self.builder(str(name))
            if current.get("Key") == key or (current.get("Global") is True and builder is not None):
                return builder
        try:
            digest = hashlib.sha256(key.encode()).hexdigest()
            name = (self.folder / "defaults" / digest[:20]).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        return self.builder(name)


def _node(node: dict[str, Any], path: Path) -> StoredNode:
    name, endpoint = node.get("Name"), node.get("Endpoint")
    platforms, options = node.get("Platforms") or (), node.get("DriverOpts") or {}
    if not isinstance(name, str) or not isinstance(endpoint, str) or not isinstance(options, dict):
        raise EndpointError(f"buildx's file {path} has a node without a name or an endpoint.")
    return StoredNode(
        name=name,
        endpoint=endpoint.strip(),
        platforms=tuple(_platform(platform, path) for platform in platforms),
        options=tuple((str(key), str(value)) for key, value in options.items()),
    )


def _platform(stored: object, path: Path) -> Platform:
    if isinstance(stored, dict) and stored.get("os") and stored.get("architecture"):
        variant = str(stored.get("variant") or "")
        return Platform(os=str(stored["os"]), architecture=str(stored["architecture"]), variant=variant)
    raise EndpointError(f"buildx's file {path} has a platform that is none.")
