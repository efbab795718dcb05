"""Disks other than the usual one, mounted for a test; that takes root."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Mount = Callable[..., Path]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts something at a place, until the test is over."""
    places: list[Path] = []

    def mounted(place: Path, *arguments: str) -> Path:
        if not place.exists():
            place.mkdir(parents=True)
        subprocess.run(["mount", *(arguments or ("-t", "tmpfs", "tmpfs")), str(place)], check=True)
        places.append(place)
        return place

    yield mounted
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def caseless(tmp_path: Path) -> Iterator[Path]:
    """A disk that takes `A` and `a` for one name, as those of macOS and Windows do."""
    image, place = tmp_path / "disk", tmp_path / "caseless"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    place.mkdir()
    subprocess.run(["mkntfs", "--fast", "--force", "--quiet", str(image)], check=True, capture_output=True)
    subprocess.run(["lowntfs-3g", "-o", "ignore_case,permissions", str(image), str(place)], check=True)
    try:
        (place / "PROBE").touch()
        assert (place / "probe").exists()
        (place / "probe").unlink()
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
