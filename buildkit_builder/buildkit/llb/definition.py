"""A graph in the form that daemons solve: serialized vertices, each named by its digest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType

from buildkit_builder.buildkit.llb.role import Role
from buildkit_builder.buildkit.wire import ops_pb2

CUSTOM_NAME = "llb.customname"
IMAGE_SCHEME = "docker-image://"
"""How the identifier of an image in a registry begins."""

_SHELL = re.compile(r"(?:.*/)?(?:ba|da|a|z|k)?sh")
_COMMAND_OPTION = re.compile(r"-[A-Za-z]*c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A marshalled graph. Two are equal if they are the same bytes.

    Attributes:
        ops: The vertices (protocol: serialized `pb.Op`), each after all that it needs. The last is terminal: it does
            nothing but point at the result. No vertices at all mean scratch.
        metadata: What belongs to a vertex but not to its digest (protocol: serialized `pb.OpMetadata`), as pairs of
            digest and bytes, sorted.
        roles: What the program that made the graph knows of the vertices that it gave a name or a role, as pairs
            of digest and role; never on the wire. A vertex without one is called what daemons call it.
        source_map: Where vertices were written (protocol: serialized `pb.Source`), or empty.
        digests: The digests of `ops`, in the same order.
    """

    ops: tuple[bytes, ...] = ()
    metadata: tuple[tuple[str, bytes], ...] = ()
    source_map: bytes = b""
    roles: tuple[tuple[str, Role], ...] = field(default=(), compare=False)
    digests: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digests", tuple(map(digest_of, self.ops)))

    @classmethod
    def from_wire(cls, message: ops_pb2.Definition) -> Definition:
        """Take over a definition as it came from a daemon."""
        serialized = {digest: entry.SerializeToString(deterministic=True) for digest, entry in message.metadata.items()}
        return cls(
            ops=tuple(getattr(message, "def")),
            metadata=tuple(sorted(serialized.items())),
            source_map=message.Source.SerializeToString(deterministic=True),
        )

    def to_wire(self) -> ops_pb2.Definition:
        """The message of the protocol. For scratch it is empty, which is not the same as no message."""
        message = ops_pb2.Definition()
        getattr(message, "def").extend(self.ops)
        for digest, entry in self.metadata:
            message.metadata[digest].MergeFromString(entry)
        if self.ops:
            # Go's client always has it, be it empty.
            message.Source.SetInParent()
            message.Source.MergeFromString(self.source_map)
        return message

    @property
    def is_scratch(self) -> bool:
        """Whether it describes the empty tree."""
        return not self.ops

    @property
    def head(self) -> str | None:
        """Digest of the vertex that makes the result, or `None` for scratch."""
        if not self.ops:
            return None
        inputs = ops_pb2.Op.FromString(self.ops[-1]).inputs
        return inputs[0].digest if inputs else None

    @property
    def names(self) -> Mapping[str, str]:
        """What progress calls the vertices, by digest, where the graph says it."""
        described = ((digest, ops_pb2.OpMetadata.FromString(entry).description) for digest, entry in self.metadata)
        return MappingProxyType({digest: said[CUSTOM_NAME] for digest, said in described if CUSTOM_NAME in said})

    @property
    def capabilities(self) -> frozenset[str]:
        """Ids of what a daemon must be able to do to solve it.

        Beyond what is told to the daemon it may hold `file.copy.modestring`, an id that the protocol declares and
        daemons never report; `Capabilities` knows how to answer for it.
        """
        declared = {id_ for _, entry in self.metadata for id_ in ops_pb2.OpMetadata.FromString(entry).caps}
        for op in map(ops_pb2.Op.FromString, self.ops):
            if any(action.copy.modeStr for action in op.file.actions):
                declared.add("file.copy.modestring")
        return frozenset(declared)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that are taken from registries, by their full names."""
        sources = (op.source.identifier for op in map(ops_pb2.Op.FromString, self.ops))
        return tuple(name.removeprefix(IMAGE_SCHEME) for name in sources if name.startswith(IMAGE_SCHEME))

    def op(self, digest: str) -> ops_pb2.Op:
        """The vertex with that digest, decoded.

        Raises:
            KeyError: If there is none.
        """
        try:
            return ops_pb2.Op.FromString(self.ops[self.digests.index(digest)])
        except ValueError:
            raise KeyError(digest) from None

    def title(self, digest: str) -> str:
        """What to call a vertex: its name, or else what it does.

        Raises:
            KeyError: If there is no such vertex.
        """
        op = self.op(digest)
        kind = {"file": "a change of files", "merge": "a merge", "diff": "a difference"}.get(op.WhichOneof("op") or "")
        return self.names.get(digest) or op.source.identifier or self.command(digest) or kind or "the result"

    def metadata_of(self, digest: str) -> ops_pb2.OpMetadata:
        """What belongs to the vertex with that digest; empty if nothing does."""
        return ops_pb2.OpMetadata.FromString(dict(self.metadata).get(digest, b""))

    def command(self, digest: str) -> str | None:
        """What a vertex runs, as one would type it, or `None` if it runs nothing.

        Raises:
            KeyError: If there is no such vertex.
        """
        op = self.op(digest)
        if not op.HasField("exec"):
            return None
        args = list(op.exec.meta.args)
        if len(args) > 2 and _SHELL.fullmatch(args[0]) and _COMMAND_OPTION.fullmatch(args[-2]):
            return args[-1]
        return shlex.join(args)


def serialize(op: ops_pb2.Op) -> bytes:
    """A vertex in the one form that daemons themselves would write.

    Go's encoder writes the member of a oneof after all other fields, whatever its number, where Python's goes by
    number. Daemons take both, but digest their own form (protocol: from 0.17 on, `solver/llbsolver/vertex.go`).
    """
    kind = op.WhichOneof("op")
    if kind is None:
        return op.SerializeToString(deterministic=True)
    envelope, body = ops_pb2.Op(), ops_pb2.Op()
    envelope.CopyFrom(op)
    envelope.ClearField(kind)
    getattr(body, kind).CopyFrom(getattr(op, kind))
    return envelope.SerializeToString(deterministic=True) + body.SerializeToString(deterministic=True)


def digest_of(op: bytes) -> str:
    """Digest of a serialized vertex, as daemons spell it."""
    return f"sha256:{sha256(op).hexdigest()}"
