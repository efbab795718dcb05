"""One image on several nodes: each platform is built on a node that runs it, and the last graph joins the results.

```
amd64 ──build, push by digest──▶ repository@sha256:a… ─┐
                                                       ├─join──▶ repository:tag
arm64 ──build, push by digest──▶ repository@sha256:b… ─┘
```

The tag is written by the join alone, so until every platform is there it stays what it was. The join's graph is made
of image sources by digest, which a daemon exports to the same repository without moving a layer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc.aio

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api import failures
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.request import Bridge, BuildResult
from buildkit_builder.buildkit.build.result import gather, result_of
from buildkit_builder.buildkit.connect.connection import Connection, Pool
from buildkit_builder.buildkit.find.nodes import Ability, Node, Share, assign, first_native
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.errors import BuildKitError, CapabilityError, DaemonLostError, EndpointError
from buildkit_builder.image.identity import LABEL, Identity, base_of
from buildkit_builder.image.lookup import resolve_image
from buildkit_builder.image.published_platforms import exported_again, kept, look_up_others

T = TypeVar("T")


class Work(Protocol):
    """An image, as several nodes build it."""

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """What it is wanted for."""
        ...

    async def whole(self, connection: Connection) -> BuildResult:
        """Builds it for all its platforms on one node, and brings it to its place."""
        ...

    async def part(self, share: Share, connection: Connection) -> str:
        """Builds it for some platforms and pushes that without a tag; returns the digest of what was pushed."""
        ...

    async def join(self, connection: Connection, parts: Mapping[Platform, str]) -> BuildResult:
        """Puts what was pushed under the tag.

        Args:
            connection: To any of the nodes.
            parts: The digest that holds each platform.
        """
        ...

    def say(self, text: str) -> None:
        """Tells the user, beside the progress."""
        ...


class Fleet:
    """The nodes of one build: reached when they are needed, given up when they are lost.

    Args:
        nodes: In the user's order.
        pool: Opens connections, and keeps them.
        work: Is told which node is down.
    """

    def __init__(self, nodes: Sequence[Node], pool: Pool, work: Work) -> None:
        self._nodes = nodes
        self._pool = pool
        self._work = work
        self._connections: dict[str, Connection] = {}
        self._abilities: dict[str, Ability] = {}
        self._asked: set[str] = set()
        self._lost: dict[str, BuildKitError] = {}

    async def shares(self, wanted: Iterable[Platform]) -> tuple[Share, ...]:
        """What each node is to build; a node that is not needed is not even dialled.

        Raises:
            EndpointError: A node that would be needed is down, and no other can do its work.
            CapabilityError: No node can build for one of the platforms.
        """
        platforms = tuple(wanted)
        await gather(*(self._meet(node, ask=False) for node in self._nodes if _concerns(node, platforms)))
        if not all(first_native(platform, self._abilities.values()) for platform in platforms):
            await gather(*(self._meet(node, ask=True) for node in self._nodes))
        abilities = [self._abilities[node.name] for node in self._nodes if node.name in self._abilities]
        try:
            shares = assign(platforms, abilities)
        except CapabilityError as error:
            raise self._explained(error) from error
        for share in shares:
            for platform in share.emulated:
                self._work.say(f"No node runs {platform}, so {share.node.name} emulates it.")
        return shares

    async def on(self, node: Node, do: Callable[[Connection], Awaitable[T]]) -> T | None:
        """Does something on a node that `shares` has named.

        Returns:
            What came of it, or `None` where the node went away; it is lost then.
        """
        try:
            return await do(self._connections[node.name])
        except EndpointError as error:
            self.lose(node, error)
            return None

    def alive(self) -> list[Node]:
        """The nodes that were reached and not lost since."""
        return [node for node in self._nodes if node.name in self._abilities]

    def lose(self, node: Node, why: BuildKitError) -> None:
        """Does without a node from now on, and says so."""
        self._abilities.pop(node.name, None)
        self._lost[node.name] = why
        self._work.say(f"The node {node.name} is down: {why}")

    async def _meet(self, node: Node, *, ask: bool) -> None:
        """Reaches a node, once, and learns what it can run, unless its settings say enough."""
        if node.name in self._lost:
            return
        try:
            connection = self._connections[node.name] = await self._pool.get(node.endpoint)
            if (ask or not node.platforms) and node.name not in self._asked:
                self._abilities[node.name] = Ability.of(node, await _reported(connection))
                self._asked.add(node.name)
            self._abilities.setdefault(node.name, Ability.of(node))
        except (EndpointError, CapabilityError) as error:
            self.lose(node, error)

    def _explained(self, error: CapabilityError) -> BuildKitError:
        """What stands in the way where nodes are down is that they are down."""
        if not self._lost:
            return error
        lost = any(isinstance(why, DaemonLostError) for why in self._lost.values())
        known = str(error) if self._abilities else "None of the nodes can be reached."
        return (DaemonLostError if lost else EndpointError)(" ".join([known, *_down(self._lost)]))


async def build_on_nodes(nodes: Sequence[Node], pool: Pool, work: Work) -> BuildResult:
    """Builds an image on the nodes that are there for its platforms.

    A node that goes away while it builds is given up, and its platforms go to another that can do them.

    Raises:
        BuildKitError: It failed, and the tag is what it was before; names the node where there were several.
    """
    fleet = Fleet(nodes, pool, work)
    shares = await fleet.shares(work.platforms)
    while len(shares) == 1:
        if (result := await fleet.on(shares[0].node, work.whole)) is not None:
            return result
        shares = await fleet.shares(work.platforms)
    done = await gather(*(_part(fleet, work, share) for share in shares))
    digests = {platform: digest for part in done for platform, digest in part.items()}
    return await _join(fleet, work, {platform: digests[platform] for platform in work.platforms})


async def first_reached(nodes: Sequence[Node], pool: Pool) -> Connection:
    """A connection to the first node that answers, for what any of them can do.

    Raises:
        EndpointError: None of them does.
        CapabilityError: There is one, and it is too old.
    """
    if len(nodes) == 1:
        return await pool.get(nodes[0].endpoint)
    lost: dict[str, BuildKitError] = {}
    for node in nodes:
        if (connection := await _reached(node, pool, lost)) is not None:
            return connection
    raise EndpointError(" ".join(["None of the nodes can be reached.", *_down(lost)]))


async def _reached(node: Node, pool: Pool, lost: dict[str, BuildKitError]) -> Connection | None:
    try:
        return await pool.get(node.endpoint)
    except (EndpointError, CapabilityError) as error:
        lost[node.name] = error
        return None


def _down(lost: Mapping[str, BuildKitError]) -> list[str]:
    return [f"The node {name} is down: {why}" for name, why in lost.items()]


async def _part(fleet: Fleet, work: Work, share: Share) -> dict[Platform, str]:
    try:
        digest = await fleet.on(share.node, lambda connection: work.part(share, connection))
    except BuildKitError as error:
        names = ", ".join(map(str, share.platforms))
        error.args = (f"On the node {share.node.name}, for {names}: {error}",)
        raise
    if digest is not None:
        return dict.fromkeys(share.platforms, digest)
    parts = await gather(*(_part(fleet, work, again) for again in await fleet.shares(share.platforms)))
    return {platform: found for part in parts for platform, found in part.items()}


async def _join(fleet: Fleet, work: Work, parts: Mapping[Platform, str]) -> BuildResult:
    for node in fleet.alive():
        if (result := await fleet.on(node, lambda connection: work.join(connection, parts))) is not None:
            return result
    raise EndpointError(
        f"Every platform was built, but no node is left to put them under one name: {', '.join(map(str, parts))}. "
        "Build again when one is up; what was built is in its cache."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFrontend:
    """Makes one image of what is in a repository by digest.

    Attributes:
        reference: The name that it is pushed under; what is there for other platforms, of the same identity, stays.
        parts: The digest in the same repository that holds each platform.
        identity: Of the image.
    """

    reference: str
    parts: Mapping[Platform, str]
    identity: Identity

    async def build(self, bridge: Bridge) -> Result:
        """Has every part exported again.

        Raises:
            RegistryError: A part is not there any more, or the registry cannot be reached from this node.
        """
        await bridge.gateway.ping()
        images = dict(await gather(*(self._part(bridge, platform) for platform in self.parts)))
        _, config = next(iter(images.values()))
        base = base_of(llb.ImageConfig.parse(config).labels.get(LABEL, ""))
        others = await look_up_others(bridge, self.reference, tuple(self.parts))
        return result_of(images | await kept(bridge, others, self.identity, base))

    async def _part(self, bridge: Bridge, platform: Platform) -> tuple[Platform, tuple[Ref, bytes]]:
        name = f"{llb.ImageReference.parse(self.reference).repository}@{self.parts[platform]}"
        found = await resolve_image(bridge, name, platform, "pull", what="what was built", mirrored=False)
        return platform, (await exported_again(bridge, found, platform), found.config)


def _concerns(node: Node, wanted: Iterable[Platform]) -> bool:
    """Whether a node may be there for one of the platforms: its settings say so, or nothing."""
    return not node.platforms or any(platform in node.platforms for platform in wanted)


async def _reported(connection: Connection) -> tuple[Platform, ...]:
    """What a daemon says it can run, its own platform first."""
    try:
        workers = await Control(connection.channel).list_workers()
    except grpc.aio.AioRpcError as error:
        raise failures.translate(error, describe=lambda _: None, doing="asking what it can run") from error
    return tuple(platform for worker in workers for platform in worker.platforms)
