"""What is remembered of installations that were tried ahead."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit_builder.solve.attempts import Attempts


def test_how_an_attempt_ended_is_remembered(tmp_path: Path) -> None:
    """By its digest, and until it ends otherwise."""
    attempts = Attempts(tmp_path / "attempts")
    attempts.note("sha256:a", "waits")
    attempts.note("sha256:b", "done")

    assert ["waits", "done", None] == [Attempts(tmp_path / "attempts").recall(f"sha256:{name}") for name in "abc"]
    attempts.note("sha256:a", "done")
    assert "done" == attempts.recall("sha256:a")


def test_it_is_forgotten_after_a_week(tmp_path: Path) -> None:
    """An index may have a wheel by then."""
    attempts = Attempts(tmp_path)
    attempts.note("sha256:a", "waits")
    [file] = tmp_path.iterdir()
    os.utime(file, (0, 0))

    assert attempts.recall("sha256:a") is None


def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    """The oldest make room."""
    for number in range(1000):
        (tmp_path / f"old-{number}").write_bytes(b"done")
        os.utime(tmp_path / f"old-{number}", (number, number))
    Attempts(tmp_path).note("sha256:new", "done")

    assert 1000 == len(list(tmp_path.iterdir()))
    assert not (tmp_path / "old-0").exists()
    assert "done" == Attempts(tmp_path).recall("sha256:new")


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    """The next build finds out by itself."""
    (tmp_path / "file").write_bytes(b"")
    attempts = Attempts(tmp_path / "file" / "attempts")
    attempts.note("sha256:a", "waits")

    assert attempts.recall("sha256:a") is None
    assert Attempts().recall("sha256:a") is None
