from __future__ import annotations

import asyncio
import io
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint, Kind
from buildkit_builder.buildkit.progress import Trace, choose, summarize
from buildkit_builder.buildkit.progress.display import Display
from buildkit_builder.buildkit.wire import control_pb2
from tests.buildkit.progress.support import Terminal
from tests.conftest import Engine

BASE = "python:3.11-slim-bookworm"


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    """To the engine that the tests run against."""
    kind: Kind = "docker" if engine.docker_host else "buildkit"
    async with await connect(Endpoint(address=engine.address, kind=kind)) as connection:
        yield connection


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of the usual size."""
    terminal = Terminal(80, 24)
    yield terminal
    terminal.close()


def _graph(script: str, *, name: str) -> llb.State:
    return llb.image(BASE).run(["sh", "-c", script], name=name).root


async def _solve(connection: Connection, state: llb.State, display: Display) -> Trace:
    """Build this without exporting anything, and show it."""
    control, ref, trace = Control(connection.channel), uuid.uuid4().hex, Trace()
    definition = llb.marshal(state, platform=llb.Platform())
    request = control_pb2.SolveRequest(Ref=ref, Internal=True, Definition=definition.to_wire())
    solve = asyncio.ensure_future(control.solve(request))
    async for update in control.status(ref):
        trace.apply(update, time.monotonic())
        display.update(update)
        display.refresh()
    (error,) = await asyncio.gather(solve, return_exceptions=True)
    display.done(error if isinstance(error, grpc.aio.AioRpcError) else None)
    return trace


async def test_real_build_and_its_repetition(connection: Connection) -> None:
    """A build's steps and log are shown with our names, and the same build again is cached."""
    token = uuid.uuid4().hex
    state = _graph(f"printf 'hello {token}\\nworld'; echo oops >&2", name="with_commands hello").file(
        llb.mkfile("/x", token.encode()), name="with_source_file x"
    )
    first, second = io.StringIO(), io.StringIO()

    one = await _solve(connection, state, choose("plain", first, environ={}, clock=time.monotonic))
    two = await _solve(connection, state, choose("plain", second, environ={}, clock=time.monotonic))

    lines = [re.sub(r"(?<=[# ])\d+\.\d+s?(?= |$)", "T", line) for line in first.getvalue().splitlines()]
    number = {name: at for at, _, name in (line.partition(" ") for line in lines)}
    hello, file = number["with_commands hello"], number["with_source_file x"]
    assert f"#1 base image {BASE}" == lines[0]
    assert {f"{hello} T hello {token}", f"{hello} T world", f"{hello} T oops", f"{hello} DONE T"} < set(lines)
    assert f"{file} DONE T" in lines
    assert 2 == summarize(one, ref="", seconds=0).steps_run
    cached = re.findall(r"#\d+ (with_\w+|CACHED)", second.getvalue())
    assert {"CACHED", "with_commands", "with_source_file"} <= set(cached)
    assert (0, 3) == (summarize(two, ref="", seconds=0).steps_run, summarize(two, ref="", seconds=0).steps_cached)


async def test_real_failure_in_the_live_view(connection: Connection, terminal: Terminal) -> None:
    """After a failed build the screen shows the failed step, what it printed, and the steps it stopped."""
    token = uuid.uuid4().hex
    good = _graph(f"sleep 60 # {token}", name="with_commands sleep")
    bad = _graph(f"echo {token}; printf '\\033[2J10%%\\r20%%'; exit 3", name="with_commands fail")
    both = good.file(llb.copy(bad, "/", "/"), name="with_source_folder")
    display = choose("auto", terminal.stream, environ={"TERM": "xterm"}, clock=time.monotonic, title="app")

    trace = await _solve(connection, both, display)

    rows = [re.sub(r"\d+\.\ds", "T", re.sub(r" +", " ", row)) for row in terminal.look()]
    assert re.fullmatch(r"\[\+\] app T \(\d/\d\)", rows[0])
    failed = rows.index(" => with_commands fail ERROR T")
    assert [f" {token}", " 20%"] == rows[failed + 1 : failed + 3]
    assert " => with_commands sleep CANCELED T" in rows
    (failure,) = trace.failures
    assert failure.name == "with_commands fail"
    assert "exit code: 3" in failure.error
