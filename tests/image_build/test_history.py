"""What is written into the daemon's history of builds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest

from buildkit_builder import image_build
from buildkit_builder.config import Settings
from buildkit_builder.errors import BuildKitError
from buildkit_builder.image_build import order
from buildkit_builder.spec import CommandsLayer, ImageSpec
from buildkit_builder.wire import services
from tests.fakes.buildkit import FakeBuildKit

CONFIG = b'{"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}'
SPEC = ImageSpec(
    reference="registry.example/mine:1", push=True, base="base.example/base:1", platforms=("linux/amd64",),
    python_version=(3, 12), creates_user=False, uv_image="uv.example/uv:1", layers=(CommandsLayer(commands=("make",)),),
)  # fmt: skip


@pytest.fixture
async def fake(clean_environ: pytest.MonkeyPatch) -> AsyncIterator[FakeBuildKit]:
    """A daemon that has what the image is made from."""
    async with FakeBuildKit() as fake:
        fake.images = dict.fromkeys(("base.example/base:1", "uv.example/uv:1"), ("sha256:" + "0" * 64, CONFIG))
        yield fake


async def recorded(fake: FakeBuildKit, spec: ImageSpec = SPEC) -> bool:
    """Builds, and tells whether the daemon was to remember it."""
    before = set(fake.builds)
    settings = Settings.load({"image": {"buildkit": {"endpoint": fake.address, "progress": "quiet"}}}, {})
    await image_build.build(spec, settings)
    [build] = [build for ref, build in fake.builds.items() if ref not in before]
    return not build.request.Internal


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
    monkeypatch.setattr(time, "time", lambda: now + order._DAY_SECONDS + 1)

    assert await recorded(fake)
