"""What makes the images of a build: a recipe, or a Dockerfile; and what reads files of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import grpc.aio

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import Gateway, Pong, ResolveMode
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.graph import Solver
from buildkit_builder.buildkit.build.request import Bridge, Frontend
from buildkit_builder.buildkit.build.result import bases_of, gather, images_of, result_of
from buildkit_builder.buildkit.front.recipe import BaseImage, Lowering, Recipe, ResolvedBase
from buildkit_builder.errors import BaseImageError, CapabilityError

T = TypeVar("T")

Modes = tuple[ResolveMode, ...]


class PlatformFrontend(Frontend):
    """A frontend that knows, once it has built, for which platforms.

    Attributes:
        platforms: What it builds for; empty for the daemon's own platform, until that is known.
    """

    platforms: tuple[llb.Platform, ...]


@dataclass(slots=True, kw_only=True)
class RecipeFrontend(PlatformFrontend):
    """Builds a recipe: looks the base images up, lowers the recipe for each platform and solves the graphs.

    Attributes:
        recipe: The recipe.
        modes: How images are looked up: in this order, until one is there for the platform.
        platforms: What it is built for.
    """

    recipe: Recipe
    modes: Modes = ("default",)
    platforms: tuple[llb.Platform, ...] = ()

    async def build(self, bridge: Bridge) -> Result:
        """Build for all platforms side by side.

        Raises:
            BaseImageError: A base image is missing, or is not there for a platform.
            CapabilityError: The daemon lacks what the graph needs.
        """
        pong = await bridge.gateway.ping()
        self.platforms = self.platforms or (_native(pong),)
        made = await gather(*(self._one(bridge, pong, platform) for platform in self.platforms))
        images = {platform: image for platform, image, _ in made}
        return result_of(images, {platform: base for platform, _, base in made if base is not None})

    async def _one(
        self, bridge: Bridge, pong: Pong, platform: llb.Platform
    ) -> tuple[llb.Platform, tuple[Ref, bytes], bytes | None]:
        bases = self.recipe.bases()
        found = await gather(*(self._resolve(bridge, base, base.platform or platform) for base in bases))
        lowering = Lowering(
            platform=platform,
            bases=dict(zip(bases, found, strict=True)),
            session=bridge.session_id,
            label=str(platform) if len(self.platforms) > 1 else "",
        )
        lowered = lowering.lower(self.recipe)
        ref = await Solver(bridge, pong.llb, platform).solve(lowered.tree, evaluate=True, image=True)
        begins_with = _first(self.recipe).step.base()
        base = None if begins_with is None else lowering.bases[begins_with].config.document.encode()
        return platform, (ref, lowered.config.to_json(platform)), base

    async def _resolve(self, bridge: Bridge, base: BaseImage, platform: llb.Platform) -> ResolvedBase:
        reference = llb.ImageReference.parse(base.reference)
        bridge.registries.add(str(reference))
        config = llb.ImageConfig()
        for mode in self.modes:
            try:
                found = await bridge.gateway.resolve_image(
                    str(reference), platform, mode=mode, log_name=f"[internal] look up {reference}"
                )
            except grpc.aio.AioRpcError as error:
                doing = f"looking up an image for {platform}"
                raise bridge.explain(error, doing=doing, image=str(reference)) from error
            config = llb.ImageConfig.parse(found.config)
            # An engine that has an image for one platform gives it for every other as well, without a word.
            if config.architecture in ("", platform.architecture):
                pinned = reference.with_digest(found.digest) if found.digest else reference
                return ResolvedBase(reference=str(pinned), config=config, mode=mode)
        raise BaseImageError(
            f"The image `{base.reference}` is there for {config.architecture} and not for {platform}. Choose another "
            "image or another platform."
        )


@dataclass(slots=True, kw_only=True)
class DockerfileFrontend(PlatformFrontend):
    """Builds a Dockerfile with the frontend that is part of every daemon; none is pulled.

    Attributes:
        options: Options of that frontend.
        text: The Dockerfile; registries that it names may have credentials.
        modes: How images are looked up: in this order, until the bases are there for all platforms.
        platforms: What it is built for.
    """

    options: Mapping[str, str]
    text: str
    modes: Modes = ("default",)
    platforms: tuple[llb.Platform, ...] = ()

    async def build(self, bridge: Bridge) -> Result:
        """Solve the Dockerfile for all platforms at once.

        Raises:
            BaseImageError: Its base is not there for a platform.
            SolveError: The Dockerfile is malformed, or a step of it failed.
        """
        pong = await bridge.gateway.ping()
        self.platforms = self.platforms or (_native(pong),)
        bridge.registries.add_dockerfile(self.text, *self.options.values())
        for mode in self.modes:
            result = await self._solve(bridge, mode)
            foreign = [
                f"{architecture} and not for {platform}"
                for platform, base in bases_of(result, self.platforms).items()
                if (architecture := llb.ImageConfig.parse(base).architecture) not in ("", platform.architecture)
            ]
            if not foreign:
                refs = (result.ref, *result.refs.values())
                await gather(*(bridge.gateway.evaluate(ref.id) for ref in refs if ref))
                return result
        raise BaseImageError(
            f"The base image of the Dockerfile is there for {foreign[0]}. Choose another image or another platform."
        )

    async def _solve(self, bridge: Bridge, mode: ResolveMode) -> Result:
        return await bridge.gateway.solve(
            frontend="dockerfile.v0",
            frontend_opts={
                "platform": ",".join(map(str, self.platforms)),
                "local-sessionid:context": bridge.session_id,
                "local-sessionid:dockerfile": bridge.session_id,
                # Its presence keeps the frontend from handing over to the image that a `# syntax` line names.
                "cmdline": "dockerfile.v0",
                **({} if mode == "default" else {"image-resolve-mode": mode}),
                **self.options,
            },
        )


@dataclass(slots=True, kw_only=True)
class ReadFrontend(Frontend, Generic[T]):
    """Builds again, from the daemon's cache, to ask something of the result.

    Attributes:
        made_by: Makes the images.
        platform: Of the images, the one that is asked; the first, if it is not given.
        ask: What is asked.
        doing: What that is called where it fails.
        answers: The answer, once it is built.
    """

    made_by: PlatformFrontend
    ask: Callable[[Gateway, str], Awaitable[T]]
    doing: str
    platform: llb.Platform | None = None
    answers: list[T] = field(default_factory=list)

    async def build(self, bridge: Bridge) -> Result:
        """Build, and ask.

        Raises:
            BuildKitError: It cannot be answered.
        """
        result = await self.made_by.build(bridge)
        images = images_of(result, self.made_by.platforms)
        ref, _ = images[self.platform or self.made_by.platforms[0]]
        try:
            self.answers.append(await self.ask(bridge.gateway, ref.id))
        except grpc.aio.AioRpcError as error:
            raise bridge.explain(error, doing=self.doing) from error
        return Result(ref=Ref(id=""))


def _native(pong: Pong) -> llb.Platform:
    """Return the daemon's own platform."""
    for worker in pong.workers:
        for platform in worker.platforms:
            return platform
    raise CapabilityError('The daemon does not say what it runs on. Name a platform: `platform="linux/amd64"`.')


def _first(recipe: Recipe) -> Recipe:
    """Return what a recipe begins with."""
    while recipe.parent is not None:
        recipe = recipe.parent
    return recipe
