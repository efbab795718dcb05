"""Whatever bytes a daemon sends: an error of ours or a sane answer, never another kind of error and never a hang."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
import tempfile
from pathlib import Path

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_builder.buildkit.session.automaton import Automaton
from buildkit_builder.buildkit.session.hpack import Decoder, HpackError, encode
from buildkit_builder.buildkit.session.http2 import Connection
from buildkit_builder.buildkit.session.http2_stream import ProtocolError, Stream
from buildkit_builder.buildkit.session.patterns import Matcher, PatternError
from buildkit_builder.buildkit.session.receive import Receiver
from buildkit_builder.buildkit.session.server import RpcError
from buildkit_builder.buildkit.session.walk import MODE_DIR, MODE_SYMLINK
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet, Stat
from buildkit_builder.errors import BuildKitError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LIMIT_SECONDS = 30

numbers = st.sampled_from([0, 1, 2, 3, 5, 7, 0x7FFF_FFFF, 0xFFFF_FFFF])
payloads = st.one_of(
    st.binary(max_size=64),
    st.lists(st.tuples(st.sampled_from([b":path", b"a", b""]), st.binary(max_size=9)), max_size=4).map(encode),
    st.tuples(st.integers(0, 7), numbers).map(lambda setting: struct.pack(">HI", *setting)),
    numbers.map(lambda number: struct.pack(">I", number)),
)
frames = st.builds(
    lambda kind, flags, number, data: struct.pack(">IBI", len(data) << 8 | kind, flags, number) + data,
    st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]), numbers, payloads,
)  # fmt: skip


class Wire:
    """A stream of bytes that is all there at once, and takes whatever is sent."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        return self.pieces.pop(0) if self.pieces else b""

    async def send(self, data: bytes) -> None:
        await asyncio.sleep(0)


async def read_all(stream: Stream) -> None:
    """Reads a request to its end, and answers."""
    while await stream.receive():
        pass
    stream.send_headers([(b":status", b"200")], last=True)


@settings(max_examples=100)
@given(st.lists(frames | st.binary(max_size=40), max_size=12), st.booleans())
def test_frames(sent: list[bytes], greeted: bool) -> None:
    """Frames in any order, of any kind, whole or not: the connection ends, or is ended by a breach that is named."""

    async def serve() -> None:
        data = (PREFACE if greeted else b"") + b"".join(sent)
        pieces = [data[start : start + 7] for start in range(0, len(data), 7)]
        await asyncio.wait_for(Connection(Wire(pieces), read_all).run(), LIMIT_SECONDS)

    with contextlib.suppress(ProtocolError):
        asyncio.run(serve())


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_header_blocks(blocks: list[bytes]) -> None:
    """A decoder says what is wrong, and its table stays within its bounds whatever came before."""
    decoder = Decoder(max_list_size=1000)
    for block in blocks:
        try:
            headers = decoder.decode(block)
        except HpackError:
            continue
        assert sum(len(name) + len(value) + 32 for name, value in headers) <= 1000


names = st.sampled_from(
    ["a", "b", "a/b", "a/c", "..", "../x", "/x", "a/../../x", "", ".", "a//b", "a/./b", "a\0b", "ä"]
)
modes = st.sampled_from([0o644, MODE_DIR | 0o755, MODE_SYMLINK | 0o777, 1 << 30, 0])
stats = st.builds(
    Stat, path=names, mode=modes, linkname=st.sampled_from(["", "a", "..", "../outside", "/etc/passwd"]),
    modTime=st.sampled_from([0, -1, (1 << 63) - 1, -1 << 63]), size=st.integers(-1, 9),
)  # fmt: skip
packets = st.one_of(
    stats.map(lambda stat: Packet(stat=stat)),
    st.builds(Packet, type=st.integers(0, 6), ID=st.integers(0, 4), data=st.binary(max_size=5)),
).map(Packet.SerializeToString) | st.binary(max_size=8)


class Call:
    """One transfer that is all there at once."""

    def __init__(self, messages: list[bytes]) -> None:
        self.messages = messages

    async def read_batch(self) -> list[bytes]:
        taken, self.messages = self.messages[:3], self.messages[3:]
        return taken

    async def write(self, *messages: bytes) -> None:
        """Takes what is asked for."""

    async def in_thread(self, function: object, *arguments: object) -> object:
        assert callable(function)
        return function(*arguments)

    in_thread_to_its_end = in_thread


@settings(max_examples=100)
@given(st.lists(packets, max_size=12))
def test_trees_that_are_sent_to_us(messages: list[bytes]) -> None:
    """Nothing is written outside the folder, and what is wrong with a tree is a refusal or an error of ours."""
    with tempfile.TemporaryDirectory() as parent:
        (Path(parent) / "outside").write_bytes(b"untouched")
        receiver = Receiver(Call(messages), Path(parent) / "out")  # type: ignore[arg-type]
        # Which of them depends on where it stops to make sense.
        with contextlib.suppress(RpcError, BuildKitError, DecodeError):
            asyncio.run(receiver.run())
        assert {"outside", "out"} == {path.name for path in Path(parent).iterdir()}
        assert b"untouched" == (Path(parent) / "outside").read_bytes()


globs = st.text("ab/*?[]^-\\.!d\n", max_size=20)


@given(st.lists(globs, max_size=4), st.text("ab/.\n", max_size=30))
def test_patterns(patterns: list[str], path: str) -> None:
    """Any patterns are compiled and matched, or refused with a reason."""
    with contextlib.suppress(PatternError):
        assert Matcher(patterns).matches(path) in (True, False)


@given(st.lists(st.sampled_from(["a", "[^/]", "[ab]", "[^/]*", "(?:.*/)?", ".*", "/"]), max_size=9), st.text("ab/\n"))
def test_the_automaton_is_the_regex(pieces: list[str], path: str) -> None:
    """It finds what Python's own matcher finds."""
    regex = "".join(pieces)

    assert bool(re.fullmatch(regex, path)) is Automaton(regex)(path)
