"""What a daemon keeps and remembers: looked at and cleared by the commands, on an engine that nobody else uses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, build
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.cli.main import main
from buildkit_builder.errors import SolveError
from tests.conftest import Engine
from tests.integration.daemon import Daemon, daemon

PLATFORM = llb.Platform(architecture="amd64")
SIZE = 3_000_000


@pytest.fixture(scope="module")
def own(engine: Engine) -> Iterator[Daemon]:
    """An engine with nothing in it."""
    assert engine.dockerd is not None
    with daemon(engine.dockerd, engine.environ) as started:
        yield started


@pytest.fixture
def own_user(own: Daemon, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of that engine."""
    monkeypatch.setenv("DOCKER_HOST", own.address)


async def built(own: Daemon, *names: str, state: llb.State | None = None) -> None:
    """Builds a file of `SIZE` for each name, one on another, and keeps nothing but the cache of it."""
    made = state or llb.scratch()
    for name in names:
        made = made.file(llb.mkfile(f"/{name}", os.urandom(SIZE)), name=f"make {name}")
    request = BuildRequest(title="test", frontend=GraphFrontend(state=made, platform=PLATFORM))
    screen = open_screen("quiet", sys.stderr, environ={}, clock=time.monotonic)
    async with await connect(Endpoint(address=own.address, kind="docker")) as connection:
        await build(connection, request, screen.display())


async def command(*words: str) -> Result:
    """Runs one of our commands."""
    return await asyncio.to_thread(CliRunner().invoke, main, list(words))


async def said(*words: str) -> str:
    """What one of our commands says, which must succeed."""
    ended = await command(*words)
    assert 0 == ended.exit_code, ended.output
    return ended.stdout


async def answer(*words: str) -> Any:
    """What one of our commands says to a program."""
    return json.loads(await said(*words, "--json"))


def steps(records: Sequence[dict[str, Any]]) -> set[str]:
    """The names of the files that records are the making of."""
    return {record["description"].rpartition(" ")[2] for record in records if record["size"] >= SIZE}


@pytest.mark.usefixtures("own_user")
async def test_du_and_prune(own: Daemon) -> None:
    """What was built is there, and what is pruned is not: by a filter, down to a size, and all of it."""
    await built(own, "one", "two", "three")
    [before] = await answer("du")
    listed = await said("du", "--filter", "description~=three")
    refused = await command("prune")
    [filtered] = await answer("prune", "--force", "--filter", "description~=three$")
    [recent] = await answer("prune", "--force", "--keep-duration", "1h")
    [limited] = await answer("prune", "--force", "--max-used-space", str(SIZE + SIZE // 2))
    [left] = await answer("du")
    pruned = await said("prune", "--force", "--all")
    [empty] = await answer("du")

    assert own.address == before["address"]
    assert {"one", "two", "three"} == steps(before["records"])
    assert 3 * SIZE <= before["usage"]["prunable"] <= before["usage"]["size"]
    assert f"Docker Engine at {own.address}: 3.0 MB in 1 record" in listed
    assert (1, True) == (refused.exit_code, "Say --force" in refused.output)
    assert ({"three"}, True) == (steps(filtered["deleted"]), filtered["freed"] >= SIZE)
    assert [] == recent["deleted"]
    assert {"two"} == steps(limited["deleted"])
    assert {"one"} == steps(left["records"])
    assert "deleted 1 record, 3.0 MB" in pruned
    assert [] == empty["records"]


@pytest.mark.usefixtures("own_user")
async def test_history(own: Daemon) -> None:
    """Builds are listed, shown, replayed, pinned and forgotten, one that failed as well."""
    await built(own, "good")
    with pytest.raises(SolveError):
        await built(own, state=llb.scratch().file(llb.copy(llb.scratch(), "/nothing", "/x"), name="copy nothing"))

    listed = await answer("history", "ls")
    failed, good = listed[:2]
    shown = await said("history", "show")
    logs = await said("history", "logs", good["ref"][:10])
    await said("history", "pin", good["ref"])
    forgotten = await said("history", "rm", "--all")
    [left] = await answer("history", "ls")
    await said("history", "rm", good["ref"])
    gone = await command("history", "show", good["ref"])

    assert ("failed", "completed") == (failed["status"], good["status"])
    assert good["completed"] >= good["created"]
    assert good["steps"] == good["done"] >= 1
    assert "/nothing" in shown
    assert "make good" in logs
    assert f"forgot {len(listed) - 1} build" in forgotten
    assert (good["ref"], True) == (left["ref"], left["pinned"])
    assert (1, True) == (gone.exit_code, "No build is remembered" in gone.output)
