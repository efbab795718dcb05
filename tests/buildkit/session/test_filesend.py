from __future__ import annotations

import asyncio
import contextlib
import io
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.session import filesend, receive
from buildkit_builder.buildkit.session.filesend import Directory, FileReceiver, TarFile
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.session.walk import MODE_DIR, MODE_NAMED_PIPE, MODE_SETUID, MODE_SYMLINK
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.filesync_pb2 import BytesMessage
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet, Stat
from buildkit_builder.errors import BuildKitError
from tests.buildkit.session.harness import EOF, Daemon, attach, ending

ID = "buildkit-attachable-exporter-id"
TIME = 1_700_000_000_123_456_789


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until something has happened on the disk, which nothing reports."""
    while not condition():
        await asyncio.sleep(0)


async def send_bytes(daemon: Daemon, chunks: Sequence[bytes], *metadata: tuple[str, str]) -> grpc.StatusCode:
    """Sends an archive as the daemon does."""
    call = daemon.stream(services.FILESEND_DIFF_COPY, metadata)
    # What cannot be received may be refused before any of it was sent.
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for chunk in chunks:
            await call.write(BytesMessage(data=chunk).SerializeToString())
        await call.done_writing()
    return await ending(call)


async def send_tree(daemon: Daemon, entries: Sequence[tuple[Stat, bytes]], index: str = "0") -> Any:
    """Sends a tree as fsutil does; returns the call when both have finished, or it has failed."""
    call = daemon.stream(services.FILESEND_DIFF_COPY, [(ID, index)])
    try:
        for entry, _ in entries:
            await call.write(Packet(stat=entry).SerializeToString())
        await call.write(b"")
        while (message := await call.read()) is not EOF:
            packet = Packet.FromString(message)
            if packet.type == Packet.PACKET_FIN:
                await call.write(Packet(type=Packet.PACKET_FIN).SerializeToString())
                continue
            assert packet.type == Packet.PACKET_REQ
            content = entries[packet.ID][1]
            for start in range(0, len(content), 1000):
                data = content[start : start + 1000]
                await call.write(Packet(type=Packet.PACKET_DATA, ID=packet.ID, data=data).SerializeToString())
            await call.write(Packet(type=Packet.PACKET_DATA, ID=packet.ID).SerializeToString())
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
    return call


def file(path: str, content: bytes = b"", mode: int = 0o644, **fields: Any) -> tuple[Stat, bytes]:
    return Stat(path=path, mode=mode, size=len(content), modTime=TIME, **fields), content


def folder(path: str, mode: int = 0o755) -> tuple[Stat, bytes]:
    return Stat(path=path, mode=MODE_DIR | mode, modTime=TIME), b""


def link(path: str, target: str) -> tuple[Stat, bytes]:
    return Stat(path=path, mode=MODE_SYMLINK | 0o777, linkname=target, modTime=TIME), b""


async def test_archives_appear_when_complete(tmp_path: Path) -> None:
    """An archive is written beside its place and moved there at the end."""
    target = tmp_path / "new" / "out.tar"
    async with attach(Session([FileReceiver({0: TarFile(target)})])) as daemon:
        call = daemon.stream(services.FILESEND_DIFF_COPY)
        await call.write(BytesMessage(data=b"first").SerializeToString())
        await until(target.parent.exists)

        assert not target.exists()
        await call.write(BytesMessage(data=b"x" * 3_000_000).SerializeToString())
        await call.done_writing()
        assert await ending(call) is grpc.StatusCode.OK
    assert b"first" + b"x" * 3_000_000 == target.read_bytes()
    assert ["out.tar"] == [path.name for path in target.parent.iterdir()]


async def test_archives_that_break_off_leave_nothing(tmp_path: Path) -> None:
    """When the daemon gives up, what was there before is still there, and nothing else."""
    target = tmp_path / "out.tar"
    target.write_bytes(b"before")
    async with attach(Session([FileReceiver({0: TarFile(target)})])) as daemon:
        call = daemon.stream(services.FILESEND_DIFF_COPY)
        await call.write(BytesMessage(data=b"half").SerializeToString())
        await until(lambda: len(list(tmp_path.iterdir())) == 2)
        call.cancel()
    assert b"before" == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("opens_after", ["the call", "the session"])
async def test_archives_that_break_off_while_they_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens_after: str
) -> None:
    """A file that is opened for a call which is over by then is closed, and is gone; whoever else ends it meanwhile."""
    begun, go, streams, openly = threading.Event(), threading.Event(), list[BinaryIO](), filesend._open

    def slowly(*arguments: Any) -> BinaryIO:
        begun.set()
        go.wait(10)
        streams.append(openly(*arguments))
        return streams[0]

    monkeypatch.setattr(filesend, "_open", slowly)
    async with attach(Session([FileReceiver({0: TarFile(tmp_path / "out.tar")})])) as daemon:
        call = daemon.stream(services.FILESEND_DIFF_COPY)
        await call.write(BytesMessage(data=b"half").SerializeToString())
        await until(begun.is_set)
        call.cancel()
        await asyncio.sleep(0.05)
        if opens_after == "the call":
            go.set()
        else:
            threading.Timer(0.3, go.set).start()
    assert [True] == [stream.closed for stream in streams]
    assert [] == list(tmp_path.iterdir())


async def test_streams_and_pipes(tmp_path: Path) -> None:
    """An archive can go to an open stream, which stays open, or into a pipe, which stays a pipe."""
    stream = io.BytesIO()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    receiver = FileReceiver({0: TarFile(stream), 1: TarFile(pipe)})
    async with attach(Session([receiver])) as daemon:
        assert await send_bytes(daemon, [b"one", b"", b"two"], (ID, "0")) is grpc.StatusCode.OK
        assert await send_bytes(daemon, [b"x" * 200_000], (ID, "1")) is grpc.StatusCode.OK
    reader.join()

    assert b"onetwo" == stream.getvalue()
    assert [b"x" * 200_000] == read
    assert stat.S_ISFIFO(pipe.stat().st_mode)


async def test_exporters_have_targets_of_their_own(tmp_path: Path) -> None:
    """Several results at once go where each belongs; one nobody asked for is NOT_FOUND."""
    receiver = FileReceiver({0: TarFile(tmp_path / "a"), 2: TarFile(tmp_path / "b")})
    async with attach(Session([receiver])) as daemon:
        codes = await asyncio.gather(
            send_bytes(daemon, [b"a"] * 100, (ID, "0")),
            send_bytes(daemon, [b"b"] * 100, (ID, "2")),
            send_bytes(daemon, [], (ID, "1")),
        )

    assert [grpc.StatusCode.OK, grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND] == list(codes)
    assert (b"a" * 100, b"b" * 100) == ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes())


async def test_a_result_that_cannot_be_written(tmp_path: Path) -> None:
    """A place that cannot be written to is a failure that names it."""
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file" / "x"):
        session = Session([FileReceiver({0: TarFile(target)})])
        async with attach(session) as daemon:
            assert await send_bytes(daemon, [b"x"]) is grpc.StatusCode.UNKNOWN
        assert type(session.failure) is BuildKitError
        assert str(target) in str(session.failure)


async def test_trees_arrive_as_they_are(tmp_path: Path) -> None:
    """Contents, modes, times, links and special files of a tree are kept; what was there stays."""
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / "old").write_bytes(b"old and longer")
    entries = [
        folder("locked", 0o555),
        file("locked/in", b"x" * 10_001, 0o400),
        file("old", b"new"),
        link("link", "/etc/passwd"),
        (Stat(path="pipe", mode=MODE_NAMED_PIPE | 0o600, modTime=TIME), b""),
        file("suid", b"", MODE_SETUID | 0o755),
        (Stat(path="twin", mode=0o644, modTime=TIME, linkname="old"), b""),
    ]
    async with attach(Session([FileReceiver({0: Directory(tmp_path)})])) as daemon:
        call = await send_tree(daemon, entries)

        assert await call.code() is grpc.StatusCode.OK
    assert {"kept", "locked", "old", "link", "pipe", "suid", "twin"} == {path.name for path in tmp_path.iterdir()}
    assert b"kept" == (tmp_path / "kept").read_bytes()
    assert b"x" * 10_001 == (tmp_path / "locked" / "in").read_bytes()
    assert b"new" == (tmp_path / "twin").read_bytes()
    assert (tmp_path / "old").stat().st_ino == (tmp_path / "twin").stat().st_ino
    assert "/etc/passwd" == os.readlink(tmp_path / "link")
    assert (0o40555, 0o100400, 0o104755, 0o10600) == tuple(
        (tmp_path / name).lstat().st_mode for name in ("locked", "locked/in", "suid", "pipe")
    )
    assert {TIME} == {(tmp_path / entry.path).lstat().st_mtime_ns for entry, _ in entries}
    (tmp_path / "locked").chmod(0o755)


async def test_platforms_come_side_by_side(tmp_path: Path) -> None:
    """A local export of several platforms opens a stream for each, into the same folder."""
    target = tmp_path / "out"
    async with attach(Session([FileReceiver({3: Directory(target)})])) as daemon:
        platforms = ("linux_amd64", "linux_arm64")
        await asyncio.gather(
            *(
                send_tree(daemon, [folder(name), *(file(f"{name}/{n:03}", b"x" * n) for n in range(200))], "3")
                for name in platforms
            )
        )

    assert list(platforms) == sorted(path.name for path in target.iterdir())
    assert 2 * sum(range(200)) == sum(path.stat().st_size for path in target.glob("*/*"))


async def test_an_empty_tree_makes_its_folder(tmp_path: Path) -> None:
    """A result without entries is an empty folder."""
    async with attach(Session([FileReceiver({0: Directory(tmp_path / "a" / "b")})])) as daemon:
        call = await send_tree(daemon, [])

        assert await call.code() is grpc.StatusCode.OK
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    "entries",
    [
        [file("../x", b"x")],
        [file("/x", b"x")],
        [file("a/../../x", b"x")],
        [file("..", b"x")],
        [file("", b"x")],
        [file("missing/x", b"x")],
        [link("a", ".."), file("a/x", b"x")],
        [link("a", ".."), folder("a"), file("a/x", b"x")],
        [folder("a"), link("a", ".."), file("a/x", b"x")],
        [file("a"), file("a")],
        [file("a", linkname="../outside")],
        [link("l", "../outside"), file("a", linkname="l")],
        [(Stat(path="a", mode=1 << 30), b"")],
    ],
)
async def test_trees_stay_inside_their_folder(tmp_path: Path, entries: list[tuple[Stat, bytes]]) -> None:
    """Whatever the daemon lists, nothing is written outside the folder."""
    (tmp_path / "outside").write_bytes(b"secret")
    target = tmp_path / "out"
    async with attach(Session([FileReceiver({0: Directory(target)})])) as daemon:
        call = await send_tree(daemon, entries)

        await call.code()
    assert {"outside", "out"} == {path.name for path in tmp_path.iterdir()}
    assert b"secret" == (tmp_path / "outside").read_bytes()
    assert 1 == (tmp_path / "outside").stat().st_nlink
    assert [] == [
        path for path in target.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size
    ]


async def test_links_on_disk_are_not_written_through(tmp_path: Path) -> None:
    """A link that is in the folder already is replaced, be it in the way of a file or of a folder."""
    target = tmp_path / "out"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(b"before")
    target.mkdir()
    (target / "dir").symlink_to("../outside")
    (target / "file").symlink_to("../outside/f")
    async with attach(Session([FileReceiver({0: Directory(target)})])) as daemon:
        await send_tree(daemon, [folder("dir"), file("dir/f", b"after"), file("file", b"after")])

    assert b"before" == (tmp_path / "outside" / "f").read_bytes()
    assert b"after" == (target / "dir" / "f").read_bytes()
    assert not (target / "file").is_symlink()


async def test_folders_are_not_replaced_by_files(tmp_path: Path) -> None:
    """A folder in the way of a file stops the export and is named."""
    (tmp_path / "name" / "precious").mkdir(parents=True)
    session = Session([FileReceiver({0: Directory(tmp_path)})])
    async with attach(session) as daemon:
        await send_tree(daemon, [file("name", b"x")])

    assert "is a folder, and a file of the result has its name" in str(session.failure)
    assert (tmp_path / "name" / "precious").is_dir()


class FoldingDisk:
    """The module `os` as it would be on a disk that takes names which differ only in case for the same."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if not callable(found):
            return found

        def folded(*arguments: Any, **options: Any) -> Any:
            return found(*map(self._fold, arguments), **options)

        return folded

    def _fold(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith(self._root):
            return self._root + value[len(self._root) :].casefold()
        return value

    @property
    def path(self) -> Any:
        return SimpleNamespace(
            join=os.path.join, realpath=os.path.realpath, isdir=lambda path: os.path.isdir(self._fold(path))
        )


@pytest.mark.parametrize("kinds", [(0, 0), (MODE_DIR, MODE_DIR), (0, MODE_DIR), (MODE_DIR, 0), (MODE_SYMLINK, 0)])
@pytest.mark.parametrize("names", [("A", "a"), ("README.md", "readme.md"), ("Straße", "strasse")])
async def test_names_that_a_disk_takes_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], kinds: tuple[int, int]
) -> None:
    """A result with two such names is refused, and both are named; one may replace what was there before."""
    root = tmp_path / "out"
    root.mkdir()
    for name in {name.casefold() for name in names}:
        if kinds[0] != MODE_DIR:
            (root / name).write_text("of an earlier result")
    monkeypatch.setattr(receive, "os", FoldingDisk(root))
    entries = [
        (Stat(path=name, mode=kind | 0o755, linkname="x" if kind == MODE_SYMLINK else ""), b"")
        for name, kind in zip(names, kinds, strict=True)
    ]
    session = Session([FileReceiver({0: Directory(root)})])
    async with attach(session) as daemon:
        await send_tree(daemon, entries)

    assert isinstance(session.failure, BuildKitError)
    assert all(f"`{name}`" in str(session.failure) for name in names)


async def test_names_that_differ_in_more_than_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other results arrive on such a disk, hard links and folders of the same name elsewhere included."""
    root = tmp_path / "out"
    monkeypatch.setattr(receive, "os", FoldingDisk(root))
    entries = [
        (Stat(path="A", mode=MODE_DIR | 0o755), b""),
        (Stat(path="A/a", mode=0o644), b"1"),
        (Stat(path="A/b", mode=0o644, linkname="A/a"), b""),
        (Stat(path="B", mode=MODE_DIR | 0o755), b""),
        (Stat(path="B/A", mode=0o644), b"2"),
    ]
    session = Session([FileReceiver({0: Directory(root)})])
    async with attach(session) as daemon:
        await send_tree(daemon, entries)

    assert session.failure is None
    assert {"a/a": b"1", "a/b": b"1", "b/a": b"2"} == {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


async def test_the_daemons_error_ends_the_export(tmp_path: Path) -> None:
    """An error packet ends the call with its words, and no failure of ours."""
    session = Session([FileReceiver({0: Directory(tmp_path)})])
    async with attach(session) as daemon:
        call = daemon.stream(services.FILESEND_DIFF_COPY)
        await call.write(Packet(type=Packet.PACKET_ERR, data=b"broken").SerializeToString())

        assert await ending(call) is grpc.StatusCode.ABORTED
        assert "broken" == await call.details()
    assert session.failure is None
