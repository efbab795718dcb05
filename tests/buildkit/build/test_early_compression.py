"""Layers that are packed while other steps still run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.events import StatusUpdate, VertexEvent
from buildkit_builder.buildkit.build import (
    BuildRequest,
    Exporter,
    GraphFrontend,
    OciArchive,
    Push,
    TarArchive,
    early_compression,
)
from buildkit_builder.buildkit.build.early_compression import LayerWatch
from buildkit_builder.buildkit.build.exporters import Compression
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.wire import control_pb2, services
from tests.fakes.panics import panics_of

PLATFORM = llb.Platform()
BASE = llb.image("debian")
ONE = BASE.run(["one"], name="one").root
TWO = BASE.run(["two"], name="two").root
STATE = llb.merge([ONE, llb.diff(BASE, TWO)], name="join")
IMAGE = llb.marshal(STATE, platform=PLATFORM)
DIGESTS = {name: digest for digest, name in IMAGE.names.items()}
PUSH = Push(reference="r.example/a:1", compression=Compression(level=1))


class Daemon(Control):
    """Notes what it is asked to solve."""

    def __init__(self) -> None:
        self.asked: list[control_pb2.SolveRequest] = []
        self.error: grpc.aio.AioRpcError | None = None

    async def solve(self, request: control_pb2.SolveRequest) -> Mapping[str, str]:
        assert [] == panics_of(services.CONTROL_SOLVE, request)
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return {}


class Bench:
    """One build."""

    def __init__(self, **options: Any) -> None:
        self.daemon = Daemon()
        self.going: list[asyncio.Future[None]] = []
        frontend = GraphFrontend(state=STATE, platform=PLATFORM)
        self.request = BuildRequest(title="test", frontend=frontend, **{"exporters": (PUSH,), **options})
        self.watch = LayerWatch(self.request, self.daemon, "s1", self.aside)
        self.watch.expect(IMAGE, PLATFORM)

    def aside(self, work: Any) -> asyncio.Future[None]:
        self.going.append(asyncio.ensure_future(work))
        return self.going[-1]

    async def heard(self, name: str, *, seconds: float = 5.0, **more: Any) -> list[llb.Definition]:
        """Has a step end, and gives what is packed by then."""
        ended = VertexEvent(digest=DIGESTS[name], name=name, started=10.0, completed=10.0 + seconds)
        self.watch.heard(StatusUpdate(vertexes=(replace(ended, **more),)))
        await asyncio.gather(*self.going)
        return [llb.Definition.from_wire(request.Definition) for request in self.daemon.asked]


@pytest.fixture
def bench() -> Bench:
    """A build of two steps, none of which has ended."""
    return Bench()


async def test_a_step_is_packed_while_another_runs(bench: Bench) -> None:
    """Its tree is exported to nowhere, packed as the image will be, and not noted in the daemon's history."""
    assert [llb.marshal(ONE, platform=PLATFORM)] == await bench.heard("one")

    [request] = bench.daemon.asked
    nowhere = {"push": "false", "store": "false", "unpack": "false"}
    assert {"compression-level": "1", **nowhere} == dict(request.Exporters[0].Attrs)
    assert request.Exporters[0].Type == request.ExporterDeprecated == "image"
    assert dict(request.ExporterAttrsDeprecated) == dict(request.Exporters[0].Attrs)
    assert request.Internal
    assert "s1" == request.Session


async def test_what_steps_may_do_is_the_same() -> None:
    """Else the daemon would take them for others."""
    policy = Mirrors.of({"docker.io": "m.example"}).policy()
    bench = Bench(entitlements=("network.host",), source_policy=policy)
    await bench.heard("one")

    assert ["network.host"] == list(bench.daemon.asked[0].Entitlements)
    assert policy == bench.daemon.asked[0].SourcePolicy


async def test_the_last_step_is_left_to_the_export(bench: Bench) -> None:
    """When nothing else runs any more, the image is exported."""
    await bench.heard("one", cached=True)

    assert [] == await bench.heard("two")


@pytest.mark.parametrize("event", [{"cached": True}, {"seconds": 0.5}, {"error": "no"}, {"started": None}])
async def test_what_is_not_worth_it(bench: Bench, event: dict[str, Any]) -> None:
    """A step that was there, made little, or failed."""
    assert [] == await bench.heard("one", **event)


async def test_steps_that_are_no_layers(bench: Bench) -> None:
    """What the image is not built upon is not packed."""
    bench.watch.heard(StatusUpdate(vertexes=(VertexEvent(digest="sha256:other", started=1.0, completed=9.0),)))

    assert [] == bench.going


@pytest.mark.parametrize(
    "exporters",
    [
        (TarArchive(path=Path("a")),),
        (replace(PUSH, compression=Compression(force=True)),),
        (PUSH, OciArchive(path=Path("a"))),
        (),
    ],
)
async def test_exporters_it_is_not_done_for(exporters: Sequence[Exporter]) -> None:
    """Those that pack nothing, or the base as well; several may pack differently."""
    assert [] == await Bench(exporters=exporters).heard("one")


async def test_builds_side_by_side_pack_a_step_once(bench: Bench) -> None:
    """They have steps in common."""
    other = Bench(layers=bench.request.layers)
    await bench.heard("one")

    assert [] == await other.heard("one")


async def test_nothing_begins_when_it_is_over(bench: Bench) -> None:
    """What is heard late counts no more."""
    bench.watch.stop()

    assert [] == await bench.heard("one")


async def test_a_failure_is_left_to_the_export(bench: Bench) -> None:
    """It is nobody's."""
    metadata = grpc.aio.Metadata()
    bench.daemon.error = grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, metadata, metadata, details="no")

    assert 1 == len(await bench.heard("one"))


async def test_what_is_new(bench: Bench) -> None:
    """Layers of steps that were run, and not of those that were there or that belong to no layer."""
    await bench.heard("two", cached=True)
    await bench.heard("one")
    bench.watch.heard(StatusUpdate(vertexes=(VertexEvent(digest="sha256:other", started=1.0, completed=9.0),)))

    assert {(DIGESTS["one"], 0)} == await bench.watch.made()


async def test_what_is_new_is_heard_of_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's word is waited for, but not for ever."""
    await bench.heard("one")
    asking = asyncio.ensure_future(bench.watch.made())
    await asyncio.sleep(0.01)
    assert not asking.done()
    await bench.heard("two")
    assert {DIGESTS[name] for name in ("one", "two")} == {digest for digest, _ in await asking}

    monkeypatch.setattr(early_compression, "_TOLD_SECONDS", 0.01)
    silent = Bench()
    await silent.heard("one")
    assert {(DIGESTS["one"], 0)} == await silent.watch.made()


async def test_a_graph_that_was_given_up(bench: Bench) -> None:
    """Another one takes its place."""
    bench.watch.expect(llb.marshal(ONE, platform=PLATFORM), PLATFORM)

    await bench.heard("two")
    await bench.heard("one")

    assert {(DIGESTS["one"], 0)} == await bench.watch.made()
    assert [] == bench.daemon.asked


async def test_a_step_that_one_platform_only_uses(bench: Bench) -> None:
    """It is packed where it is a layer of another's image."""
    user = BASE.run(["use"], name="use", mounts=[llb.Bind("/one", ONE, readonly=True)]).root
    other = llb.Platform(architecture="arm64")
    bench.watch.expect(llb.marshal(user, platform=PLATFORM), PLATFORM)
    bench.watch.expect(IMAGE, other)

    assert [llb.marshal(ONE, platform=PLATFORM)] == await bench.heard("one")
