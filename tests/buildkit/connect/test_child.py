from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from buildkit_builder.buildkit.connect.child import CommandError, Spawned
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.connect.relay import Relay, Side
from buildkit_builder.buildkit.find.dial_commands import Command
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.errors import EndpointError
from tests.buildkit.connect.sides import Kept


def command(*argv: str) -> Command:
    return Command(argv=argv, advice="Do something.")


def shell(script: str) -> Command:
    return command("sh", "-c", script)


async def ended(side: Side) -> str:
    """How a connection ended."""
    await side.closed
    return str(side.failure)


async def test_bytes_both_ways() -> None:
    """What is sent is the program's input, what comes is its output, and its input ends with the connection."""
    async with Relay(Spawned(command("cat"))) as relay:
        reader, writer = await asyncio.open_unix_connection(relay.path)
        sent = os.urandom(3 << 20)
        writer.write(sent)
        writer.write_eof()

        assert sent == await reader.read()

        writer.close()
        await writer.wait_closed()
        assert relay.failure is None


async def test_failing_program() -> None:
    """A program that fails is told with its exit code and its last words, on one line."""
    side = await Spawned(shell("echo; for i in 1 2 3 4; do echo line $i >&2; done; exit 3")).dial()

    assert "ended with exit code 3: line 2 line 3 line 4" in await ended(side)


async def test_program_that_says_nothing() -> None:
    """A program that ends well, but before it was of any use, has failed as well."""
    assert "ended with exit code 0" in await ended(await Spawned(shell("exit 0")).dial())


async def test_program_that_was_of_use() -> None:
    """A program that ends well after it was of use has not failed."""
    assert "None" == await ended(await Spawned(shell("echo hello")).dial())


async def test_another_connection_hides_no_failure(tmp_path: Path) -> None:
    """Why a program failed is still known when the next one has been started, and no more when that one is of use."""
    started = f"cd {tmp_path} && test -e first && touch second && exec cat"
    script = f"{started}; touch first; echo no such thing >&2; exit 3"
    async with Relay(Spawned(shell(script))) as relay:
        first, first_writer = await asyncio.open_unix_connection(relay.path)
        assert b"" == await first.read()
        second, second_writer = await asyncio.open_unix_connection(relay.path)
        while not (tmp_path / "second").exists():
            await asyncio.sleep(0.01)
        silent = str(relay.failure)
        second_writer.write(b"hello")
        heard = await second.readexactly(5)

        assert "ended with exit code 3: no such thing" in silent
        assert b"hello" == heard
        assert relay.failure is None
        for writer in (first_writer, second_writer):
            writer.close()


async def test_killed_program() -> None:
    """A program that was killed is told by its signal."""
    assert "was ended by signal 9" in await ended(await Spawned(shell("echo x; kill -9 $$")).dial())


@pytest.mark.parametrize(("program", "words"), [("no-such-program", "no such program"), ("/dev/null", "Permission")])
async def test_program_that_cannot_be_run(program: str, words: str) -> None:
    """A program that is missing, or is none, is told as such."""
    with pytest.raises(CommandError, match=words) as caught:
        await Spawned(command(program)).dial()

    assert caught.value.missing == (program == "no-such-program")


async def test_stubborn_program_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that stays when its connection is gone is ended, and nothing of it is left."""
    monkeypatch.setattr("buildkit_builder.buildkit.connect.child._GRACE", 0.1)
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    script = f"{ignoring}; print('up', flush=True); time.sleep(600)"
    before = children()
    async with Relay(Spawned(command(sys.executable, "-c", script))) as relay:
        reader, writer = await asyncio.open_unix_connection(relay.path)
        assert b"up\n" == await reader.readline()
        (pid,) = children() - before
        writer.close()
        await writer.wait_closed()

    assert set() == children() - before
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_error_output_that_stays_open() -> None:
    """What a program has left behind may hold its error output: its end is told all the same."""
    side = await Spawned(shell("echo gone >&2; sleep 600 >/dev/null & echo $!; exit 4")).dial()
    far = Kept()
    side.link(far)

    assert "ended with exit code 4: gone" in await ended(side)

    os.kill(int(far.data), 15)


async def test_cancelled_connecting_leaves_nothing() -> None:
    """A connection that is given up while its program runs leaves no program."""
    endpoint, before = Endpoint(address="podman-container://x", kind="buildkit"), children()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buildkit_builder.buildkit.connect.connection.command_of", lambda _: shell("cat >/dev/null"))
        with pytest.raises(EndpointError, match=r"did not answer within 0\.3 s"):
            await connect(endpoint, timeout=0.3)

    assert set() == children() - before


def children() -> set[int]:
    """The processes that this one has started and not yet forgotten."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(entry.parent.name))
    return found
