"""Graphs that were marshalled elsewhere, such as by a daemon's own frontend, as states to go on from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from buildkit_builder.buildkit.llb.arguments import checked
from buildkit_builder.buildkit.llb.definition import CUSTOM_NAME, Definition
from buildkit_builder.buildkit.llb.operation import Inputs, Operation, Output, distinct
from buildkit_builder.buildkit.llb.platforms import Platform
from buildkit_builder.buildkit.llb.state import State, scratch
from buildkit_builder.buildkit.wire import ops_pb2


@checked
def from_definition(definition: Definition, output: tuple[str, int] | None = None) -> State:
    """The result of a definition as a state, or another output of one of its vertices.

    Its vertices keep their bytes, and so their digests, wherever the state is built upon.

    Args:
        definition: The graph.
        output: The digest of a vertex, and which of its outputs; the definition's result when not given.

    Raises:
        ValueError: If a vertex refers to one that does not stand before it, there is no vertex of that digest, or the
            definition ends without a result.
    """
    if definition.is_scratch and output is None:
        return scratch()
    made: dict[str, Operation] = {}
    roles = dict(definition.roles)
    for digest, data in zip(definition.digests[:-1], definition.ops[:-1], strict=True):
        metadata = definition.metadata_of(digest)
        op = ops_pb2.Op.FromString(data)
        inputs = tuple(_state(made, given) for given in op.inputs)
        op.ClearField("inputs")
        made[digest] = ReadyOp(
            name=metadata.description.get(CUSTOM_NAME),
            ignore_cache=metadata.ignore_cache,
            role=roles.get(digest),
            data=op.SerializeToString(deterministic=True),
            inputs=inputs,
            needs=tuple(sorted(metadata.caps)),
        )
    if output is not None:
        return _state(made, ops_pb2.Input(digest=output[0], index=output[1]))
    terminal = ops_pb2.Op.FromString(definition.ops[-1])
    if len(terminal.inputs) != 1:
        raise ValueError("the definition does not end with a vertex that points at its result")
    return _state(made, terminal.inputs[0])


def _state(made: dict[str, Operation], given: ops_pb2.Input) -> State:
    try:
        return State(made[given.digest], given.index)
    except KeyError:
        raise ValueError(f"the vertex {given.digest} is used before it is defined") from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadyOp(Operation):
    """A vertex as it came.

    Attributes:
        data: The serialized vertex without its inputs.
        inputs: What they were, in their order, repetitions included: the vertex refers to them by position.
        needs: Ids of what the daemon must be able to do.
    """

    data: bytes
    inputs: tuple[State, ...]
    needs: tuple[str, ...]

    def dependencies(self) -> tuple[Output, ...]:
        """The inputs."""
        return distinct(self.inputs)

    def capabilities(self) -> Iterable[str]:
        """Ids of what the daemon must be able to do."""
        return self.needs

    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: Platform) -> None:
        """Write it as it was; the platform was settled then."""
        op.MergeFromString(self.data)
        for state in self.inputs:
            inputs.append(state)
