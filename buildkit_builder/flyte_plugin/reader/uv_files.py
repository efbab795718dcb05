"""What the files of a Python project say about building it: its parts on this machine, and where they go.

Flyte's own builder runs `uv export` for this, which needs uv on this machine and may write a lock file; what it looks
for stands in `uv.lock` and `pyproject.toml`.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli

from buildkit_builder.errors import ImageError, MissingSourceError
from buildkit_builder.image.spec import LocalFiles

ABSOLUTE = "_flyte_abs_context"
"""The folder of the context of Flyte's own builder for what is not below the folder that the user stands in."""


def place_of(path: Path) -> str:
    """Where a local path is in the build context of Flyte's own builder; `.` for all of it.

    A project is seen there, below `/root/.flyte`, while it is installed, which is recorded in what gets installed.
    """
    if path.is_absolute() or ".." in str(path):
        path = Path(ABSOLUTE, *path.parts[1:])
    return posixpath.normpath(f"/{path}").lstrip("/") or "."


def is_outside(path: str) -> bool:
    """Whether a path that a project depends on leads out of it."""
    return posixpath.isabs(path) or posixpath.normpath(path).split("/")[0] == ".."


def editables(
    pyproject: Path, lock: Path | None, ignore: tuple[str, ...], origin: str
) -> tuple[tuple[str, LocalFiles], ...]:
    """What a uv project depends on that is on this machine: folders, and wheels or archives.

    Args:
        pyproject: Its `pyproject.toml`.
        lock: Its `uv.lock`, which names them all; without one they are gathered from the projects themselves.
        ignore: Patterns of what is left out of each folder.
        origin: What the layer is called by the user.

    Returns:
        Each by the path by which uv finds it: relative to the project, or absolute where it is written so.

    Raises:
        ImageError: One of the files is not what it should be.
        MissingSourceError: Something is not there; says what names it.
    """
    root = pyproject.parent
    paths = _locked(lock, origin) if lock is not None else _declared(root, pyproject, origin)
    found: dict[str, LocalFiles] = {}
    for path in paths:
        place = Path(os.path.normpath(root / path))
        if place.is_dir():
            found[path] = LocalFiles(kind="folder", root=place, ignore=ignore, always=("pyproject.toml",))
        elif place.exists():
            found[path] = LocalFiles(kind="file", root=place)
        else:
            raise MissingSourceError(f"{origin}: `{pyproject}` depends on `{path}`, and `{place}` does not exist.")
    return tuple(found.items())


def _locked(lock: Path, origin: str) -> list[str]:
    """Local packages of a lock file: `source = { editable = "libs/x" }`, and the like. The project itself is `.`."""
    with _reading(lock, origin):
        sources = [package.get("source", {}) for package in _toml(lock).get("package", [])]
        paths = [source.get(kind) for source in sources for kind in ("editable", "directory", "virtual", "path")]
        return [path for path in paths if isinstance(path, str) and path != "."]


def _declared(
    root: Path, pyproject: Path, origin: str, seen: frozenset[Path] = frozenset(), *, absolute: bool = False
) -> Iterator[str]:
    """Local packages that a project declares, and those in turn.

    Args:
        root: The folder of the first project; never resolved, since uv follows `..` without regard to links.
        pyproject: Of the project to look at.
        origin: What the layer is called by the user.
        seen: Folders on the way here.
        absolute: Whether the way here has an absolute path in it.
    """
    for reference in _references(pyproject, origin):
        path = Path(os.path.normpath(pyproject.parent / reference))
        if path.resolve() in seen or path.resolve() == root.resolve():
            continue
        fixed = absolute or os.path.isabs(reference)
        yield str(path) if fixed else os.path.relpath(path, root)
        inner = path / "pyproject.toml"
        if inner.is_file():
            yield from _declared(root, inner, origin, seen | {path.resolve()}, absolute=fixed)


def _references(pyproject: Path, origin: str) -> list[str]:
    """The paths of `[tool.uv.sources]`, as they are written, and of the members of a workspace."""
    here = pyproject.parent
    with _reading(pyproject, origin):
        uv = _toml(pyproject).get("tool", {}).get("uv", {})
        paths = [os.fspath(source["path"]) for source in _tables(uv.get("sources", {})) if "path" in source]
        workspace = uv.get("workspace", {})
        excluded = {path for pattern in workspace.get("exclude", []) for path in here.glob(pattern)}
        members = [path for pattern in workspace.get("members", []) for path in sorted(here.glob(pattern))]
    found = (path for path in members if path not in excluded and (path / "pyproject.toml").is_file())
    return [*paths, *(os.path.relpath(path, here) for path in found)]


def _tables(sources: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for source in sources.values():
        for table in source if isinstance(source, list) else [source]:
            if isinstance(table, dict):
                yield table


@contextlib.contextmanager
def _reading(path: Path, origin: str) -> Iterator[None]:
    try:
        yield
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"{origin}: `{path}` is not TOML: {error}.") from error
    except OSError as error:
        raise MissingSourceError(f"{origin}: `{path}` cannot be read: {error.strerror}.") from error
    except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
        # It is TOML, but its tables, lists and patterns are not where they belong.
        raise ImageError(f"{origin}: `{path}` makes no sense: {error}.") from error


def _toml(path: Path) -> dict[str, Any]:
    return tomli.loads(path.read_text(encoding="utf-8"))
