"""`followpaths`: paths of which the daemon wants the symlinks too, on the way to what they lead to.

Protocol: tonistiigi/fsutil `followlinks`.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator

from buildkit_builder.buildkit.session.patterns import Matcher


def follow_links(root: str, paths: Iterable[str]) -> list[str] | None:
    """Resolves paths to include patterns that bring every link visited, and every target.

    Nothing outside the root is looked at: links are taken as if the root were `/`.

    Args:
        root: The folder that the paths are relative to.
        paths: What to follow; the last component may hold `*`, `?` and `[…]`.

    Returns:
        The patterns, or `None` when a path leads to the root itself, which then is wanted whole.
    """
    found: set[str] = set()
    pending = list(paths)
    while pending:
        pending += _follow(root, pending.pop(), found)
    if "." in found:
        return None
    return sorted(found)


def _follow(root: str, path: str, found: set[str]) -> list[str]:
    """Walks a path to its first link or its end; returns the paths to go on with."""
    current = "."
    rest = path
    while True:
        name, _, rest = rest.partition("/")
        # As seen from a root of `/`, `..` cannot leave it.
        current = posixpath.normpath(posixpath.join("/", current, name)).lstrip("/") or "."
        targets = list(_targets(root, current))
        if targets:
            if current in found:
                return []
            found.add(current)
            return [posixpath.join(target, rest) for target in targets]
        if not rest:
            found.add(current)
            return []


def _targets(root: str, path: str) -> Iterator[str]:
    folder, name = posixpath.split(path)
    if not re.search(r"(?<!\\)[*?[]", name):
        target = _target(root, path)
        if target is not None:
            yield target
        return
    try:
        names = os.listdir(os.path.join(root, folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    wanted = Matcher([name])
    for candidate in sorted(names):
        if wanted.matches(candidate):
            target = _target(root, posixpath.join(folder, candidate))
            if target is not None:
                yield target


def _target(root: str, path: str) -> str | None:
    try:
        link = os.readlink(os.path.join(root, path))
    except OSError:
        return None  # not a link, or not there
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(path), link)).lstrip("/")
