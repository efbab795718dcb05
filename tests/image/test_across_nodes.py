"""One image on several nodes: who does what, and what happens when one of them is not there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest

from buildkit_builder.buildkit.build import BuildResult
from buildkit_builder.buildkit.connect.connection import Connection, Pool
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.find.nodes import Node, Share
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.buildkit.wire import services
from buildkit_builder.errors import (
    BuildKitError,
    CapabilityError,
    DaemonLostError,
    EndpointError,
    StepFailedError,
)
from buildkit_builder.image.across_nodes import build_on_nodes, first_reached
from tests.fakes.buildkit import FakeBuildKit

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
ABSENT = "unix:///nowhere/buildkitd.sock"


@dataclass
class Order:
    """What is to be built, and a record of what was done for it.

    Attributes:
        platforms: What it is wanted for.
        fails: By the name of a node, how building there ends.
        waits: Nodes on which building goes on until it is cancelled.
        done: What was done, in order, in words.
        said: What the user was told.
    """

    platforms: tuple[Platform, ...] = (AMD64, ARM64)
    fails: dict[str, BuildKitError] = field(default_factory=dict)
    waits: tuple[str, ...] = ()
    done: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    async def whole(self, connection: Connection) -> BuildResult:
        await self._work("whole", connection)
        return BuildResult(digest="whole", response={})

    async def part(self, share: Share, connection: Connection) -> str:
        await self._work(", ".join(map(str, share.platforms)), connection)
        return f"by {share.node.name}"

    async def join(self, connection: Connection, parts: Mapping[Platform, str]) -> BuildResult:
        await self._work("join", connection)
        self.done.append(" ".join(f"{platform} {digest}" for platform, digest in parts.items()))
        return BuildResult(digest="joined", response={})

    def say(self, text: str) -> None:
        self.said.append(text)

    async def _work(self, what: str, connection: Connection) -> None:
        # Fakes are told apart by the platform that they were made with; the reason of an endpoint names it.
        name = connection.endpoint.reason
        self.done.append(f"{what} on {name}")
        if name in self.waits:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if name in self.fails:
            raise self.fails[name]


def node(name: str, address: str, *platforms: Platform) -> Node:
    return Node(name=name, endpoint=Endpoint(address=address, kind="buildkit", reason=name), platforms=platforms)


@dataclass
class Bench:
    """Daemons by name: `amd` and `arm`, of their own architectures, and `both`, which emulates."""

    fakes: dict[str, FakeBuildKit]
    pool: Pool

    def node(self, name: str, *platforms: Platform) -> Node:
        return node(name, self.fakes[name].address, *platforms)

    async def build(self, order: Order, *nodes: Node) -> BuildResult:
        return await build_on_nodes(nodes, self.pool, order)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    fakes = {
        "amd": FakeBuildKit(platforms=(("linux", "amd64"),)),
        "arm": FakeBuildKit(platforms=(("linux", "arm64"),)),
        "both": FakeBuildKit(platforms=(("linux", "amd64"), ("linux", "arm64"))),
    }
    async with contextlib.AsyncExitStack() as stack:
        for fake in fakes.values():
            await stack.enter_async_context(fake)
        yield Bench(fakes, await stack.enter_async_context(Pool(timeout=5)))


async def test_each_platform_on_the_node_that_runs_it(bench: Bench) -> None:
    """At the same time, and then joined on the first node, in the image's own order."""
    order = Order(platforms=(ARM64, AMD64))

    result = await bench.build(order, bench.node("amd"), bench.node("arm"))

    assert "joined" == result.digest
    assert {"linux/amd64 on amd", "linux/arm64 on arm"} == set(order.done[:2])
    assert ["join on amd", "linux/arm64 by arm linux/amd64 by amd"] == order.done[2:]
    assert [] == order.said


async def test_one_node_that_does_all_builds_as_if_it_were_alone(bench: Bench) -> None:
    """No push by digest and no join, and the node that is not needed is not even dialled."""
    order = Order(platforms=(AMD64,))

    result = await bench.build(order, bench.node("amd", AMD64), node("absent", ABSENT, ARM64))

    assert "whole" == result.digest
    assert ["whole on amd"] == order.done
    assert [] == order.said
    assert [] == bench.fakes["amd"].called(services.CONTROL_LIST_WORKERS)


async def test_a_node_without_platforms_is_asked(bench: Bench) -> None:
    """Its daemon says what it runs, and what it only emulates is not given to it where another runs it."""
    order = Order()

    await bench.build(order, bench.node("both"), bench.node("arm"))

    assert {"linux/amd64 on both", "linux/arm64 on arm"} == set(order.done[:2])


async def test_no_node_runs_it(bench: Bench) -> None:
    """A node that can emulates, also where its settings name another platform, and the user is told."""
    order = Order()

    await bench.build(order, bench.node("both", AMD64))

    assert ["whole on both"] == order.done
    assert ["No node runs linux/arm64, so both emulates it."] == order.said


async def test_a_node_that_is_down(bench: Bench) -> None:
    """Its platforms go to another that can do them, and the user is told."""
    order = Order()

    result = await bench.build(order, bench.node("amd"), node("absent", ABSENT, ARM64), bench.node("both", ARM64))

    assert "joined" == result.digest
    assert {"linux/amd64 on amd", "linux/arm64 on both"} == set(order.done[:2])
    [said] = order.said
    assert said.startswith("The node absent is down: No BuildKit could be reached at unix:///nowhere/buildkitd.sock")


async def test_a_node_that_is_down_and_cannot_be_replaced(bench: Bench) -> None:
    """Nothing is begun, and the error says what is missing and which node is down."""
    order = Order()

    with pytest.raises(EndpointError) as caught:
        await bench.build(order, bench.node("amd"), node("absent", ABSENT))

    assert [] == order.done
    assert "No node can build for linux/arm64: amd has linux/amd64" in str(caught.value)
    assert "The node absent is down: No BuildKit could be reached" in str(caught.value)


async def test_all_nodes_are_down(bench: Bench) -> None:
    """The error says why, for each of them."""
    with pytest.raises(EndpointError) as caught:
        await bench.build(Order(), node("one", ABSENT), node("two", f"{ABSENT}2"))

    assert str(caught.value).startswith("None of the nodes can be reached. The node one is down: ")
    assert "The node two is down: " in str(caught.value)


async def test_no_node_can(bench: Bench) -> None:
    """Where all nodes are up, the error says what they can."""
    with pytest.raises(CapabilityError, match="No node can build for linux/arm64: amd has linux/amd64"):
        await bench.build(Order(), bench.node("amd"))


async def test_a_node_that_goes_away_in_mid_build(bench: Bench) -> None:
    """Its platforms go to another node, which may be building already; the others are not begun anew."""
    order = Order(fails={"arm": DaemonLostError("It broke.")})

    result = await bench.build(order, bench.node("amd"), bench.node("arm"), bench.node("both"))

    assert "joined" == result.digest
    assert ["linux/amd64 on amd", "linux/arm64 on arm", "linux/arm64 on both", "join on amd"] == order.done[:4]
    assert ["The node arm is down: It broke.", "No node runs linux/arm64, so both emulates it."] == order.said


async def test_a_node_that_goes_away_and_cannot_be_replaced(bench: Bench) -> None:
    """It is a lost daemon; what other nodes build is cancelled, and nothing is joined."""
    order = Order(fails={"arm": DaemonLostError("It broke.")}, waits=("amd",))

    with pytest.raises(DaemonLostError, match=r"No node can build for linux/arm64.* The node arm is down: It broke"):
        await bench.build(order, bench.node("amd"), bench.node("arm"))

    assert ["linux/amd64 on amd", "linux/arm64 on arm"] == order.done


async def test_the_only_node_of_a_build_goes_away(bench: Bench) -> None:
    """What one node would have built alone, another builds, or others do together."""
    order = Order(fails={"both": DaemonLostError("It broke.")})

    result = await bench.build(order, bench.node("both", AMD64, ARM64), bench.node("amd"), bench.node("arm"))

    assert "joined" == result.digest
    assert "whole on both" == order.done[0]
    assert {"linux/amd64 on amd", "linux/arm64 on arm"} == set(order.done[1:3])


async def test_a_step_that_fails(bench: Bench) -> None:
    """The error names the node, the other nodes' work is cancelled, and nothing is joined."""
    order = Order(fails={"arm": StepFailedError("The step failed.", step="make")}, waits=("amd",))

    with pytest.raises(StepFailedError, match=r"^On the node arm, for linux/arm64: The step failed\.$"):
        await bench.build(order, bench.node("amd"), bench.node("arm"))

    assert ["linux/amd64 on amd", "linux/arm64 on arm"] == order.done


async def test_the_node_that_joins_goes_away(bench: Bench) -> None:
    """Any node can join; where none is left the error says that the work is not lost."""

    class Joining(Order):
        async def join(self, connection: Connection, parts: Mapping[Platform, str]) -> BuildResult:
            if connection.endpoint.reason in self.waits:
                raise DaemonLostError("It broke.")
            return await super().join(connection, parts)

        async def _work(self, what: str, connection: Connection) -> None:
            self.done.append(f"{what} on {connection.endpoint.reason}")

    order = Joining(waits=("amd",))
    await bench.build(order, bench.node("amd"), bench.node("arm"))
    assert "join on arm" == order.done[2]

    with pytest.raises(EndpointError, match="no node is left to put them under one name: linux/amd64, linux/arm64"):
        await bench.build(Joining(waits=("amd", "arm")), bench.node("amd"), bench.node("arm"))


async def test_the_first_node_that_answers(bench: Bench) -> None:
    """For what any node can do."""
    connection = await first_reached([node("absent", ABSENT), bench.node("amd")], bench.pool)
    assert bench.fakes["amd"].address == connection.endpoint.address

    with pytest.raises(EndpointError, match=r"None of the nodes can be reached\. The node one is down: "):
        await first_reached([node("one", ABSENT), node("two", ABSENT)], bench.pool)
