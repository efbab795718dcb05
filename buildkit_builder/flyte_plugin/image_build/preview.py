"""What would be built, as the daemon's own answers shape it; nothing is run."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from buildkit_builder import config
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest
from buildkit_builder.buildkit.build import build as solve_build
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.config import Settings
from buildkit_builder.flyte_plugin.image_build.ordered_image import Order, auth, lookup_key
from buildkit_builder.flyte_plugin.image_build.sharing import find_nodes, shared
from buildkit_builder.image.across_nodes import first_reached
from buildkit_builder.image.frontend import ImageFrontend
from buildkit_builder.image.lower import Lowered
from buildkit_builder.image.outline import OutlineFrontend
from buildkit_builder.image.spec import ImageSpec
from buildkit_builder.image.unforeseen import only_ours


async def outline(spec: ImageSpec, settings: Settings) -> Mapping[llb.Platform, Lowered]:
    """Lowers an image for all its platforms.

    Raises:
        BuildKitError: Something is wrong with the image, or no BuildKit can be reached.
    """
    environ = config.environment()
    order = await Order.of(spec, settings, environ)
    with only_ours(f"planning {spec.reference}", order.redact):
        async with shared(settings, environ) as common:
            connection = await first_reached(find_nodes(settings, environ), common.pool)
            is_engine = connection.endpoint.kind == "docker"
            image = order.job.frontend(settings, order.platforms, order.identity, is_engine=is_engine, beside=None)
            assert isinstance(image, ImageFrontend)
            frontend = OutlineFrontend(image=image)
            request = BuildRequest(
                title=spec.reference, frontend=frontend, internal=True,
                attachables=(auth(order.credentials, settings),),
                mirrors=Mirrors(settings.registry_mirrors), source_policy=order.source_policy,
                lookups=common.lookups(lookup_key(connection, spec, settings)),
            )  # fmt: skip
            quiet = open_screen("quiet", sys.stderr, environ=environ, clock=time.monotonic)
            await solve_build(connection, request, quiet.display(spec.reference), redact=order.redact)
    return frontend.found
