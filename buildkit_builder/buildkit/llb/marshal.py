"""From a graph of values to the bytes that daemons solve."""

from __future__ import annotations

from collections.abc import Callable

from buildkit_builder.buildkit.llb.arguments import checked
from buildkit_builder.buildkit.llb.definition import CUSTOM_NAME, IMAGE_SCHEME, Definition, digest_of, serialize
from buildkit_builder.buildkit.llb.operation import Inputs, Operation, Output
from buildkit_builder.buildkit.llb.platforms import Platform
from buildkit_builder.buildkit.llb.role import ORDINARY, Role
from buildkit_builder.buildkit.llb.state import State
from buildkit_builder.buildkit.wire import ops_pb2

# Other programs leave out a group none of whose members is to make it appear.
_UNSEEN = ops_pb2.ProgressGroup(id="buildkit-builder/quiet", name="what serves other steps", weak=True)


@checked
def marshal(state: State, *, platform: Platform, rename: Callable[[str], str] = str) -> Definition:
    """Write down all that `state` is made from, each vertex once.

    The same graph gives the same bytes, and they are the bytes that Go's client writes, so that the digests which a
    daemon reports are those of `Definition.digests` (protocol: from 0.17 on daemons write vertices anew and digest
    the result).

    Args:
        state: The result that is wanted. Scratch gives an empty definition.
        platform: What images and commands are for that name no platform of their own.
        rename: Gives the name under which an image is fetched, such as that of a mirror, by its full name.

    Raises:
        TypeError: If `state` is no state; behind a command, `.root` is.
    """
    if state.op is None:
        return Definition()
    writer = _Writer(platform, rename)
    writer.visit(state.op)
    return writer.finish(state)


class _Writer:
    """What has been written so far."""

    def __init__(self, platform: Platform, rename: Callable[[str], str]) -> None:
        self._platform = platform
        self._rename = rename
        self._digests: dict[Operation, str] = {}
        self._ops: dict[str, bytes] = {}
        self._metadata: dict[str, ops_pb2.OpMetadata] = {}
        self._roles: dict[str, Role] = {}

    def visit(self, last: Operation) -> None:
        """Write an operation after all that it depends on, depth first, with a stack of its own: chains are long."""
        stack = [last]
        while stack:
            operation = stack[-1]
            if operation not in self._digests:
                waiting = [
                    state.op
                    for state in operation.dependencies()
                    if state.op is not None and state.op not in self._digests
                ]
                if waiting:
                    stack.extend(reversed(waiting))
                    continue
                self._write(operation)
            stack.pop()

    def finish(self, state: State) -> Definition:
        """Add the terminal vertex and what it demands of the daemon."""
        terminal = ops_pb2.Op()
        Inputs(terminal, self._locate).append(state)
        demands = {"constraints", "platform"}
        if any(metadata.ignore_cache for metadata in self._metadata.values()):
            demands.add("meta.ignorecache")
        if any(metadata.description for metadata in self._metadata.values()):
            demands.add("meta.description")
        data = serialize(terminal)
        self._ops[digest_of(data)] = data
        self._metadata[digest_of(data)] = ops_pb2.OpMetadata(caps=dict.fromkeys(demands, True))
        return Definition(
            ops=tuple(self._ops.values()),
            metadata=tuple(
                sorted(
                    (digest, entry.SerializeToString(deterministic=True)) for digest, entry in self._metadata.items()
                )
            ),
            roles=tuple(sorted(self._roles.items(), key=lambda item: item[0])),
        )

    def _write(self, operation: Operation) -> None:
        op = ops_pb2.Op()
        operation.encode(op, Inputs(op, self._locate), self._platform)
        if (found := op.source.identifier).startswith(IMAGE_SCHEME):
            op.source.identifier = IMAGE_SCHEME + self._rename(found.removeprefix(IMAGE_SCHEME))
        # Go's client writes the empty message, and so the digest depends on it.
        op.constraints.SetInParent()
        data = serialize(op)
        digest = digest_of(data)
        self._digests[operation] = digest
        self._ops.setdefault(digest, data)
        # Operations that differ only in what is not on the wire are one vertex, which is given what all of them say.
        metadata = self._metadata.setdefault(digest, ops_pb2.OpMetadata())
        metadata.ignore_cache |= operation.ignore_cache
        self._describe(operation, digest)
        for capability in operation.capabilities():
            metadata.caps[capability] = True

    def _describe(self, operation: Operation, digest: str) -> None:
        """Note a vertex's name and role; of operations that are one vertex, the name of one that is to be seen."""
        metadata, role = self._metadata[digest], operation.role
        if operation.name and not (role is not None and role.quiet and metadata.description):
            metadata.description[CUSTOM_NAME] = operation.name
        if role is None or not (operation.name or role != ORDINARY):
            return
        role &= self._roles.get(digest, role)
        self._roles[digest] = role
        metadata.ClearField("progress_group")
        if role.quiet:
            metadata.progress_group.CopyFrom(_UNSEEN)

    def _locate(self, state: Output) -> tuple[str, int]:
        assert state.op is not None  # `Inputs` adds no scratch
        return self._digests[state.op], state.index
