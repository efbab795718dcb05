"""The client as the frontend of a graph: `GraphFrontend` hands over one that is ready."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.request import Bridge, CacheEntry
from buildkit_builder.buildkit.build.result import CONFIG_KEY, imports


@dataclass(slots=True)
class Solver:
    """Solves graphs of one platform."""

    bridge: Bridge
    capabilities: llb.Capabilities
    platform: llb.Platform
    cache_imports: tuple[CacheEntry, ...] = ()

    def define(self, state: llb.State) -> llb.Definition:
        """The graph of a tree.

        Raises:
            CapabilityError: The daemon lacks what it needs.
        """
        definition = self._marshal(state)
        self.capabilities.require_all(definition.capabilities)
        self.bridge.remember(definition)
        return definition

    def head(self, state: llb.State) -> str:
        """The digest of the vertex that makes a tree, which failures name; empty for scratch."""
        return self._marshal(state).head or ""

    def _marshal(self, state: llb.State) -> llb.Definition:
        return llb.marshal(state, platform=self.platform, rename=self.bridge.mirrors.rewrite)

    async def solve(self, state: llb.State, *, evaluate: bool = False, image: bool = False) -> Ref:
        """Has a tree built, now or when something is asked of it.

        Args:
            state: The tree.
            evaluate: Now.
            image: It is what will be exported.

        Raises:
            CapabilityError: The daemon lacks what the graph needs.
        """
        definition = self.define(state)
        if image:
            self.bridge.expect(definition, self.platform)
        result = await self.bridge.gateway.solve(
            definition, evaluate=evaluate, cache_imports=imports(self.cache_imports, self.platform)
        )
        return result.ref or Ref(id="")


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
        solver = Solver(bridge, pong.llb, self.platform)
        bridge.registries.add(*solver.define(self.state).images)
        ref = await solver.solve(self.state, image=True)
        metadata = {} if self.config is None else {CONFIG_KEY: self.config.to_json(self.platform)}
        return Result(ref=ref, metadata=metadata)
