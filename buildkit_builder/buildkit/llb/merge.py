"""Laying trees over each other, and taking them apart, without running or copying anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from buildkit_builder.buildkit.llb.arguments import checked, several
from buildkit_builder.buildkit.llb.operation import Inputs, Operation, Output, distinct
from buildkit_builder.buildkit.llb.platforms import Platform
from buildkit_builder.buildkit.llb.role import ORDINARY, Role
from buildkit_builder.buildkit.llb.state import State, scratch
from buildkit_builder.buildkit.wire import ops_pb2


@checked
def merge(
    states: Iterable[State],
    *,
    name: str | None = None,
    role: Role = ORDINARY,
) -> State:
    """Lay trees over each other; where two have the same path, the later one counts.

    Scratch adds nothing and is left out; fewer than two trees need no vertex.

    Args:
        states: The trees, lowest first.
        name: What progress calls the vertex.
        role: What is known of the vertex beside its name.
    """
    layers = tuple(state for state in MergeOp(layers=several(states, "states")).layers if state.op is not None)
    if not layers:
        return scratch()
    if len(layers) == 1:
        return layers[0]
    return State(MergeOp(name=name, role=role, layers=layers))


@checked
def diff(
    lower: State,
    upper: State,
    *,
    name: str | None = None,
    role: Role = ORDINARY,
) -> State:
    """What `upper` has that `lower` has not, removals included.

    Args:
        lower: The tree to compare with. For scratch the answer is `upper` itself.
        upper: The tree whose changes are wanted.
        name: What progress calls the vertex.
        role: What is known of the vertex beside its name.
    """
    if lower.op is None:
        return upper
    return State(DiffOp(name=name, role=role, lower=lower, upper=upper))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MergeOp(Operation):
    """The vertex that lays trees over each other."""

    layers: tuple[State, ...]

    def dependencies(self) -> tuple[Output, ...]:
        """The trees."""
        return distinct(self.layers)

    def capabilities(self) -> Iterator[str]:
        """Ids of what the daemon must be able to do."""
        yield "mergeop"

    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: Platform) -> None:
        """Write it; Go's client repeats equal inputs here, and so the digest depends on doing the same."""
        for layer in self.layers:
            op.merge.inputs.add(input=inputs.append(layer))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiffOp(Operation):
    """The vertex that takes away what a tree has in common with another."""

    lower: State
    upper: State

    def dependencies(self) -> tuple[Output, ...]:
        """Both trees."""
        return distinct([self.lower, self.upper])

    def capabilities(self) -> Iterator[str]:
        """Ids of what the daemon must be able to do."""
        yield "diffop"

    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: Platform) -> None:
        """Write it; both messages are there even if an index is 0."""
        op.diff.lower.CopyFrom(ops_pb2.LowerDiffInput(input=inputs.append(self.lower)))
        op.diff.upper.CopyFrom(ops_pb2.UpperDiffInput(input=inputs.append(self.upper)))
