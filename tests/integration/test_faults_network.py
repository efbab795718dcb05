"""A network that is cut between us and the daemon: closed, silent for good, or silent for a while."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, GraphFrontend
from buildkit_builder.buildkit.connect.connection import Pool, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session import session as sessions
from buildkit_builder.errors import BuildKitError, DaemonLostError, EndpointError
from tests.conftest import Engine
from tests.integration.faults import PLATFORM, outcome
from tests.integration.leftovers import Held, left_since
from tests.integration.proxies import Network, network
from tests.integration.test_faults import DEBIAN, gone, running


def sleeping(marker: str) -> BuildRequest:
    """A build of one step that takes as many seconds as its marker says, and never comes from a cache."""
    base = llb.image(DEBIAN, resolve_mode="local")
    ran = base.run(("sleep", marker), name="the step", network="none", ignore_cache=True)
    frontend = GraphFrontend(state=ran.root, platform=PLATFORM)
    return BuildRequest(title="test", frontend=frontend, internal=True)


def seconds(number: int) -> str:
    """An argument of `sleep` that no other process has."""
    return f"{number}.{uuid.uuid4().int % 10**9:09}"


def engine_behind(net: Network) -> Endpoint:
    return Endpoint(address=net.address, kind="docker")


async def under_way(pool: Pool, net: Network, marker: str) -> asyncio.Future[BuildKitError | None]:
    """A build whose step runs in the daemon."""
    building = asyncio.ensure_future(outcome(pool, engine_behind(net), sleeping(marker)))
    while not running(marker):
        assert not building.done(), building
        await asyncio.sleep(0.05)
    return building


async def test_network_that_closes(engine: Engine) -> None:
    """The build ends at once with the loss of the daemon, its step is stopped, and the pool finds a new way."""
    marker = seconds(3600)
    async with network(engine.docker_host) as net, Pool() as pool:
        assert await outcome(pool, engine_behind(net), sleeping(seconds(0))) is None
        before = Held.now()
        building = await under_way(pool, net, marker)

        net.close()
        error = await asyncio.wait_for(building, 20)

        assert isinstance(error, DaemonLostError)
        await asyncio.wait_for(gone(marker), 30)
        assert await outcome(pool, engine_behind(net), sleeping(seconds(0))) is None
        assert {} == await left_since(before)


async def test_network_that_is_silent_for_good(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut of which nobody is told is noticed after a minute, here eight seconds."""
    monkeypatch.setattr(sessions, "_SILENCE_SECONDS", 8)
    marker = seconds(3600)
    async with network(engine.docker_host) as net:
        async with Pool() as pool:
            building = await under_way(pool, net, marker)
            net.stop()
            error = await asyncio.wait_for(building, 30)

            assert isinstance(error, DaemonLostError)
            assert "nothing has been heard from it for 8 s" in str(error)
            with pytest.raises(EndpointError, match="did not answer within 1 s"):
                await connect(engine_behind(net), timeout=1)
        net.close()
        net.resume()
        await asyncio.wait_for(gone(marker), 30)
        async with Pool() as pool:
            assert await outcome(pool, engine_behind(net), sleeping(seconds(0))) is None


async def test_network_that_is_silent_for_a_while(engine: Engine) -> None:
    """A pause that is shorter than that is no more than a pause."""
    async with network(engine.docker_host) as net, Pool() as pool:
        building = await under_way(pool, net, seconds(3))
        net.stop()
        await asyncio.sleep(2)
        net.resume()

        assert await asyncio.wait_for(building, 30) is None
