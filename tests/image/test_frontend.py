"""Lines of a Dockerfile, carried out by the daemon's own frontend in the middle of an image of layers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.gateway import Gateway, ResolvedImage
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build.mirrors import NO_MIRRORS, Mirrors
from buildkit_builder.buildkit.build.request import CacheEntry
from buildkit_builder.buildkit.build.roles import Roles
from buildkit_builder.buildkit.build.single_flight import SingleFlight
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session.registries import Registries
from buildkit_builder.buildkit.wire import control_pb2, gateway_pb2, services
from buildkit_builder.errors import BuildKitError, CapabilityError
from buildkit_builder.image.frontend import ImageFrontend
from buildkit_builder.image.lower import Environment
from buildkit_builder.image.plan import plan
from buildkit_builder.image.spec import CommandsLayer, DockerfileLayer, ImageSpec, Layer, SecretRef
from tests.fakes.buildkit import FakeBuildKit, Refusal

DIGEST = f"sha256:{'a' * 64}"
ARM64 = llb.Platform(architecture="arm64")
BASE = {"architecture": "arm64", "os": "linux", "config": {"Env": ["PATH=/bin", "A=1"], "WorkingDir": "/srv"}}
TOKEN = SecretRef(id="flyte/T", variable="T", source_variable="T", source_file="/etc/secrets/T")
LINES = DockerfileLayer(lines=("ARG X=1", "RUN <<EOF\nmake\nEOF"), secrets=(TOKEN,))
BEFORE, AFTER = CommandsLayer(commands=("before",)), CommandsLayer(commands=("after",))
# What the daemon's frontend makes of the lines.
MADE = llb.marshal(llb.image("made").run(["make"], name="[2/2] RUN make").root, platform=ARM64)
MADE_CONFIG = {"architecture": "arm64", "os": "linux", "config": {"Env": ["PATH=/made"], "User": "1000"}}


class Daemon(FakeBuildKit):
    """A daemon whose Dockerfile frontend always makes the same, and says what it made unless it is old."""

    says_graph = True
    refusal: Refusal | None = None

    async def _llbbridge_solve(self, request: gateway_pb2.SolveRequest, context: Any) -> Any:
        if request.Frontend and self.refusal is not None:
            await self.refusal.raise_in(context)
        response = await super()._llbbridge_solve(request, context)
        if request.Frontend:
            response.result.metadata["containerimage.config"] = json.dumps(MADE_CONFIG).encode()
            if self.says_graph:
                getattr(response.result.ref, "def").CopyFrom(MADE.to_wire())
        return response


@dataclass
class Bench:
    """A build in progress, as frontends see it."""

    fake: Daemon
    gateway: Gateway
    session_id: str = "s1"
    lookups: SingleFlight[ResolvedImage] = field(default_factory=SingleFlight)
    remembered: list[llb.Definition] = field(default_factory=list)
    expected: dict[llb.Platform, llb.Definition] = field(default_factory=dict)
    registries: Registries = field(default_factory=Registries)
    roles: Roles = field(default_factory=Roles)
    mirrors: Mirrors = NO_MIRRORS

    def aside(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        work.close()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        over.set_result(None)
        return over

    def remember(self, definition: llb.Definition) -> None:
        self.remembered.append(definition)

    def expect(self, image: llb.Definition, platform: llb.Platform) -> None:
        self.expected[platform] = image

    def explain(
        self, error: grpc.aio.AioRpcError, *, doing: str, image: str | None = None, mirror: str | None = None
    ) -> BuildKitError:
        return BuildKitError(f"{doing}: {error.details()}")

    @property
    def question(self) -> gateway_pb2.SolveRequest:
        """The one request to the Dockerfile frontend."""
        request: gateway_pb2.SolveRequest
        [request] = [call for call in self.fake.called(services.LLBBRIDGE_SOLVE) if call.Frontend]
        return request

    def given(self, name: str) -> llb.Definition:
        """A graph that the Dockerfile frontend was handed."""
        return llb.Definition.from_wire(self.question.FrontendInputs[name])


@contextlib.asynccontextmanager
async def running(fake: Daemon) -> AsyncIterator[Bench]:
    """A build on a daemon."""
    async with fake:
        config = json.dumps(BASE).encode()
        fake.images = {"docker.io/library/debian:12": (DIGEST, config), "ghcr.io/uv:1": (DIGEST, config)}
        async with await connect(Endpoint(address=fake.address, kind="buildkit")) as connection:
            solving = asyncio.ensure_future(
                Control(connection.channel).solve(control_pb2.SolveRequest(Ref="r"))
            )  # fmt: skip
            await fake.until_build("r")
            yield Bench(fake, Gateway(connection.channel, "r"))
            solving.cancel()
            await asyncio.gather(solving, return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(Daemon(platforms=(("linux", "arm64"),))) as bench:
        yield bench


async def build(bench: Bench, *layers: Layer, environment: Environment | None = None, **options: Any) -> Result:
    """Builds an image with these layers."""
    spec = ImageSpec(
        reference="reg.example.com/mine:1", push=True, base="debian:12", platforms=("linux/arm64",),
        python_version=(3, 12), layers=layers, creates_user=False, uv_image="ghcr.io/uv:1",
    )  # fmt: skip
    frontend = ImageFrontend(
        plan=plan(spec), platforms=(ARM64,), environment=environment or Environment(), **options
    )  # fmt: skip
    return await frontend.build(bench)


async def test_lines_go_to_the_frontend_that_is_in_the_daemon(bench: Bench) -> None:
    """By its name and with what keeps it from pulling another; it makes them on the image so far."""
    await build(bench, BEFORE, LINES)
    options = dict(bench.question.FrontendOpt)
    metadata = json.loads(options.pop("input-metadata:base"))
    config = llb.ImageConfig.parse(base64.b64decode(metadata["containerimage.config"]))

    assert "dockerfile.v0" == bench.question.Frontend
    assert {
        "filename": "Dockerfile",
        "platform": "linux/arm64",
        "context:base": "input:base",
        "cmdline": "dockerfile.v0",
    } == options
    assert not bench.question.HasField("Definition")
    assert ["containerimage.config"] == list(metadata)
    assert ("1", "/srv", "root") == (config.env["A"], config.working_dir, config.user)


async def test_what_the_frontend_is_handed(bench: Bench) -> None:
    """The image so far, the lines on it, and nothing of this machine."""
    await build(bench, BEFORE, LINES)
    dockerfile = bench.given("dockerfile")
    context = bench.given("context").head or ""
    [action] = dockerfile.op(dockerfile.head or "").file.actions
    sources = [
        definition.op(digest).source.identifier
        for definition in map(bench.given, bench.question.FrontendInputs)
        for digest in definition.digests
    ]

    assert {"base", "context", "dockerfile"} == set(bench.question.FrontendInputs)
    assert "with_commands before" == bench.given("base").names[bench.given("base").head or ""]
    assert ["/"] == [action.mkdir.path for action in bench.given("context").op(context).file.actions]
    assert ("/Dockerfile", b"FROM base\nARG X=1\nRUN <<EOF\nmake\nEOF\n") == (action.mkfile.path, action.mkfile.data)
    assert [] == [source for source in sources if source.startswith("local://")]


async def test_layers_go_on_from_what_the_frontend_made(bench: Bench) -> None:
    """From its graph, vertex by vertex, and from its config."""
    result = await build(bench, BEFORE, LINES, AFTER)
    assert result.ref is not None
    last = llb.Definition.from_wire(bench.fake.builds["r"].solved[result.ref.id].Definition)
    [after] = [digest for digest, name in last.names.items() if name == "with_commands after"]
    config = llb.ImageConfig.parse(result.metadata["containerimage.config"])

    assert set(MADE.digests[:-1]) <= set(last.digests)
    assert "with_commands before" not in last.names.values()
    assert [MADE.head] == [given.digest for given in last.op(after).inputs]
    assert ("PATH=/made", "1000") == (last.op(after).exec.meta.env[0], last.op(after).exec.meta.user)
    assert "/made" == config.env["PATH"]


async def test_the_graph_of_the_image_is_told(bench: Bench) -> None:
    """Of each platform the one that is solved for it."""
    await build(bench, BEFORE)

    last = bench.fake.called(services.LLBBRIDGE_SOLVE)[-1]
    assert {ARM64: llb.Definition.from_wire(last.Definition)} == bench.expected


async def test_graphs_around_lines_are_remembered(bench: Bench) -> None:
    """A failure in any of them can be told in the user's words."""
    await build(bench, BEFORE, LINES)

    assert MADE in bench.remembered
    for name in ("base", "dockerfile"):
        assert bench.given(name) in bench.remembered


async def test_surroundings_and_caches_reach_the_lines(bench: Bench) -> None:
    """What holds for the other steps holds for theirs."""
    environment = Environment(
        proxy=llb.ProxyEnv(https="http://p"), network="host", extra_hosts=(("a", "10.0.0.1"),), no_cache=True,
        build_args=(("X", "2"),),
    )  # fmt: skip
    cache = CacheEntry(type="registry", attributes={"ref": "reg.example.com/cache"})
    await build(bench, LINES, environment=environment, cache_imports=(cache,))
    options = dict(bench.question.FrontendOpt)

    assert {
        "build-arg:https_proxy": "http://p",
        "build-arg:X": "2",
        "force-network-mode": "host",
        "add-hosts": "a=10.0.0.1",
        "no-cache": "",
    }.items() <= options.items()
    assert [("registry", {"ref": "reg.example.com/cache"})] == [
        (entry.Type, dict(entry.Attrs)) for entry in bench.question.CacheImports
    ]


async def test_instructions_of_the_base(bench: Bench) -> None:
    """`ONBUILD` is carried out by a Dockerfile without lines of its own, on the base alone."""
    config = {**BASE, "config": {**BASE["config"], "OnBuild": ["RUN make"]}}  # type: ignore[dict-item]
    bench.fake.images["docker.io/library/debian:12"] = (DIGEST, json.dumps(config).encode())
    await build(bench, AFTER)
    metadata = json.loads(bench.question.FrontendOpt["input-metadata:base"])
    dockerfile = bench.given("dockerfile")

    assert b"FROM base\n" == dockerfile.op(dockerfile.head or "").file.actions[0].mkfile.data
    assert ("RUN make",) == llb.ImageConfig.parse(base64.b64decode(metadata["containerimage.config"])).on_build
    assert ["image debian:12"] == list(bench.given("base").names.values())


async def test_a_daemon_that_does_not_say_what_it_made(bench: Bench) -> None:
    """There is nothing to go on from; the lines and what to do instead are named."""
    bench.fake.says_graph = False
    with pytest.raises(CapabilityError, match=r"\(Dockerfile ARG X=1; RUN <<EOF make EOF\).*with_commands"):
        await build(bench, BEFORE, LINES, AFTER)


async def test_lines_that_the_frontend_refuses(bench: Bench) -> None:
    """Its own words come through."""
    bench.fake.refusal = Refusal("dockerfile parse error on line 2: unknown instruction: RUNN")
    with pytest.raises(grpc.aio.AioRpcError, match="unknown instruction: RUNN"):
        await build(bench, DockerfileLayer(lines=("RUNN make",)))


@pytest.mark.parametrize("layers", [(LINES,), (BEFORE, LINES), (LINES, AFTER)])
async def test_a_daemon_whose_frontend_knows_no_inputs(layers: tuple[Layer, ...]) -> None:
    """BuildKit 0.8 and 0.9 would look for the image so far in a registry: it is refused before anything runs."""
    old = dict.fromkeys((name for name, first in llb.FIRST_RELEASE.items() if first in ("0.8", "0.9")), True)
    async with running(Daemon(platforms=(("linux", "arm64"),), llb_caps=old)) as bench:
        with pytest.raises(CapabilityError, match=r"cannot carry out lines of a Dockerfile .*BuildKit 0\.10 or newer"):
            await build(bench, *layers)

        assert [] == [call for call in bench.fake.called(services.LLBBRIDGE_SOLVE) if call.Frontend or call.Evaluate]
