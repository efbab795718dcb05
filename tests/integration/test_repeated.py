"""Builds that are made again, and layers that are packed while others are made."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flyte import Image

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.build import BuildRequest, GraphFrontend, Push, build
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.buildkit.wire import control_pb2
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.conftest import BASE
from tests.integration.registry import blobs, delete_blob, digest_of, exists, forget, has_blob, manifest, move


@dataclass
class Solves:
    """What the daemon was asked to solve, and when it was done."""

    asked: list[control_pb2.SolveRequest] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)

    @property
    def pushing(self) -> list[bool]:
        """Of those that export: whether they push."""
        return [request.Exporters[0].Attrs["push"] == "true" for request in self.asked if request.Exporters]


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> Solves:
    """Watches `Control.solve`."""
    seen, solve = Solves(), Control.solve

    async def watched(self: Control, request: control_pb2.SolveRequest) -> Mapping[str, str]:
        seen.asked.append(request)
        answer = await solve(self, request)
        seen.ended[request.Ref] = time.monotonic()
        return answer

    monkeypatch.setattr(Control, "solve", watched)
    return seen


@pytest.mark.usefixtures("user")
async def test_a_forced_build_mends_a_registry_that_lost_a_blob(base: Image, solves: Solves) -> None:
    """A layer that was deleted in the registry is there again, also when nothing is built any more."""
    await check_mends(base.with_commands(["echo lost > /lost"]), solves)


@pytest.mark.usefixtures("user")
async def test_a_forced_build_mends_a_lost_config(base: Image, solves: Solves) -> None:
    """The config is a blob like any other."""
    await check_mends(base.with_env_vars({"LOST": "1"}), solves, blob="config")


@pytest.mark.usefixtures("user")
async def test_a_forced_build_mends_a_lost_layer_of_the_base(base: Image, solves: Solves) -> None:
    """The first layer, which the daemon has from another registry."""
    await check_mends(base.with_env_vars({"BASE": "1"}), solves, blob="base")


@pytest.mark.usefixtures("user", "emulator")
async def test_a_forced_build_mends_an_index(base: Image, solves: Solves) -> None:
    """Each platform of it."""
    both = base.clone(platform=("linux/amd64", "linux/arm64"))
    await check_mends(both.with_commands(["echo index > /lost"]), solves)


async def test_a_forced_build_mends_the_image_of_a_dockerfile(
    user: Path, engine: Engine, name: str, solves: Solves
) -> None:
    """Of which only the daemon's own frontend knows what it is made of."""
    (user / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo dockerfile > /lost\n")
    image = Image.from_dockerfile(user / "Dockerfile", registry=engine.registry, name=name, platform=("linux/amd64",))
    await check_mends(image, solves)


async def check_mends(image: Image, solves: Solves, blob: str = "layer") -> None:
    """Builds, takes a blob and then the tag out of the registry, and builds again each time, each time once."""
    repository = image.uri.rpartition(":")[0]

    async def push() -> None:
        solves.asked.clear()
        await BuildKitImageBuilder().build_image(image, force=True)
        assert [True] == [pushes for pushes in solves.pushing if pushes]

    await push()
    first, (digests, *_) = digest_of(image.uri), blobs(image.uri)
    lost = {"layer": digests[-1], "config": digests[0], "base": digests[1]}[blob]
    delete_blob(repository, lost)
    assert not has_blob(repository, lost)

    await push()
    assert first == digest_of(image.uri)
    assert all(has_blob(repository, digest) for found in blobs(image.uri) for digest in found)

    forget(image.uri)
    await push()
    assert first == digest_of(image.uri)


@pytest.mark.usefixtures("user")
async def test_a_tag_that_was_moved_is_moved_back(base: Image, solves: Solves) -> None:
    """Whatever the tag leads to, a build leads it to what was built."""
    image, other = base.with_env_vars({"A": "1"}), base.with_env_vars({"A": "2"})
    for one in (image, other):
        await BuildKitImageBuilder().build_image(one, force=True)
    first = digest_of(image.uri)
    move(other.uri, image.uri)
    assert first != digest_of(image.uri)

    await BuildKitImageBuilder().build_image(image, force=True)

    assert first == digest_of(image.uri)
    assert exists(other.uri)


async def test_layers_are_packed_while_others_are_made(engine: Engine, name: str, solves: Solves) -> None:
    """A step that is done is exported by itself while another still runs; the image has both."""
    reference = f"{engine.registry}/{name}:1"
    base = llb.image(BASE, resolve_mode="local")

    def step(seconds: float) -> llb.State:
        return base.run(
            ["sh", "-c", f"head -c 9000000 /dev/urandom > /{seconds}; sleep {seconds} # {name}"], name="a step"
        ).root

    quick, slow = step(1.2), step(6)
    state = llb.merge([quick, llb.diff(base, slow)])
    request = BuildRequest(
        title=name,
        frontend=GraphFrontend(state=state, platform=llb.Platform()),
        exporters=(Push(reference=reference, insecure=True),),
        internal=True,
    )
    endpoint = Endpoint(address=engine.docker_host, kind="docker")
    async with await connect(endpoint) as connection:
        screen = open_screen("quiet", io.StringIO(), environ=os.environ, clock=time.monotonic)
        result = await build(connection, request, screen.display())

    whole, ahead = solves.asked
    assert llb.marshal(quick, platform=llb.Platform()) == llb.Definition.from_wire(ahead.Definition)
    assert solves.ended[ahead.Ref] < solves.ended[whole.Ref]
    assert result.digest == digest_of(reference)
    found, _ = manifest(reference)
    assert 2 == len([layer for layer in found["layers"] if 9_000_000 < layer["size"] < 9_100_000])
