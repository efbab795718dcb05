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

from buildkit_builder import llb
from buildkit_builder.builder import BuildKitImageBuilder
from buildkit_builder.client.connection import connect
from buildkit_builder.client.control import Control
from buildkit_builder.client.endpoint import Endpoint
from buildkit_builder.progress.display import open_screen
from buildkit_builder.solve import BuildRequest, GraphFrontend, Push, build
from buildkit_builder.wire import control_pb2
from tests.conftest import Engine
from tests.integration.conftest import BASE
from tests.integration.registry import digest_of, exists, forget, manifest, move


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
async def test_an_image_that_is_there_is_not_pushed_again(base: Image, solves: Solves) -> None:
    """Built again by force it is the same image, which the registry has; where it has not, it is pushed after all."""
    await check_pushes(base.with_env_vars({"A": "1"}), base.with_env_vars({"A": "2"}), solves)


@pytest.mark.usefixtures("user", "emulator")
async def test_nor_is_an_index(base: Image, solves: Solves) -> None:
    """That lacks no platform which is asked for."""
    both = base.clone(platform=("linux/amd64", "linux/arm64"))
    await check_pushes(both.with_env_vars({"A": "1"}), both.with_env_vars({"A": "2"}), solves)


async def test_nor_is_a_dockerfile(user: Path, engine: Engine, name: str, solves: Solves) -> None:
    """Nor is the image of a Dockerfile, of which only the daemon's own frontend knows what it is made of."""

    def image(value: str) -> Image:
        file = user / value / "Dockerfile"
        file.parent.mkdir()
        file.write_text(f"FROM {BASE}\nENV A={value}\nRUN echo $A > /a\n")
        return Image.from_dockerfile(file, registry=engine.registry, name=name, platform=("linux/amd64",))

    await check_pushes(image("1"), image("2"), solves)


async def check_pushes(image: Image, other: Image, solves: Solves) -> None:
    name = image.uri

    async def pushing(image: Image = image) -> list[bool]:
        solves.asked.clear()
        await BuildKitImageBuilder().build_image(image, force=True)
        return solves.pushing

    assert [True] == await pushing()
    first = digest_of(name)
    assert [False] == await pushing()
    assert first == digest_of(name)

    forget(name)
    assert [False, True] == await pushing()
    assert first == digest_of(name)

    assert [True] == await pushing(other)
    move(other.uri, name)
    assert first != digest_of(name)
    assert [False, True] == await pushing()
    assert first == digest_of(name)
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
