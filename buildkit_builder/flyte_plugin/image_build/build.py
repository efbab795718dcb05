"""One image, from its spec to where it belongs; and whether it is there already."""

from __future__ import annotations

import sys
import time

from buildkit_builder import config
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, BuildResult
from buildkit_builder.buildkit.build import build as solve_build
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.config import Settings
from buildkit_builder.flyte_plugin.image_build.build_inputs import Spec, identity_of, job_of
from buildkit_builder.flyte_plugin.image_build.ordered_image import Order, auth, credentials, lookup_key
from buildkit_builder.flyte_plugin.image_build.several import Several
from buildkit_builder.flyte_plugin.image_build.sharing import Common, find_nodes, shared
from buildkit_builder.image.across_nodes import build_on_nodes, first_reached
from buildkit_builder.image.contents import WITHOUT_CONTENTS
from buildkit_builder.image.probe import PlatformProbe
from buildkit_builder.image.spec import ImageSpec
from buildkit_builder.image.unforeseen import only_ours


async def build(spec: Spec, settings: Settings) -> BuildResult:
    """Builds an image and pushes it, or loads it into the engine where it names no registry.

    Raises:
        BuildKitError: It failed; says where and why. What is wrong with the image itself is found before connecting.
    """
    environ = config.environment()
    order = await Order.of(spec, settings, environ)
    with only_ours(f"building {spec.reference}", order.redact):
        async with shared(settings, environ, considerate=True) as common:
            result = await _built(order, common)
            if spec.push and await identity_of(order.job, settings) != order.identity:
                # The image may have files of before or after the change, and its label says what they were before.
                result = await _built(order.of_unknown_files(), common)
            return result


async def _built(order: Order, common: Common) -> BuildResult:
    nodes = find_nodes(order.settings, order.environ)
    if len(nodes) > 1:
        async with Several.begin(order, common) as several:
            return await build_on_nodes(nodes, common.pool, several)
    connection = await common.pool.get(nodes[0].endpoint)
    return await order.build_on(connection, common, common.screen.display(order.spec.reference, order.redact))


async def look_up(
    reference: str, platforms: tuple[str, ...], settings: Settings, spec: Spec | None = None
) -> PlatformProbe:
    """Asks a registry what it has under a name.

    Args:
        reference: The name.
        platforms: The platforms asked for.
        settings: The settings.
        spec: What the image is to be; without it, only whether it is there is asked.

    Raises:
        BuildKitError: It cannot be told: no BuildKit, no such registry, credentials refused.
    """
    environ = config.environment()
    probe = PlatformProbe(
        reference=reference,
        platforms=llb.Platform.parse_each(platforms),
        identity=None if spec is None else await identity_of(job_of(spec, settings), settings),
    )
    docker_config = credentials(spec, settings, environ)
    async with shared(settings, environ) as common:
        connection = await first_reached(find_nodes(settings, environ), common.pool)
        if isinstance(spec, ImageSpec):
            local = connection.endpoint.kind == "docker" and not settings.buildx.extra.pull
            probe.base = (spec.base, "local" if local else "default")
        request = BuildRequest(
            title=reference, frontend=probe, internal=True,
            attachables=(auth(docker_config, settings),),
            mirrors=Mirrors(settings.registry_mirrors),
            lookups=common.lookups(lookup_key(connection, spec, settings)),
        )  # fmt: skip
        quiet = open_screen("quiet", sys.stderr, environ=environ, clock=time.monotonic)
        await solve_build(connection, request, quiet.display(reference))
    return probe


def is_told_by_label(found: PlatformProbe) -> bool:
    """Whether an image's label says all of it, so that it would tell of files that changed after its tag was made."""
    return found.identity is not None and not found.identity.parts.get("sources", "").startswith(WITHOUT_CONTENTS)
