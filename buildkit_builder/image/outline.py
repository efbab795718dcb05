"""A build that makes nothing: it only finds out what would be built, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.buildkit.build.result import gather
from buildkit_builder.image.frontend import ImageFrontend
from buildkit_builder.image.lower import Lowered


@dataclass(kw_only=True)
class OutlineFrontend:
    """Lowers an image and stops there.

    Attributes:
        image: What would build it.
        found: After the build: by platform, what it was lowered to.
    """

    image: ImageFrontend
    found: dict[llb.Platform, Lowered] = field(default_factory=dict)

    async def build(self, bridge: Bridge) -> Result:
        """Asks the daemon what lowering asks; runs no step.

        Raises:
            BaseImageError: The base is missing, or has no such platform.
            CapabilityError: The daemon lacks what the image needs.
        """
        async with self.image.builds(bridge) as builds:
            made = await gather(*(build.lower() for build in builds))
        self.found.update(zip(self.image.platforms, made, strict=True))
        return Result(ref=Ref(id=""))
