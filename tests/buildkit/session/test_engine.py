"""The session against a real BuildKit."""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import secrets
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session import filesync
from buildkit_builder.buildkit.session.attachable import Attachable
from buildkit_builder.buildkit.session.content import ContentStores
from buildkit_builder.buildkit.session.filesend import Directory, FileReceiver, TarFile
from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import control_pb2
from buildkit_builder.errors import SourceChangedError, SourceNameError
from tests.buildkit.session.harness import write_tree
from tests.conftest import Engine

BASE = "docker.io/library/python:3.11-slim-bookworm"
PLATFORM = llb.Platform.parse("linux/amd64")
TIME = 1_600_000_000_123_456_789


@pytest.fixture
async def control(engine: Engine) -> AsyncIterator[Control]:
    """Of the engine that the tests run against."""
    endpoint = Endpoint(address=engine.address, kind="docker" if engine.docker_host else "buildkit")
    connection: Connection
    async with await connect(endpoint) as connection:
        yield Control(connection.channel)


async def solve(
    control: Control,
    session: Session,
    state: llb.State,
    exporter: str,
    attributes: Mapping[str, str] | None = None,
    *,
    cache: Sequence[control_pb2.CacheOptionsEntry] = (),
) -> Mapping[str, str]:
    """Builds a graph with one exporter."""
    request = control_pb2.SolveRequest(
        Ref=secrets.token_hex(12),
        Session=session.id,
        Definition=llb.marshal(state, platform=PLATFORM).to_wire(),
        ExporterDeprecated=exporter,
        ExporterAttrsDeprecated=dict(attributes or {}),
        Exporters=[control_pb2.Exporter(Type=exporter, Attrs=dict(attributes or {}))] if exporter else [],
        Cache=control_pb2.CacheOptions(Exports=cache),
    )
    async with session.open(control):
        return await control.solve(request)


def source(**options: Any) -> llb.State:
    """A local source that no other test shares."""
    return llb.local("src", shared_key=secrets.token_hex(8), **options)


def content(path: Path) -> tuple[int, bytes | str]:
    """What a path holds, and its mode."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return mode, os.readlink(path)
    return mode, path.read_bytes() if stat.S_ISREG(mode) else b""


def contents(root: Path) -> dict[str, tuple[int, bytes | str]]:
    return {str(path.relative_to(root)): content(path) for path in root.rglob("*")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with everything that a folder can hold without being root."""
    root = tmp_path / "tree"
    write_tree(
        root,
        {
            "big": os.urandom(6_000_000),
            "empty": b"",
            "odd names/ä ö/日本.txt": b"kanji",
            "odd names/new\nline %41+": b"line",
            "a/b/c/deep": b"deep",
            "a-b": b"sorts between a and a/b",
            "a.b": b"and this",
            **{f"many/{number:04}": os.urandom(number) for number in range(1500)},
        },
    )
    (root / "link").symlink_to("a/b/c/deep")
    (root / "broken").symlink_to("/nowhere")
    os.link(root / "big", root / "big link")
    (root / "a-b").chmod(0o600)
    (root / "empty").chmod(0o4755)
    (root / "void").mkdir()
    (root / "void").chmod(0o1777)
    os.mkfifo(root / "pipe")
    for path in root.rglob("*"):
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    return root


async def test_a_tree_goes_there_and_back(control: Control, tree: Path, tmp_path: Path) -> None:
    """What a local source sends and a local export brings back is the same, hard links included, and times nearly."""
    out = tmp_path / "out"
    session = Session([FileSync([LocalDirectory("src", tree, hard_links=True)]), FileReceiver({0: Directory(out)})])
    await solve(control, session, source(), "local")

    assert contents(tree) == contents(out)
    arrived = {path.lstat().st_mtime_ns for path in out.rglob("*") if stat.S_ISREG(path.lstat().st_mode)}
    assert 1 == len(arrived)
    assert TIME // 1_000_000 == arrived.pop() // 1_000_000  # what is shorter tells the daemon of changes
    assert {TIME} == {(out / name).lstat().st_mtime_ns for name in ("link", "broken", "pipe")}
    assert (out / "big").stat().st_ino == (out / "big link").stat().st_ino


async def test_archives(control: Control, tree: Path, tmp_path: Path) -> None:
    """Tar exports to a path and to a stream hold the tree."""
    path, stream = tmp_path / "out.tar", io.BytesIO()
    for target in (path, stream):
        session = Session([FileSync([LocalDirectory("src", tree)]), FileReceiver({0: TarFile(target)})])
        await solve(control, session, source(), "tar")
    with tarfile.open(path) as first, tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as second:
        expected = set(contents(tree))

        assert expected == set(first.getnames()) == set(second.getnames())
        member = first.extractfile("big")
        assert member is not None
        assert (tree / "big").read_bytes() == member.read()


async def test_patterns_mean_the_same_on_both_sides(control: Control, tree: Path, tmp_path: Path) -> None:
    """Include, exclude and followed paths of the graph choose what the daemon gets, umlauts and all."""
    out = tmp_path / "out"
    session = Session([FileSync([LocalDirectory("src", tree)]), FileReceiver({0: Directory(out)})])
    chosen = source(include=["odd names/ä*", "a", "many/00*"], exclude=["**/deep", "many/*1"], follow=["link"])
    await solve(control, session, chosen, "local")

    expected = {"a", "a/b", "a/b/c", "link", "many", "odd names", "odd names/ä ö", "odd names/ä ö/日本.txt"}
    assert expected | {f"many/{number:04}" for number in range(100) if number % 10 != 1} == set(contents(out))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose content the daemon asked for."""
    asked: list[str] = []
    chunks = filesync._chunks

    def watched(content: Any, notice: Any) -> Any:
        asked.append(os.path.basename(content.source))
        return chunks(content, notice)

    monkeypatch.setattr(filesync, "_chunks", watched)
    return asked


async def test_only_changes_are_sent_again(control: Control, tree: Path, tmp_path: Path, read: list[str]) -> None:
    """A second build asks for what has changed, and for nothing else, whatever times the files have."""
    state = source()
    out = tmp_path / "out"
    for number in range(1, 1500):
        # As their writer left them, or with the time of an archive.
        os.utime(tree / "many" / f"{number:04}", ns=(TIME + number * 1_000_000,) * 2)
    (tree / "many" / "0009").write_bytes(b"as it was written")
    settle()
    await solve(control, Session([FileSync([LocalDirectory("src", tree)])]), state, "")
    await nothing_is_read(control, tree, state, read)

    (tree / "a.b").write_bytes(b"changed")
    (tree / "empty").unlink()
    (tree / "many" / "0100").write_bytes(b"x" * 100)
    os.utime(tree / "many" / "0100", ns=(TIME + 100_000_000,) * 2)
    session = Session([FileSync([LocalDirectory("src", tree)]), FileReceiver({0: Directory(out)})])
    await solve(control, session, state, "local")

    assert contents(tree) == contents(out)
    assert {"a.b", "0100"} <= set(read)
    assert not {f"{number:04}" for number in range(101, 1500)} & set(read)


async def nothing_is_read(control: Control, root: Path, state: llb.State, read: list[str]) -> None:
    """Sends a folder as it was; a daemon that has not let go of its copy yet takes a new one, but not every time."""
    for _ in range(4):
        read.clear()
        await solve(control, Session([FileSync([LocalDirectory("src", root)])]), state, "")
        if not read:
            return
    pytest.fail(f"sent again: {read}")


def settle() -> None:
    """Lets the clock of the file system go on: what has just been written is always sent again."""
    time.sleep(0.2)


def write(path: Path, data: bytes) -> None:
    """Writes a file that looks like any other of its length."""
    path.write_bytes(data)
    os.utime(path, (1, 1))


def replace_file(root: Path) -> None:
    write(root / "new", b"2.0.0")
    (root / "new").replace(root / "file")


def swap_folders(root: Path) -> None:
    (root / "folder").rename(root / "was")
    (root / "other").rename(root / "folder")
    (root / "was").rename(root / "other")


def link_file(root: Path) -> None:
    (root / "file").unlink()
    os.link(root / "other" / "inside", root / "file")


def become_folder(root: Path) -> None:
    (root / "file").unlink()
    (root / "file").mkdir()
    write(root / "file" / "inside", b"2.0.0")


def become_file(root: Path) -> None:
    shutil.rmtree(root / "folder")
    write(root / "folder", b"2.0.0")


def go_back(root: Path) -> None:
    (root / "file").write_bytes(b"2.0.0")
    os.utime(root / "file", (0, 0))


def exchange_names(root: Path) -> None:
    (root / "file").rename(root / "x")
    (root / "twin").rename(root / "file")
    (root / "x").rename(root / "twin")


def link_elsewhere(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("twin")


def write_through_memory(root: Path) -> None:
    with (root / "file").open("r+b") as file, mmap.mmap(file.fileno(), 5) as mapped:
        mapped[:] = b"2.0.0"
    os.utime(root / "file", (1, 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "the same file written again": lambda root: write(root / "file", b"2.0.0"),
    "written again through memory": write_through_memory,
    "another file in its place": replace_file,
    "another name of another file": link_file,
    "two files that change their names": exchange_names,
    "two folders that change their names": swap_folders,
    "a folder where a file was": become_folder,
    "a file where a folder was": become_file,
    "an older time": go_back,
    "other permissions": lambda root: (root / "file").chmod(0o600),
    "other permissions of a folder": lambda root: (root / "folder").chmod(0o700),
    "an attribute": lambda root: os.setxattr(root / "file", "user.color", b"red"),
    "a link that leads elsewhere": link_elsewhere,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_what_is_there_arrives(
    control: Control, tmp_path: Path, read: list[str], change: Callable[[Path], object]
) -> None:
    """Whatever size and time a file has, what the daemon makes of a folder is what is in it now, and then before."""
    root, state = tmp_path / "root", source()
    for number, name in enumerate(("file", "twin", "folder/inside", "other/inside")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, b"1.0.%d" % number)
    (root / "link").symlink_to("file")
    settle()
    await solve(control, Session([FileSync([LocalDirectory("src", root)])]), state, "")
    change(root)

    assert described(root) == described(await exported(control, root, state, tmp_path / "changed"))

    settle()
    await exported(control, root, state, tmp_path / "again")
    await nothing_is_read(control, root, state, read)


async def test_what_is_written_at_once_arrives(control: Control, tmp_path: Path) -> None:
    """A file that is written again within a tick of the clock, right after it was sent, is sent again."""
    root, state = tmp_path / "root", source()
    root.mkdir()
    for number in range(10):
        (root / "file").write_bytes(b"%d" % number)
        out = await exported(control, root, state, tmp_path / f"out{number}")
        assert b"%d" % number == (out / "file").read_bytes()


@pytest.mark.parametrize("switch", ["the root", "a folder", "a file"])
async def test_another_release_of_the_same_moment(control: Control, tmp_path: Path, switch: str) -> None:
    """What takes the place of something that was written in the same tick of the clock arrives."""
    root, state = tmp_path / "root", source()
    for turn in range(4):
        for number in (1, 2):
            release = tmp_path / f"{turn}-{number}" / "deep"
            release.mkdir(parents=True)
            (release / "file").write_bytes(b"%d" % number)
        settle()
        for number in (1, 2):
            release = tmp_path / f"{turn}-{number}"
            if root.is_symlink():
                root.unlink()
            elif root.exists():
                shutil.rmtree(root)
            if switch == "the root":
                root.symlink_to(release)
            elif switch == "a folder":
                root.mkdir()
                release.rename(root / "x")
            else:
                root.mkdir()
                (root / "file").symlink_to(release / "deep" / "file")
            out = tmp_path / f"out-{turn}-{number}"
            sync = FileSync([LocalDirectory("src", root, symlinks="copy-files")])
            await solve(control, Session([sync, FileReceiver({0: Directory(out)})]), state, "local")

            assert [b"%d" % number] == [path.read_bytes() for path in out.rglob("file")]


async def test_two_machines_may_have_one_path(control: Control, tmp_path: Path) -> None:
    """Two machines that the daemon takes for one, with files of one name, size and time, each send their own."""
    state = source()
    machines = [tmp_path / "first", tmp_path / "second"]
    for number, machine in enumerate(machines):
        machine.mkdir()
        write(machine / "file", b"1.0.%d" % number)
    settle()
    for turn, machine in enumerate(machines * 2):
        assert described(machine) == described(await exported(control, machine, state, tmp_path / str(turn)))


async def test_layers_are_the_same_from_every_clone(control: Control, tmp_path: Path) -> None:
    """What stands for inodes in the times that the daemon is told does not get into the layers of an image."""
    layers = []
    for clone in ("one", "two"):
        root = tmp_path / clone
        write_tree(root, {"folder/file": b"content", "folder/other": b"", "top": b"x"})
        for number, path in enumerate(sorted(root.rglob("*"))):
            os.utime(path, ns=(TIME + number * 10**9,) * 2)
        settle()
        target = TarFile(tmp_path / f"{clone}.tar")
        session = Session([FileSync([LocalDirectory("src", root)]), FileReceiver({0: target})])
        await solve(control, session, llb.scratch().file(llb.copy(source(), "/", "/", contents_only=True)), "oci")
        with tarfile.open(tmp_path / f"{clone}.tar") as archive:
            documents = [json.load(archive.extractfile(member)) for member in archive if is_document(archive, member)]  # type: ignore[arg-type]
        layers.append([document["layers"] for document in documents if "layers" in document])

    assert layers[0] == layers[1] != []


def is_document(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    file = archive.extractfile(member) if member.name.startswith("blobs/sha256/") and member.isfile() else None
    return file is not None and file.read(1) == b"{"


async def exported(control: Control, root: Path, state: llb.State, out: Path) -> Path:
    """What the daemon has of a folder, once it has been sent what it asks for."""
    session = Session([FileSync([LocalDirectory("src", root)]), FileReceiver({0: Directory(out)})])
    await solve(control, session, state, "local")
    return out


def described(root: Path) -> dict[str, object]:
    """Contents, and of files their attributes and times to the second."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        attributes = {name: os.getxattr(path, name) for name in os.listxattr(path, follow_symlinks=False)}
        is_file = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(root))] = content(path), attributes, int(path.stat().st_mtime) if is_file else None
    return found


async def test_changed_files_stop_the_build(control: Control, tmp_path: Path) -> None:
    """A file that is cut or vanishes while it is sent stops the build, with our error beside the daemon's echo."""

    def cut(path: str, is_folder: bool) -> bool:
        if path == "z":  # `a` has been listed; the listing has not been sent
            (tmp_path / "a").write_bytes(b"shorter")
        return True

    def vanish(path: str, is_folder: bool) -> bool:
        if path == "z":
            (tmp_path / "a").unlink()
        return True

    for change in (cut, vanish):
        write_tree(tmp_path, {"a": b"x" * 1000, "z": b"x" * 1000})
        session = Session([FileSync([LocalDirectory("src", tmp_path, keep=change)])])
        with pytest.raises(grpc.aio.AioRpcError, match="while it was being sent"):
            await solve(control, session, source(), "")
        assert isinstance(session.failure, SourceChangedError)


async def test_a_log_that_grows(control: Control, tmp_path: Path) -> None:
    """The daemon gets a log as it was when it was listed, and the next time as it is then."""
    root, state = tmp_path / "root", source()
    write_tree(root, {"log": b"1\n" * 100_000, "z": b""})

    def grow(path: str, is_folder: bool) -> bool:
        if path == "z":
            with (root / "log").open("ab") as log:
                log.write(b"2\n" * 100_000)
        return True

    for size in (200_000, 400_000, 600_000):
        sync = FileSync([LocalDirectory("src", root, keep=grow)])
        await solve(control, Session([sync, FileReceiver({0: Directory(tmp_path / str(size))})]), state, "local")

        assert 1 == len(sync.notices)
        assert (root / "log").read_bytes()[:size] == (tmp_path / str(size) / "log").read_bytes()


TIMES = {
    "after 2262": 253_402_300_799,
    "milliseconds taken for seconds": 1_700_000_000_000,
    "before 1970": -3,
    "before 1901": -(1 << 31) - 10,
    "after 2038": 1 << 32,
}


@pytest.mark.parametrize("seconds", TIMES.values(), ids=TIMES.keys())
async def test_times_are_those_of_docker(
    control: Control, tmp_path: Path, docker: str, engine: Engine, seconds: int
) -> None:
    """Whatever time a file has, in an image it is the one that `docker buildx build` gives it."""
    names = [f"{kind}{fraction}" for kind in ("file", "folder") for fraction in (0, 1, 999_999_999)]
    for name in names:
        path = tmp_path / "src" / name
        write_tree(tmp_path / "src", {name if path.name.startswith("file") else f"{name}/in": b"content"})
        os.utime(path, ns=(0, seconds * 10**9 + int(name.lstrip("filedor"))))
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY --from=src . /\n")
    output = f"--output=type=tar,dest={tmp_path / 'theirs.tar'}"
    command = [docker, "buildx", "build", "--builder=default", f"--build-context=src={tmp_path / 'src'}", output, "."]
    subprocess.run(command, env=dict(engine.environ), cwd=tmp_path, check=True, capture_output=True)
    copied = llb.scratch().file(llb.copy(source(), "/", "/", contents_only=True))
    target = TarFile(tmp_path / "ours.tar")
    session = Session([FileSync([LocalDirectory("src", tmp_path / "src")]), FileReceiver({0: target})])
    await solve(control, session, copied, "tar")

    with tarfile.open(tmp_path / "ours.tar") as ours, tarfile.open(tmp_path / "theirs.tar") as theirs:
        expected = {name: theirs.getmember(name).mtime // 1 for name in names}
        assert expected == {name: ours.getmember(name).mtime // 1 for name in names}


async def test_names_that_are_not_utf8_stop_the_build(control: Control, tmp_path: Path) -> None:
    """No image is made of a tree with a name that cannot be carried."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).touch()
    session = Session([FileSync([LocalDirectory("src", tmp_path)])])
    with pytest.raises(grpc.aio.AioRpcError, match="not UTF-8"):
        await solve(control, session, source(), "")

    assert isinstance(session.failure, SourceNameError)


@pytest.mark.parametrize("name", ["Übung", "日本 語", "a+b %41 ü", "a+b%41", "e\u0301", "🐳"])
async def test_names_of_every_alphabet(control: Control, tmp_path: Path, name: str) -> None:
    """A local source may have any name, and its patterns too."""
    write_tree(tmp_path / "src", {f"{name}/{name}.txt": b"content", "other": b""})
    state = llb.local(name, shared_key=secrets.token_hex(8), include=[name], exclude=[f"*/{name}.md"])
    out = tmp_path / "out"
    session = Session([FileSync([LocalDirectory(name, tmp_path / "src")]), FileReceiver({0: Directory(out)})])
    await solve(control, session, state, "local")

    assert {name, f"{name}/{name}.txt"} == set(contents(out))


async def test_undeclared_directories_are_refused(control: Control) -> None:
    """A graph cannot read what the session does not offer."""
    with pytest.raises(grpc.aio.AioRpcError, match="no local directory 'src'"):
        await solve(control, Session([FileSync([])]), source(), "")


async def test_secrets_reach_their_step(control: Control, tmp_path: Path) -> None:
    """A step reads declared secrets; of one that is not declared it is told when it is not optional."""
    out = tmp_path / "out"

    def step(name: str, *, optional: bool) -> llb.State:
        run = llb.image(BASE).run(
            ["sh", "-c", f"sha256sum /run/one > /out/sum; cat /run/two >> /out/sum || echo none >> /out/sum; : {name}"],
            mounts=[
                llb.Bind("/out", llb.scratch()),
                llb.SecretFile("/run/one", "one"),
                llb.SecretFile("/run/two", "two", optional=optional),
            ],
        )
        return run.output("/out")

    value = os.urandom(1000)
    session = Session([Secrets({"one": lambda: value}), FileReceiver({0: Directory(out)})])
    await solve(control, session, step(secrets.token_hex(8), optional=True), "local")

    assert f"{hashlib.sha256(value).hexdigest()}  /run/one\nnone\n" == (out / "sum").read_text()
    with pytest.raises(grpc.aio.AioRpcError, match="two"):
        await solve(control, Session([Secrets({"one": b""})]), step(secrets.token_hex(8), optional=False), "")


async def test_content_goes_to_layouts_and_comes_back(control: Control, tree: Path, tmp_path: Path) -> None:
    """An OCI layout written blob by blob holds the image, and can be a source itself; so can a local cache be kept."""
    layout, cache, out = tmp_path / "layout", tmp_path / "cache", tmp_path / "out"
    attachables: list[Attachable] = [
        FileSync([LocalDirectory("src", tree)]),
        ContentStores({"export": layout, f"local:{cache}": cache}),
    ]
    state = llb.image(BASE).file(llb.copy(source(), "/many", "/many"))
    cached = control_pb2.CacheOptionsEntry(Type="local", Attrs={"dest": str(cache), "mode": "max"})
    response = await solve(control, Session(attachables), state, "oci", {"tar": "false"}, cache=[cached])
    digest = response["containerimage.digest"]
    blobs = layout / "blobs" / "sha256"
    for blob in (*blobs.iterdir(), *(cache / "blobs" / "sha256").iterdir()):
        assert blob.name == hashlib.sha256(blob.read_bytes()).hexdigest()

    assert json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())["schemaVersion"] == 2
    assert json.loads(response["cache.manifest"])["digest"].removeprefix("sha256:") in {
        blob.name for blob in (cache / "blobs" / "sha256").iterdir()
    }
    session = Session([ContentStores({"oci:base": layout}), FileReceiver({0: Directory(out)})])
    back = llb.scratch().file(llb.copy(llb.oci_layout("base", digest, session=session.id), "/many", "/"))
    await solve(control, session, back, "local")
    assert contents(tree / "many") == contents(out / "many")
