from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_builder.buildkit.session.follow import follow_links
from tests.buildkit.session.harness import write_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of links."""
    write_tree(tmp_path, {"real/inner/file": b"", "b.txt": b"", "c.txt": b""})
    (tmp_path / "dir").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("../b.txt")
    (tmp_path / "absolute").symlink_to("/real/inner")
    (tmp_path / "outside").symlink_to("../../../../etc/passwd")
    (tmp_path / "a.txt").symlink_to("b.txt")
    (tmp_path / "loop1").symlink_to("loop2")
    (tmp_path / "loop2").symlink_to("loop1")
    (tmp_path / "top").symlink_to(".")
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["b.txt"], ["b.txt"]),
        (["/b.txt"], ["b.txt"]),
        (["missing/x"], ["missing/x"]),
        (["dir/inner/file"], ["dir", "real/inner/file"]),
        (["dir/up"], ["b.txt", "dir", "real/up"]),
        (["absolute/file"], ["absolute", "real/inner/file"]),
        (["outside"], ["etc/passwd", "outside"]),
        (["loop1"], ["loop1", "loop2"]),
        (["top"], None),
        (["."], None),
        (["b.txt", "c.txt"], ["b.txt", "c.txt"]),
        (["nowhere/*"], ["nowhere/*"]),
    ],
)
def test_paths_bring_their_links(root: Path, asked: list[str], expected: list[str] | None) -> None:
    """Every link on the way and every target is included, and nothing outside the root."""
    assert expected == follow_links(str(root), asked)


def test_wildcards(root: Path) -> None:
    """A wildcard in the last part finds the links it matches."""
    assert ["*.txt", "b.txt"] == follow_links(str(root), ["*.txt"])
