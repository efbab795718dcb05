"""What every vertex of a graph has in common: identity by content, inputs, and a place in the wire format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from buildkit_builder.llb.role import ORDINARY, Role
from buildkit_builder.wire import ops_pb2

if TYPE_CHECKING:
    from buildkit_builder.llb.platforms import Platform
    from buildkit_builder.llb.state import State

NO_INPUT = -1
NO_OUTPUT = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation(ABC):
    """One vertex of a graph: an immutable value.

    Two operations are equal if they say the same of equal inputs. Equality and hash come from a key that is computed
    once, from the keys of the inputs, so comparing long chains neither recurses nor takes long.

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
        # `repr` spells every field unambiguously, and a state in it as the key of its operation.
        object.__setattr__(self, "key", sha256(repr(self).encode()).digest())

    @abstractmethod
    def dependencies(self) -> tuple[State, ...]:
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


class Inputs:
    """The inputs of one operation while it is written down."""

    __slots__ = ("_locate", "_op")

    def __init__(self, op: ops_pb2.Op, locate: Callable[[State], tuple[str, int]]) -> None:
        self._op = op
        self._locate = locate

    def __len__(self) -> int:
        return len(self._op.inputs)

    def append(self, state: State) -> int:
        """Add an input and give its index; scratch is no input."""
        if state.op is None:
            return NO_INPUT
        digest, index = self._locate(state)
        self._op.inputs.add(digest=digest, index=index)
        return len(self._op.inputs) - 1

    def share(self, state: State) -> int:
        """Like `append`, but the same output of the same vertex is added once."""
        if state.op is None:
            return NO_INPUT
        digest, index = self._locate(state)
        for position, known in enumerate(self._op.inputs):
            if (known.digest, known.index) == (digest, index):
                return position
        return self.append(state)


def distinct(states: Iterable[State]) -> tuple[State, ...]:
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
