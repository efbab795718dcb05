"""Looking up images while a build is under way."""

from __future__ import annotations

import grpc.aio

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import ResolvedImage, ResolveMode
from buildkit_builder.buildkit.build.request import Bridge


async def resolve_image(
    bridge: Bridge,
    reference: str,
    platform: llb.Platform,
    mode: ResolveMode,
    *,
    what: str = "the image",
    optional: bool = False,
    mirrored: bool = True,
) -> ResolvedImage:
    """Asks for an image's digest and config.

    Args:
        bridge: To the daemon.
        reference: The image, by its full name.
        platform: The platform it is asked for.
        mode: Whether an engine's own copy will do.
        what: What the image is to the user: "the base image".
        optional: It may well not be there; the look-up is not shown, and is made anew whoever has asked before.
        mirrored: Whether its registry's mirror is asked, if it has one. What has been pushed is there itself.

    Raises:
        BaseImageError: There is no such image, or it is not there for the platform.
        RegistryError: Its registry refused, or could not be reached.
    """
    asked = bridge.mirrors.rewrite(reference) if mirrored else reference
    bridge.registries.add(asked, reference)
    name = f"[internal] {'see whether there is' if optional else 'look up'} {reference}"
    if optional:
        bridge.roles.learn_lookup(name, llb.Role(quiet=True, attempt=True))

    async def ask() -> ResolvedImage:
        return await bridge.gateway.resolve_image(asked, platform, mode=mode, log_name=name)

    try:
        return await (ask() if optional else bridge.lookups.get((asked, platform, mode), ask))
    except grpc.aio.AioRpcError as error:
        doing = f"looking up {what} for {platform}"
        mirror = asked if asked != reference else None
        raise bridge.explain(error, doing=doing, image=reference, mirror=mirror) from error
