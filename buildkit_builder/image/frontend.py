"""The client as the frontend of an image: its graph is made while the daemon waits for it.

`ImageFrontend` lowers a plan for each platform, answering lowering's questions by asking the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import Pong
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build.graph import Solver
from buildkit_builder.buildkit.build.request import Bridge, CacheEntry
from buildkit_builder.buildkit.build.result import end, gather, result_of
from buildkit_builder.image.identity import Identity
from buildkit_builder.image.images import Images
from buildkit_builder.image.lower import Environment
from buildkit_builder.image.memory import Memory
from buildkit_builder.image.plan import Plan
from buildkit_builder.image.platform_build import PlatformBuild
from buildkit_builder.image.published_platforms import kept, look_up_others


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFrontend:
    """Builds a plan for one platform or several.

    Attributes:
        prefer_local: Look for images in the daemon's own store before the registry, as Docker does.
        identity: Put into a label of the image.
        beside: Where the image is pushed; what is there for other platforms, of the same identity, stays.
        attempts: What is remembered of installations that were tried ahead.
        seen: What is remembered of images.
    """

    plan: Plan
    platforms: tuple[llb.Platform, ...]
    environment: Environment
    prefer_local: bool = False
    cache_imports: tuple[CacheEntry, ...] = ()
    identity: Identity | None = None
    beside: str | None = None
    attempts: Memory = field(default_factory=Memory)
    seen: Memory = field(default_factory=Memory)

    async def build(self, bridge: Bridge) -> Result:
        """Lowers and solves every platform side by side.

        Raises:
            BaseImageError: The base is missing, or has no such platform.
            CapabilityError: The daemon lacks what the graph needs.
        """
        async with self.builds(bridge) as builds:
            others = asyncio.ensure_future(look_up_others(bridge, self.beside, self.platforms))
            try:
                made = dict(zip(self.platforms, await gather(*(build.run() for build in builds)), strict=True))
                if self.identity is not None:
                    made |= await kept(bridge, await others, self.identity, builds[0].base)
            finally:
                await end(others)
        return result_of(made, {build.platform: build.base_config for build in builds})

    @contextlib.asynccontextmanager
    async def builds(self, bridge: Bridge) -> AsyncIterator[list[PlatformBuild]]:
        """A build for each platform, with what they share."""
        pong = await bridge.gateway.ping()
        native = next((platform for worker in pong.workers for platform in worker.platforms), None)
        images = Images(
            bridge, base=self.plan.base, prefer_local=self.prefer_local, native=native,
            daemon=",".join(worker.id for worker in pong.workers), memory=self.seen,
        )  # fmt: skip
        try:
            yield [
                PlatformBuild(
                    plan=self.plan,
                    environment=self._environment(bridge, pong, platform, native),
                    images=images,
                    solver=Solver(bridge, pong.llb, platform, self.cache_imports),
                    identity=self.identity,
                    attempts=self.attempts,
                )
                for platform in self.platforms
            ]
        finally:
            await images.close()

    def _environment(
        self, bridge: Bridge, pong: Pong, platform: llb.Platform, native: llb.Platform | None
    ) -> Environment:
        """What a platform's lowering is to know of the daemon."""
        runs = [known for worker in pong.workers for known in worker.platforms]
        is_foreign = native is not None and (native.os, native.architecture) != (platform.os, platform.architecture)
        return replace(
            self.environment,
            session=bridge.session_id,
            side_by_side=self.environment.side_by_side and not pong.llb.missing(["mergeop", "diffop"]),
            native=native if is_foreign else None,
            emulates=any((known.os, known.architecture) == (platform.os, platform.architecture) for known in runs),
            label=str(platform) if len(self.platforms) > 1 else "",
        )
