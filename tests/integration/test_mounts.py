"""Results that are written onto mount points: onto volumes and shared folders of a container, most of all."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, Exporter, Files, GraphFrontend, TarArchive, build
from buildkit_builder.buildkit.build.delivery import Delivery
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.errors import BuildKitError
from tests.conftest import Engine

FILES = ("data/deep/file", "file")
CONTENT = b"of the result"


@contextmanager
def mounted(*words: str) -> Iterator[None]:
    """Mounts something while the context lasts."""
    subprocess.run(["mount", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", words[-1]], check=True)


def tmpfs(out: Path) -> list[str]:
    return ["-t", "tmpfs", "tmpfs", str(out)]


def same_disk(out: Path) -> list[str]:
    outside = next(parent for parent in out.parents if "out" not in parent.parts)
    (outside / "shared").mkdir()
    return ["--bind", str(outside / "shared"), str(out)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with a file of an earlier result."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


async def export(engine: Engine, exporter: Exporter) -> None:
    """Builds a small tree."""
    state = llb.scratch().file(
        llb.mkdir("/data/deep", 0o755, parents=True),
        *(llb.mkfile(f"/{name}", CONTENT, 0o640) for name in FILES),
    )
    endpoint = Endpoint(address=engine.address, kind="docker" if engine.docker_host else "buildkit")
    frontend = GraphFrontend(state=state, platform=llb.Platform.parse("linux/amd64"))
    screen = open_screen("quiet", io.StringIO(), environ={}, clock=time.monotonic)
    async with await connect(endpoint) as connection:
        request = BuildRequest(title="mounts", frontend=frontend, exporters=(exporter,))
        await build(connection, request, screen.display())


def found(out: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and contents."""
    return {
        str(path.relative_to(out)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in out.rglob("*")
        if path.is_file()
    }


RESULT = dict.fromkeys(FILES, (416, CONTENT))


@pytest.mark.parametrize("words", [tmpfs, same_disk])
async def test_a_folder_that_is_a_mount_point(engine: Engine, out: Path, words: Callable[[Path], list[str]]) -> None:
    """The files get there, over those of an earlier result, and nothing else is left there or beside."""
    with mounted(*words(out)):
        (out / "data").mkdir()
        (out / "data" / "other").write_bytes(b"of the user")
        (out / "file").write_bytes(b"before")
        await export(engine, Files(path=out))

        assert {**RESULT, "data/other": (0o644, b"of the user")} == found(out)
        assert {"data", "file"} == set(os.listdir(out))
    assert {"out", "shared"} >= set(os.listdir(out.parent))


@pytest.mark.parametrize("words", [tmpfs, same_disk])
@pytest.mark.parametrize("below", ["data", "data/deep"])
async def test_a_mount_point_in_the_folder(
    engine: Engine, out: Path, words: Callable[[Path], list[str]], below: str
) -> None:
    """Files whose place is on another disk get there as well."""
    (out / below).mkdir(parents=True)
    with mounted(*words(out / below)):
        await export(engine, Files(path=out))

        assert RESULT == found(out)
        assert {"data", "file"} == set(os.listdir(out))


@pytest.mark.parametrize("words", [tmpfs, same_disk])
async def test_a_new_folder_on_a_mount_point(engine: Engine, out: Path, words: Callable[[Path], list[str]]) -> None:
    """A folder that is not there yet is made, and a link to one leads there."""
    with mounted(*words(out)):
        (out.parent / "link").symlink_to(out)
        await export(engine, Files(path=out.parent / "link" / "new" / "one"))

        assert RESULT == found(out / "new" / "one")
        assert ["new"] == os.listdir(out)


async def test_a_file_that_is_a_mount_point(engine: Engine, out: Path) -> None:
    """A single file that is mounted, as `docker run -v` does it, is written to; its name stays where it is."""
    target, shown = out / "real.tar", out / "shown.tar"
    target.write_bytes(b"x" * 1_000_000)
    shown.touch()
    with mounted("--bind", str(target), str(shown)):
        await export(engine, TarArchive(path=shown))
        with tarfile.open(target) as archive:
            assert {"data", "data/deep", *FILES} == set(archive.getnames())

    assert {"real.tar", "shown.tar"} == set(os.listdir(out))
    assert b"" == shown.read_bytes()


async def test_a_mounted_file_in_a_folder(engine: Engine, out: Path) -> None:
    """So is one that a tree has a file for."""
    real = out.parent / "real"
    real.write_bytes(b"before, and longer than what comes")
    (out / "file").touch()
    with mounted("--bind", str(real), str(out / "file")):
        await export(engine, Files(path=out))
        assert CONTENT == (out / "file").read_bytes()

    assert CONTENT == real.read_bytes()


async def test_a_folder_that_cannot_be_written_to(engine: Engine, out: Path) -> None:
    """A disk that may only be read is refused before anything is built."""
    with mounted(*tmpfs(out)):
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
        for exporter in (Files(path=out), Files(path=out / "new"), TarArchive(path=out / "new.tar")):
            with pytest.raises(BuildKitError, match=r"cannot be written to .*Read-only"):
                Delivery([exporter])
