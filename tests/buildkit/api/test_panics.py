"""No daemon ends of what it is sent."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import buildkit_builder
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control, solve_request
from buildkit_builder.buildkit.api.gateway import Gateway
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.wire import control_pb2, gateway_pb2, ops_pb2, services
from buildkit_builder.cli import examination
from tests.fakes.buildkit import FakeBuildKit
from tests.fakes.panics import definition_panics, panics_of

PLATFORM = llb.Platform()
BASE = llb.image("debian")
# One of everything that a graph can be made of.
EVERYTHING = llb.merge(
    [
        BASE.run(
            ["make"],
            mounts=[
                llb.Cache("/cache", "c"),
                llb.SecretFile("/secret", "s"),
                llb.Ssh(),
                llb.Tmpfs("/tmp"),
                llb.Bind("/src", llb.local("src", session="s")),
            ],
        ).root,
        llb.diff(BASE, BASE.file(llb.mkdir("/a", owner=llb.Owner(user="nobody")))),
        llb.diff(llb.scratch(), BASE.file(llb.copy(llb.local("x", session="s"), "/", "/x"))),
        llb.scratch().file(llb.mkfile("/f", b"")).file(llb.rm("/f")),
    ]
)


def spoilt(change: Callable[[ops_pb2.Op], Any], kind: str) -> ops_pb2.Definition:
    """The graph of everything with a change to the vertices of a kind."""
    graph = llb.marshal(EVERYTHING, platform=PLATFORM).to_wire()
    for number, data in enumerate(getattr(graph, "def")):
        op = ops_pb2.Op.FromString(data)
        if op.WhichOneof("op") == kind:
            change(op)
            getattr(graph, "def")[number] = op.SerializeToString()
    return graph


def test_graphs_have_what_daemons_take_for_granted() -> None:
    """Nothing is missing in any vertex, and every one has metadata, as those of Go's client have."""
    assert [] == list(definition_panics(llb.marshal(EVERYTHING, platform=PLATFORM).to_wire()))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("diff", lambda op: op.diff.ClearField("upper")),
        ("merge", lambda op: op.merge.inputs.add(input=9)),
        ("exec", lambda op: [mount.ClearField("SSHOpt") for mount in op.exec.mounts]),
        ("exec", lambda op: op.exec.ClearField("meta")),
        ("exec", lambda op: op.exec.mounts.add(dest="/x", input=9)),
        ("file", lambda op: op.file.actions.add(input=-1, secondaryInput=-1)),
        ("file", lambda op: setattr(op.file.actions[0], "input", -2)),
    ],
)  # fmt: skip
def test_the_fake_knows_graphs_that_end_a_daemon(kind: str, change: Callable[[ops_pb2.Op], Any]) -> None:
    """A check that could not fail would show nothing."""
    assert list(definition_panics(spoilt(change, kind)))


def test_requests_are_complete() -> None:
    """Whatever a request is made with, and with nothing at all."""
    bare, full = (
        solve_request("r"),
        solve_request("r", exporters=[("image", {"name": "a"}), ("oci", {})], cache_imports=[("inline", {})]),
    )

    assert [[], []] == [panics_of(services.CONTROL_SOLVE, request) for request in (bare, full)]
    assert ("image", {"name": "a"}) == (full.ExporterDeprecated, dict(full.ExporterAttrsDeprecated))
    assert panics_of(services.CONTROL_SOLVE, control_pb2.SolveRequest(Ref="r"))
    assert panics_of(services.LLBBRIDGE_RETURN, gateway_pb2.ReturnRequest())


def test_requests_are_made_in_one_place() -> None:
    """No module but the client's makes a solve request of its own."""
    makers = {
        str(path.relative_to(Path(buildkit_builder.__file__).parent))
        for path in Path(buildkit_builder.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("control_pb2.SolveRequest")
    }

    assert {"buildkit/api/control.py"} == makers


async def test_a_request_that_was_made_by_hand_is_completed() -> None:
    """Nobody can send one that a daemon would end of."""
    async with FakeBuildKit() as fake, await connect(Endpoint(address=fake.address, kind="buildkit")) as connection:
        await Control(connection.channel).solve(control_pb2.SolveRequest(Ref="r", Frontend="x"))

        assert [True] == [request.HasField("Cache") for request in fake.called(services.CONTROL_SOLVE)]


async def test_doctor_leaves_the_daemon_alive() -> None:
    """Its probe is a build like others."""
    async with FakeBuildKit() as fake, await connect(Endpoint(address=fake.address, kind="buildkit")) as connection:
        await examination.examine(connection)

        assert ([], [True]) == (
            fake.panics, [request.HasField("Cache") for request in fake.called(services.CONTROL_SOLVE)]
        )  # fmt: skip


async def test_the_fake_ends_as_a_real_daemon_would() -> None:
    """What it is sent past the client ends it, and a test that has not wanted that fails."""
    fake = FakeBuildKit()
    await fake.start()
    async with await connect(Endpoint(address=fake.address, kind="buildkit")) as connection:
        raw = connection.channel.unary_unary(
            services.CONTROL_SOLVE,
            request_serializer=control_pb2.SolveRequest.SerializeToString,
            response_deserializer=control_pb2.SolveResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(control_pb2.SolveRequest(Ref="r"))
    with pytest.raises(AssertionError, match="would have ended"):
        await fake.__aexit__()

    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert [True] == ["Cache" in why for why in fake.panics]


async def test_an_old_daemon_runs_a_result_without_a_look_into_it() -> None:
    """Before 0.11 a look into the files of an image without layers ends it; solving the graph again does not."""
    graph = llb.marshal(llb.image("empty"), platform=PLATFORM)
    async with (
        FakeBuildKit(gateway_caps={}) as fake,
        await connect(Endpoint(address=fake.address, kind="buildkit")) as connection,
    ):
        solving = asyncio.ensure_future(Control(connection.channel).solve(solve_request("r")))
        gateway = Gateway(connection.channel, "r")
        await gateway.ping()
        result = await gateway.solve(graph, cache_imports=[("registry", {"ref": "r.example/c"})])
        assert result.ref is not None
        await gateway.evaluate(result.ref.id)
        solving.cancel()

        assert [] == fake.called(services.LLBBRIDGE_STAT_FILE)
        first, again = fake.called(services.LLBBRIDGE_SOLVE)
        assert (False, True) == (first.Evaluate, again.Evaluate)
        assert graph.to_wire() == again.Definition
        assert list(first.CacheImports) == list(again.CacheImports)
