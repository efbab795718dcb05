"""What the files of a Python project say about building it: its parts on this machine, and where they go.

Flyte's own builder runs `uv export` for this, which needs uv on this machine and may write a lock file; what it looks
for stands in `uv.lock` and `pyproject.toml`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import tomli

from buildkit_builder.errors import ImageError, MissingSourceError
from buildkit_builder.spec import LocalFiles


def place_of(path: Path) -> str:
    """Where a project is seen below `/root/.flyte`: as in the build context of Flyte's own builder, since it is
    recorded in what gets installed.
    """
    if path.is_absolute() or ".." in str(path):
        return str(PurePosixPath("_flyte_abs_context", *path.parts[1:]))
    return str(PurePosixPath(path))


def editables(pyproject: Path, lock: Path | None, ignore: tuple[str, ...]) -> tuple[tuple[str, LocalFiles], ...]:
    """The folders that a uv project depends on, by their path relative to the project.

    Args:
        pyproject: Its `pyproject.toml`.
        lock: Its `uv.lock`, which names them all; without one they are gathered from the projects themselves.
        ignore: Patterns of what is left out of each.

    Raises:
        ImageError: One of the files is not what it should be.
        MissingSourceError: A folder is not there.
    """
    root = pyproject.parent
    paths = _locked(lock) if lock is not None else _declared(root, pyproject)
    found: dict[str, LocalFiles] = {}
    for path in paths:
        folder = root / path
        if not folder.exists():
            raise MissingSourceError(
                f"with_uv_project: `{pyproject}` depends on `{path}`, and `{folder.absolute()}` does not exist."
            )
        if folder.is_dir():
            found[path] = LocalFiles(kind="folder", root=folder.absolute(), ignore=ignore, always=("pyproject.toml",))
        else:
            found[path] = LocalFiles(kind="file", root=folder.absolute())
    return tuple(found.items())


def _locked(lock: Path) -> Iterator[str]:
    """Local packages of a lock file: `source = { editable = "libs/x" }`, and the like. The project itself is `.`."""
    for package in _toml(lock).get("package", []):
        source = package.get("source", {})
        for kind in ("editable", "directory", "virtual", "path"):
            path = source.get(kind)
            if isinstance(path, str) and path != ".":
                yield path


def _declared(root: Path, pyproject: Path, seen: frozenset[Path] = frozenset()) -> Iterator[str]:
    """Local packages that projects declare: of `[tool.uv.sources]`, theirs in turn, and members of a workspace."""
    uv = _toml(pyproject).get("tool", {}).get("uv", {})
    here = pyproject.parent
    paths = [here / source["path"] for source in _tables(uv.get("sources", {})) if "path" in source]
    workspace = uv.get("workspace", {})
    excluded = {path for pattern in workspace.get("exclude", []) for path in here.glob(pattern)}
    paths += [
        path
        for pattern in workspace.get("members", [])
        for path in sorted(here.glob(pattern))
        if path not in excluded and (path / "pyproject.toml").is_file()
    ]
    for path in paths:
        if path.resolve() in seen or path.resolve() == root.resolve():
            continue
        yield _relative(path, root)
        inner = path / "pyproject.toml"
        if inner.is_file():
            yield from _declared(root, inner, seen | {path.resolve()})


def _tables(sources: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for source in sources.values():
        for table in source if isinstance(source, list) else [source]:
            if isinstance(table, dict):
                yield table


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(path.resolve(), root.resolve())


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"with_uv_project: `{path}` is not TOML: {error}.") from error
    except OSError as error:
        raise MissingSourceError(f"with_uv_project: `{path}` cannot be read: {error.strerror}.") from error
