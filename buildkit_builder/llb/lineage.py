"""What the tree of a graph is made up of: the outputs that become its layers, and the graph of each of them alone."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_builder.llb.definition import Definition, digest_of, serialize
from buildkit_builder.wire import ops_pb2

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


def part(definition: Definition, output: Output) -> Definition:
    """The graph of one output alone, whose vertices are the same as in the whole.

    Args:
        definition: The whole.
        output: Of one of its vertices.

    Raises:
        KeyError: There is no such vertex.
    """
    ops: Mapping[str, bytes] = dict(zip(definition.digests, definition.ops, strict=True))
    needed: set[str] = set()
    waiting = [output[0]]
    while waiting:
        digest = waiting.pop()
        if digest not in needed:
            needed.add(digest)
            waiting += [entry.digest for entry in ops_pb2.Op.FromString(ops[digest]).inputs]
    terminal = ops_pb2.Op()
    terminal.inputs.add(digest=output[0], index=output[1])
    end = serialize(terminal)
    metadata = {digest: entry for digest, entry in definition.metadata if digest in needed}
    # It demands of the daemon what the end of the whole does.
    metadata[digest_of(end)] = dict(definition.metadata).get(definition.digests[-1], b"")
    return Definition(
        ops=(*(op for digest, op in ops.items() if digest in needed), end),
        metadata=tuple(sorted(metadata.items())),
        source_map=definition.source_map,
    )
