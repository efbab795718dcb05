"""What a repetition is spared: the daemon's history of builds, and a push of what is there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from buildkit_builder import image_build
from buildkit_builder.config import Settings
from buildkit_builder.config.buildx import EXTRA_ARGS
from buildkit_builder.errors import BuildKitError
from buildkit_builder.image_build import order
from buildkit_builder.spec import CommandsLayer, ImageSpec
from buildkit_builder.wire import control_pb2, services
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
    monkeypatch.setattr(time, "time", lambda: now + order._DAY_SECONDS + 1)

    assert await recorded(fake)


async def test_what_is_there_is_not_pushed_again(fake: FakeBuildKit) -> None:
    """Where the tag leads to the image that a repetition has made; the first build pushes without a look."""
    fake.images[SPEC.reference] = (PUSHED, CONFIG)

    assert [[True], [False], [False]] == [await pushed(fake) for _ in range(3)]


async def test_a_mirror_of_another_registry_has_no_say(fake: FakeBuildKit) -> None:
    """The registry itself is asked what it has."""
    fake.images[SPEC.reference] = (PUSHED, CONFIG)
    mirrors = {"other.example": "mirror.example"}

    assert [[True], [False]] == [await pushed(fake, registry_mirrors=mirrors) for _ in range(2)]


async def test_what_is_not_there_is_pushed(fake: FakeBuildKit) -> None:
    """Where the tag leads nowhere, or to something else, the image is exported once more."""
    assert [[True], [False, True]] == [await pushed(fake) for _ in range(2)]

    fake.images[SPEC.reference] = ("sha256:" + "1" * 64, CONFIG)
    assert [False, True] == await pushed(fake)


@pytest.mark.parametrize(
    "settings",
    [
        {"registry_mirrors": {"registry.example": "mirror.example"}},
        {"provenance": "mode=max"},
        {"cache_to": ["type=registry,ref=registry.example/cache"]},
        {"arguments": "--no-cache"},
        {"spec": replace(SPEC, reference="team/mine:1")},
    ],
)
async def test_what_is_pushed_whatever_is_there(fake: FakeBuildKit, settings: dict[str, Any]) -> None:
    """A mirror may answer for the registry (for Docker Hub unasked), an attestation is always new, and so on."""
    fake.llb_caps["exporter.image.attestations"] = True
    for name in (SPEC.reference, "docker.io/team/mine:1"):
        fake.images[name] = (PUSHED, CONFIG)

    assert [[True], [True]] == [await pushed(fake, **settings) for _ in range(2)]
