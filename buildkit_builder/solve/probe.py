"""A build that makes nothing: it only asks what a registry has."""

from __future__ import annotations

from dataclasses import dataclass, field

from buildkit_builder import llb
from buildkit_builder.client.results import Ref, Result
from buildkit_builder.errors import BaseImageError
from buildkit_builder.solve.frontend import resolve_image
from buildkit_builder.solve.request import Bridge


@dataclass(kw_only=True)
class PlatformProbe:
    """Finds the platforms that an image is not there for.

    Attributes:
        reference: The image.
        platforms: The platforms asked for.
        missing: After the build: those that the registry does not have.
    """

    reference: str
    platforms: tuple[llb.Platform, ...]
    missing: list[llb.Platform] = field(default_factory=list)

    async def build(self, bridge: Bridge) -> Result:
        """Asks the registry itself, never what the daemon remembers.

        Raises:
            RegistryError: It cannot be told.
        """
        await bridge.gateway.ping()
        reference = str(llb.ImageReference.parse(self.reference))
        for platform in self.platforms:
            try:
                found = await resolve_image(bridge, reference, platform, "pull")
            except BaseImageError:
                self.missing.append(platform)
                continue
            if llb.ImageConfig.parse(found.config).architecture not in ("", platform.architecture):
                self.missing.append(platform)
        return Result(ref=Ref(id=""))
