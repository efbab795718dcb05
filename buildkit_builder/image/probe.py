"""A build that makes nothing: it only asks what a registry has."""

from __future__ import annotations

from dataclasses import dataclass, field

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import ResolveMode
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.errors import BaseImageError, BuildKitError
from buildkit_builder.image.identity import LABEL, UNKNOWN, Identity, base_part, changes, untold
from buildkit_builder.image.lookup import resolve_image


@dataclass(kw_only=True)
class PlatformProbe:
    """Finds the platforms that an image is not there for, or is there for as something else.

    Attributes:
        reference: The image.
        platforms: The platforms asked for.
        identity: What the image is to be; not compared when `None`.
        base: The base that it is to be made from, and how that is looked up.
        missing: After the build: the platforms that the registry does not have.
        changed: After the build: in words, what is not as it is to be.
    """

    reference: str
    platforms: tuple[llb.Platform, ...]
    identity: Identity | None = None
    base: tuple[str, ResolveMode] | None = None
    missing: list[llb.Platform] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    async def build(self, bridge: Bridge) -> Result:
        """Asks the registry itself, never what the daemon remembers.

        Raises:
            RegistryError: It cannot be told.
        """
        await bridge.gateway.ping()
        reference = str(llb.ImageReference.parse(self.reference))
        for platform in self.platforms:
            try:
                found = await resolve_image(bridge, reference, platform, "pull", optional=True, mirrored=False)
            except BaseImageError:
                self.missing.append(platform)
                continue
            config = llb.ImageConfig.parse(found.config)
            if config.architecture not in ("", platform.architecture):
                self.missing.append(platform)
            else:
                await self._compare(bridge, platform, config.labels.get(LABEL, ""))
        return Result(ref=Ref(id=""))

    async def _compare(self, bridge: Bridge, platform: llb.Platform, label: str) -> None:
        """An image without the label was made elsewhere, and counts as what its tag says."""
        if self.identity is None or not label:
            return
        wanted = self.identity.label(str(platform), await self._base(bridge, platform))
        # Where something cannot be told, that is what to say.
        self.changed += untold(wanted) or changes(label, wanted)

    async def _base(self, bridge: Bridge, platform: llb.Platform) -> str:
        """What the base is now, for the label."""
        if self.base is None:
            return ""
        name, mode = self.base
        try:
            found = await resolve_image(bridge, str(llb.ImageReference.parse(name)), platform, mode)
        except BuildKitError:
            return UNKNOWN
        return base_part(found.digest, llb.ImageConfig.parse(found.config).document.encode())
