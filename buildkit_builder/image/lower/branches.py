"""The tree that a step sees, and the image in the end: changes laid over the base in the written order.

Most steps are a trunk, each after the one before it: what a command, a package's script or a copy reads and writes
cannot be told. Installations of Python packages from wheels write to one directory and read what is known of them, so
they may be a branch: they run beside the trunk, from the point where the environment was made, and their layers are put
into their places afterwards. Whatever ran when, *the layers of a tree lie in the written order*, so that where two
layers have the same file the later one counts. Protocol: buildkit `docs/dev/merge-diff.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from buildkit_builder.buildkit import llb
from buildkit_builder.image.lower.questions import Placed

Numbers = frozenset[int]

SERVES = llb.Role(quiet=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a step did.

    Attributes:
        name: The step's.
        before: The tree that it saw.
        after: The tree that it left.
        needed: The changes that `before` has, by their numbers.
        ahead: Whether it is of the branch, and not of the trunk.
    """

    name: str
    before: llb.State
    after: llb.State
    needed: Numbers
    ahead: bool


class Branches:
    """The changes so far, in the written order.

    Args:
        origin: The tree that all start from.
        side_by_side: Whether there is a branch at all; else every step sees all before it.
    """

    def __init__(self, origin: llb.State, *, side_by_side: bool) -> None:
        self.origin = origin
        self.side_by_side = side_by_side
        self.changes: list[Change] = []
        self._ground: Numbers = frozenset()

    @property
    def all(self) -> Numbers:
        """Every change."""
        return frozenset(range(len(self.changes)))

    @property
    def trunk(self) -> Numbers:
        """The changes of the trunk, and those of the branch that the trunk has seen."""
        found: set[int] = set()
        for number, change in enumerate(self.changes):
            if not (change.ahead and self.side_by_side):
                found |= {number, *change.needed}
        return frozenset(found)

    @property
    def branch(self) -> Numbers:
        """What the next step of the branch sees."""
        if not self.side_by_side:
            return self.all
        return self._ground | {number for number, change in enumerate(self.changes) if change.ahead}

    @property
    def fork(self) -> Numbers:
        """What the next step of the branch sees, as far as the trunk has seen it too."""
        return self.branch & self.trunk

    def tree(self, wanted: Numbers) -> llb.State:
        """The origin with some changes, and with all that these depend on, in the written order."""
        order = sorted(wanted)
        state, rest = self.origin, order
        # A tree that already has the first of them in this order is taken as it is; the rest is laid over it.
        for place in reversed(range(len(order))):
            if self.changes[order[place]].needed == frozenset(order[:place]):
                state, rest = self.changes[order[place]].after, order[place + 1 :]
                break
        return llb.merge([state, *self._diffs(rest)], name="join the branches", role=SERVES)

    def outline(self) -> tuple[Placed, ...]:
        """The changes, and which of them come right before each."""
        placed = []
        for change in self.changes:
            further = {number for near in change.needed for number in self.changes[near].needed}
            placed.append(Placed(name=change.name, after=tuple(sorted(change.needed - further))))
        return tuple(placed)

    def add(self, name: str, needed: Numbers, make: Callable[[llb.State], llb.State], *, ahead: bool = False) -> int:
        """Adds what a step does to the tree of the changes that it sees.

        Returns:
            The number of the change, or of the next one where the step changes nothing.
        """
        before = self.tree(needed)
        after = make(before)
        if before != after:
            self.changes.append(Change(name=name, before=before, after=after, needed=needed, ahead=ahead))
            return len(self.changes) - 1
        return len(self.changes)

    def begin_anew(self) -> None:
        """Has the branch fork off from all that there is so far."""
        self._ground = self.all

    def _diffs(self, numbers: list[int]) -> list[llb.State]:
        """What these changes add, neighbours that are a chain in one."""
        chains: list[list[Change]] = []
        for change in (self.changes[number] for number in numbers):
            if chains and chains[-1][-1].after == change.before:
                chains[-1].append(change)
            else:
                chains.append([change])
        return [
            llb.diff(chain[0].before, chain[-1].after, name=f"the layers of {chain[-1].name}", role=SERVES)
            for chain in chains
        ]
