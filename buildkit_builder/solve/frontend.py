"""The client as the frontend: graphs are made while the daemon waits for them.

`GraphFrontend` hands over a graph that is ready. `ImageFrontend` lowers a plan for each platform, answering lowering's
questions by asking the daemon. `DockerfileFrontend` hands a Dockerfile to the frontend that every daemon has built in.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Coroutine, Generator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

import grpc
import grpc.aio

from buildkit_builder import llb
from buildkit_builder.client.gateway import ResolvedImage, ResolveMode
from buildkit_builder.client.results import Ref, Result
from buildkit_builder.errors import BaseImageError, CapabilityError
from buildkit_builder.lower import BuildLines, Environment, Lowered, Question, ReadFile, ResolveImage, lower
from buildkit_builder.lower.image import Resolved
from buildkit_builder.plan import Plan
from buildkit_builder.solve.request import Bridge, CacheEntry

T = TypeVar("T")

_CONFIG_KEY = "containerimage.config"
_BASE_CONFIG_KEY = "containerimage.base.config"
_PLATFORMS_KEY = "refs.platforms"
# What daemons say of a file that is not in a result; there is no code for it.
_NO_SUCH_FILE = ("no such file or directory", "file does not exist", "not a directory")


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
        metadata = {} if self.config is None else {_CONFIG_KEY: self.config.to_json(self.platform)}
        return Result(ref=ref, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFrontend:
    """Builds a plan for one platform or several.

    Attributes:
        prefer_local: Look for images in the daemon's own store before the registry, as Docker does.
    """

    plan: Plan
    platforms: tuple[llb.Platform, ...]
    environment: Environment
    prefer_local: bool = False
    cache_imports: tuple[CacheEntry, ...] = ()

    async def build(self, bridge: Bridge) -> Result:
        """Lowers and solves every platform side by side.

        Raises:
            BaseImageError: The base is missing, or has no such platform.
            CapabilityError: The daemon lacks what the graph needs.
        """
        pong = await bridge.gateway.ping()
        builds = [
            _PlatformBuild(self, bridge, pong.llb, platform, label=len(self.platforms) > 1)
            for platform in self.platforms
        ]
        results = await _gather(*(build.run() for build in builds))
        metadata: dict[str, bytes] = {}
        if len(results) == 1:
            ref, config = results[0]
            return Result(ref=ref, refs={}, metadata={_CONFIG_KEY: config, **_platforms_metadata(self.platforms)})
        refs: dict[str, Ref] = {}
        for platform, (ref, config) in zip(self.platforms, results, strict=True):
            refs[str(platform)] = ref
            metadata[f"{_CONFIG_KEY}/{platform}"] = config
        return Result(ref=None, refs=refs, metadata={**metadata, **_platforms_metadata(self.platforms)})


class _PlatformBuild:
    """Drives lowering for one platform."""

    def __init__(
        self,
        frontend: ImageFrontend,
        bridge: Bridge,
        capabilities: llb.Capabilities,
        platform: llb.Platform,
        *,
        label: bool,
    ) -> None:
        self.frontend = frontend
        self.bridge = bridge
        self.capabilities = capabilities
        self.platform = platform
        self.label = label

    async def run(self) -> tuple[Ref, bytes]:
        environment = replace(self.frontend.environment, session=self.bridge.session_id)
        lowering = lower(self.frontend.plan, self.platform, environment)
        # Every image that lowering will ask for is looked up at once: each costs a registry's answer.
        self.warming: list[asyncio.Future[None]] = []
        self.lookups = {
            reference: asyncio.ensure_future(self._resolve(reference)) for reference in self.frontend.plan.images
        }
        try:
            return await self._drive(lowering)
        finally:
            await _end(*self.lookups.values(), *self.warming)

    async def _drive(self, lowering: Generator[Question, Any, Lowered]) -> tuple[Ref, bytes]:
        try:
            question = next(lowering)
            while True:
                question = lowering.send(await self._answer(question))
        except StopIteration as done:
            lowered: Lowered = done.value
        ref = await self._solve(lowered.state)
        return ref, lowered.config.to_json(self.platform)

    async def _answer(self, question: Question) -> Any:
        if isinstance(question, ResolveImage):
            return await self.lookups[question.reference]
        if isinstance(question, BuildLines):
            return await self._build_lines(question)
        return await self._read(question)

    async def _resolve(self, name: str) -> Resolved:
        """Pins an image by digest. An engine's own copy that is of another platform gives way to the registry's."""
        reference = str(llb.ImageReference.parse(name))
        what = "the base image" if name == self.frontend.plan.base else "an image to copy from"
        modes: tuple[ResolveMode, ...] = ("local", "pull") if self.frontend.prefer_local else ("default",)
        for mode in modes:
            found = await resolve_image(self.bridge, reference, self.platform, mode, what=what)
            config = llb.ImageConfig.parse(found.config)
            if config.architecture in ("", self.platform.architecture):
                pinned = llb.ImageReference.parse(found.ref)
                # An engine without the containerd image store has no digests for its own images, only ids.
                pinned = pinned.with_digest(found.digest) if found.digest else pinned
                resolved = Resolved(name=name, reference=str(pinned), resolve_mode=mode, config=config)
                self.warming.append(asyncio.ensure_future(self._warm(resolved)))
                return resolved
        raise BaseImageError(
            f"{what.capitalize()} `{name}` is there for {config.architecture} and not for {self.platform}. "
            "Choose another base, or take the platform out of the image's `platform`."
        )

    async def _build_lines(self, question: BuildLines) -> Lowered:
        """Has the daemon's own Dockerfile frontend go on from an image, and takes over the graph that it makes."""
        image, environment = question.image, self.frontend.environment
        text = "\n".join(["FROM base", *question.lines, ""])
        dockerfile = llb.scratch().file(llb.mkfile("/Dockerfile", text.encode()), name=question.name)
        config = {_CONFIG_KEY: base64.b64encode(image.config.to_json(self.platform)).decode()}
        inputs = {
            "base": image.state,
            "dockerfile": dockerfile,
            # Nothing of this machine: lines have no files of their own.
            "context": llb.scratch().file(llb.mkdir("/context"), name="an empty context"),
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
            cache_imports=_imports(self.frontend.cache_imports),
        )
        if result.ref is None or result.ref.graph is None:
            raise CapabilityError(
                f"The daemon cannot go on from lines of a Dockerfile ({question.name}): it does not say what its "
                "frontend made of them. Update it, or write the lines as with_commands and with_env_vars."
            )
        self.bridge.remember(result.ref.graph)
        made = llb.ImageConfig.parse(result.metadata[_CONFIG_KEY])
        return Lowered(state=llb.from_definition(result.ref.graph), config=made)

    async def _warm(self, image: Resolved) -> None:
        """Has the daemon look up an image for its graph while lowering goes on; a failure shows in the graph itself."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.bridge.gateway.solve(
                llb.marshal(image.state(self.platform), platform=self.platform), evaluate=True
            )

    async def _read(self, question: ReadFile) -> bytes | None:
        ref = await self._solve(question.state)
        if not ref.id:
            return None
        try:
            return await self.bridge.gateway.read_file(ref.id, question.path)
        except grpc.aio.AioRpcError as error:
            if any(words in (error.details() or "") for words in _NO_SUCH_FILE):
                return None
            raise

    async def _solve(self, state: llb.State) -> Ref:
        return await _solve(self.bridge, self.capabilities, state, self.platform, self.frontend.cache_imports)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileFrontend:
    """Builds a Dockerfile with the frontend that is part of the daemon; none is pulled.

    The session serves the context as the local source `context` and the Dockerfile's folder as `dockerfile`.

    Attributes:
        filename: The Dockerfile's name in its folder.
        options: More options of the frontend: `build-arg:…`, `target`, `label:…`.
    """

    filename: str
    platforms: tuple[llb.Platform, ...]
    prefer_local: bool = False
    cache_imports: tuple[CacheEntry, ...] = ()
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    async def build(self, bridge: Bridge) -> Result:
        """Solves the Dockerfile for all platforms at once and forces it, so that a failure is the frontend's own.

        Raises:
            BaseImageError: The base is not there for one of the platforms.
        """
        await bridge.gateway.ping()
        result = await self._solve(bridge, "local" if self.prefer_local else "default")
        if self.prefer_local and self._strangers(result):
            # An engine that has the image for one platform gives it for every other as well, without a word.
            result = await self._solve(bridge, "pull")
        if strangers := self._strangers(result):
            raise BaseImageError(
                f"The base image of {self.filename} is there for {' and '.join(sorted(set(strangers.values())))} only, "
                f"and not for {', '.join(strangers)}. Choose another base, or take the platform out of the image's "
                "`platform`."
            )
        await _gather(*(bridge.gateway.evaluate(ref.id) for ref in (result.ref, *result.refs.values()) if ref))
        return result

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
            cache_imports=_imports(self.cache_imports),
        )

    def _strangers(self, result: Result) -> dict[str, str]:
        """By platform, the architecture of a base that is for another one; daemons since 0.12 say so."""
        found = {}
        for platform in self.platforms:
            names = (f"{_BASE_CONFIG_KEY}/{platform}", *([_BASE_CONFIG_KEY] if len(self.platforms) == 1 else ()))
            data = next((result.metadata[name] for name in names if name in result.metadata), None)
            architecture = llb.ImageConfig.parse(data).architecture if data else ""
            if architecture not in ("", platform.architecture):
                found[str(platform)] = architecture
        return found


async def resolve_image(
    bridge: Bridge, reference: str, platform: llb.Platform, mode: ResolveMode, *, what: str = "the image"
) -> ResolvedImage:
    """Asks for an image's digest and config.

    Args:
        bridge: To the daemon.
        reference: The image.
        platform: The platform it is asked for.
        mode: Whether an engine's own copy will do.
        what: What the image is to the user: "the base image".

    Raises:
        BaseImageError: There is no such image, or it is not there for the platform.
        RegistryError: Its registry refused, or could not be reached.
    """
    try:
        return await bridge.gateway.resolve_image(reference, platform, mode=mode, log_name=f"look up {reference}")
    except grpc.aio.AioRpcError as error:
        doing = f"looking up {what} for {platform}"
        raise bridge.explain(error, doing=doing, image=reference) from error


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
    result = await bridge.gateway.solve(definition, cache_imports=_imports(cache_imports))
    return result.ref or Ref(id="")


def _imports(entries: tuple[CacheEntry, ...]) -> list[tuple[str, Mapping[str, str]]]:
    return [(entry.type, entry.attributes) for entry in entries]


def _platforms_metadata(platforms: tuple[llb.Platform, ...]) -> dict[str, bytes]:
    entries = [
        {
            "ID": str(platform),
            "Platform": {
                "architecture": platform.architecture,
                "os": platform.os,
                **({"variant": platform.variant} if platform.variant else {}),
            },
        }
        for platform in platforms
    ]
    return {_PLATFORMS_KEY: json.dumps({"Platforms": entries}).encode()}


async def _gather(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Runs all, and when one fails ends the others before the failure goes on."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _end(*tasks)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
