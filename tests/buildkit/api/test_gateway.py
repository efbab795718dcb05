from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.failures import status_for, status_of
from buildkit_builder.buildkit.api.gateway import FileStat, Gateway, OciStore, ResolvedImage
from buildkit_builder.buildkit.api.results import Ref, Result, result_from_wire, result_to_wire
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.wire import control_pb2, gateway_pb2, services, sourcepolicy_pb2
from buildkit_builder.errors import SolveError
from tests.fakes.buildkit import BUILD_ID, FakeBuildKit, Refusal, exit_message

DIGEST = f"sha256:{'a' * 64}"
ARM = llb.Platform(architecture="arm64")


@dataclass(slots=True)
class Bench:
    """A build in progress: the daemon, its `Control.Solve`, and its gateway."""

    fake: FakeBuildKit
    control: Control
    gateway: Gateway
    solving: asyncio.Future[Any]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with FakeBuildKit() as fake:
        async with await connect(Endpoint(address=fake.address, kind="buildkit")) as connection:
            control = Control(connection.channel)
            solving = asyncio.ensure_future(control.solve(control_pb2.SolveRequest(Ref="r")))
            await fake.until_build("r")
            yield Bench(fake, control, Gateway(connection.channel, "r"), solving)
            solving.cancel()
            await asyncio.gather(solving, return_exceptions=True)


def graph() -> llb.Definition:
    return llb.marshal(llb.scratch().file(llb.mkfile("/a", b"b")), platform=llb.Platform())


async def test_every_call_names_its_build_once(bench: Bench) -> None:
    """Calls of the bridge carry the build's ref exactly once, and calls of Control never."""
    await bench.gateway.ping()
    await bench.gateway.solve(graph())
    await bench.gateway.evaluate("ref-1")
    await bench.control.list_workers()

    ids = [[value for key, value in call.metadata if key == BUILD_ID] for call in bench.fake.calls]
    bridge = [call.method.startswith(f"/{services.LLBBRIDGE}/") for call in bench.fake.calls]

    assert [["r"] if inside else [] for inside in bridge] == ids
    assert 3 == sum(bridge)


async def test_ping_tells_capabilities(bench: Bench) -> None:
    """What is on, what is off and why, and the workers arrive."""
    bench.fake.llb_caps = {"mergeop": False, "file.base": True}

    pong = await bench.gateway.ping()

    assert (True, False, False) == tuple(pong.llb.supports(name) for name in ("file.base", "mergeop", "diffop"))
    assert pong.frontend.supports("source.metaresolver")
    assert ("worker",) == tuple(worker.id for worker in pong.workers)


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNKNOWN])
async def test_ping_waits_for_registration(bench: Bench, code: grpc.StatusCode) -> None:
    """A build that is not registered yet is pinged again, whichever way the daemon says so."""
    for _ in range(3):
        bench.fake.refuse(services.LLBBRIDGE_PING, "no such job r", code=code)

    assert (await bench.gateway.ping(closed=bench.solving)).llb.supports("file.base")
    assert 4 == len(bench.fake.called(services.LLBBRIDGE_PING))


async def test_ping_gives_up(bench: Bench) -> None:
    """A build that is never registered is an error once patience has run out."""
    bench.fake.refuse(services.LLBBRIDGE_PING, "no such job r", code=grpc.StatusCode.NOT_FOUND)

    with pytest.raises(grpc.aio.AioRpcError, match="no such job"):
        await bench.gateway.ping(patience=0)


async def test_ping_does_not_hide_other_errors(bench: Bench) -> None:
    """An error that is not about registration is raised at once."""
    bench.fake.refuse(services.LLBBRIDGE_PING, "broken")

    with pytest.raises(grpc.aio.AioRpcError, match="broken"):
        await bench.gateway.ping()


async def test_ping_ends_with_a_failed_solve(bench: Bench) -> None:
    """When `Control.Solve` fails first, its error is the one that is raised."""
    bench.fake.answer(services.LLBBRIDGE_PING, *[Refusal("no such job x", grpc.StatusCode.NOT_FOUND)] * 1000)
    bench.fake.refuse(services.CONTROL_SOLVE, "exporter cannot be found")
    solving = asyncio.ensure_future(bench.control.solve(control_pb2.SolveRequest(Ref="x")))
    await asyncio.wait([solving])

    with pytest.raises(grpc.aio.AioRpcError, match="exporter cannot be found"):
        await bench.gateway.ping(closed=solving)


async def test_ping_ends_with_a_finished_solve(bench: Bench) -> None:
    """When `Control.Solve` ends well before there was a bridge, that is an error too."""
    bench.fake.answer(services.LLBBRIDGE_PING, _never)
    solving = asyncio.get_running_loop().create_future()
    pinging = asyncio.ensure_future(bench.gateway.ping(closed=solving))
    await bench.fake.until_called(services.LLBBRIDGE_PING)
    solving.set_result({})

    with pytest.raises(SolveError, match="ended the build"):
        await pinging


async def test_resolve_with_the_meta_resolver(bench: Bench) -> None:
    """A daemon that has it is asked through ResolveSourceMeta, with platform, mode and a name to show."""
    bench.fake.images["docker.io/library/x:1"] = (DIGEST, b"{}")
    await bench.gateway.ping()

    found = await bench.gateway.resolve_image("docker.io/library/x:1", ARM, mode="pull", log_name="[base] x")

    assert ResolvedImage(ref="docker.io/library/x:1", digest=DIGEST, config=b"{}") == found
    (request,) = bench.fake.called(services.LLBBRIDGE_RESOLVE_SOURCE_META)
    assert "docker-image://docker.io/library/x:1" == request.Source.identifier
    assert ("pull", "[base] x", "arm64") == (request.ResolveMode, request.LogName, request.Platform.Architecture)
    assert request.HasField("Image")


async def test_resolve_with_an_older_daemon(bench: Bench) -> None:
    """A daemon without it is asked through ResolveImageConfig."""
    bench.fake.gateway_caps = {}
    bench.fake.images["docker.io/library/x:1"] = (DIGEST, b"{}")
    await bench.gateway.ping()

    found = await bench.gateway.resolve_image("docker.io/library/x:1", None)

    assert ResolvedImage(ref="docker.io/library/x:1", digest=DIGEST, config=b"{}") == found
    (request,) = bench.fake.called(services.LLBBRIDGE_RESOLVE_IMAGE_CONFIG)
    assert ("default", 0) == (request.ResolveMode, request.ResolverType)
    assert not request.HasField("Platform")


@pytest.mark.parametrize("meta_resolver", [True, False])
async def test_resolve_in_a_content_store(bench: Bench, meta_resolver: bool) -> None:
    """An image of an OCI layout is looked for in the session's store, by old and new daemons."""
    bench.fake.gateway_caps = {"source.metaresolver": meta_resolver}
    bench.fake.images[f"x@{DIGEST}"] = (DIGEST, b"{}")
    await bench.gateway.ping()

    await bench.gateway.resolve_image(f"x@{DIGEST}", None, store=OciStore(id="st", session="se"))

    if meta_resolver:
        (request,) = bench.fake.called(services.LLBBRIDGE_RESOLVE_SOURCE_META)
        assert f"oci-layout://x@{DIGEST}" == request.Source.identifier
        assert {"oci.store": "st", "oci.session": "se"} == dict(request.Source.attrs)
    else:
        (request,) = bench.fake.called(services.LLBBRIDGE_RESOLVE_IMAGE_CONFIG)
        assert (1, "st", "se") == (request.ResolverType, request.StoreID, request.SessionID)


async def test_solve_a_graph(bench: Bench) -> None:
    """A graph leaves with everything that belongs to it, and both kinds of results are allowed."""
    policy = sourcepolicy_pb2.Policy(version=1)

    result = await bench.gateway.solve(
        graph(), evaluate=True, cache_imports=[("registry", {"ref": "reg/x"})], source_policies=[policy]
    )

    assert Ref(id="ref-1") == result.ref
    (request,) = bench.fake.called(services.LLBBRIDGE_SOLVE)
    assert graph().to_wire() == request.Definition
    assert (True, True, True) == (request.allowResultReturn, request.allowResultArrayRef, request.Evaluate)
    assert [("registry", {"ref": "reg/x"})] == [(entry.Type, dict(entry.Attrs)) for entry in request.CacheImports]
    assert [policy] == list(request.SourcePolicies)


async def test_solve_a_frontend(bench: Bench) -> None:
    """A frontend leaves with options and inputs, and without a definition, which would contradict it."""
    await bench.gateway.solve(
        frontend="dockerfile.v0", frontend_opts={"target": "t"}, frontend_inputs={"context": graph()}
    )

    (request,) = bench.fake.called(services.LLBBRIDGE_SOLVE)
    assert ("dockerfile.v0", {"target": "t"}) == (request.Frontend, dict(request.FrontendOpt))
    assert graph().to_wire() == request.FrontendInputs["context"]
    assert not request.HasField("Definition")


async def test_solve_of_an_old_daemon(bench: Bench) -> None:
    """A bare ref, as old daemons answer, is a result too."""
    bench.fake.answer(services.LLBBRIDGE_SOLVE, gateway_pb2.SolveResponse(ref="old"))

    assert Result(ref=Ref(id="old")) == await bench.gateway.solve(graph())


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (gateway_pb2.Result(), Result(ref=Ref())),
        (gateway_pb2.Result(refDeprecated="a"), Result(ref=Ref(id="a"))),
        (gateway_pb2.Result(ref=gateway_pb2.Ref(id="a")), Result(ref=Ref(id="a"))),
        (
            gateway_pb2.Result(refsDeprecated=gateway_pb2.RefMapDeprecated(refs={"p": "a"})),
            Result(refs={"p": Ref(id="a")}),
        ),
        (
            gateway_pb2.Result(refs=gateway_pb2.RefMap(refs={"p": gateway_pb2.Ref(id="a")}), metadata={"k": b"v"}),
            Result(refs={"p": Ref(id="a")}, metadata={"k": b"v"}),
        ),
    ],
)
def test_results_of_every_shape(wire: gateway_pb2.Result, expected: Result) -> None:
    """All shapes that daemons have used are read."""
    assert expected == result_from_wire(wire)


@pytest.mark.parametrize(
    "result",
    [
        Result(ref=Ref()),
        Result(ref=Ref(id="a"), metadata={"k": b"v"}),
        Result(refs={"linux/amd64": Ref(id="a"), "linux/arm64": Ref()}, metadata={"k": b"v"}),
        Result(
            ref=Ref(id="a"),
            attestations={"p": gateway_pb2.Attestations(attestation=[gateway_pb2.Attestation()]).SerializeToString()},
        ),
    ],
)
def test_results_survive_the_wire(result: Result) -> None:
    """What is written is read back the same, scratch and attestations included."""
    assert result == result_from_wire(result_to_wire(result))


def test_result_without_any_ref_is_scratch() -> None:
    """A result always says what it holds: the daemon falls over one that says nothing."""
    assert "ref" == result_to_wire(Result()).WhichOneof("result")


async def test_files_of_a_result(bench: Bench) -> None:
    """Files are read whole or in part, listed and looked at."""
    bench.fake.files = {"/etc/a": b"hello", "/etc/b": b""}

    assert b"hello" == await bench.gateway.read_file("ref", "/etc/a")
    assert b"ell" == await bench.gateway.read_file("ref", "/etc/a", offset=1, length=3)
    assert ("a", "b") == tuple(entry.path for entry in await bench.gateway.read_dir("ref", "/etc"))
    assert FileStat(path="a", mode=0o644, size=5) == await bench.gateway.stat_file("ref", "/etc/a")
    with pytest.raises(grpc.aio.AioRpcError, match="no such file"):
        await bench.gateway.read_file("ref", "/nope")


def test_kinds_of_files() -> None:
    """Go's mode bits tell folders and symlinks apart."""
    kinds = [FileStat(path="x", mode=mode) for mode in (0o644, 1 << 31 | 0o755, 1 << 27 | 0o777)]

    assert [(False, False), (True, False), (False, True)] == [(kind.is_folder, kind.is_symlink) for kind in kinds]


async def test_evaluate_on_old_and_new_daemons(bench: Bench) -> None:
    """A daemon without Evaluate is made to run a graph by looking at a file; scratch is never sent."""
    bench.fake.gateway_caps = {}
    await bench.gateway.ping()
    await bench.gateway.evaluate("ref")
    bench.fake.gateway_caps = {"gateway.evaluate": True}
    await bench.gateway.ping()
    await bench.gateway.evaluate("ref")
    await bench.gateway.evaluate("")

    assert ["."] == [request.Path for request in bench.fake.called(services.LLBBRIDGE_STAT_FILE)]
    assert ["ref"] == [request.Ref for request in bench.fake.called(services.LLBBRIDGE_EVALUATE)]


async def test_return_a_result(bench: Bench) -> None:
    """A returned result ends `Control.Solve` with the exporters' answer."""
    await bench.gateway.return_result(Result(ref=Ref(id="ref-1"), metadata={"containerimage.config": b"{}"}))

    assert bench.fake.exporter_response == await bench.solving
    (request,) = bench.fake.called(services.LLBBRIDGE_RETURN)
    assert ("ref-1", {"containerimage.config": b"{}"}) == (request.result.ref.id, dict(request.result.metadata))


async def test_return_an_error_of_the_daemon(bench: Bench) -> None:
    """An error of the daemon that is returned comes back from `Control.Solve` with its details."""
    bench.fake.refuse(services.LLBBRIDGE_SOLVE, "exit code: 3", details=[exit_message(3)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.gateway.solve(graph())

    await bench.gateway.return_error(status_of(caught.value))

    with pytest.raises(grpc.aio.AioRpcError) as outer:
        await bench.solving
    assert status_of(caught.value) == status_of(outer.value)


async def test_return_an_error_of_ones_own(bench: Bench) -> None:
    """A message of one's own ends `Control.Solve` with that message."""
    await bench.gateway.return_error(status_for("the lock does not fit"))

    with pytest.raises(grpc.aio.AioRpcError, match="the lock does not fit"):
        await bench.solving


async def test_warn(bench: Bench) -> None:
    """A warning leaves with its vertex and text."""
    await bench.gateway.warn("sha256:d", "short", detail=("more",), url="https://u")

    expected = gateway_pb2.WarnRequest(digest="sha256:d", level=1, short=b"short", detail=[b"more"], url="https://u")
    assert [expected] == bench.fake.called(services.LLBBRIDGE_WARN)


async def _never(request: object) -> gateway_pb2.PongResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody sets is done")
