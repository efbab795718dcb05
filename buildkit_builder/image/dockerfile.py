"""Dockerfiles, built by the frontend that every daemon has in itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import ResolveMode
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.request import Bridge, CacheEntry
from buildkit_builder.buildkit.build.result import bases_of, gather, images_of, imports, result_of
from buildkit_builder.errors import BaseImageError, ImageError
from buildkit_builder.image.identity import LABEL, Identity
from buildkit_builder.image.published_platforms import kept, look_up_others

_SINCE_0_11 = "source.policy"
_STAGE = re.compile(r"^[ \t\ufeff]*FROM[ \t\\`]", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileFrontend:
    """Builds a Dockerfile with the frontend that is part of the daemon; none is pulled.

    The session serves the context as the local source `context` and the Dockerfile's folder as `dockerfile`.

    Attributes:
        filename: The Dockerfile's name in its folder.
        options: More options of the frontend: `build-arg:…`, `target`, `label:…`.
        text: The Dockerfile, in which the registries stand whose credentials the daemon may have.
        identity: Put into a label of the image.
        beside: Where the image is pushed; what is there for other platforms, of the same identity, stays.
    """

    filename: str
    platforms: tuple[llb.Platform, ...]
    prefer_local: bool = False
    cache_imports: tuple[CacheEntry, ...] = ()
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    text: str = ""
    identity: Identity | None = None
    beside: str | None = None

    async def build(self, bridge: Bridge) -> Result:
        """Solves the Dockerfile for all platforms at once and forces it, so that a failure is the frontend's own.

        Raises:
            BaseImageError: The base is not there for one of the platforms.
            ImageError: There is nothing to build in it.
        """
        if self.text.strip() and not _STAGE.search(self.text):
            # Daemons before 0.15 would end of it: the frontend is a part of them.
            raise ImageError(f"{self.filename} has no line `FROM`, so there is nothing to build. Begin it with one.")
        bridge.registries.add_dockerfile(self.text, *self.options.values())
        pong = await bridge.gateway.ping()
        # The frontend of 0.10, and the daemon with it, ends of a warning for another platform than the first.
        apart = len(self.platforms) > 1 and _SINCE_0_11 not in pong.llb.enabled
        solve = self._solve_apart if apart else self._solve
        result = await solve(bridge, "local" if self.prefer_local else "default")
        if self.prefer_local and self._strangers(result):
            # An engine that has the image for one platform gives it for every other as well, without a word.
            result = await solve(bridge, "pull")
        if strangers := self._strangers(result):
            raise BaseImageError(
                f"The base image of {self.filename} is there for {' and '.join(sorted(set(strangers.values())))} only, "
                f"and not for {', '.join(strangers)}. Choose another base, or take the platform out of the image's "
                "`platform`."
            )
        await gather(*(bridge.gateway.evaluate(ref.id) for ref in (result.ref, *result.refs.values()) if ref))
        if self.identity is None:
            return result
        images = {
            platform: (ref, self._labelled(config, platform, self.identity))
            for platform, (ref, config) in images_of(result, self.platforms).items()
        }
        others = await look_up_others(bridge, self.beside, self.platforms)
        images |= await kept(bridge, others, self.identity, "")
        return result_of(images, bases_of(result, self.platforms))

    def _labelled(self, config: bytes, platform: llb.Platform, identity: Identity) -> bytes:
        labelled = llb.ImageConfig.parse(config).with_label(LABEL, identity.label(str(platform), ""))
        return labelled.document.encode()

    async def _solve_apart(self, bridge: Bridge, mode: ResolveMode) -> Result:
        """Each platform by itself; for all platforms at once, `_solve`."""
        ones = [replace(self, platforms=(platform,)) for platform in self.platforms]
        results = await gather(*(one._solve(bridge, mode) for one in ones))
        images: dict[llb.Platform, tuple[Ref, bytes]] = {}
        bases: dict[llb.Platform, bytes] = {}
        for one, result in zip(ones, results, strict=True):
            images |= images_of(result, one.platforms)
            bases |= bases_of(result, one.platforms)
        return result_of(images, bases)

    async def _solve(self, bridge: Bridge, mode: ResolveMode) -> Result:
        return await bridge.gateway.solve(
            frontend="dockerfile.v0",
            frontend_opts={
                "filename": self.filename,
                "platform": ",".join(str(platform) for platform in self.platforms),
                "local-sessionid:context": bridge.session_id,
                "local-sessionid:dockerfile": bridge.session_id,
                # Its presence keeps the frontend from handing over to the image that a `# syntax` line names.
                "cmdline": "dockerfile.v0",
                **({} if mode == "default" else {"image-resolve-mode": mode}),
                **self.options,
            },
            cache_imports=imports(self.cache_imports),
        )

    def _strangers(self, result: Result) -> dict[str, str]:
        """By platform, the architecture of a base that is for another one; daemons since 0.12 say so."""
        found = {}
        for platform, data in bases_of(result, self.platforms).items():
            architecture = llb.ImageConfig.parse(data).architecture
            if architecture not in ("", platform.architecture):
                found[str(platform)] = architecture
        return found
