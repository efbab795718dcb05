"""The client as the frontend: graphs are made while the daemon waits for them.

`GraphFrontend` hands over a graph that is ready. `ImageFrontend` lowers a plan for each platform, answering lowering's
questions by asking the daemon.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio

from buildkit_builder import llb
from buildkit_builder.client.gateway import ResolveMode
from buildkit_builder.client.results import Ref, Result
from buildkit_builder.errors import BaseImageError, CapabilityError
from buildkit_builder.identity import LABEL, Identity
from buildkit_builder.lower import BuildLines, Environment, Lowered, Question, ResolveImage, lower
from buildkit_builder.lower.image import Resolved
from buildkit_builder.plan import Plan
from buildkit_builder.solve.lookup import resolve_image
from buildkit_builder.solve.others import kept, look_up_others
from buildkit_builder.solve.request import Bridge, CacheEntry
from buildkit_builder.solve.result import CONFIG_KEY, end, gather, imports, result_of


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFrontend:
    """Builds a graph that is ready, for one platform.

    Attributes:
        config: What the image says of itself; the daemon's default when not given.
    """

    state: llb.State
    platform: llb.Platform
    config: llb.ImageConfig | None = None

    async def build(self, bridge: Bridge) -> Result:
        """Solves the graph.

        Raises:
            CapabilityError: The daemon lacks what the graph needs.
        """
        pong = await bridge.gateway.ping()
        ref = await _solve(bridge, pong.llb, self.state, self.platform)
        metadata = {} if self.config is None else {CONFIG_KEY: self.config.to_json(self.platform)}
        return Result(ref=ref, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFrontend:
    """Builds a plan for one platform or several.

    Attributes:
        prefer_local: Look for images in the daemon's own store before the registry, as Docker does.
        identity: Put into a label of the image.
        beside: Where the image is pushed; what is there for other platforms, of the same identity, stays.
    """

    plan: Plan
    platforms: tuple[llb.Platform, ...]
    environment: Environment
    prefer_local: bool = False
    cache_imports: tuple[CacheEntry, ...] = ()
    identity: Identity | None = None
    beside: str | None = None

    async def build(self, bridge: Bridge) -> Result:
        """Lowers and solves every platform side by side.

        Raises:
            BaseImageError: The base is missing, or has no such platform.
            CapabilityError: The daemon lacks what the graph needs.
        """
        pong = await bridge.gateway.ping()
        native = next((platform for worker in pong.workers for platform in worker.platforms), None)
        builds = [_PlatformBuild(self, bridge, pong.llb, platform, platform == native) for platform in self.platforms]
        others = asyncio.ensure_future(look_up_others(bridge, self.beside, self.platforms))
        try:
            images = dict(zip(self.platforms, await gather(*(build.run() for build in builds)), strict=True))
            if self.identity is not None:
                images |= await kept(bridge, await others, self.identity, builds[0].base)
        finally:
            await end(others)
        return result_of(images)


class _PlatformBuild:
    """Drives lowering for one platform."""

    def __init__(
        self,
        frontend: ImageFrontend,
        bridge: Bridge,
        capabilities: llb.Capabilities,
        platform: llb.Platform,
        is_native: bool,
    ) -> None:
        self.frontend = frontend
        self.bridge = bridge
        self.capabilities = capabilities
        self.platform = platform
        self.is_native = is_native
        self.base = ""

    async def run(self) -> tuple[Ref, bytes]:
        environment = replace(self.frontend.environment, session=self.bridge.session_id)
        lowering = lower(self.frontend.plan, self.platform, environment)
        # Every image that lowering will ask for is looked up at once: each costs a registry's answer.
        self.lookups = {
            reference: asyncio.ensure_future(self._resolve(reference)) for reference in self.frontend.plan.images
        }
        try:
            return await self._drive(lowering)
        finally:
            await end(*self.lookups.values())

    async def _drive(self, lowering: Generator[Question, Any, Lowered]) -> tuple[Ref, bytes]:
        try:
            question = next(lowering)
            while True:
                question = lowering.send(await self._answer(question))
        except StopIteration as done:
            lowered: Lowered = done.value
        config = lowered.config
        if self.frontend.identity is not None:
            found: Resolved = await self.lookups[self.frontend.plan.base]
            self.base = llb.ImageReference.parse(found.reference).digest
            config = config.with_label(LABEL, self.frontend.identity.label(str(self.platform), self.base))
        ref = await self._solve(lowered.state)
        return ref, config.to_json(self.platform)

    async def _answer(self, question: Question) -> Any:
        if isinstance(question, ResolveImage):
            return await self.lookups[question.reference]
        return await self._build_lines(question)

    async def _resolve(self, name: str) -> Resolved:
        """Pins an image by digest. An engine's own copy that is of another platform gives way to the registry's."""
        reference = str(llb.ImageReference.parse(name))
        if self.is_native and name != self.frontend.plan.base:
            # Only files are wanted of it, so that its config needs no look; the daemon itself finds its digest.
            mode: ResolveMode = "local" if self.frontend.prefer_local else "default"
            config = llb.ImageConfig.empty(self.platform)
            image = Resolved(name=name, reference=reference, resolve_mode=mode, config=config)
            self.bridge.aside(self._warm(image))
            return image
        what = "the base image" if name == self.frontend.plan.base else "an image to copy from"
        modes: tuple[ResolveMode, ...] = ("local", "pull") if self.frontend.prefer_local else ("default",)
        for mode in modes:
            found = await resolve_image(self.bridge, reference, self.platform, mode, what=what)
            config = llb.ImageConfig.parse(found.config)
            if config.architecture in ("", self.platform.architecture):
                pinned = llb.ImageReference.parse(found.ref)
                # An engine without the containerd image store has no digests for its own images, only ids.
                pinned = pinned.with_digest(found.digest) if found.digest else pinned
                return Resolved(name=name, reference=str(pinned), resolve_mode=mode, config=config)
        raise BaseImageError(
            f"{what.capitalize()} `{name}` is there for {config.architecture} and not for {self.platform}. "
            "Choose another base, or take the platform out of the image's `platform`."
        )

    async def _build_lines(self, question: BuildLines) -> Lowered:
        """Has the daemon's own Dockerfile frontend go on from an image, and takes over the graph that it makes."""
        image, environment = question.image, self.frontend.environment
        text = "\n".join(["FROM base", *question.lines, ""])
        dockerfile = llb.scratch().file(llb.mkfile("/Dockerfile", text.encode()), name=question.name)
        config = {CONFIG_KEY: base64.b64encode(image.config.to_json(self.platform)).decode()}
        inputs = {
            "base": image.state,
            "dockerfile": dockerfile,
            # Nothing of this machine: lines have no files of their own.
            "context": llb.scratch().file(llb.mkdir("/", parents=True), name="an empty context"),
        }
        definitions = {name: llb.marshal(state, platform=self.platform) for name, state in inputs.items()}
        for definition in definitions.values():
            self.bridge.remember(definition)
        result = await self.bridge.gateway.solve(
            frontend="dockerfile.v0",
            frontend_opts={
                "filename": "Dockerfile",
                "platform": str(self.platform),
                "context:base": "input:base",
                "input-metadata:base": json.dumps(config),
                "cmdline": "dockerfile.v0",
                **environment.dockerfile_options(),
            },
            frontend_inputs=definitions,
            cache_imports=imports(self.frontend.cache_imports),
        )
        if result.ref is None or result.ref.graph is None:
            raise CapabilityError(
                f"The daemon cannot go on from lines of a Dockerfile ({question.name}): it does not say what its "
                "frontend made of them. Update it, or write the lines as with_commands and with_env_vars."
            )
        self.bridge.remember(result.ref.graph)
        made = llb.ImageConfig.parse(result.metadata[CONFIG_KEY])
        return Lowered(state=llb.from_definition(result.ref.graph), config=made)

    async def _warm(self, image: Resolved) -> None:
        """Has the daemon look an image up while lowering still waits for the base; a failure shows in the graph."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.bridge.gateway.solve(
                llb.marshal(image.state(self.platform), platform=self.platform), evaluate=True
            )

    async def _solve(self, state: llb.State) -> Ref:
        return await _solve(self.bridge, self.capabilities, state, self.platform, self.frontend.cache_imports)


async def _solve(
    bridge: Bridge,
    capabilities: llb.Capabilities,
    state: llb.State,
    platform: llb.Platform,
    cache_imports: tuple[CacheEntry, ...] = (),
) -> Ref:
    definition = llb.marshal(state, platform=platform)
    capabilities.require_all(definition.capabilities)
    bridge.remember(definition)
    result = await bridge.gateway.solve(definition, cache_imports=imports(cache_imports))
    return result.ref or Ref(id="")
