"""The platforms that a tag has already: kept when others are pushed to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import ResolvedImage
from buildkit_builder.buildkit.api.results import Ref
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.errors import BuildKitError
from buildkit_builder.image.identity import LABEL, Identity, changes
from buildkit_builder.image.lookup import resolve_image

# Those that Flyte knows; a registry is asked for them one by one.
PLATFORMS = (llb.Platform(architecture="amd64"), llb.Platform(architecture="arm64"))


async def look_up_others(
    bridge: Bridge, reference: str | None, built: tuple[llb.Platform, ...]
) -> dict[llb.Platform, ResolvedImage]:
    """What a registry has under a name for platforms that are not built.

    Args:
        bridge: The build.
        reference: Where the image is pushed; nothing is looked up where it is not.
        built: The platforms that are built.
    """
    if reference is None:
        return {}
    name = str(llb.ImageReference.parse(reference))
    others = [platform for platform in PLATFORMS if platform not in built]
    found = await asyncio.gather(*(_look_up(bridge, name, platform) for platform in others))
    return {platform: image for platform, image in zip(others, found, strict=True) if image is not None}


async def _look_up(bridge: Bridge, name: str, platform: llb.Platform) -> ResolvedImage | None:
    try:
        found = await resolve_image(bridge, name, platform, "pull", optional=True, mirrored=False)
        architecture = llb.ImageConfig.parse(found.config).architecture
    except BuildKitError:
        return None  # there is none; whatever else is wrong with the registry, the push will say
    return found if architecture == platform.architecture else None


async def kept(
    bridge: Bridge, others: Mapping[llb.Platform, ResolvedImage], identity: Identity, base: str
) -> dict[llb.Platform, tuple[Ref, bytes]]:
    """Of the platforms that are there, those that still say the same as what is built.

    They are exported again by their digest, so that their layers stay where they are (protocol: a graph of a
    `docker-image://` source alone).

    Args:
        bridge: The build.
        others: From `look_up_others`.
        identity: Of the image.
        base: The digest of its base.

    Returns:
        By platform, its files and its config.
    """
    images: dict[llb.Platform, tuple[Ref, bytes]] = {}
    for platform, found in others.items():
        label = llb.ImageConfig.parse(found.config).labels.get(LABEL, "")
        # One without a label was made elsewhere, and is what its tag says.
        if label and changes(label, identity.label(str(platform), base)):
            continue
        images[platform] = (await exported_again(bridge, found, platform), found.config)
    return images


async def exported_again(bridge: Bridge, found: ResolvedImage, platform: llb.Platform) -> Ref:
    """The files of an image that is in a registry, by its digest, so that the daemon need not fetch its layers."""
    pinned = llb.ImageReference.parse(found.ref).with_digest(found.digest)
    image = llb.image(str(pinned), platform=platform, resolve_mode="pull", name=f"{platform} as it is in the registry")
    definition = llb.marshal(image, platform=platform)
    bridge.remember(definition)
    result = await bridge.gateway.solve(definition)
    return result.ref or Ref()
