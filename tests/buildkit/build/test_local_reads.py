"""Local files that builds share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.build.local_reads import FilesSession, SharedFiles
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.errors import SourceError
from tests.buildkit.session.harness import Daemon, MemoryCall, Tree, write_tree
from tests.fakes.buildkit import FakeBuildKit


@dataclass
class Bench:
    """A daemon that reads what is shared with it."""

    fake: FakeBuildKit
    shared: SharedFiles
    root: Path

    def folder(self, name: str) -> LocalDirectory:
        """A folder with one file, which holds the folder's name."""
        write_tree(self.root / name, {"file": name.encode()})
        return LocalDirectory(name, self.root / name)

    async def read(self, session: FilesSession, name: str) -> Tree:
        """What the daemon is sent."""
        channel = await self.fake.until_session(session.id)
        return await Daemon(channel, MemoryCall(), ()).pull(name)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with FakeBuildKit() as fake:
        async with await connect(Endpoint(address=fake.address, kind="buildkit")) as connection:
            yield Bench(fake, SharedFiles(Control(connection.channel)), tmp_path)


async def test_builds_that_begin_together_share_a_session(bench: Bench) -> None:
    """With the same folders and with others: a daemon that is asked for the same in one session reads it once."""
    one, two = bench.folder("one"), bench.folder("two")

    async with bench.shared.serve([one]) as first, bench.shared.serve([one, two]) as second:
        assert first is second
        assert {"file": b"one"} == (await bench.read(first, "one")).contents
        assert {"file": b"two"} == (await bench.read(second, "two")).contents


async def test_what_has_begun_to_be_read_is_read_again(bench: Bench) -> None:
    """A build that begins later sees its own time's files; one that wants others may still join."""
    one, two = bench.folder("one"), bench.folder("two")

    async with bench.shared.serve([one]) as first:
        await bench.read(first, "one")
        write_tree(bench.root / "one", {"file": b"changed"})
        async with bench.shared.serve([two, one]) as second, bench.shared.serve([two]) as third:
            assert first is not second
            assert first is third
            assert {"file": b"changed"} == (await bench.read(second, "one")).contents


async def test_the_session_lasts_as_long_as_one_build_needs_it(bench: Bench) -> None:
    """The build that came first may be over before another has its files; after the last, the session is closed."""
    one = bench.folder("one")

    async with bench.shared.serve([one]) as first:
        staying = bench.shared.serve([one])
        second = await staying.__aenter__()
    assert first is second
    assert {"file": b"one"} == (await bench.read(second, "one")).contents
    await staying.__aexit__(None, None, None)

    with pytest.raises(grpc.aio.AioRpcError):
        await bench.read(second, "one")
    async with bench.shared.serve([one]) as third:
        assert second is not third
        assert {"file": b"one"} == (await bench.read(third, "one")).contents


async def test_why_files_could_not_be_sent(bench: Bench) -> None:
    """The reason is kept for the builds that wanted them."""
    gone = LocalDirectory("gone", bench.root / "gone")

    async with bench.shared.serve([gone]) as session:
        tree = await bench.read(session, "gone")
        [error] = session.errors

    assert isinstance(error, SourceError)
    assert tree.error == str(error)


async def test_only_what_a_build_has_said_is_served(bench: Bench) -> None:
    """A name that no build has given is refused."""
    async with bench.shared.serve([bench.folder("one")]) as session:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bench.read(session, "two")

    assert grpc.StatusCode.NOT_FOUND is caught.value.code()
