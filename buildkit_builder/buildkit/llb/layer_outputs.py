"""What the tree of a graph is made up of: the outputs that become its layers."""

from __future__ import annotations

from buildkit_builder.buildkit.llb.definition import Definition
from buildkit_builder.buildkit.wire import ops_pb2

Output = tuple[str, int]
"""One output of a vertex: its digest, and which."""


def lineage(definition: Definition) -> frozenset[Output]:
    """The outputs of commands and file operations that the result of a graph is built upon, layer by layer.

    What a command only mounts, and what is only copied from, is no layer and not among them.
    """
    if definition.is_scratch:
        return frozenset()
    ops = {digest: ops_pb2.Op.FromString(op) for digest, op in zip(definition.digests, definition.ops, strict=True)}
    found: set[Output] = set()
    seen: set[Output] = set()
    waiting = [(entry.digest, entry.index) for entry in ops[definition.digests[-1]].inputs]
    while waiting:
        output = waiting.pop()
        if output in seen:
            continue
        seen.add(output)
        op = ops[output[0]]
        if op.HasField("exec") or op.HasField("file"):
            found.add(output)
        waiting += [(op.inputs[number].digest, op.inputs[number].index) for number in _below(op, output[1])]
    return frozenset(found)


def _below(op: ops_pb2.Op, index: int) -> list[int]:
    """The inputs whose layers an output has as its own lowest ones."""
    if op.HasField("exec"):
        below = [mount.input for mount in op.exec.mounts if mount.output == index]
    elif op.HasField("file"):
        below = [_base(op, index)]
    elif op.HasField("diff"):
        below = [op.diff.upper.input]
    else:
        below = list(range(len(op.inputs))) if op.HasField("merge") else []
    # -1 is scratch.
    return [number for number in below if 0 <= number < len(op.inputs)]


def _base(op: ops_pb2.Op, index: int) -> int:
    """Inputs of file actions count on behind those of the vertex: there they are the results of other actions."""
    action = next((action for action in op.file.actions if action.output == index), None)
    while action is not None and action.input >= len(op.inputs):
        action = op.file.actions[action.input - len(op.inputs)]
    return -1 if action is None else action.input
