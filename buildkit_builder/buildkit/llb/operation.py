"""What every vertex of a graph has in common: identity by content, inputs, and a place in the wire format."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from buildkit_builder.buildkit.llb.arguments import check
from buildkit_builder.buildkit.llb.role import ORDINARY, Role
from buildkit_builder.buildkit.wire import ops_pb2

if TYPE_CHECKING:
    from buildkit_builder.buildkit.llb.platforms import Platform

NO_INPUT = -1
NO_OUTPUT = -1
# Values that print as what they are.
_AS_PRINTED = frozenset({type(None), bool, int, float, complex})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation(ABC):
    """One vertex of a graph: an immutable value.

    Two operations are equal if they say the same of equal inputs. Equality and hash come from a key that is computed
    once, from the keys of the inputs, so comparing long chains neither recurses nor takes long. Fields count as what
    they are, not as how they print; what is no plain value is equal only to itself.

    Attributes:
        name: What progress calls the vertex, or `None` for the daemon's own words.
        ignore_cache: Whether to run it even if the daemon has its result.
        role: What the program that makes the graph knows of the vertex; `None` where that was made elsewhere.
        key: Digest of the content, inputs included. Not the digest on the wire, which also depends on the platform.
    """

    name: str | None = None
    ignore_cache: bool = False
    role: Role | None = ORDINARY
    key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "key", _key_of(self))

    @abstractmethod
    def dependencies(self) -> tuple[Output, ...]:
        """The states it is made from, none of them scratch, in the order they are to be visited."""

    @abstractmethod
    def capabilities(self) -> Iterable[str]:
        """Ids of what the daemon must be able to do."""

    @abstractmethod
    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: Platform) -> None:
        """Write it into an empty message; `platform` counts where it has none of its own."""

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Operation) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, slots=True, repr=False)
class Output:
    """One output of one operation, a tree of files: what operations take in. `State` is this with its verbs.

    Attributes:
        op: The vertex, or `None` for scratch, the empty tree.
        index: Which output of the vertex.
    """

    op: Operation | None = None
    index: int = 0

    def __post_init__(self) -> None:
        check(self)

    def __repr__(self) -> str:
        # By its key and not by its content: a chain of a thousand steps would be printed in each of them.
        if self.op is None:
            return "State(scratch)"
        return f"State({type(self.op).__name__} {self.op.key.hex()} #{self.index})"


class Inputs:
    """The inputs of one operation while it is written down."""

    __slots__ = ("_locate", "_op")

    def __init__(self, op: ops_pb2.Op, locate: Callable[[Output], tuple[str, int]]) -> None:
        self._op = op
        self._locate = locate

    def __len__(self) -> int:
        return len(self._op.inputs)

    def append(self, state: Output) -> int:
        """Add an input and give its index; scratch is no input."""
        if state.op is None:
            return NO_INPUT
        digest, index = self._locate(state)
        self._op.inputs.add(digest=digest, index=index)
        return len(self._op.inputs) - 1

    def share(self, state: Output) -> int:
        """Like `append`, but the same output of the same vertex is added once."""
        if state.op is None:
            return NO_INPUT
        digest, index = self._locate(state)
        for position, known in enumerate(self._op.inputs):
            if (known.digest, known.index) == (digest, index):
                return position
        return self.append(state)


def _key_of(operation: Operation) -> bytes:
    """A digest of all that an operation says of itself: two that are not told apart would become one vertex."""
    fields = {field.name: getattr(operation, field.name) for field in dataclasses.fields(operation) if field.init}
    return sha256(_spelled((type(operation), {**getattr(operation, "__dict__", {}), **fields}))).digest()


def _spelled(value: Any) -> bytes:
    """Kind, length and content: `1`, `1.0`, `True` and `"1"` are four values, and none runs into the next."""
    plain = type(value)
    if plain is str:
        kind, text = "str", value.encode("utf-8", "surrogatepass")
    elif plain is tuple:
        kind, text = "list", b"".join(map(_spelled, value))
    elif plain in _AS_PRINTED:
        kind, text = plain.__name__, repr(value).encode()
    elif isinstance(value, Operation):
        kind, text = "operation", value.key
    elif isinstance(value, str):
        kind, text = plain.__name__, value.encode("utf-8", "surrogatepass")
    elif isinstance(value, (bytes, bytearray)):
        kind, text = "bytes", bytes(value)
    elif isinstance(value, Message):
        kind, text = value.DESCRIPTOR.full_name, value.SerializeToString(deterministic=True)
    elif isinstance(value, (tuple, list)):
        kind, text = plain.__qualname__, b"".join(map(_spelled, value))
    elif isinstance(value, Mapping):
        # In its order, which is the one that an operation may write.
        kind, text = "mapping", b"".join(map(_spelled, value.items()))
    elif isinstance(value, Set):
        kind, text = "set", b"".join(sorted(map(_spelled, value)))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        kind, text = "dataclass", _spelled([type(value), *fields])
    else:
        # The operation holds it, so that nothing else can have its number meanwhile.
        kind, text = "object", str(id(value)).encode()
    return b"%s:%d:%s" % (kind.encode(), len(text), text)


def distinct(states: Iterable[Output]) -> tuple[Output, ...]:
    """The states that are not scratch, each once, in order."""
    return tuple(dict.fromkeys(state for state in states if state.op is not None))


def absolute(path: str) -> str:
    """The path from the root, without `.`, `..` and doubled slashes (protocol: as Go's `path.Clean` writes it)."""
    words: list[str] = []
    for word in path.split("/"):
        if word == "..":
            del words[-1:]
        elif word not in {"", "."}:
            words.append(word)
    return "/" + "/".join(words)
