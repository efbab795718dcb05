"""What a repetition is spared: the daemon's history of builds. It is pushed like any other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from buildkit_builder.buildkit.wire import control_pb2, services
from buildkit_builder.config import Settings
from buildkit_builder.config.buildx import EXTRA_ARGS
from buildkit_builder.errors import BuildKitError
from buildkit_builder.flyte_plugin import image_build
from buildkit_builder.flyte_plugin.image_build import ordered_image
from buildkit_builder.image.spec import CommandsLayer, ImageSpec
from tests.fakes.buildkit import FakeBuildKit

PUSHED = f"sha256:{'0' * 64}"
CONFIG = b'{"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}'
SPEC = ImageSpec(
    reference="registry.example/mine:1", push=True, base="base.example/base:1", platforms=("linux/amd64",),
    python_version=(3, 12), creates_user=False, uv_image="uv.example/uv:1", layers=(CommandsLayer(commands=("make",)),),
)  # fmt: skip


@pytest.fixture
async def fake(clean_environ: pytest.MonkeyPatch) -> AsyncIterator[FakeBuildKit]:
    """A daemon that has what the image is made from."""
    async with FakeBuildKit() as fake:
        fake.images = dict.fromkeys(("base.example/base:1", "uv.example/uv:1"), (PUSHED, CONFIG))
        yield fake


async def recorded(fake: FakeBuildKit, spec: ImageSpec = SPEC) -> bool:
    """Builds, and tells whether the daemon was to remember it."""
    return not (await solved(fake, spec))[-1].Internal


async def pushed(fake: FakeBuildKit, **settings: Any) -> list[bool]:
    """Builds, and tells of each solve that it took whether it was to push."""
    return [request.Exporters[0].Attrs["push"] == "true" for request in await solved(fake, **settings)]


async def solved(
    fake: FakeBuildKit, spec: ImageSpec = SPEC, arguments: str = "", **settings: Any
) -> list[control_pb2.SolveRequest]:
    """Builds, and gives what the daemon was asked for."""
    before = set(fake.builds)
    given = {"endpoint": fake.address, "progress": "quiet", **settings}
    await image_build.build(spec, Settings.load({"image": {"buildkit": given}}, {EXTRA_ARGS: arguments}))
    new = [build.request for ref, build in fake.builds.items() if ref not in before]
    return [request for request in new if request.Exporters]


async def test_a_repetition_is_not_written_down(fake: FakeBuildKit) -> None:
    """On the same daemon, of the same image."""
    assert [True, False, False] == [await recorded(fake) for _ in range(3)]
    assert await recorded(fake, replace(SPEC, reference="registry.example/mine:2"))


async def test_what_comes_after_a_failure_is(fake: FakeBuildKit) -> None:
    """So is the next day's first."""
    assert [True, False] == [await recorded(fake) for _ in range(2)]
    fake.refuse(services.LLBBRIDGE_SOLVE, "no", code=grpc.StatusCode.INTERNAL)
    with pytest.raises(BuildKitError):
        await recorded(fake)

    assert [True, False] == [await recorded(fake) for _ in range(2)]


async def test_a_day_later_it_is_again(fake: FakeBuildKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of what was repeated in between."""
    assert [True, False] == [await recorded(fake) for _ in range(2)]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ordered_image._DAY_SECONDS + 1)

    assert await recorded(fake)


async def test_every_build_pushes(fake: FakeBuildKit) -> None:
    """Once, whatever the tag leads to: nobody asks for a build where the registry has all of an image."""
    fake.images[SPEC.reference] = (PUSHED, CONFIG)

    assert [[True]] * 3 == [await pushed(fake) for _ in range(3)]
