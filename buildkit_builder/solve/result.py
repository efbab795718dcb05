"""What frontends have in common: the shape of a result, and running several things at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from buildkit_builder import llb
from buildkit_builder.client.results import Ref, Result
from buildkit_builder.solve.request import CacheEntry

T = TypeVar("T")

CONFIG_KEY = "containerimage.config"
_PLATFORMS_KEY = "refs.platforms"


def result_of(images: Mapping[llb.Platform, tuple[Ref, bytes]]) -> Result:
    """A result of one image per platform. Protocol: buildkit `exporter/containerimage/exptypes`.

    Args:
        images: By platform, files and config.
    """
    platforms = _platforms_metadata(tuple(images))
    if len(images) == 1:
        ((ref, config),) = images.values()
        return Result(ref=ref, metadata={CONFIG_KEY: config, **platforms})
    configs = {f"{CONFIG_KEY}/{platform}": config for platform, (_, config) in images.items()}
    return Result(refs={str(platform): ref for platform, (ref, _) in images.items()}, metadata={**configs, **platforms})


def images_of(result: Result, platforms: tuple[llb.Platform, ...]) -> dict[llb.Platform, tuple[Ref, bytes]]:
    """The other way round: files and config by platform, of what a frontend of the daemon gave."""
    images = {}
    for platform in platforms:
        ref = result.refs.get(str(platform), result.ref)
        config = result.metadata.get(f"{CONFIG_KEY}/{platform}", result.metadata.get(CONFIG_KEY, b"{}"))
        images[platform] = (ref or Ref(), config)
    return images


def _platforms_metadata(platforms: tuple[llb.Platform, ...]) -> dict[str, bytes]:
    entries = [
        {
            "ID": str(platform),
            "Platform": {
                "architecture": platform.architecture,
                "os": platform.os,
                **({"variant": platform.variant} if platform.variant else {}),
            },
        }
        for platform in platforms
    ]
    return {_PLATFORMS_KEY: json.dumps({"Platforms": entries}).encode()}


def imports(entries: tuple[CacheEntry, ...]) -> list[tuple[str, Mapping[str, str]]]:
    """Caches in the form that the gateway takes."""
    return [(entry.type, entry.attributes) for entry in entries]


async def gather(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Runs all, and when one fails ends the others before the failure goes on."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end(*tasks)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancels tasks and waits until they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
