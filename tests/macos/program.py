"""Builds an image as a user's program does on macOS: in a process that was spawned, from a disk that knows no case."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import flyte
from flyte import Image
from flyte._internal.imagebuild.image_builder import ImageBuildEngine


def image_of(base: str, name: str, registry: str, disk: Path) -> Image:
    """Files named in another case than the disk has them in, and a command that sees them."""
    return (
        Image.from_base(base)
        .clone(name=name, registry=registry, extendable=True, python_version=(3, 11))
        .with_source_folder(disk / "SRC", dst="/app")
        .with_source_file(disk / "READ.ME", dst="/app/")
        .with_commands(["cd /app && find . -type f | sort > /seen"])
    )


def build(base: str, name: str, registry: str, disk: Path) -> tuple[str, str]:
    """In the process that was spawned: what Flyte builds with, and what was built."""
    flyte.init(image_builder="local")
    builder = type(ImageBuildEngine._get_builder("local")).__module__
    return builder, str(flyte.build(image_of(base, name, registry, disk)).uri)


if __name__ == "__main__":
    assert "spawn" == multiprocessing.get_start_method()
    with ProcessPoolExecutor(1) as pool:
        base, name, registry, disk = sys.argv[1:]
        sys.stdout.write("{} {}\n".format(*pool.submit(build, base, name, registry, Path(disk)).result()))
