"""The platforms that a tag has already: kept when others are pushed to it, and compared with what is wanted."""

from __future__ import annotations

import asyncio

from buildkit_builder import llb
from buildkit_builder.client.gateway import ResolveMode
from buildkit_builder.client.results import Ref, Result
from buildkit_builder.errors import BuildKitError
from buildkit_builder.identity import LABEL, Identity, changes
from buildkit_builder.solve.lookup import resolve_image
from buildkit_builder.solve.request import Bridge

# Those that Flyte knows; a registry is asked for them one by one.
PLATFORMS = (llb.Platform(architecture="amd64"), llb.Platform(architecture="arm64"))
_PULL: ResolveMode = "pull"


async def kept(
    bridge: Bridge, reference: str, built: tuple[llb.Platform, ...], identity: Identity, base: str
) -> dict[llb.Platform, tuple[Ref, bytes]]:
    """Platforms of an image in its registry that are not built now and still say the same as what is.

    They are exported again by their digest, so that their layers stay where they are (protocol: a graph of a
    `docker-image://` source alone).

    Args:
        bridge: The build.
        reference: Where the image is pushed.
        built: The platforms that are built.
        identity: Of the image.
        base: The digest of its base.

    Returns:
        By platform, its files and its config.
    """
    others = [platform for platform in PLATFORMS if platform not in built]
    found = await asyncio.gather(*(_kept(bridge, reference, platform, identity, base) for platform in others))
    return {platform: entry for platform, entry in zip(others, found, strict=True) if entry is not None}


async def _kept(
    bridge: Bridge, reference: str, platform: llb.Platform, identity: Identity, base: str
) -> tuple[Ref, bytes] | None:
    name = llb.ImageReference.parse(reference)
    try:
        found = await resolve_image(bridge, str(name), platform, _PULL)
        config = llb.ImageConfig.parse(found.config)
    except BuildKitError:
        return None  # there is none; whatever else is wrong with the registry, the push will say
    if config.architecture != platform.architecture:
        return None
    if changes(config.labels.get(LABEL, ""), identity.label(str(platform), base)):
        return None
    state = llb.image(str(name.with_digest(found.digest)), platform=platform, resolve_mode=_PULL)
    definition = llb.marshal(state, platform=platform)
    bridge.remember(definition)
    result: Result = await bridge.gateway.solve(definition)
    return (result.ref, found.config) if result.ref is not None else None
