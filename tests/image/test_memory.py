"""What is remembered from one build to the next."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit_builder.image.memory import Memory


def test_what_was_noted_last_is_remembered(tmp_path: Path) -> None:
    """By its key, and until it is forgotten on purpose."""
    memory = Memory(tmp_path / "kept")
    memory.note("sha256:a", "waits")
    memory.note("sha256:b", "done")

    assert ["waits", "done", None] == [Memory(tmp_path / "kept").recall(f"sha256:{name}") for name in "abc"]
    memory.note("sha256:a", "done")
    assert "done" == memory.recall("sha256:a")
    memory.forget("sha256:a")
    memory.forget("sha256:never")
    assert memory.recall("sha256:a") is None


def test_it_is_forgotten_after_a_week(tmp_path: Path) -> None:
    """An index may have a wheel by then."""
    memory = Memory(tmp_path)
    memory.note("sha256:a", "waits")
    [file] = tmp_path.iterdir()
    os.utime(file, (0, 0))

    assert memory.recall("sha256:a") is None


def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    """The oldest make room."""
    for number in range(1000):
        (tmp_path / f"old-{number}").write_bytes(b"done")
        os.utime(tmp_path / f"old-{number}", (number, number))
    Memory(tmp_path).note("sha256:new", "done")

    assert 1000 == len(list(tmp_path.iterdir()))
    assert not (tmp_path / "old-0").exists()
    assert "done" == Memory(tmp_path).recall("sha256:new")


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    """The next build finds out by itself."""
    (tmp_path / "file").write_bytes(b"")
    memory = Memory(tmp_path / "file" / "kept")
    memory.note("sha256:a", "waits")

    assert memory.recall("sha256:a") is None
    assert Memory().recall("sha256:a") is None
