"""What frontends have in common: the shape of a result, and running several things at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.request import CacheEntry
from buildkit_builder.errors import SolveError

T = TypeVar("T")

CONFIG_KEY = "containerimage.config"
BASE_CONFIG_KEY = "containerimage.base.config"
_PLATFORMS_KEY = "refs.platforms"


def result_of(
    images: Mapping[llb.Platform, tuple[Ref, bytes]], bases: Mapping[llb.Platform, bytes] | None = None
) -> Result:
    """A result of one image per platform. Protocol: buildkit `exporter/containerimage/exptypes`.

    Args:
        images: By platform, files and config.
        bases: By platform, the config of the base, whose layers no exporter changes then.
    """
    platforms = _platforms_metadata(tuple(images))
    known = bases or {}
    if len(images) == 1:
        ((platform, (ref, config)),) = images.items()
        base = {BASE_CONFIG_KEY: known[platform]} if platform in known else {}
        return Result(ref=ref, metadata={CONFIG_KEY: config, **base, **platforms})
    configs = {f"{CONFIG_KEY}/{platform}": config for platform, (_, config) in images.items()}
    configs |= {f"{BASE_CONFIG_KEY}/{platform}": base for platform, base in known.items() if platform in images}
    return Result(refs={str(platform): ref for platform, (ref, _) in images.items()}, metadata={**configs, **platforms})


def images_of(result: Result, platforms: tuple[llb.Platform, ...]) -> dict[llb.Platform, tuple[Ref, bytes]]:
    """The other way round: files and config by platform, of what a frontend of the daemon gave.

    Raises:
        SolveError: It made nothing for one of the platforms.
    """
    images = {}
    for platform in platforms:
        ref = result.refs.get(str(platform)) if result.refs or len(platforms) > 1 else result.ref
        if ref is None:
            made = ", ".join(result.refs) or "no platform by its name"
            raise SolveError(f"The daemon's frontend made no image for {platform}: it made one for {made}.")
        config = result.metadata.get(f"{CONFIG_KEY}/{platform}", result.metadata.get(CONFIG_KEY, b"{}"))
        images[platform] = (ref, config)
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


def imports(
    entries: tuple[CacheEntry, ...], platform: llb.Platform | None = None
) -> list[tuple[str, Mapping[str, str]]]:
    """Caches in the form that the gateway takes.

    Args:
        entries: The caches.
        platform: Leaves out those that are of another.
    """
    return [entry.wire for entry in entries if platform is None or entry.platform is None or entry.platform == platform]


def bases_of(result: Result, platforms: tuple[llb.Platform, ...]) -> dict[llb.Platform, bytes]:
    """By platform, the config of the base, of what a frontend of the daemon gave; those since 0.12 say it."""
    found = {}
    for platform in platforms:
        names = (f"{BASE_CONFIG_KEY}/{platform}", *([BASE_CONFIG_KEY] if len(platforms) == 1 else ()))
        config = next((result.metadata[name] for name in names if name in result.metadata), None)
        if config is not None:
            found[platform] = config
    return found


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
