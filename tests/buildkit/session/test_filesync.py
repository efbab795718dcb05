from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.session.walk import MODE_DIR, MODE_SYMLINK
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet
from buildkit_builder.errors import BuildKitError, SourceChangedError, SourceError, SourceNameError
from tests.buildkit.session.harness import Tree, attach, ending, write_tree


async def pull(directory: LocalDirectory, *metadata: tuple[str, str], **options: object) -> Tree:
    """Reads a directory through a session."""
    async with attach(Session([FileSync([directory])])) as daemon:
        return await daemon.pull(directory.name, metadata=metadata, **options)


async def failing(directory: LocalDirectory, **options: object) -> tuple[Tree, BuildKitError | None]:
    """Reads a directory through a session; returns what came and what the session kept."""
    session = Session([FileSync([directory])])
    async with attach(session) as daemon:
        tree = await daemon.pull(directory.name, **options)
    return tree, session.failure


async def test_a_tree_arrives_as_it_is(tmp_path: Path) -> None:
    """Listing and contents are those of the folder, of files of no byte and of several megabytes alike."""
    generator = random.Random(1)
    files = {
        "empty": b"",
        "one": b"1",
        "big": generator.randbytes(5_000_000),
        "odd names/ä ö.txt": b"umlaut",
        "odd names/日本": b"kanji",
        "odd names/new\nline": b"n",
        **{f"many/{number}": generator.randbytes(number) for number in range(300)},
    }
    write_tree(tmp_path, files)
    (tmp_path / "link").symlink_to("/etc/passwd")
    tree = await pull(LocalDirectory("src", tmp_path))

    assert files == tree.contents
    assert ["big", "empty", "link", "many", "many/0"] == tree.paths[:5]
    assert {(0, 0)} == {(stat.uid, stat.gid) for stat in tree.stats}
    assert (MODE_SYMLINK | 0o777, "/etc/passwd", 11) == (
        tree.stat("link").mode,
        tree.stat("link").linkname,
        tree.stat("link").size,
    )
    assert MODE_DIR == tree.stat("many").mode & ~0o777
    assert (tmp_path / "big").stat().st_mtime_ns // 1_000_000 == tree.stat("big").modTime // 1_000_000


async def test_numbers_count_every_entry(tmp_path: Path) -> None:
    """The daemon may ask for any one file of many, whatever kinds of entries are before it."""
    write_tree(tmp_path, {"a/b/c": b"one", "z": b"two"})
    (tmp_path / "b").symlink_to("a")
    tree = await pull(LocalDirectory("src", tmp_path), wanted=lambda stat: stat.path == "z")

    assert {"z": b"two"} == tree.contents


async def test_hard_links(tmp_path: Path) -> None:
    """Further names of a file are sent as files, or on demand as links that have no content."""
    write_tree(tmp_path, {"a": b"content"})
    os.link(tmp_path / "a", tmp_path / "b")
    separate = await pull(LocalDirectory("src", tmp_path))
    linked = await pull(LocalDirectory("src", tmp_path, hard_links=True))

    assert {"a": b"content", "b": b"content"} == separate.contents
    assert ("a", 0) == (linked.stat("b").linkname, linked.stat("b").size)
    assert {"a": b"content"} == linked.contents


async def test_sockets(tmp_path: Path) -> None:
    """A socket is sent as a file of no bytes, as the daemon takes it for one."""
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket is short
        listener.bind("socket")
        os.chdir(here)
    tree = await pull(LocalDirectory("src", tmp_path))

    assert {"socket": b""} == tree.contents


async def test_the_daemons_patterns(tmp_path: Path) -> None:
    """Include and exclude patterns of the request are obeyed, together with those of the directory."""
    write_tree(tmp_path, {"src/a.py": b"", "src/a.pyc": b"", "src/deep/b.py": b"", "docs/x": b"", "src/own": b""})
    tree = await pull(
        LocalDirectory("src", tmp_path, exclude=["**/own"]),
        ("include-patterns", "src"),
        ("include-patterns", "other"),
        ("exclude-patterns", "**/*.pyc"),
    )

    assert ["src", "src/a.py", "src/deep", "src/deep/b.py"] == tree.paths


async def test_encoded_patterns(tmp_path: Path) -> None:
    """Patterns outside ASCII come escaped and marked; a plus is a blank only then."""
    write_tree(tmp_path, {"ä b": b"", "c+d": b"", "e": b""})
    encoded = await pull(
        LocalDirectory("src", tmp_path),
        ("include-patterns", "%C3%A4+b"),
        ("include-patterns", "c%2Bd"),
        ("include-patterns-encoded", "1"),
    )
    plain = await pull(LocalDirectory("src", tmp_path), ("include-patterns", "c+d"))

    assert ["c+d", "ä b"] == encoded.paths
    assert ["c+d"] == plain.paths


@pytest.mark.parametrize(
    ("sent", "marks", "name"),
    [
        ("%C3%9Cbung-1", [("dir-name-encoded", "1")], "Übung-1"),
        ("a+b%2Bc%25", [("dir-name-encoded", "true")], "a b+c%"),
        ("a+b%2Bc", [], "a+b%2Bc"),
        ("a+b%2Bc", [("dir-name-encoded", "0"), ("include-patterns-encoded", "1")], "a+b%2Bc"),
    ],
)
async def test_encoded_names(tmp_path: Path, sent: str, marks: list[tuple[str, str]], name: str) -> None:
    """The name of a folder comes escaped where it is not ASCII, and is taken as it is where it is not marked."""
    write_tree(tmp_path, {"file": b"content"})
    async with attach(Session([FileSync([LocalDirectory(name, tmp_path)])])) as daemon:
        tree = await daemon.pull(sent, metadata=marks)

    assert {"file": b"content"} == tree.contents


async def test_follow_paths(tmp_path: Path) -> None:
    """A followed path brings the links on its way; one that leads to the root brings all."""
    write_tree(tmp_path, {"real/file": b"", "real/other": b"", "else": b""})
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "all").symlink_to(".")
    directory = LocalDirectory("src", tmp_path)

    assert ["link", "real", "real/file"] == (await pull(directory, ("followpaths", "link/file"))).paths
    assert 6 == len((await pull(directory, ("followpaths", "all"))).paths)


async def test_named_files(tmp_path: Path) -> None:
    """With `files` nothing else is served, be it a mapping or paths below the root."""
    write_tree(tmp_path, {"a/one": b"1", "b/two": b"2", "b/three": b"3"})
    mapped = await pull(LocalDirectory("src", tmp_path, files={"x/1": tmp_path / "a" / "one"}))
    chosen = await pull(LocalDirectory("src", tmp_path, files=["b/two", "a"]))

    assert {"x/1": b"1"} == mapped.contents
    assert {"a/one": b"1", "b/two": b"2"} == chosen.contents


async def test_copied_links(tmp_path: Path) -> None:
    """With `copy-files` the content of a link's target is sent."""
    write_tree(tmp_path, {"outside": b"content", "root/x": b""})
    (tmp_path / "root" / "file").symlink_to("../outside")
    tree = await pull(LocalDirectory("src", tmp_path / "root", symlinks="copy-files"))

    assert {"file": b"content", "x": b""} == tree.contents


async def test_undeclared_names_are_not_found(tmp_path: Path) -> None:
    """The daemon can name only what was declared; a path is no name."""
    async with attach(Session([FileSync([LocalDirectory("src", tmp_path)])])) as daemon:
        for name in ("other", "../src", str(tmp_path), ""):
            call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", name)])

            assert await ending(call) is grpc.StatusCode.NOT_FOUND


async def test_requests_beyond_the_listing_are_refused(tmp_path: Path) -> None:
    """Neither an entry that was not listed nor a folder can be read."""
    write_tree(tmp_path, {"a/file": b""})
    async with attach(Session([FileSync([LocalDirectory("src", tmp_path)])])) as daemon:
        for number in (0, 2, 99):
            call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src")])
            while await call.read() != b"":
                pass
            await call.write(Packet(type=Packet.PACKET_REQ, ID=number).SerializeToString())

            assert await ending(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_malformed_patterns_are_refused(tmp_path: Path) -> None:
    """A pattern that cannot be read ends the call with its text."""
    async with attach(Session([FileSync([LocalDirectory("src", tmp_path)])])) as daemon:
        call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src"), ("include-patterns", "a[")])

        assert await ending(call) is grpc.StatusCode.INVALID_ARGUMENT
        assert "'a['" in await call.details()


@pytest.mark.parametrize("change", ["shrink", "touch", "replace", "vanish", "link", "pipe"])
async def test_files_that_change_are_noticed(tmp_path: Path, change: str) -> None:
    """A file that is not any more what was listed is an error that names it, told to the daemon and kept."""
    file = tmp_path / "file"
    file.write_bytes(b"content")

    def act() -> None:
        if change == "shrink":
            file.write_bytes(b"con")
        elif change == "replace":
            (tmp_path / "new").write_bytes(b"content, and more")
            (tmp_path / "new").replace(file)
        elif change == "touch":
            os.utime(file, ns=(1, 1))
        else:
            file.unlink()
            if change == "link":
                file.symlink_to("/etc/hostname")
            elif change == "pipe":
                os.mkfifo(file)

    tree, failure = await failing(LocalDirectory("src", tmp_path), listed=act)

    assert isinstance(failure, SourceChangedError)
    assert str(file) in str(failure)
    assert ("vanished" in str(failure)) is (change == "vanish")
    assert str(failure) == tree.error
    assert {} == tree.contents


async def test_files_that_grow(tmp_path: Path) -> None:
    """Of a log that is written to meanwhile, what was listed is sent, and that is said; of others nothing is."""
    file, sync = tmp_path / "log", FileSync([LocalDirectory("src", tmp_path)])
    write_tree(tmp_path, {"log": b"one line\n", "other": b""})

    def append() -> None:
        with file.open("ab") as log:
            log.write(b"another\n" * 1000)

    async with attach(Session([sync])) as daemon:
        first = await daemon.pull("src", listed=append)
        assert [f"{file} grew while it was being sent: the image has what was there before."] == sync.notices
        second = await daemon.pull("src")

    assert {"log": b"one line\n", "other": b""} == first.contents
    assert 9 == first.stat("log").size
    assert file.read_bytes() == second.contents["log"]
    assert 1 == len(sync.notices)


async def test_files_that_grow_while_they_are_read(tmp_path: Path) -> None:
    """Neither does it end, nor does it grow, while somebody goes on writing; but cut off, it is not what was listed."""
    file = tmp_path / "log"
    file.write_bytes(b"x" * 30_000_000)
    session = Session([FileSync([LocalDirectory("src", tmp_path)])])
    async with attach(session) as daemon:
        for size_then in (30_001_000, 1000):
            call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src")])
            while message := await call.read():
                size = Packet.FromString(message).stat.size
            await call.write(Packet(type=Packet.PACKET_REQ, ID=0).SerializeToString())
            packet, came = Packet.FromString(await call.read()), 0
            os.truncate(file, size_then)
            while packet.type == Packet.PACKET_DATA and packet.data:
                came += len(packet.data)
                packet = Packet.FromString(await call.read())
            if packet.type == Packet.PACKET_DATA:
                assert size == came
                assert session.failure is None

    assert packet.type == Packet.PACKET_ERR
    assert isinstance(session.failure, SourceChangedError)


async def test_files_that_change_while_they_are_read(tmp_path: Path) -> None:
    """A file that is written to between its first byte and its last does not arrive complete."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 30_000_000)
    session = Session([FileSync([LocalDirectory("src", tmp_path)])])
    async with attach(session) as daemon:
        call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src")])
        while await call.read() != b"":
            pass
        await call.write(Packet(type=Packet.PACKET_REQ, ID=0).SerializeToString())
        packet = Packet.FromString(await call.read())
        assert packet.data
        os.utime(file, ns=(1, 1))
        while packet.type == Packet.PACKET_DATA:
            assert packet.data
            packet = Packet.FromString(await call.read())

    assert packet.type == Packet.PACKET_ERR
    assert isinstance(session.failure, SourceChangedError)


async def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """A name that cannot be carried ends the transfer instead of arriving as another."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).touch()
    tree, failure = await failing(LocalDirectory("src", tmp_path))

    assert isinstance(failure, SourceNameError)
    assert r"caf\xe9" in tree.error


async def test_names_that_are_not_wanted(tmp_path: Path) -> None:
    """What is left out, or not asked for, may have any name, and so may a folder that is only looked into."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_tree(odd, {"inside": b"", "b.log": b""})
    write_tree(tmp_path, {"app/a.txt": b"1", "a.txt": b"2"})
    (tmp_path / "app" / "odd").symlink_to(os.fsdecode(b"caf\xe9"))
    for asked in (["*.txt", "app/*.txt"], ["app/a.txt", "a.txt"], ["**/*.txt"]):
        tree = await pull(LocalDirectory("src", tmp_path), *(("include-patterns", pattern) for pattern in asked))
        assert {"app/a.txt": b"1", "a.txt": b"2"} == tree.contents

    left_out = LocalDirectory("src", tmp_path, exclude=["*", "**/odd", "!**/*.txt"])
    assert {"app/a.txt": b"1", "a.txt": b"2"} == (await pull(left_out)).contents
    _, failure = await failing(LocalDirectory("src", tmp_path, exclude=["caf*"]))
    assert isinstance(failure, SourceNameError)
    assert "odd" in str(failure)


async def test_missing_roots(tmp_path: Path) -> None:
    """A folder that is not there is named."""
    _, failure = await failing(LocalDirectory("src", tmp_path / "gone"))

    assert isinstance(failure, SourceError)
    assert "gone is not a folder" in str(failure)


@pytest.fixture
def private_file() -> Iterator[Path]:
    """A file that cannot be read by whoever asks, in a folder that can."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "private").write_bytes(b"x")
    (root / "private").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield root / "private"
    os.seteuid(user)
    (root / "private").unlink()
    root.rmdir()


async def test_unreadable_files(private_file: Path) -> None:
    """A file that may not be read is an error that names it, not an empty file."""
    tree, failure = await failing(LocalDirectory("src", private_file.parent))

    assert type(failure) is SourceError
    assert f"{private_file} cannot be read: Permission denied" in tree.error


async def test_what_is_not_wanted_need_not_be_readable(private_file: Path) -> None:
    """Neither a file that nobody asks for is opened, nor is a folder that may only hold what was asked for read."""
    folder = private_file.parent
    reader, owner = os.geteuid(), folder.stat().st_uid
    os.seteuid(owner)
    write_tree(folder, {"app/a.txt": b"1", "closed/b.txt": b"2"})
    (folder / "closed").chmod(0)
    os.seteuid(reader)
    try:
        for asked in (["app"], ["*/*.txt"], ["app/*.txt", "*.md"]):
            tree = await pull(LocalDirectory("src", folder), *(("include-patterns", pattern) for pattern in asked))
            assert {"app/a.txt": b"1"} == tree.contents
        left_out = LocalDirectory("src", folder, exclude=["private", "closed", "!**/a.txt"])
        assert {"app/a.txt": b"1"} == (await pull(left_out)).contents
    finally:
        os.seteuid(owner)
        shutil.rmtree(folder / "closed")
        shutil.rmtree(folder / "app")
        os.seteuid(reader)


async def test_the_daemons_errors_are_not_ours(tmp_path: Path) -> None:
    """When the daemon reports an error of its own, the call ends and no failure is kept."""
    session = Session([FileSync([LocalDirectory("src", tmp_path)])])
    async with attach(session) as daemon:
        call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src")])
        await call.write(Packet(type=Packet.PACKET_ERR, data=b"no room").SerializeToString())

        assert await ending(call) is grpc.StatusCode.ABORTED
        assert session.failure is None


async def test_several_transfers_at_once(tmp_path: Path) -> None:
    """Builds for several platforms read the same folder at the same time."""
    files = {str(number): b"x" * number * 100 for number in range(200)}
    write_tree(tmp_path, files)
    async with attach(Session([FileSync([LocalDirectory("src", tmp_path)])])) as daemon:
        trees = await asyncio.gather(*(daemon.pull("src") for _ in range(4)))

    assert [files] * 4 == [tree.contents for tree in trees]


MEASURE = """
import asyncio, resource, sys
from pathlib import Path
from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.buildkit.session.server import Server
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet

class Call:
    "A daemon that asks for every file as it is listed, and takes all."
    metadata = {"dir-name": ("src",)}
    def __init__(self, server):
        self.server, self.requests, self.listed, self.left, self.bytes = server, asyncio.Queue(), 0, 0, 0
        self.ended = False
    async def read_batch(self):
        return [await self.requests.get()]
    async def in_thread(self, function, *arguments):
        return await self.server.in_thread(function, *arguments)
    async def write(self, *messages):
        for message in messages:
            packet = Packet.FromString(message)
            if packet.HasField("stat"):
                if not packet.stat.mode >> 31:
                    self.left += 1
                    self.requests.put_nowait(Packet(type=Packet.PACKET_REQ, ID=self.listed).SerializeToString())
                self.listed += 1
            elif not message:
                self.ended = True
            elif packet.type == Packet.PACKET_DATA:
                self.bytes += len(packet.data)
                self.left -= not packet.data
            if self.ended and not self.left:
                self.requests.put_nowait(Packet(type=Packet.PACKET_FIN).SerializeToString())

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

async def main():
    before = memory()
    call = Call(Server())
    await FileSync([LocalDirectory("src", Path(sys.argv[1]))])._diff_copy(call)
    print(call.bytes, memory() - before)

asyncio.run(main())
"""


def test_memory_while_sending(tmp_path: Path) -> None:
    """Sending 20,000 files and a large one takes little memory, however much is sent."""
    for number in range(20_000):
        if number % 500 == 0:
            (tmp_path / str(number)).mkdir()
        (tmp_path / str(number - number % 500) / f"{number}.txt").write_bytes(b"x" * 100)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(500_000_000)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )

    assert "" == done.stderr
    sent, kilobytes = map(int, done.stdout.split())
    assert 502_000_000 == sent
    assert kilobytes < 60_000
