from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.image import contents, file_digests
from buildkit_builder.image.identity import UNKNOWN


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's programs remember things."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def folder(tmp_path: Path, state: Path) -> Path:
    """A folder with a few files that nobody has touched for a while."""
    root = tmp_path / "root"
    for name in ("a", "b/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, "1.0.1")
    time.sleep(0.2)
    return root


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    seen: list[str] = []
    digest = file_digests._digest

    def watched(source: str) -> str:
        seen.append(os.path.basename(source))
        return digest(source)

    monkeypatch.setattr(file_digests, "_digest", watched)
    return seen


def write(file: Path, text: str) -> None:
    file.write_text(text)
    os.utime(file, (1, 1))


def digest(root: Path, **options: object) -> str:
    return contents.digest_of("context", [LocalDirectory("context", root, **options)])  # type: ignore[arg-type]


def test_what_was_not_touched_is_not_read_again(folder: Path, read: list[str]) -> None:
    """The digest is the same, by whatever way it was found."""
    first = digest(folder)
    assert ["a", "c"] == sorted(read)
    read.clear()

    assert first == digest(folder)
    assert [] == read


def test_a_file_that_was_touched_is_read_again(folder: Path, read: list[str]) -> None:
    """Whatever its size and time; the others are not, and when its content is the old one, so is the digest."""
    first = digest(folder)
    for text, is_same in (("1.0.2", False), ("1.0.1", True)):
        write(folder / "a", text)
        time.sleep(0.2)
        read.clear()

        assert is_same is (first == digest(folder))
        assert ["a"] == read


def test_another_file_in_its_place_is_read(folder: Path, read: list[str]) -> None:
    """A folder that takes another's name has its own files."""
    write(folder / "d", "1.0.3")
    time.sleep(0.2)
    first = digest(folder)
    (folder / "a").rename(folder / "x")
    (folder / "d").rename(folder / "a")
    (folder / "x").rename(folder / "d")
    read.clear()

    assert first != digest(folder)
    assert ["a", "d"] == read


def test_what_has_just_been_written_is_not_remembered(folder: Path, read: list[str]) -> None:
    """It might be written once more with the same times."""
    write(folder / "a", "1.0.2")
    digest(folder)
    read.clear()
    digest(folder)

    assert ["a"] == read


@pytest.mark.parametrize("memory", ["", "{", "[]", "null", '{"a": 1}', '{"/a": [1, 2]}', "\udcff"])
def test_a_memory_that_makes_no_sense_is_none(folder: Path, state: Path, read: list[str], memory: str) -> None:
    """Everything is read then, and nothing is wrong."""
    first = digest(folder)
    [file] = (state / "buildkit-builder" / "digests").iterdir()
    file.write_bytes(memory.encode(errors="surrogateescape"))
    read.clear()

    assert first == digest(folder)
    assert ["a", "c"] == sorted(read)


def test_nothing_need_be_remembered(folder: Path, state: Path) -> None:
    """Where the memory cannot be written, the digest is what it is anyway."""
    state.write_text("no folder")

    assert digest(folder) == digest(folder) != ""


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff"])
def test_what_cannot_be_sent_cannot_be_told(folder: Path, name: bytes) -> None:
    """A name that is not UTF-8 is no reason to stop a build, which may do without the file."""
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()

    assert UNKNOWN == digest(folder)
    assert UNKNOWN != digest(folder, exclude=["*"])
