"""One platform of an image: drives its lowering, and answers what that asks by asking the daemon."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc.aio

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api import advice, failures
from buildkit_builder.buildkit.api.results import Ref
from buildkit_builder.buildkit.build.graph import Solver
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.buildkit.build.result import CONFIG_KEY, end, imports
from buildkit_builder.buildkit.build.roles import uncached
from buildkit_builder.errors import BaseImageError, CapabilityError
from buildkit_builder.image.identity import LABEL, Identity, base_part
from buildkit_builder.image.images import Images, Wanted
from buildkit_builder.image.lower import BuildLines, Environment, Lowered, Question, Resolved, ResolveImage, lower
from buildkit_builder.image.memory import Memory
from buildkit_builder.image.plan import Plan
from buildkit_builder.image.plan.steering import FOLLOWS


@dataclass(kw_only=True)
class PlatformBuild:
    """Drives lowering for one platform.

    Attributes:
        attempts: By the digests of installations that were tried ahead, `done` or `waits`: they needed what they were
            not given, and have to wait. An index may have a wheel one day that it did not have. By the digests of
            checks, `follows`: what was before them would have steered them.
        base: The digest of the base, known after `run`.
        base_config: What the base says of itself, known after `run`.
        waiting: The steps that need more than wheels, by their numbers.
        ordered: The steps that may not be ahead at all, by their numbers.
        tried: The steps of all installations that were tried ahead in this build, by the digests of their vertices.
        guesses: What is built upon before it is known whether images still are what they were.
        beside: What was begun that the image does not need.
    """

    plan: Plan
    environment: Environment
    images: Images
    solver: Solver
    identity: Identity | None
    attempts: Memory
    base: str = ""
    base_config: bytes = b""
    waiting: frozenset[int] = frozenset()
    ordered: frozenset[int] = frozenset()
    tried: dict[str, int] = field(default_factory=dict)
    guesses: Mapping[Wanted, Resolved] | None = None
    beside: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def bridge(self) -> Bridge:
        """The build."""
        return self.solver.bridge

    @property
    def platform(self) -> llb.Platform:
        """What is built for."""
        return self.solver.platform

    async def run(self) -> tuple[Ref, bytes]:
        """Lowers and solves.

        Returns:
            The image's files, and its config.
        """
        lowered, ref = await self.settle()
        return ref, await self._config(lowered)

    async def settle(self) -> tuple[Lowered, Ref]:
        """Lowers and solves, upon what images were the last time while the daemon looks them up.

        Returns:
            The image, and its files.
        """
        self.guesses = self.images.recall(self._wanted())
        if self.guesses is not None:
            guessed = asyncio.ensure_future(self._settle())
            try:
                if await self.images.are(self.guesses):
                    return await guessed
            finally:
                await end(guessed)
                self.guesses = None
            await end(*self.beside)
            self.waiting = self.ordered = frozenset()
        return await self._settle()

    def _wanted(self) -> list[Wanted]:
        """What lowering may ask for."""
        native = self.environment.native
        platforms = [self.platform] if native is None else [self.platform, native]
        return [(name, platform) for name in self.plan.images for platform in platforms]

    async def _settle(self) -> tuple[Lowered, Ref]:
        """Until it is clear which steps have to wait for which."""
        while True:
            lowered = await self.lower()
            if self._recall(lowered):
                continue
            if not (lowered.attempts or lowered.parts or lowered.checks):
                return lowered, await self.solver.solve(lowered.state, image=True)
            checks = [asyncio.ensure_future(self._check(*item)) for item in lowered.checks.items()]
            try:
                ref = await self._attempted(lowered)
                if all(found == "fine" for found in await asyncio.gather(*checks)) and ref is not None:
                    return lowered, ref
            except grpc.aio.AioRpcError:
                # What fails may do so since something before it was ahead and should not have been.
                if "follows" not in await asyncio.gather(*checks):
                    raise
            finally:
                await end(*checks)

    def _recall(self, lowered: Lowered) -> bool:
        """Whether something that is to be tried ahead is remembered to have to wait."""
        waiting, ordered = self.waiting, self.ordered
        self.waiting |= self._remembered(lowered.attempts, "waits")
        self.ordered |= self._remembered(lowered.checks, "follows") | self._remembered(lowered.parts, "follows")
        return (waiting, ordered) != (self.waiting, self.ordered)

    def _remembered(self, states: Mapping[int, llb.State], verdict: str) -> frozenset[int]:
        return frozenset(n for n, state in states.items() if self.attempts.recall(self.solver.head(state)) == verdict)

    async def _check(self, number: int, state: llb.State) -> Literal["fine", "follows", "unknown"]:
        """Whether a step may be ahead of those before it; `unknown` where one of those failed."""
        try:
            await self.solver.solve(state, evaluate=True)
        except grpc.aio.AioRpcError as error:
            failure, digest = failures.decode(error), self.solver.head(state)
            self.ordered |= {number}
            if {digest, uncached(digest)} & set(failure.vertexes):
                self.attempts.note(digest, "follows")
            elif not self._is_strange(failure, state):
                return "unknown"
            return "follows"
        return "fine"

    async def lower(self) -> Lowered:
        """Lowers, which asks the daemon for what only it knows and builds nothing."""
        # Every image that lowering will ask for is looked up at once: each costs a registry's answer.
        for wanted in self._wanted():
            self.images.begin(*wanted)
        return await self._drive(lower(self.plan, self.platform, self.environment, self.waiting, self.ordered))

    async def _drive(self, lowering: Generator[Question, Any, Lowered]) -> Lowered:
        try:
            question = next(lowering)
            while True:
                question = lowering.send(await self._answer(question))
        except StopIteration as done:
            lowered: Lowered = done.value
            return lowered

    async def _attempted(self, lowered: Lowered) -> Ref | None:
        """Builds an image with installations that are tried ahead.

        Returns:
            The files; `None` where one of the installations has to wait.
        """
        states = [*lowered.attempts.items(), *lowered.parts.items()]
        tries = {self.solver.head(state): number for number, state in states}
        self.tried |= tries | {uncached(digest): number for digest, number in tries.items()}
        attempts = [self.solver.head(state) for state in lowered.attempts.values()]
        if None in map(self.attempts.recall, attempts):
            # Not to be ended with an attempt that fails: it is wanted all the same.
            self.beside.append(self.bridge.aside(self._apart(lowered)))
        try:
            ref = await self.solver.solve(lowered.state, evaluate=True, image=True)
        except grpc.aio.AioRpcError as error:
            failure = failures.decode(error)
            told = {self.tried[digest] for digest in failure.vertexes if digest in self.tried} & set(tries.values())
            if not tries or not (told or self._is_strange(failure, lowered.state)):
                raise
            for digest, number in tries.items():
                if number in told:
                    self.attempts.note(digest, "follows" if number in lowered.parts else "waits")
            failed = told or set(tries.values())
            self.waiting |= failed - set(lowered.parts)
            self.ordered |= failed & set(lowered.parts)
            return None
        for digest in attempts:
            self.attempts.note(digest, "done")
        return ref

    def _is_strange(self, failure: failures.Failure, state: llb.State) -> bool:
        """Whether a graph failed because of a vertex that is not part of it.

        Of steps that come to the same the daemon runs one, and names that one: it may belong to a graph of this build
        that was given up, or to another build. So it may be an installation that was tried ahead. If the image fails of
        it all the same, it does so in the written order.
        """
        own = self.solver.define(state).digests
        if {*own, *map(uncached, own)}.intersection(failure.vertexes):
            return False
        return bool(failure.vertexes) or FOLLOWS in (failure.exit_code, advice.exit_code_in(failure.message))

    async def _apart(self, lowered: Lowered) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.solver.solve(lowered.apart, evaluate=True)

    async def _config(self, lowered: Lowered) -> bytes:
        config = lowered.config
        found = await self.images.get(self.plan.base, self.platform)
        self.base_config = found.config.document.encode()
        if self.identity is not None:
            self.base = base_part(llb.ImageReference.parse(found.reference).digest, self.base_config)
            config = config.with_label(LABEL, self.identity.label(str(self.platform), self.base))
        return config.to_json(self.platform)

    async def _answer(self, question: Question) -> Any:
        if isinstance(question, ResolveImage):
            return await self._resolved(question)
        return await self._build_lines(question)

    async def _resolved(self, question: ResolveImage) -> Resolved | None:
        if self.guesses is not None and (guess := self.guesses.get((question.reference, question.platform))):
            return guess
        try:
            return await self.images.get(question.reference, question.platform)
        except BaseImageError:
            if question.optional:
                return None
            raise

    async def _build_lines(self, question: BuildLines) -> Lowered:
        """Has the daemon's own Dockerfile frontend go on from an image, and takes over the graph that it makes.

        Raises:
            CapabilityError: It would look for the image in a registry, or does not say what it has made.
        """
        self.solver.capabilities.require("frontend.inputs.named")
        image = question.image
        text = "\n".join(["FROM base", *question.lines, ""])
        dockerfile = llb.scratch().file(llb.mkfile("/Dockerfile", text.encode()), name=question.name)
        config = {CONFIG_KEY: base64.b64encode(image.config.to_json(self.platform)).decode()}
        inputs = {
            "base": image.state,
            "dockerfile": dockerfile,
            # Nothing of this machine: lines have no files of their own.
            "context": llb.scratch().file(llb.mkdir("/", parents=True), name="an empty context"),
        }
        definitions = {name: self.solver.define(state) for name, state in inputs.items()}
        options = self.environment.dockerfile_options()
        self.bridge.registries.add_dockerfile(text, *options.values())
        result = await self.bridge.gateway.solve(
            frontend="dockerfile.v0",
            frontend_opts={
                "filename": "Dockerfile",
                "platform": str(self.platform),
                "context:base": "input:base",
                "input-metadata:base": json.dumps(config),
                "cmdline": "dockerfile.v0",
                **options,
            },
            frontend_inputs=definitions,
            cache_imports=imports(self.solver.cache_imports, self.platform),
        )
        if result.ref is None or result.ref.graph is None:
            raise CapabilityError(
                f"The daemon cannot go on from lines of a Dockerfile ({question.name}): it does not say what its "
                "frontend made of them. Update it, or write the lines as with_commands and with_env_vars."
            )
        self.bridge.remember(result.ref.graph)
        made = llb.ImageConfig.parse(result.metadata.get(CONFIG_KEY, b""))
        return Lowered(state=llb.from_definition(result.ref.graph), config=made)
