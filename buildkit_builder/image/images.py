"""The images that a build is made from, each looked up once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping

import grpc.aio

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import ResolveMode
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.buildkit.build.result import end
from buildkit_builder.errors import BaseImageError, BuildKitError
from buildkit_builder.image.lookup import resolve_image
from buildkit_builder.image.lower import Resolved
from buildkit_builder.image.memory import Memory

Wanted = tuple[str, llb.Platform]


class Images:
    """Look-ups that are under way, or over.

    Args:
        bridge: The build.
        base: The base image's name; of all others only the files are wanted.
        prefer_local: Look in the daemon's own store before the registry, as Docker does.
        native: The platform of the daemon's machine, if it said.
        daemon: What tells the daemon from others.
        memory: What images were the last time.
    """

    def __init__(
        self,
        bridge: Bridge,
        *,
        base: str,
        prefer_local: bool,
        native: llb.Platform | None,
        daemon: str,
        memory: Memory,
    ) -> None:
        self.bridge = bridge
        self.base = base
        self.prefer_local = prefer_local
        self.native = native
        self.daemon = daemon
        self.memory = memory
        self.found: dict[Wanted, asyncio.Task[Resolved]] = {}

    def recall(self, wanted: Iterable[Wanted]) -> dict[Wanted, Resolved] | None:
        """What images were the last time, or `None` where that is not known of one of them.

        To begin upon while they are looked up; see `are`.
        """
        images: dict[Wanted, Resolved] = {}
        for name, platform in wanted:
            image = self._unseen(name, platform) or _read(self.memory.recall(self._key(name, platform)))
            if image is None:
                return None
            images[name, platform] = image
        return images

    async def are(self, images: Mapping[Wanted, Resolved]) -> bool:
        """Whether images still are what they were."""
        found = await asyncio.gather(*(self.get(*wanted) for wanted in images), return_exceptions=True)
        return found == list(images.values())

    def begin(self, name: str, platform: llb.Platform) -> asyncio.Task[Resolved]:
        """Starts to look an image up, unless that was done before."""
        key = (name, platform)
        if key not in self.found:
            self.found[key] = asyncio.ensure_future(self._resolve(name, platform))
        return self.found[key]

    async def get(self, name: str, platform: llb.Platform) -> Resolved:
        """An image, pinned by its digest.

        Raises:
            BaseImageError: There is no such image, or it is not there for the platform.
            RegistryError: Its registry refused, or could not be reached.
        """
        return await asyncio.shield(self.begin(name, platform))

    async def close(self) -> None:
        """Gives up what is still under way."""
        await end(*self.found.values())

    async def _resolve(self, name: str, platform: llb.Platform) -> Resolved:
        """Pins an image by digest. An engine's own copy that is of another platform gives way to the registry's."""
        reference = str(llb.ImageReference.parse(name))
        self.bridge.registries.add(reference, self.bridge.mirrors.rewrite(reference))
        if (image := self._unseen(name, platform)) is not None:
            if self.memory.recall(self._key(self.base, platform)) is None:
                self.bridge.aside(self._warm(image, platform))
            return image
        what = "the base image" if name == self.base else "an image to copy from"
        modes: tuple[ResolveMode, ...] = ("local", "pull") if self.prefer_local else ("default",)
        for mode in modes:
            found = await resolve_image(self.bridge, reference, platform, mode, what=what)
            config = llb.ImageConfig.parse(found.config)
            if config.architecture in ("", platform.architecture):
                pinned = llb.ImageReference.parse(reference)
                # An engine without the containerd image store has no digests for its own images, only ids.
                pinned = pinned.with_digest(found.digest) if found.digest else pinned
                image = Resolved(name=name, reference=str(pinned), resolve_mode=mode, config=config)
                self.memory.note(self._key(name, platform), _written(image))
                return image
        raise BaseImageError(
            f"{what.capitalize()} `{name}` is there for {config.architecture} and not for {platform}. "
            "Choose another base, or take the platform out of the image's `platform`."
        )

    def _unseen(self, name: str, platform: llb.Platform) -> Resolved | None:
        """An image that only files are wanted of: its config needs no look, and the daemon itself finds its digest."""
        if platform != self.native or name == self.base:
            return None
        return Resolved(
            name=name,
            reference=str(llb.ImageReference.parse(name)),
            resolve_mode="local" if self.prefer_local else "default",
            config=llb.ImageConfig.empty(platform),
        )

    def _key(self, name: str, platform: llb.Platform) -> str:
        # What was found at a mirror says nothing of what is in the registry itself, or at another mirror.
        asked = self.bridge.mirrors.rewrite(str(llb.ImageReference.parse(name)))
        return json.dumps([self.daemon, self.prefer_local, name, asked, str(platform)])

    async def _warm(self, image: Resolved, platform: llb.Platform) -> None:
        """Has the daemon look an image up while lowering still waits for the base; a failure shows in the graph."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            graph = llb.marshal(image.state(platform), platform=platform, rename=self.bridge.mirrors.rewrite)
            await self.bridge.gateway.solve(graph, evaluate=True)


def _written(image: Resolved) -> str:
    return json.dumps([image.name, image.reference, image.resolve_mode, image.config.document])


def _read(text: str | None) -> Resolved | None:
    if text is None:
        return None
    try:
        name, reference, mode, document = json.loads(text)
        return Resolved(
            name=name, reference=reference, resolve_mode=mode, config=llb.ImageConfig.parse(document.encode())
        )
    except (ValueError, TypeError, AttributeError, BuildKitError):
        return None
