"""Which files of this machine a source of an image is, and what is looked at to know."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flyte._internal.imagebuild.utils import copy_files_to_context
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_builder.buildkit.session.walk import Entry
from buildkit_builder.flyte_plugin.image_build.build_inputs import ImageJob
from buildkit_builder.image.plan import plan
from buildkit_builder.image.spec import CopyLayer, ImageSpec, LocalFiles

TREE = (
    "a.py", "a.pyc", ".env", "src/a.py", "src/deep/b.py", "src/deep/b.pyc", "build/lib/c.py", "build/keep.txt",
    ".venv/bin/python", "node_modules/x/index.js", "src/node_modules/y.js",
)  # fmt: skip


def entries(files: LocalFiles) -> list[Entry]:
    """What the daemon is told of files that an image copies."""
    layer = CopyLayer(files=files, destination=".", origin="with_source_folder")
    spec = ImageSpec(
        reference="reg.example.com/mine:1", push=True, base="debian:12", platforms=("linux/amd64",),
        python_version=(3, 12), layers=(layer,), creates_user=False, uv_image="uv:1",
    )  # fmt: skip
    [directory] = ImageJob(spec=spec, plan=plan(spec)).directories()
    return list(directory.entries())


def listed(files: LocalFiles) -> list[str]:
    """Every path that the daemon is told of."""
    return [entry.path for entry in entries(files)]


def folder(root: Path, *ignore: str, **options: Any) -> LocalFiles:
    return LocalFiles(kind="folder", root=root, ignore=ignore, **options)


def grow(root: Path) -> Path:
    """A folder with files, links, and folders that hold nothing."""
    for name in TREE:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "empty" / "er").mkdir(parents=True)
    (root / "link.py").symlink_to("src/a.py")
    (root / "linked").symlink_to("src")
    (root / "broken").symlink_to("gone")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grow(tmp_path / "tree")


@pytest.fixture
def scanned(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The folders that are listed, relative to the tree."""
    found: list[str] = []
    scandir = os.scandir

    def watched(path: str) -> Any:
        found.append(os.path.relpath(path, tree))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr("buildkit_builder.buildkit.session.walk.os.scandir", watched)
        yield found


def test_a_folder_that_is_ignored_is_not_looked_into(tree: Path, scanned: list[str]) -> None:
    """However many files it holds, at whatever depth."""
    paths = listed(folder(tree, ".venv", "**/node_modules", "build", "!build/keep.txt"))

    assert [".", "build", "empty", "empty/er", "src", "src/deep"] == sorted(scanned)
    assert [] == [path for path in paths if ".venv" in path or "node_modules" in path or "lib" in path]
    assert {"build", "build/keep.txt"} <= set(paths)


def test_an_exception_below_an_ignored_folder_has_it_looked_into(tree: Path, scanned: list[str]) -> None:
    """Only on the way to where the exception may be."""
    paths = listed(folder(tree, "*", "!src/deep/b.py"))

    assert [".", "src", "src/deep"] == scanned
    assert ["src", "src/deep", "src/deep/b.py"] == paths


def test_patterns_from_further_up(tree: Path, scanned: list[str]) -> None:
    """They name the folder's files by where it is, and leave out what its own patterns keep."""
    paths = listed(
        folder(
            tree,
            "*.pyc",
            "*",
            "!src",
            "!build",
            place="app/",
            outer=("app/src/deep", "app/build/*", "!app/build/lib/c.py", "src"),
        )
    )

    assert [
        "build",
        "build/lib",
        "build/lib/c.py",
        "src",
        "src/a.py",
        "src/node_modules",
        "src/node_modules/y.js",
    ] == paths
    assert "src/deep" not in scanned


def test_folders_are_open(tree: Path) -> None:
    """Their permissions are those of folders that Flyte's own builder makes, whatever they are here."""
    (tree / "src").chmod(0o700)

    assert {0o755} == {entry.mode & 0o7777 for entry in entries(folder(tree)) if entry.path in ("src", "build")}


def test_an_exception_for_any_folder_opens_none(tree: Path, scanned: list[str]) -> None:
    """Flyte's own builder goes by how an exception begins, and so leaves the file out."""
    paths = listed(folder(tree, "build", "!**/keep.txt"))

    assert "build" not in scanned
    assert "build/keep.txt" not in paths


def test_what_no_pattern_leaves_out(tree: Path) -> None:
    """Single paths stay, also within a folder that is left out."""
    files = folder(tree, "*", always=("a.py", "build/lib/c.py"))

    assert ["a.py", "build", "build/lib", "build/lib/c.py"] == listed(files)


PATTERNS = st.sampled_from(
    ["*", "**", "*.pyc", "**/*.pyc", "src", "src/", "/src", "src/*", "src/deep", "build", "**/node_modules", ".venv",
     "a.py", "link*", "linked", "s?c", "[ab]*", "./build/lib", "src/../build", " build ", "deep", "empty",
     "!a.py", "!src", "!src/deep/b.py", "!**/a.py", "!build/keep.txt", "!build/lib", "!*.py", "!s", "!.env"]
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(PATTERNS, max_size=4))
def test_the_files_are_those_that_flytes_own_builder_copies(patterns: list[str]) -> None:
    """Path by path and byte by byte, whatever is ignored, in the folders that they lie in."""
    with tempfile.TemporaryDirectory() as place:
        tree, context = grow(Path(place, "tree")), Path(place, "context")
        copied = copy_files_to_context(tree, context, patterns)
        files = {str(path.relative_to(copied)): path for path in copied.rglob("*") if path.is_file()}
        # Flyte's has one folder more where nothing but folders and links to folders is in it.
        folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
        expected = {path: file.read_bytes() for path, file in files.items()} | dict.fromkeys(folders)
        found = {
            entry.path: Path(entry.source).read_bytes() if os.path.isfile(entry.source) else None
            for entry in entries(folder(tree, *patterns))
        }

        assert expected == found


# --- files that are named ---


def test_only_what_is_named(tree: Path, scanned: list[str]) -> None:
    """In the folders they lie in; a link is what it leads to, and nothing is searched for."""
    paths = listed(folder(tree, only=("link.py", "src/deep/b.py")))

    assert ["link.py", "src", "src/deep", "src/deep/b.py"] == paths
    assert [] == scanned


def test_nothing_named_is_nothing(tree: Path) -> None:
    """Which is something else than everything."""
    assert [] == listed(folder(tree, only=()))
    assert len(TREE) < len(listed(folder(tree)))


def test_a_file_is_alone(tree: Path) -> None:
    """By its own name, whatever lies beside it; of a link, the file that it leads to."""
    [entry] = entries(LocalFiles(kind="file", root=tree / "link.py"))

    assert ("link.py", str(tree / "src" / "a.py")) == (entry.path, entry.source)
