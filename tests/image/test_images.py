"""Images that a build is made from: begun upon as they were the last time, while they are looked up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build.single_flight import SingleFlight
from buildkit_builder.buildkit.wire import gateway_pb2, services
from buildkit_builder.errors import BuildKitError
from buildkit_builder.image.memory import Memory
from buildkit_builder.image.spec import CommandsLayer, EnvLayer
from tests.image.test_frontend import BASE, DIGEST, Bench, Daemon, build, running

NAME = "docker.io/library/debian:12"
NEW = f"sha256:{'b' * 64}"
MAKE = CommandsLayer(commands=("make",))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A build on a daemon."""
    async with running(Daemon(platforms=(("linux", "arm64"),))) as bench:
        yield bench


def graphs(bench: Bench) -> list[llb.Definition]:
    """What was solved."""
    return [llb.Definition.from_wire(call.Definition) for call in bench.fake.called(services.LLBBRIDGE_SOLVE)]


async def made(bench: Bench, *layers: Any, **options: Any) -> tuple[list[str], str]:
    """Builds an image.

    Returns:
        The images in the graph that became the result, and its config.
    """
    bench.lookups = SingleFlight()
    result = await asyncio.wait_for(build(bench, MAKE, *layers, **options), 10)
    assert result.ref is not None
    solved = bench.fake.builds["r"].solved[result.ref.id]
    images = llb.Definition.from_wire(solved.Definition).images
    return [image for image in images if "debian" in image], result.metadata["containerimage.config"].decode()


async def test_a_build_begins_upon_what_it_saw_the_last_time(bench: Bench, tmp_path: Path) -> None:
    """The graph is there before the look-up has an answer."""
    first = await made(bench, seen=Memory(tmp_path))
    known = len(graphs(bench))

    async def late(request: gateway_pb2.ResolveSourceMetaRequest) -> gateway_pb2.ResolveSourceMetaResponse:
        await bench.fake.until_called(services.LLBBRIDGE_SOLVE, known + 1)
        image = gateway_pb2.ResolveSourceImageResponse(Digest=DIGEST, Config=json.dumps(BASE).encode())
        return gateway_pb2.ResolveSourceMetaResponse(Source=request.Source, Image=image)

    bench.fake.answer(services.LLBBRIDGE_RESOLVE_SOURCE_META, late)
    assert first == await made(bench, seen=Memory(tmp_path))


async def test_what_has_changed_is_built_anew(bench: Bench, tmp_path: Path) -> None:
    """Nothing of a base that has moved on is in the result, neither its files nor what it says of itself."""
    path = EnvLayer(variables=(("A", "$A-2"),))
    old, _ = await made(bench, path, seen=Memory(tmp_path))
    base = {**BASE, "config": {"Env": ["PATH=/bin", "A=new"]}}
    bench.fake.images[NAME] = (NEW, json.dumps(base).encode())

    new, config = await made(bench, path, seen=Memory(tmp_path))

    assert ([f"{NAME}@{DIGEST}"], [f"{NAME}@{NEW}"]) == (old, new)
    assert "A=new-2" in config
    assert (new, config) == await made(bench, path, seen=Memory(tmp_path))


async def test_a_base_that_is_gone_is_an_error(bench: Bench, tmp_path: Path) -> None:
    """However well it is remembered."""
    await made(bench, seen=Memory(tmp_path))
    del bench.fake.images[NAME]

    with pytest.raises(BuildKitError, match="not found"):
        await made(bench, seen=Memory(tmp_path))


@pytest.mark.parametrize("text", ["", "{}", "[1, 2, 3, 4]", '["a", "b", "c", "[]"]', "[[[["])
async def test_a_memory_that_is_not_understood_is_none(bench: Bench, tmp_path: Path, text: str) -> None:
    """The image is looked up, and remembered as it is."""
    first = await made(bench, seen=Memory(tmp_path))
    [file] = tmp_path.iterdir()
    right = file.read_text()
    file.write_text(text)

    assert first == await made(bench, seen=Memory(tmp_path))
    assert right == file.read_text()
