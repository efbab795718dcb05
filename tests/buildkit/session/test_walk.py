from __future__ import annotations

import os
import socket
import stat
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_builder.buildkit.session.patterns import Matcher
from buildkit_builder.buildkit.session.walk import (
    MODE_CHAR_DEVICE,
    MODE_DEVICE,
    MODE_DIR,
    MODE_NAMED_PIPE,
    MODE_SETGID,
    MODE_SETUID,
    MODE_STICKY,
    MODE_SYMLINK,
    Entry,
    Selection,
    walk,
    walk_files,
    xattrs_of,
)
from buildkit_builder.errors import SourceError, SourceNameError
from tests.buildkit.session.harness import write_tree

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
simple = st.sampled_from(["a", "b", "ab", "a.txt", "b.txt", "z"])
globs = st.sampled_from(["a", "b", "*", "*.txt", "**/a", "a/b", "a/**", "!a/b", "!**/*.txt", "!a", "z/*", "?b", "!z"])


def paths(root: Path, **selection: object) -> list[str]:
    return [entry.path for entry in walk(str(root), Selection(**selection))]  # type: ignore[arg-type]


def in_order(listed: list[str]) -> list[str]:
    """What is listed, sorted as the protocol wants it: component by component, by the bytes of the names."""
    return sorted(listed, key=lambda path: [part.encode() for part in path.split("/")])


@settings(max_examples=50)
@given(st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), max_size=12))
def test_lists_what_is_there(files: list[str]) -> None:
    """Every file and folder is listed once, in byte order of names, with its size and time."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path in files:
            target = root / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.encode())
            except (FileExistsError, IsADirectoryError, NotADirectoryError):
                continue
        there = [
            os.path.relpath(os.path.join(above, name), root)
            for above, folders, inside in os.walk(root)
            for name in (*folders, *inside)
        ]
        entries = list(walk(folder, Selection()))

        assert in_order(there) == [entry.path for entry in entries]
        for entry in entries:
            status = (root / entry.path).lstat()
            expected = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            assert (expected, status.st_mtime_ns) == (entry.size, entry.mtime)


@given(
    st.lists(st.lists(simple, min_size=1, max_size=4).map("/".join), max_size=12),
    st.lists(globs, max_size=4),
    st.lists(globs.filter(lambda glob: glob[0] != "!"), max_size=2),
)
def test_filters(files: list[str], exclude: list[str], include: list[str]) -> None:
    """What is listed is what the patterns leave, and the folders on the way to it, whatever is pruned."""
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            (Path(folder) / path).mkdir(parents=True, exist_ok=True)
        everything = paths(Path(folder))
        excludes, includes = Matcher(exclude), Matcher(include)
        left = {path for path in everything if not excludes.matches(path) and (not include or includes.matches(path))}
        above = {path[:index] for path in left for index, char in enumerate(path) if char == "/"}
        expected = in_order(list(left | above))

        assert expected == paths(Path(folder), asked_exclude=exclude, asked_include=include)
        assert expected == paths(Path(folder), exclude=exclude, asked_include=include)


def test_excluded_folders_are_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is left out whole is not even read."""
    write_tree(tmp_path, {"node_modules/x/y": b"", "src/a": b"", ".git/objects/1": b"", ".git/keep": b""})
    scanned = []
    scandir = os.scandir

    def note(path: str) -> object:
        scanned.append(os.path.relpath(path, tmp_path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", note)

    assert ["src", "src/a"] == paths(tmp_path, exclude=["node_modules", ".git", "!src/b"])
    assert [".", "src"] == scanned


def test_modes(tmp_path: Path) -> None:
    """Modes are Go's, with its own bits for kinds and for setuid, setgid and sticky."""
    (tmp_path / "plain").touch()
    (tmp_path / "plain").chmod(0o640)
    (tmp_path / "suid").touch()
    (tmp_path / "suid").chmod(0o6755)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "link").symlink_to("plain")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").chmod(0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket is short
        listener.bind("socket")
        os.chdir(here)
    (tmp_path / "socket").chmod(0o700)
    entries = {entry.path: entry for entry in walk(str(tmp_path), Selection())}

    assert {
        "plain": 0o640,
        "suid": MODE_SETUID | MODE_SETGID | 0o755,
        "tmp": MODE_DIR | MODE_STICKY | 0o777,
        "link": MODE_SYMLINK | 0o777,
        "pipe": MODE_NAMED_PIPE | 0o600,
        "socket": 0o700,
    } == {path: entry.mode for path, entry in entries.items()}
    assert ("plain", 5) == (entries["link"].link, entries["link"].size)
    assert {"plain", "suid"} == {path for path, entry in entries.items() if entry.has_content}


def test_devices() -> None:
    """Devices keep their kind and numbers."""
    null = next(entry for entry in walk("/dev", Selection(asked_include=["null"])))

    assert MODE_DEVICE | MODE_CHAR_DEVICE == null.mode & ~0o777
    assert os.stat("/dev/null").st_rdev == null.device


def test_hard_links(tmp_path: Path) -> None:
    """Further names are files of their own, or point to the first that is listed, even if an earlier is left out."""
    write_tree(tmp_path, {"b": b"content"})
    os.link(tmp_path / "b", tmp_path / "a")
    os.link(tmp_path / "b", tmp_path / "c")

    def listed(**selection: object) -> list[tuple[str, str, int]]:
        entries = walk(str(tmp_path), Selection(**selection))  # type: ignore[arg-type]
        return [(entry.path, entry.link, entry.size) for entry in entries]

    assert [("a", "", 7), ("b", "", 7), ("c", "", 7)] == listed()
    assert [("a", "", 7), ("b", "a", 0), ("c", "a", 0)] == listed(hard_links=True)
    assert [("b", "", 7), ("c", "b", 0)] == listed(hard_links=True, exclude=["a"])


def test_xattrs(tmp_path: Path) -> None:
    """Extended attributes are read, but Apple's."""
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.color", b"blue")
    os.setxattr(tmp_path / "file", "user.com.apple.x", b"kept, it is not Apple's")

    [entry] = walk(str(tmp_path), Selection())

    assert {"user.color": b"blue", "user.com.apple.x": b"kept, it is not Apple's"} == xattrs_of(entry)


def test_a_root_that_is_a_link(tmp_path: Path) -> None:
    """A link to a folder is resolved once, at the root only."""
    write_tree(tmp_path, {"real/file": b""})
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "loop").symlink_to("..")

    assert ["file", "loop"] == paths(tmp_path / "link")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """Such a name is an error that shows it, unless it is left out."""
    (tmp_path / "dir").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/dir/caf\xe9.txt")).touch()

    with pytest.raises(SourceNameError, match=r"dir/caf\\xe9\.txt is not UTF-8"):
        paths(tmp_path)
    assert ["dir"] == paths(tmp_path, exclude=["dir/*.txt"])


def test_links_to_names_that_are_not_utf8(tmp_path: Path) -> None:
    """A link whose text is not UTF-8 cannot be carried either."""
    os.symlink(b"caf\xe9", os.fsencode(tmp_path) + b"/link")

    with pytest.raises(SourceNameError, match="link"):
        paths(tmp_path)


def test_links_copied_as_files(tmp_path: Path) -> None:
    """With `copy-files`, links to files become files and other links vanish."""
    write_tree(tmp_path, {"outside": b"content", "root/dir/x": b""})
    (tmp_path / "outside").chmod(0o600)
    root = tmp_path / "root"
    (root / "file").symlink_to("../outside")
    (root / "folder").symlink_to("dir")
    (root / "broken").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    entries = list(walk(str(root), Selection(symlinks="copy-files")))

    assert ["dir", "dir/x", "file"] == [entry.path for entry in entries]
    assert (0o600, 7, "", str(tmp_path / "outside")) == (
        entries[2].mode,
        entries[2].size,
        entries[2].link,
        entries[2].source,
    )


def test_empty_folders_can_be_left_out(tmp_path: Path) -> None:
    """Without empty folders only those on the way to a file are listed."""
    write_tree(tmp_path, {"a/b/file": b""})
    (tmp_path / "a" / "empty" / "inner").mkdir(parents=True)

    assert ["a", "a/b", "a/b/file"] == paths(tmp_path, empty_dirs=False)


def test_folders_with_permissions_that_were_asked_for(tmp_path: Path) -> None:
    """Folders have the permissions that were asked for, and files their own."""
    write_tree(tmp_path, {"closed/file": b""})
    (tmp_path / "closed").chmod(0o1700)
    (tmp_path / "closed" / "file").chmod(0o640)

    entries = list(walk(str(tmp_path), Selection(folder_mode=0o755)))

    assert [MODE_DIR | 0o755, 0o640] == [entry.mode for entry in entries]


def test_keep_comes_before_the_patterns(tmp_path: Path) -> None:
    """`keep` decides where it has an opinion, and `descend` opens what it leaves out."""
    write_tree(
        tmp_path, {"a.pyc": b"", "b.pyc": b"", "c.py": b"", "d.py": b"", "in/a": b"", "out/a": b"", "out/b": b""}
    )
    opinions = {"a.pyc": True, "c.py": False, "in": False, "out": False, "out/b": False}
    asked = []

    def keep(path: str, is_folder: bool) -> bool | None:
        asked.append((path, is_folder))
        return opinions.get(path)

    def descend(path: str) -> bool:
        return path == "out"

    assert ["a.pyc", "d.py", "out", "out/a"] == paths(tmp_path, exclude=["*.pyc"], keep=keep, descend=descend)
    assert ("out", True) in asked
    assert ("in/a", False) not in asked
    assert ["d.py"] == paths(tmp_path, exclude=["*.pyc"], keep=keep, asked_include=["*.py"])


def test_files_from_anywhere(tmp_path: Path) -> None:
    """Named files make a tree of their own, links resolved and folders taken whole."""
    write_tree(tmp_path, {"x/requirements.txt": b"one", "y/pkg/m.py": b"two", "y/pkg/n.pyc": b""})
    (tmp_path / "link").symlink_to("x/requirements.txt")
    files = {
        "z/req.txt": str(tmp_path / "link"),
        "pkg": str(tmp_path / "y" / "pkg"),
        "a-b": str(tmp_path / "x" / "requirements.txt"),
        "a/c": str(tmp_path / "link"),
    }
    entries = list(walk_files(files, Selection(exclude=["**/*.pyc"])))

    assert ["a", "a/c", "a-b", "pkg", "pkg/m.py", "z", "z/req.txt"] == [entry.path for entry in entries]
    assert (MODE_DIR | 0o755, 0) == (entries[0].mode, entries[0].mtime)
    assert 3 == entries[-1].size


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a//b", ".", "..", "a/.", "a/"])
def test_files_cannot_be_put_outside(path: str) -> None:
    """A path in the tree must be one inside it."""
    with pytest.raises(SourceError, match="not a path inside"):
        list(walk_files({path: "/etc/hostname"}, Selection()))


@pytest.mark.parametrize("files", [{"a": "/x", "a/b": "/x"}, {"a/b": "/x", "a": "/x"}])
def test_files_that_collide(files: dict[str, str]) -> None:
    """A path cannot be a file and a folder."""
    with pytest.raises(SourceError, match="No file can be put at"):
        list(walk_files(files, Selection()))


def test_missing_files_are_named(tmp_path: Path) -> None:
    """A named file that is not there is an error, not an omission."""
    with pytest.raises(SourceError, match=r"missing\.txt cannot be read"):
        list(walk_files({"a": str(tmp_path / "missing.txt")}, Selection()))


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Whoever runs the tests, permissions apply."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that others than root cannot read, in one that they can."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "locked").mkdir()
    (root / "locked" / "file").touch()
    (root / "locked").chmod(0)
    yield root
    (root / "locked").chmod(0o700)
    (root / "locked" / "file").unlink()
    (root / "locked").rmdir()
    root.rmdir()


def test_unreadable_folders(locked: Path, unprivileged: None) -> None:
    """A folder that cannot be read is an error that names it, unless it is left out."""
    with pytest.raises(SourceError, match="locked cannot be read: Permission denied"):
        paths(locked)
    assert [] == paths(locked, exclude=["locked", "!locked/other"])


def test_fifty_thousand_entries(tmp_path: Path) -> None:
    """A walk holds one folder's names at a time, not the tree."""
    for number in range(100):
        folder = tmp_path / f"{number:03}"
        folder.mkdir()
        for index in range(500):
            os.close(os.open(folder / str(index), os.O_CREAT))
    tracemalloc.start()
    count = sum(1 for _ in walk(str(tmp_path), Selection()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 50_100 == count
    assert peak < 2 << 20


def test_entries_are_values() -> None:
    """Entries of equal content are equal."""
    assert Entry("a", "/a", 0, 1, 2) == Entry("a", "/a", 0, 1, 2)
