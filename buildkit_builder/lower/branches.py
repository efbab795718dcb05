"""The tree that a step sees: the base with the changes it depends on, put together from branches.

Every step is a change from one tree to another. Steps that depend on each other are a chain; where several chains are
wanted at once they are joined by `MergeOp` over the `DiffOp` of each, which runs and copies nothing: the layers of
every chain are taken as they are. Protocol: buildkit `docs/dev/merge-diff.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

from buildkit_builder import llb
from buildkit_builder.lower.questions import Placed
from buildkit_builder.plan.effects import BARRIER, Effects

SERVES = llb.Role(quiet=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a step did.

    Attributes:
        name: The step's.
        before: The tree that it saw.
        after: The tree that it left.
        needed: The changes that `before` has, by their numbers.
    """

    name: str
    effects: Effects
    before: llb.State
    after: llb.State
    needed: frozenset[int]


class Branches:
    """The changes so far.

    Args:
        origin: The tree that all start from.
        side_by_side: Whether there are branches at all; else every step depends on all before it.
    """

    def __init__(self, origin: llb.State, *, side_by_side: bool) -> None:
        self.origin = origin
        self.side_by_side = side_by_side
        self.changes: list[Change] = []

    def needed(self, effects: Effects) -> frozenset[int]:
        """The changes that a step with these effects depends on, directly or through others."""
        if not self.side_by_side:
            return self.all
        found: set[int] = set()
        for number in reversed(range(len(self.changes))):
            if number not in found and effects.follow(self.changes[number].effects):
                found |= {number, *self.changes[number].needed}
        return frozenset(found)

    @property
    def all(self) -> frozenset[int]:
        """Every change."""
        return frozenset(range(len(self.changes)))

    def tree(self, wanted: frozenset[int]) -> llb.State:
        """The origin with some changes, and with all that these depend on."""
        if not wanted:
            return self.origin
        # The largest chain is taken whole, so that the least has to be laid over it; of equals the first.
        trunk = max(sorted(wanted), key=lambda number: len(self.changes[number].needed))
        rest = sorted(wanted - self.changes[trunk].needed - {trunk})
        return llb.merge([self.changes[trunk].after, *self._diffs(rest)], name="join the branches", role=SERVES)

    def outline(self) -> tuple[Placed, ...]:
        """The changes, and which of them come right before each."""
        placed = []
        for change in self.changes:
            further = {number for near in change.needed for number in self.changes[near].needed}
            placed.append(Placed(name=change.name, after=tuple(sorted(change.needed - further))))
        return tuple(placed)

    def add(self, name: str, effects: Effects, before: llb.State, after: llb.State, needed: frozenset[int]) -> None:
        """Notes what a step did; one that changed nothing is none."""
        if before != after:
            change = Change(name=name, effects=effects, before=before, after=after, needed=needed)
            self.changes.append(change)

    def replace_all(self, name: str, after: llb.State) -> None:
        """Goes on from a tree that was made of everything so far."""
        self.add(name, BARRIER, self.tree(self.all), after, self.all)

    def _diffs(self, numbers: list[int]) -> list[llb.State]:
        """What these changes add, each chain in one."""
        chains: list[list[Change]] = []
        for change in (self.changes[number] for number in numbers):
            chain = next((chain for chain in chains if chain[-1].after == change.before), None)
            if chain is None:
                chains.append([change])
            else:
                chain.append(change)
        return [
            llb.diff(chain[0].before, chain[-1].after, name=f"the layers of {chain[-1].name}", role=SERVES)
            for chain in chains
        ]
