"""Mirrors: names that are rewritten here, and the policy for what the daemon names itself."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.wire import services, sourcepolicy_pb2
from buildkit_builder.errors import BaseImageError, ConfigError, CredentialsError
from buildkit_builder.image.frontend import ImageFrontend
from buildkit_builder.image.lower import Environment
from buildkit_builder.image.memory import Memory
from buildkit_builder.image.plan import plan
from buildkit_builder.image.probe import PlatformProbe
from buildkit_builder.image.spec import AptLayer, DockerfileLayer, ImageSpec, Layer, PipLayer
from tests.buildkit.build.test_run import Bench, Daemon, bench_of, request
from tests.fakes.buildkit import FakeBuildKit

PLATFORM = llb.Platform()
DIGEST = f"sha256:{'a' * 64}"
HUB = Mirrors.of({"docker.io": "m.example:5000/hub", "ghcr.io/astral-sh": "m.example/uv"})
ALL = dict.fromkeys(llb.FIRST_RELEASE, True)


def applied(policy: sourcepolicy_pb2.Policy, identifier: str) -> str:
    """What a daemon makes of a source: the first rule that fits changes it, and then it begins anew."""
    for _ in range(20):
        before = identifier
        for rule in policy.rules:
            if found := re.search(rule.selector.identifier, identifier):
                identifier = found.expand(re.sub(r"\$\{(\d)\}", r"\\\1", rule.updates.identifier))
                break
        if identifier == before:
            return identifier
    raise RecursionError("too many mutations")


@pytest.mark.parametrize(
    ("mirrors", "image", "expected"),
    [
        ({"docker.io": "m.example"}, "docker.io/library/a:1", "m.example/library/a:1"),
        ({"docker.io/": "m.example/hub/"}, "docker.io/library/a:1", "m.example/hub/library/a:1"),
        ({"index.docker.io": "m.example"}, "docker.io/library/a:1", "m.example/library/a:1"),
        ({"ghcr.io/astral-sh": "m.example:5000/uv"}, "ghcr.io/astral-sh/uv:1", "m.example:5000/uv/uv:1"),
        ({"ghcr.io/astral-sh": "m.example"}, "ghcr.io/astral-shop/uv:1", "ghcr.io/astral-shop/uv:1"),
        ({"ghcr.io": "m.example"}, "ghcr-io/a:1", "ghcr-io/a:1"),
        ({"ghcr.io": "m.example"}, "other.example/ghcr.io/a:1", "other.example/ghcr.io/a:1"),
        ({"a.example:5000": "[::1]:5000"}, "a.example:5000/b/c@sha256:00", "[::1]:5000/b/c@sha256:00"),
        ({"a.example": "m.example"}, "a.example:5000/b/c", "a.example:5000/b/c"),
        ({"ghcr.io/a/b": "m.example/c"}, "ghcr.io/a/b:1@sha256:00", "m.example/c:1@sha256:00"),
        ({"ghcr.io/a/b": "m.example/c"}, "ghcr.io/a/b@sha256:00", "m.example/c@sha256:00"),
        ({"ghcr.io": "n.example", "ghcr.io/a/b": "o.example", "ghcr.io/a": "p.dev"}, "ghcr.io/a/b/c", "o.example/c"),
        ({"ghcr.io/a": "m.example", "ghcr.io": "n.example", "ghcr.io/a/b": "o.example"}, "ghcr.io/a/c", "m.example/c"),
        ({"ghcr.io/a": "a.example", "ghcr.io": "all.example"}, "ghcr.io/c", "all.example/c"),
        ({"docker.io": "ghcr.io/hub", "ghcr.io": "m.example"}, "docker.io/a/b", "m.example/hub/a/b"),
        ({}, "docker.io/library/a:1", "docker.io/library/a:1"),
    ],
)  # fmt: skip
def test_a_mirror_stands_for_a_registry_or_a_part_of_it(mirrors: dict[str, str], image: str, expected: str) -> None:
    """And for nothing that is only called alike; the daemon, where it has to rewrite names, makes the same of them."""
    assert expected == Mirrors.of(mirrors).rewrite(image)
    policy = Mirrors.of(mirrors).policy()
    assert f"docker-image://{expected}" == applied(policy or sourcepolicy_pb2.Policy(), f"docker-image://{image}")


def test_a_policy_is_of_images_alone() -> None:
    """Other sources are left alone; without mirrors there is none, which old daemons would not know."""
    policy = HUB.policy()

    assert policy is not None
    assert "https://docker.io/a" == applied(policy, "https://docker.io/a")
    assert 1 == policy.version
    assert {(sourcepolicy_pb2.CONVERT, sourcepolicy_pb2.REGEX)} == {
        (rule.action, rule.selector.match_type) for rule in policy.rules
    }
    assert Mirrors().policy() is None


@pytest.mark.parametrize("mirrors", [{"ghcr.io": "ghcr.io/m"}, {"a.example": "b.example", "b.example": "a.example"}])
def test_mirrors_that_lead_to_each_other(mirrors: dict[str, str]) -> None:
    """Names are rewritten once by each; a daemon would never end, and is not asked to."""
    assert Mirrors.of(mirrors).rewrite("ghcr.io/x") in ("ghcr.io/m/x", "ghcr.io/x")
    with pytest.raises(ConfigError, match="to itself"):
        Mirrors.of(mirrors).policy()


def test_images_of_a_graph_are_rewritten_as_it_is_marshalled() -> None:
    """Those of a graph that the daemon made as well; nothing else of it changes, names and platforms among it."""
    made = llb.from_definition(llb.marshal(llb.image("ghcr.io/astral-sh/uv:1", name="uv"), platform=PLATFORM))
    state = llb.image("debian", name="image debian").file(llb.copy(made, "/uv", "/uv"))
    graph = llb.marshal(state, platform=PLATFORM, rename=HUB.rewrite)

    assert {"m.example:5000/hub/library/debian:latest", "m.example/uv/uv:1"} == set(graph.images)
    assert {"uv", "image debian"} <= set(graph.names.values())
    assert set(llb.marshal(state, platform=PLATFORM).names.values()) == set(graph.names.values())
    assert not set(llb.marshal(state, platform=PLATFORM).digests) & set(graph.digests)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A build on a daemon that knows only the mirrors."""
    daemon = Daemon(llb_caps=ALL)
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}}).encode()
    daemon.images = {"m.example:5000/hub/library/debian:12": (DIGEST, config)}
    async with bench_of(daemon) as opened:
        yield opened


def image(*layers: Layer, seen: Path | None = None) -> ImageFrontend:
    """An image of these layers on a base of Docker Hub, which takes uv from another registry."""
    spec = ImageSpec(
        reference="reg.example.com/mine:1", push=True, base="debian:12", platforms=("linux/amd64",),
        python_version=(3, 12), layers=layers, creates_user=False, uv_image="ghcr.io/astral-sh/uv:1",
    )  # fmt: skip
    memory = Memory(seen)
    return ImageFrontend(
        plan=plan(spec), platforms=(PLATFORM,), environment=Environment(side_by_side=True), seen=memory
    )


def graphs(fake: FakeBuildKit) -> list[llb.Definition]:
    """What was solved."""
    return [llb.Definition.from_wire(call.Definition) for call in fake.called(services.LLBBRIDGE_SOLVE)]


@pytest.mark.parametrize("release", ["0.8", "0.10", "0.11", "0.25"])
async def test_the_daemon_hears_of_the_mirror_alone(bench: Bench, release: str) -> None:
    """In look-ups and in graphs, with no policy, and so on daemons that know of none; progress has the user's names."""
    newest = tuple(map(int, release.split(".")))
    bench.daemon.llb_caps = {name: True for name, first in llb.FIRST_RELEASE.items() if first and _age(first) <= newest}
    if newest < (0, 13):
        bench.daemon.gateway_caps = {}
    await bench.build(request(frontend=image(AptLayer(packages=("git",)), PipLayer(packages=("six",))), mirrors=HUB))

    asked = [call.Ref for call in bench.daemon.called(services.LLBBRIDGE_RESOLVE_IMAGE_CONFIG)]
    asked += [
        call.Source.identifier.partition("://")[2]
        for call in bench.daemon.called(services.LLBBRIDGE_RESOLVE_SOURCE_META)
    ]
    assert ["m.example:5000/hub/library/debian:12"] == asked
    named = {name for graph in graphs(bench.daemon) for name in graph.images}
    assert {f"m.example:5000/hub/library/debian:12@{DIGEST}", "m.example/uv/uv:1"} == named
    assert {"image debian:12"} <= {name for graph in graphs(bench.daemon) for name in graph.names.values()}
    assert not bench.solve.HasField("SourcePolicy")


def _age(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


async def test_graphs_of_others_are_rewritten_too(bench: Bench) -> None:
    """Whoever brings the graph; what progress and failures are told of are the vertices that were sent."""
    await bench.build(request(frontend=GraphFrontend(state=llb.image("debian:12"), platform=PLATFORM), mirrors=HUB))

    assert ("m.example:5000/hub/library/debian:12",) == graphs(bench.daemon)[0].images


async def test_a_mirror_that_lacks_the_image(bench: Bench) -> None:
    """The message has the image as the user named it, and where it was asked for."""
    bench.daemon.images = {}
    with pytest.raises(BaseImageError) as caught:
        await bench.build(request(frontend=image(), mirrors=HUB))

    assert (
        "There is no image `docker.io/library/debian:12` (at its mirror: `m.example:5000/hub/library/debian:12`)"
        in str(caught.value)
    )
    assert "the mirror has it" in str(caught.value)


async def test_a_mirror_that_wants_a_password(bench: Bench) -> None:
    """One logs in at the mirror, not at the registry."""
    bench.daemon.refuse(services.LLBBRIDGE_RESOLVE_SOURCE_META, "401 Unauthorized", code=grpc.StatusCode.UNKNOWN)
    with pytest.raises(CredentialsError, match=r"`docker login m\.example:5000`") as caught:
        await bench.build(request(frontend=image(), mirrors=HUB))

    assert "docker.io/library/debian:12" in str(caught.value)


async def test_what_was_pushed_is_looked_for_in_its_registry() -> None:
    """A mirror of that would answer with what it had before."""
    daemon = Daemon(llb_caps=ALL)
    daemon.images = {"docker.io/me/mine:1": (DIGEST, json.dumps({"architecture": "amd64"}).encode())}
    async with bench_of(daemon) as bench:
        probe = PlatformProbe(reference="docker.io/me/mine:1", platforms=(PLATFORM,))
        await bench.build(request(frontend=probe, mirrors=HUB))

    assert [] == probe.missing


async def test_what_was_found_at_a_mirror_is_remembered_for_that_mirror(bench: Bench, tmp_path: Path) -> None:
    """A build without the mirror, or with another, does not begin upon it."""
    await bench.build(request(frontend=image(seen=tmp_path), mirrors=HUB))
    bench.daemon.images["docker.io/library/debian:12"] = bench.daemon.images["m.example:5000/hub/library/debian:12"]
    before = len(graphs(bench.daemon))
    await bench.build(request(frontend=image(seen=tmp_path)))

    assert {("docker.io/library/debian:12@" + DIGEST,)} == {
        tuple(name for name in graph.images if "debian" in name) for graph in graphs(bench.daemon)[before:]
    } - {()}


async def test_a_policy_goes_with_lines_of_a_dockerfile() -> None:
    """It is the build's, since the daemon's frontend looks images up by itself; a daemon without it refuses."""
    policy = HUB.policy()
    without = {name: True for name in ALL if name != "source.policy"}
    async with bench_of(Daemon(llb_caps=without)) as bench:
        with pytest.raises(Exception, match="take what a Dockerfile names from `registry_mirrors`"):
            await bench.build(
                request(frontend=image(DockerfileLayer(lines=("RUN x",))), mirrors=HUB, source_policy=policy)
            )
