"""This package."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from subjects import Subject, flyte_image

from buildkit_builder.buildkit import llb
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder

_make_cache = llb.Cache.__init__


def prepare(subjects: Sequence[Subject]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Makes ready to build images of one world, all at once."""
    world, cache = subjects[0].world, subjects[0].cache
    os.environ["FLYTE_BUILDKIT_UV_IMAGE"] = world.uv
    os.environ["FLYTE_BUILDKIT_CACHE"] = cache or "off"
    os.environ["FLYTE_DOCKER_BUILD_EXTRA_ARGS"] = "--network host" if subjects[0].host_network else ""
    _name_caches(world.caches)
    images = [flyte_image(subject) for subject in subjects]

    async def build() -> None:
        await asyncio.gather(*(BuildKitImageBuilder().build_image(image, force=True) for image in images))

    return build


def _name_caches(namespace: str) -> None:
    """Gives cache mounts a namespace, as `BUILDKIT_CACHE_MOUNT_NS` does for those of a Dockerfile."""

    def make(cache: llb.Cache, target: str, id: str, *others: Any, **more: Any) -> None:
        _make_cache(cache, target, f"{namespace}/{id}", *others, **more)

    llb.Cache.__init__ = make  # type: ignore[method-assign, assignment]
