"""Several daemons that build one image together: which of them builds for which platform. Nothing is dialled here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.errors import CapabilityError

# What a processor runs without help beside its own architecture.
_COMPATIBLE = {"amd64": ("amd64", "386"), "arm64": ("arm64", "arm")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One daemon of those that build together.

    Attributes:
        name: What the user calls it.
        endpoint: Where it answers.
        platforms: What it is meant to build for, whatever else it can; empty for what it runs without emulation.
    """

    name: str
    endpoint: Endpoint
    platforms: tuple[Platform, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What a node can run.

    Attributes:
        node: The node.
        native: The platforms that it is there for: those of its settings, else those that its processor runs.
        emulated: The others.
    """

    node: Node
    native: tuple[Platform, ...]
    emulated: tuple[Platform, ...] = ()

    @classmethod
    def of(cls, node: Node, reported: Sequence[Platform] = ()) -> Ability:
        """What follows from a node's settings and from its daemon's own words.

        Args:
            node: The node.
            reported: What its daemon says it can run, its own platform first (protocol: `ListWorkers`); empty where
                it was not asked.
        """
        native = node.platforms or [platform for platform in reported if _runs(reported[0], platform)]
        emulated = [platform for platform in reported if platform not in native]
        return cls(node=node, native=_each_once(native), emulated=_each_once(emulated))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one node builds.

    Attributes:
        node: The node.
        platforms: What it builds for, in the order in which they were wanted.
        emulated: Those of them that it only emulates, since no node runs them.
    """

    node: Node
    platforms: tuple[Platform, ...]
    emulated: tuple[Platform, ...] = ()


def assign(wanted: Iterable[Platform], abilities: Sequence[Ability]) -> tuple[Share, ...]:
    """Gives every platform to the first node that runs it, and to the first that emulates it where none does.

    Args:
        wanted: The platforms of an image.
        abilities: Of the nodes that can be reached, in the user's order.

    Returns:
        One share for each node that has something to do, in the user's order.

    Raises:
        CapabilityError: No node can build for one of the platforms.
    """
    platforms: dict[str, list[Platform]] = {}
    emulated: dict[str, list[Platform]] = {}
    for platform in wanted:
        node = first_native(platform, abilities)
        if node is None:
            node = _first_emulating(platform, abilities)
            emulated.setdefault(node.name, []).append(platform)
        platforms.setdefault(node.name, []).append(platform)
    return tuple(
        Share(
            node=ability.node,
            platforms=tuple(platforms[ability.node.name]),
            emulated=tuple(emulated.get(ability.node.name, ())),
        )
        for ability in abilities
        if ability.node.name in platforms
    )


def first_native(platform: Platform, abilities: Iterable[Ability]) -> Node | None:
    """The first node that is there for a platform, or `None`."""
    return next((ability.node for ability in abilities if platform in ability.native), None)


def _first_emulating(platform: Platform, abilities: Sequence[Ability]) -> Node:
    for ability in abilities:
        if platform in ability.emulated:
            return ability.node
    known = "; ".join(
        f"{ability.node.name} has {', '.join(map(str, (*ability.native, *ability.emulated))) or 'none'}"
        for ability in abilities
    )
    raise CapabilityError(
        f"No node can build for {platform}: {known}. Add a node that can to the `endpoint` setting, install an "
        "emulator (binfmt) on one of these, or leave the platform out (`image.buildkit.platforms`)."
    )


def _runs(own: Platform, platform: Platform) -> bool:
    """Whether a processor runs a platform by itself; what variants of itself it lists, it does."""
    compatible = _COMPATIBLE.get(own.architecture, (own.architecture,))
    return platform.os == own.os and platform.architecture in compatible


def _each_once(platforms: Iterable[Platform]) -> tuple[Platform, ...]:
    return tuple(dict.fromkeys(platforms))
