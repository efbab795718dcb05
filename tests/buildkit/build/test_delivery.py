from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from buildkit_builder.buildkit.build import DockerArchive, Exporter, Files, OciArchive, Push, TarArchive
from buildkit_builder.buildkit.build.delivery import Delivery
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.filesync_pb2 import BytesMessage
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet, Stat
from buildkit_builder.errors import BuildKitError, ConfigError
from tests.buildkit.session.harness import EOF, attach

INDEX = "buildkit-attachable-exporter-id"
FOLDER = 1 << 31


async def send(delivery: Delivery, index: int, data: bytes) -> None:
    """Sends an archive as the daemon does."""
    async with attach(Session(delivery.attachables)) as daemon:
        call = daemon.stream(services.FILESEND_DIFF_COPY, [(INDEX, str(index))])
        await call.write(BytesMessage(data=data).SerializeToString())
        await call.done_writing()
        assert await call.read() is EOF


async def send_tree(delivery: Delivery, index: int, stats: list[Stat], session: Session | None = None) -> None:
    """Sends a tree as the daemon does; each file holds its own path."""
    async with attach(session or Session(delivery.attachables)) as daemon:
        call = daemon.stream(services.FILESEND_DIFF_COPY, [(INDEX, str(index))])
        for stat in stats:
            await call.write(Packet(type=Packet.PACKET_STAT, stat=stat).SerializeToString())
        await call.write(b"")
        while (message := await call.read()) is not EOF:
            packet = Packet.FromString(message)
            if packet.type == Packet.PACKET_FIN:
                await call.write(message)
                await call.done_writing()
                continue
            data = stats[packet.ID].path.encode()
            await call.write(Packet(type=Packet.PACKET_DATA, ID=packet.ID, data=data).SerializeToString())
            await call.write(Packet(type=Packet.PACKET_DATA, ID=packet.ID).SerializeToString())


def names(folder: Path) -> list[str]:
    """What is in a folder, hidden files too."""
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("exporter", [TarArchive, OciArchive, DockerArchive])
async def test_archive_appears_when_the_build_has_succeeded(
    tmp_path: Path, exporter: type[TarArchive | OciArchive | DockerArchive]
) -> None:
    """An archive that has arrived is not in its place before the build has succeeded."""
    path = tmp_path / "deep" / "made.tar"
    delivery = Delivery([Push(reference="a"), exporter(path=path)])
    await send(delivery, 1, b"archive")
    before = path.exists()
    delivery.complete()
    delivery.discard()

    assert not before
    assert b"archive" == path.read_bytes()
    assert ["made.tar"] == names(path.parent)


async def test_failed_build_leaves_what_was_there(tmp_path: Path) -> None:
    """Of a build that failed nothing is left, and what was there before still is."""
    (tmp_path / "made.tar").write_bytes(b"before")
    delivery = Delivery([TarArchive(path=tmp_path / "made.tar"), Files(path=tmp_path / "out")])
    await send(delivery, 0, b"archive")
    await send_tree(delivery, 1, [Stat(path="locked", mode=FOLDER | 0o555), Stat(path="locked/a", mode=0o400)])
    delivery.discard()

    assert b"before" == (tmp_path / "made.tar").read_bytes()
    assert ["made.tar"] == names(tmp_path)


async def test_files_into_a_new_folder(tmp_path: Path) -> None:
    """A tree becomes a folder, with the modes of the result."""
    delivery = Delivery([Files(path=tmp_path / "out")])
    await send_tree(delivery, 0, [Stat(path="locked", mode=FOLDER | 0o555), Stat(path="locked/a", mode=0o400)])
    delivery.complete()
    delivery.discard()

    assert b"locked/a" == (tmp_path / "out" / "locked" / "a").read_bytes()
    assert 0o555 == (tmp_path / "out" / "locked").stat().st_mode & 0o777
    assert ["out"] == names(tmp_path)


async def test_files_into_a_folder_with_files(tmp_path: Path) -> None:
    """A tree is added to what is there: files of the same names are replaced, folders are joined, the rest stays."""
    out = tmp_path / "out"
    (out / "both").mkdir(parents=True)
    (out / "both" / "old").write_text("old")
    (out / "both" / "same").write_text("old")
    (out / "was-file").write_text("old")
    out.chmod(0o711)
    tree = [
        Stat(path="both", mode=FOLDER | 0o555, modTime=10**18),
        Stat(path="both/same", mode=0o644),
        Stat(path="new", mode=FOLDER | 0o555),
        Stat(path="new/a", mode=0o600),
        Stat(path="was-file", mode=FOLDER | 0o755),
    ]
    delivery = Delivery([Files(path=out)])
    await send_tree(delivery, 0, tree)
    delivery.complete()
    delivery.discard()

    assert {"both/old": "old", "both/same": "both/same", "new/a": "new/a"} == {
        str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()
    }
    assert (0o555, 10**18) == ((out / "both").stat().st_mode & 0o777, (out / "both").stat().st_mtime_ns)
    assert 0o555 == (out / "new").stat().st_mode & 0o777
    assert (out / "was-file").is_dir()
    assert 0o711 == out.stat().st_mode & 0o777


async def test_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    """A folder of the user's is not replaced by a file."""
    (tmp_path / "out" / "a").mkdir(parents=True)
    delivery = Delivery([Files(path=tmp_path / "out")])
    await send_tree(delivery, 0, [Stat(path="a", mode=0o644)])

    with pytest.raises(BuildKitError, match="is a folder"):
        delivery.complete()
    delivery.discard()
    assert ["out"] == names(tmp_path)


async def test_links_are_followed(tmp_path: Path) -> None:
    """Where the place is a link, what it leads to is written, and the link stays."""
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    (tmp_path / "link.tar").symlink_to("real/made.tar")
    delivery = Delivery([Files(path=tmp_path / "out"), TarArchive(path=tmp_path / "link.tar")])
    await send_tree(delivery, 0, [Stat(path="a", mode=0o644)])
    await send(delivery, 1, b"archive")
    delivery.complete()
    delivery.discard()

    assert (tmp_path / "out").is_symlink()
    assert ["a", "made.tar"] == names(tmp_path / "real")


async def test_pipe(tmp_path: Path) -> None:
    """A named pipe is written to as it is, and is there afterwards."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    delivery = Delivery([TarArchive(path=pipe)])
    reading = asyncio.ensure_future(asyncio.to_thread(pipe.read_bytes))
    await send(delivery, 0, b"archive")
    delivery.complete()
    delivery.discard()

    assert b"archive" == await reading
    assert pipe.is_fifo()


def test_same_place(tmp_path: Path) -> None:
    """Two exporters to one place are refused, and nothing is left of the first."""
    with pytest.raises(ConfigError, match="made"):
        Delivery([TarArchive(path=tmp_path / "made"), OciArchive(path=tmp_path / "." / "made")])

    assert [] == names(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "file", "inside a file"])
def test_places_that_cannot_be(tmp_path: Path, kind: str) -> None:
    """An archive in the place of a folder, a folder in that of a file, a place inside a file: refused at once."""
    (tmp_path / "file").write_text("")
    exporters: dict[str, Exporter] = {
        "folder": TarArchive(path=tmp_path),
        "file": Files(path=tmp_path / "file"),
        "inside a file": TarArchive(path=tmp_path / "file" / "made.tar"),
    }

    with pytest.raises(BuildKitError, match="cannot be written"):
        Delivery([exporters[kind]])
    assert ["file"] == names(tmp_path)


def test_nothing_to_deliver() -> None:
    """A build that writes nothing here offers nothing."""
    assert () == Delivery([Push(reference="a")]).attachables
