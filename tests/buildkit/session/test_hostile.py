"""A daemon that is not what it should be: whatever it sends, it gets no more than it was given, and fills no memory."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.session import http2, receive
from buildkit_builder.buildkit.session import session as sessions
from buildkit_builder.buildkit.session.attachable import Attachable
from buildkit_builder.buildkit.session.content import ContentStores
from buildkit_builder.buildkit.session.filesend import Directory, FileReceiver
from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.buildkit.session.http2_stream import STREAM_WINDOW, ProtocolError
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.buildkit.session.server import Call, Server
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.session.ssh import SshAgent
from buildkit_builder.buildkit.session.walk import MODE_DIR
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet, Stat
from buildkit_builder.buildkit.wire.secrets_pb2 import GetSecretRequest, GetSecretResponse
from buildkit_builder.errors import BuildKitError, DaemonLostError
from tests.buildkit.session.harness import Daemon, attach, ending, raw, write_tree
from tests.buildkit.session.peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    attacked,
    frame,
    message,
    request,
)

STUCK = "/test.Stuck/Method"


class Stuck:
    """A service that reads nothing and never answers."""

    def register(self, server: Server) -> tuple[str, ...]:
        async def handle(call: Call) -> None:
            await asyncio.get_running_loop().create_future()

        server.add(STUCK, handle)
        return (STUCK,)


class Patient:
    """A service that reads one message, however long that takes to come."""

    def register(self, server: Server) -> tuple[str, ...]:
        async def handle(call: Call) -> None:
            await call.read()

        server.add(STUCK, handle)
        return (STUCK,)


def windows(peer_payloads: Sequence[bytes]) -> int:
    """What a peer was allowed in all."""
    return sum(struct.unpack(">I", payload)[0] for payload in peer_payloads)


# --- frames ---


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        ([frame(SETTINGS, payload=struct.pack(">HI", 5, 0))], "frames cannot have 0 bytes"),
        ([frame(SETTINGS, payload=struct.pack(">HI", 5, 1 << 24))], "frames cannot have"),
        ([frame(SETTINGS, payload=struct.pack(">HI", 4, 1 << 31))], "a window is too large"),
        ([frame(SETTINGS, payload=b"odd")], "malformed"),
        ([frame(WINDOW_UPDATE, payload=struct.pack(">I", (1 << 31) - 1))] * 2, "a window is too large"),
        ([frame(PING, payload=b"x" * 16_385)], "a frame is too large"),
        ([request(1, STUCK, flags=0), frame(PING, payload=b"x" * 8)], "a header block is interrupted"),
        ([frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\x7f")], "malformed"),
        ([request(2, STUCK)], "even number"),
        ([request(1, STUCK, flags=END_HEADERS | END_STREAM), frame(DATA, 0, 1, b"x")], "after the end"),
        ([frame(DATA, 0, 1, b"x")], "was not opened"),
        ([frame(DATA, 8, 1, b"\xff"), request(1, STUCK)], "was not opened"),
        ([request(1, STUCK), frame(DATA, 8, 1, b"\xff")], "malformed"),
        ([request(1, STUCK), *[frame(DATA, 0, 1, b"x" * 16_384)] * (STREAM_WINDOW // 16_384 + 1)], "than was allowed"),
    ],
)
async def test_frames_that_break_the_rules_end_the_session(frames: list[bytes], complaint: str) -> None:
    """A breach of HTTP/2 is found out, said, and ends the build as a daemon that is lost."""
    session = Session([Stuck()])
    async with attacked(session) as peer:
        sending = peer.send(*frames, *[frame(PING, payload=b"x" * 8)] * 10_000)
        with pytest.raises(DaemonLostError, match=f"while building it: it does not keep to the protocol .*{complaint}"):
            await session.while_served(sending, doing="building it")

    assert isinstance(session.lost, ProtocolError)


async def test_a_peer_that_asks_and_does_not_listen() -> None:
    """Answers do not pile up without end for a peer that does not take them."""
    session = Session([])
    async with attacked(session, deaf=True) as peer:
        await peer.send(frame(PING, payload=b"x" * 8) * 1_000_000)
        await session.wait_ended()

    assert "the peer asks for more than it takes" in str(session.lost)


async def test_streams_without_number() -> None:
    """Beyond a thousand, calls are refused; those before go on."""
    session = Session([Stuck()])
    async with attacked(session) as peer:
        await peer.send(*(request(1 + 2 * number, STUCK) for number in range(1002)))
        await peer.until(RST_STREAM, 2003)

        assert [2001, 2003] == [number for kind, _, number, _ in peer.received if kind == RST_STREAM]
        assert struct.pack(">HI", 3, 1000) in peer.payloads(SETTINGS)[0]
    assert session.lost is None


async def test_calls_that_are_begun_and_given_up_at_once() -> None:
    """Resets leave nothing behind, however many there are."""
    session = Session([Stuck()])
    async with attacked(session) as peer:
        for start in range(1, 20_001, 2000):
            await peer.send(
                *(
                    request(number, STUCK) + frame(RST_STREAM, 0, number, struct.pack(">I", 8))
                    for number in range(start, start + 2000, 2)
                )
            )
        await peer.send(request(30_001, services.HEALTH_CHECK), frame(DATA, END_STREAM, 30_001, message(b"")))
        await peer.until(DATA, 30_001)

        assert len(asyncio.all_tasks()) < 20
    assert session.lost is None


async def test_what_is_not_read_is_bounded_over_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that keeps to each stream's window gets no credit while too much of all together is not read."""
    monkeypatch.setattr(http2, "_UNREAD_LIMIT", 4 << 20)
    session = Session([Stuck()])
    async with attacked(session) as peer:
        sent = 0
        for number in range(1, 201, 2):
            await peer.send(request(number, STUCK))
            for _ in range(STREAM_WINDOW // 16_384):
                if windows(peer.payloads(WINDOW_UPDATE, 0)) + 65_535 - sent < 16_384:
                    break
                await peer.send(frame(DATA, 0, number, b"x" * 16_384))
                sent += 16_384
        await peer.send(frame(PING, payload=b"x" * 8))
        await peer.until(PING, 0)

        assert (4 << 20) < sent <= 13 << 20
    assert session.lost is None


async def test_messages_that_are_never_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many large messages at once are refused, and one that says it is larger than any is too."""
    monkeypatch.setattr("buildkit_builder.buildkit.session.server._INCOMPLETE_LIMIT", 1 << 20)
    session = Session([Patient()])
    async with attacked(session) as peer:
        await peer.send(request(1, STUCK), frame(DATA, 0, 1, message(b"", size=(1 << 32) - 1)))
        await peer.until(RST_STREAM, 1)
        for number in range(3, 203, 2):
            await peer.send(request(number, STUCK), frame(DATA, 0, number, message(b"x" * 16_000, size=1_000_000)))
        await peer.until(RST_STREAM, 201)

        refused = [number for kind, _, number, _ in peer.received if kind == RST_STREAM]
        assert 30 < len(refused) < 40
    assert session.lost is None


@pytest.mark.parametrize(
    "block",
    [
        b"\x40\x01a\x7f\xc0\x1e" + b"x" * 3999 + b"\xbe" * 15_000,
        b"\xbe" * 10,
        b"\x82" * 600_000,
    ],
)
async def test_headers_that_grow(block: bytes) -> None:
    """A few bytes that stand for megabytes of headers end the session."""
    session = Session([])
    async with attacked(session) as peer:
        pieces = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
        await peer.send(
            frame(HEADERS, 0, 1, pieces[0]), *(frame(9, 0, 1, piece) for piece in pieces[1:]), frame(9, END_HEADERS, 1)
        )
        await session.wait_ended()

    assert isinstance(session.lost, ProtocolError)


async def test_one_header_repeated() -> None:
    """A hundred thousand times the same name cost no more than as many different ones."""
    session = Session([])
    async with attacked(session) as peer:
        names = b"\x40\x01a\x01b" + b"\xbe" * 100_000
        block = b"\x83\x04\x1b" + services.HEALTH_CHECK.encode().ljust(27)[:27] + names
        pieces = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
        await peer.send(
            frame(HEADERS, END_STREAM, 1, pieces[0]),
            *(frame(9, 0, 1, piece) for piece in pieces[1:]),
            frame(9, END_HEADERS, 1),
        )
        await peer.until(HEADERS, 1)

    assert session.lost is None


async def test_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of which nothing is heard any more is lost, and one that only asks whether we are well is not."""
    monkeypatch.setattr(sessions, "_SILENCE_SECONDS", 0.4)
    session = Session([])
    async with attacked(session) as peer:

        async def chat() -> str:
            for _ in range(20):
                await peer.send(frame(PING, payload=b"x" * 8))
                await asyncio.sleep(0.05)
            return "talked"

        assert "talked" == await session.while_served(chat(), doing="building it")
        with pytest.raises(DaemonLostError, match=r"building it: nothing has been heard from it for 0\.4 s"):
            await session.while_served(asyncio.sleep(3600), doing="building it")


async def test_a_session_that_the_daemon_ends_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon may end a session before its build, and then says itself what became of that."""
    monkeypatch.setattr(sessions, "_SILENCE_SECONDS", 0.2)
    session = Session([])
    async with attacked(session) as peer:
        await peer.call.to_session.put(None)

        await session.while_served(asyncio.sleep(0.5), doing="building it")


# --- calls ---


@pytest.mark.parametrize(
    "path",
    [
        services.SECRETS_GET_SECRET,
        services.AUTH_CREDENTIALS,
        services.SSH_FORWARD_AGENT,
        services.FILESYNC_DIFF_COPY,
        services.FILESEND_DIFF_COPY,
        f"/{services.CONTENT}/Read",
        f"/{services.CONTENT}/Write",
        "/",
    ],
)
async def test_what_is_not_offered_is_not_there(path: str) -> None:
    """A service that a build has no use for cannot be called, sending of results to us among them."""
    async with attach(Session([])) as daemon:
        assert await ending(daemon.stream(path)) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "path",
    [services.SECRETS_GET_SECRET, services.SSH_CHECK_AGENT, services.FILESYNC_DIFF_COPY, services.FILESEND_DIFF_COPY],
)
async def test_bytes_that_are_no_message(path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Garbage for a message is the daemon's own mistake: it is told so, and nothing is logged as if it were ours."""
    offered: list[Attachable] = [
        Secrets({"id": b"value"}),
        SshAgent({"default": tmp_path}),
        FileSync([LocalDirectory("src", tmp_path)]),
        FileReceiver({0: Directory(tmp_path / "out")}),
    ]
    async with attach(Session(offered)) as daemon:
        call = daemon.stream(path, [("dir-name", "src")])
        await call.write(b"\xff\xff\xff")

        assert await ending(call) is grpc.StatusCode.INVALID_ARGUMENT
    assert [] == caplog.records


# --- files ---


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with links that leave it, beside a secret."""
    write_tree(tmp_path, {"secret": b"secret", "etc/passwd": b"other", "src/a/file": b"1", "src/.env": b"ignored"})
    (tmp_path / "src" / "up").symlink_to("..")
    (tmp_path / "src" / "root").symlink_to("/")
    (tmp_path / "src" / "leak").symlink_to("../secret")
    return tmp_path / "src"


def declared(tree: Path) -> FileSync:
    return FileSync([LocalDirectory("src", tree, exclude=[".env"])])


@pytest.mark.parametrize("key", ["followpaths", "include-patterns"])
@pytest.mark.parametrize(
    "path",
    ["../secret", "../*", "..", "/", "/etc/passwd", "up/secret", "up/*", "root/etc/passwd", "leak", "a/../../secret",
     ".env", "./.env", "**/.env", "*/../.env", "up/src/.env", "**", ""],
)  # fmt: skip
async def test_no_path_leads_out_of_a_folder(tree: Path, key: str, path: str) -> None:
    """Whatever the daemon wants followed or included, it sees what the folder's owner lists, links as links."""
    allowed = {"a", "a/file", "up", "root", "leak"}
    async with attach(Session([declared(tree)])) as daemon:
        found = await daemon.pull("src", metadata=[(key, path)])

    assert allowed >= set(found.paths)
    assert {"a/file": b"1"}.items() >= found.contents.items()


@pytest.mark.parametrize("name", ["", ".", "..", "src/..", "/", "/etc", "other", "SRC", "src\x00"])
async def test_folders_that_were_not_declared(tree: Path, name: str) -> None:
    """A folder is known by its name alone, and a path is none."""
    async with attach(Session([declared(tree)])) as daemon:
        call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", name)] if "\0" not in name else [])

        assert await ending(call) is grpc.StatusCode.NOT_FOUND


async def listed(daemon: Daemon) -> Any:
    """A transfer whose listing has come."""
    call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src")])
    while await call.read() != b"":
        pass
    return call


@pytest.mark.parametrize("numbers", [[99], [0xFFFF_FFFF], [0], [1, 1]])
async def test_only_what_was_listed_can_be_asked_for_and_once(tree: Path, numbers: list[int]) -> None:
    """A number that stands for nothing, for a folder, or that was asked for before, ends the transfer."""
    async with attach(Session([declared(tree)])) as daemon:
        call = await listed(daemon)
        for number in numbers:
            await call.write(Packet(type=Packet.PACKET_REQ, ID=number).SerializeToString())

        assert await ending(call) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "metadata",
    [
        [("include-patterns", "x")] * 10_001,
        [("include-patterns", "x" * 4097)],
        [("followpaths", "a%00b"), ("followpaths-encoded", "1")],
        [("include-patterns", "[")],
    ],
)
async def test_patterns_that_are_none(
    tree: Path, metadata: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Too many patterns, too long ones, and what no path can hold are refused."""
    async with attach(Session([declared(tree)])) as daemon:
        call = daemon.stream(services.FILESYNC_DIFF_COPY, [("dir-name", "src"), *metadata])

        assert await ending(call) is grpc.StatusCode.INVALID_ARGUMENT
    assert [] == caplog.records


async def test_patterns_that_would_take_forever(tmp_path: Path) -> None:
    """Wildcards one after the other are matched in a time that their number does not blow up."""
    write_tree(tmp_path, {"a" * 250: b"", "a/" * 100 + "c": b"deep"})
    hard = ["*a" * 40 + "b", "**/" + "*a*/**/" * 30 + "b", "**/*a*a*/**/c"]
    async with attach(Session([FileSync([LocalDirectory("src", tmp_path)])])) as daemon:
        found = await daemon.pull("src", metadata=[("include-patterns", pattern) for pattern in hard])

    assert {} == found.contents


# --- results, secrets, agents, content ---


async def test_a_list_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree with more entries than any result has is an error of ours that says so."""
    monkeypatch.setattr(receive, "_ENTRIES_LIMIT", 100)
    session = Session([FileReceiver({0: Directory(tmp_path / "out")})])
    async with attach(session) as daemon:
        call = daemon.stream(services.FILESEND_DIFF_COPY)

        # Whichever of them is the first that finds nobody any more.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for number in range(10_000):
                await call.write(Packet(stat=Stat(path=f"{number:06}", mode=MODE_DIR | 0o755)).SerializeToString())

    assert isinstance(session.failure, BuildKitError)
    assert "more than 100 files" in str(session.failure)
    assert 100 == len(list((tmp_path / "out").iterdir()))


@pytest.mark.parametrize("name", ["other", "", "MINE", "mine ", "../mine", "*"])
async def test_secrets_that_the_image_does_not_name(name: str) -> None:
    """A secret is known by its id alone, and one that is not there is not told from one that is not for this build."""
    async with attach(Session([Secrets({"mine": b"value"})])) as daemon:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await daemon.unary(services.SECRETS_GET_SECRET, GetSecretRequest(ID=name), GetSecretResponse)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "value" not in (caught.value.details() or "")


async def test_agents_that_the_build_does_not_name(tmp_path: Path) -> None:
    """Nor is a path the id of an agent."""
    async with attach(Session([SshAgent({"mine": tmp_path / "agent"})])) as daemon:
        for name in ("", "default", str(tmp_path / "agent"), "../mine"):
            call = daemon.stream(services.SSH_FORWARD_AGENT, [("buildkit.ssh.id", name)])

            assert await ending(call) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("store", "digest"),
    [
        ("cache", "sha256:" + "0" * 64),
        ("cache", "sha256:../../../secret"),
        ("cache", "sha256:" + "../" * 20 + "etc/passwd0000"),
        ("cache", "../../secret"),
        ("other", "sha256:" + "0" * 64),
        ("../cache", "sha256:" + "0" * 64),
    ],
)
async def test_content_that_was_not_offered(tmp_path: Path, store: str, digest: str) -> None:
    """A blob is found by its digest in the store of its name, and by nothing else."""
    write_tree(tmp_path, {"secret": b"secret", "cache/blobs/sha256/" + "1" * 64: b"offered"})
    async with attach(Session([ContentStores({"cache": tmp_path / "cache"})])) as daemon:
        method = raw(daemon.channel).unary_stream(f"/{services.CONTENT}/Read")
        call = method(
            b"\x0a" + bytes([len(digest)]) + digest.encode(), metadata=(("buildkit-attachable-store-id", store),)
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()

    assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
