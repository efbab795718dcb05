"""Results that are written to where other file systems are mounted, and to a disk that knows no case."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import grpc.aio
import pytest

from buildkit_builder.buildkit.build import Files, TarArchive
from buildkit_builder.buildkit.build.delivery import Delivery
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.session.walk import MODE_SYMLINK
from buildkit_builder.buildkit.wire.fsutil_pb2 import Stat
from tests.buildkit.build.test_delivery import FOLDER, names, send, send_tree
from tests.disks import Mount, caseless, mount

__all__ = ["caseless", "mount"]


def _file(path: str, **fields: int | str) -> Stat:
    return Stat(path=path, mode=0o644, modTime=1_000_000_000, **fields)  # type: ignore[arg-type]


def _folder(path: str) -> Stat:
    return Stat(path=path, mode=FOLDER | 0o755, modTime=2_000_000_000)


TREE = [
    _file("a"),
    _folder("sub"),
    _file("sub/b"),
    _folder("sub/deep"),
    _file("sub/deep/c"),
    Stat(path="sub/link", mode=MODE_SYMLINK | 0o777, linkname="b", modTime=3_000_000_000),
]


async def _deliver(path: Path, tree: list[Stat]) -> None:
    delivery = Delivery([Files(path=path)])
    try:
        await send_tree(delivery, 0, tree)
        delivery.complete()
    finally:
        delivery.discard()


async def _refusal(path: Path, tree: list[Stat]) -> str:
    """What is said of a result that does not arrive."""
    delivery = Delivery([Files(path=path)])
    session = Session(delivery.attachables)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await send_tree(delivery, 0, tree, session)
    delivery.discard()
    return str(session.failure)


def _found(path: Path) -> dict[str, object]:
    """The files below, with their content, and the links, with their text; and that nothing else was left."""
    found: dict[str, object] = {}
    for entry in sorted(path.rglob("*")):
        name = str(entry.relative_to(path))
        if entry.is_symlink():
            found[name] = os.readlink(entry)
        elif entry.is_file():
            found[name] = entry.read_bytes()
    return found


ALL = {"a": b"a", "sub/b": b"sub/b", "sub/deep/c": b"sub/deep/c", "sub/link": "b"}


async def test_a_folder_that_is_a_mount_point(tmp_path: Path, mount: Mount) -> None:
    """As a volume of a container is: nothing can be renamed into it from beside it."""
    out = mount(tmp_path / "out")
    (out / "there").write_text("before")
    await _deliver(out, TREE)

    assert {**ALL, "there": b"before"} == _found(out)
    assert ["a", "sub", "there"] == names(out)
    assert 1_000_000_000 == (out / "sub" / "b").stat().st_mtime_ns


async def test_a_folder_whose_parent_cannot_be_written_to(tmp_path: Path, mount: Mount) -> None:
    """Only the mounted folder can, where a container's root is read-only."""
    parent = mount(tmp_path / "parent")
    mount(parent / "out")
    subprocess.run(["mount", "-o", "remount,ro", str(parent)], check=True)
    await _deliver(parent / "out", TREE)

    assert ALL == _found(parent / "out")


async def test_other_mount_points_inside(tmp_path: Path, mount: Mount) -> None:
    """What belongs there is copied there, with its time; what is there already is replaced."""
    out = tmp_path / "out"
    inner = mount(out / "sub")
    mount(inner / "deep")
    (inner / "b").write_text("before")
    (inner / "link").write_text("before")
    await _deliver(out, TREE)

    assert ALL == _found(out)
    assert 1_000_000_000 == (inner / "b").stat().st_mtime_ns
    assert ["b", "deep", "link"] == names(inner)


async def test_a_folder_of_the_result_between_mount_points(tmp_path: Path, mount: Mount) -> None:
    """It is made where it belongs, and filled."""
    out = tmp_path / "out"
    inner = mount(out / "sub")
    await _deliver(out, TREE)

    assert ALL == _found(out)
    assert 2_000_000_000 == (inner / "deep").stat().st_mtime_ns


async def test_a_single_file_that_is_mounted(tmp_path: Path, mount: Mount) -> None:
    """It cannot be replaced, and so is written into."""
    behind, path = tmp_path / "behind", tmp_path / "made.tar"
    behind.write_text("before, and longer than what comes")
    path.touch()
    mount(path, "--bind", str(behind))
    delivery = Delivery([TarArchive(path=path)])
    await send(delivery, 0, b"archive")
    delivery.complete()
    delivery.discard()

    assert b"archive" == path.read_bytes() == behind.read_bytes()
    assert ["behind", "made.tar"] == names(tmp_path)


async def test_an_archive_into_a_mount_point(tmp_path: Path, mount: Mount) -> None:
    """It is kept beside its place, on the same file system."""
    out = mount(tmp_path / "out")
    delivery = Delivery([TarArchive(path=out / "made.tar")])
    await send(delivery, 0, b"archive")
    delivery.complete()
    delivery.discard()

    assert ["made.tar"] == names(out)


async def test_a_build_that_fails_leaves_nothing_at_a_mount_point(tmp_path: Path, mount: Mount) -> None:
    """Though it was kept there meanwhile."""
    out = mount(tmp_path / "out")
    delivery = Delivery([Files(path=out)])
    await send_tree(delivery, 0, TREE)
    delivery.discard()

    assert [] == names(out)


@pytest.mark.parametrize(
    ("tree", "one", "other"),
    [
        ([_file("A"), _file("a")], "A", "a"),
        ([_folder("A"), _file("A/x"), _folder("a"), _file("a/x")], "A", "a"),
        ([_folder("A"), _file("a")], "A", "a"),
        ([_file("A"), _folder("a")], "A", "a"),
        ([_file("A"), Stat(path="a", mode=MODE_SYMLINK | 0o777, linkname="A")], "A", "a"),
        ([_folder("d"), _file("d/Read.me"), _file("d/read.ME")], "d/Read.me", "d/read.ME"),
        ([_file("a"), _file("h", linkname="a"), _file("A")], "a", "A"),
    ],
)
async def test_names_that_a_disk_takes_for_one_are_not_mixed(
    caseless: Path, tree: list[Stat], one: str, other: str
) -> None:
    """The build fails with both names, and nothing of the result is left."""
    assert f"both `{one}` and `{other}`, which are one name" in await _refusal(caseless / "out", tree)
    assert [] == [name for name in names(caseless) if not name.startswith("$")]


async def test_a_result_without_such_names_arrives(caseless: Path) -> None:
    """Also where a file of another case is there: it is replaced."""
    out = caseless / "out"
    await _deliver(out, TREE)
    await _deliver(out, [_file("A")])

    assert {**ALL, "a": b"A"} == _found(out)


async def test_such_names_arrive_on_a_disk_that_tells_them_apart(tmp_path: Path) -> None:
    """As they are."""
    await _deliver(tmp_path / "out", [_file("A"), _file("a"), _folder("B"), _folder("b"), _file("b/x")])

    assert {"A": b"A", "a": b"a", "b/x": b"b/x"} == _found(tmp_path / "out")


async def test_hard_links_of_a_result_are_no_such_names(tmp_path: Path) -> None:
    """They are one file on purpose; and what is there before, linked or not, is replaced."""
    out = tmp_path / "out"
    tree = [_file("a"), _file("b", linkname="a"), _file("c", linkname="b")]
    await _deliver(out, tree)
    await _deliver(out, tree)

    assert {"a": b"a", "b": b"a", "c": b"a"} == _found(out)
    assert 3 == (out / "a").stat().st_nlink
