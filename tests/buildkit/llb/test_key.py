"""Two operations that say something different are two vertices, however alike they print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.operation import Inputs, Operation
from buildkit_builder.buildkit.wire import ops_pb2

PLATFORM = llb.Platform(architecture="amd64")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Silent(Operation):
    """An operation of somebody else's, whose field is not printed."""

    value: Any = field(repr=False)

    def dependencies(self) -> tuple[llb.State, ...]:
        return ()

    def capabilities(self) -> Iterable[str]:
        return ()

    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: llb.Platform) -> None:
        op.source.identifier = f"local://{self.value!r}"
        op.source.attrs["type"] = type(self.value).__name__


class Named(Protocol):
    """What a value can be like."""

    @property
    def name(self) -> str: ...


class Sizes(TypedDict):
    """A dictionary of which more is known."""

    width: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Typed(Silent):
    """An operation whose annotations cannot be held against values."""

    value: None = field(repr=False, default=None)
    named: Named
    sizes: Sizes
    words: Sequence[str]
    call: Callable[[], None]


class Other(Silent):
    """Another operation with the same fields."""


class Alike:
    """A value that prints like every other of its kind."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Alike()"


@dataclass(frozen=True)
class Part:
    """A value in parts, one of which is not printed."""

    shown: str
    hidden: str = field(repr=False, default="")


def _key(value: Any) -> bytes:
    return Silent(value=value).key


DIFFERENT: list[tuple[Any, Any]] = [
    ("a", "b"),
    ("1", 1),
    (1, 1.0),
    (1, True),
    (0, False),
    (0.0, -0.0),
    (0.1, 0.1 + 2**-55),
    (1e16, 1e16 + 2),
    (math.nan, math.inf),
    (None, "None"),
    (None, ()),
    (b"a", "a"),
    ("", ()),
    (("a", "b"), ("ab",)),
    (("a", ("b",)), (("a",), "b")),
    (("1:a",), ("1", "a")),
    ([1, 2], [2, 1]),
    ({"a": 1}, {"a": 2}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"a": "b"}, (("a", "b"),)),
    ({"a"}, {"b"}),
    (Alike(1), Alike(2)),
    ((Alike(1),), (Alike(2),)),
    (Part("x", "y"), Part("x", "z")),
    (Part("x"), ("x", "")),
    ("\udc80", "\udc81"),
    (ops_pb2.Platform(OS="linux"), ops_pb2.Platform(OS="darwin")),
    (llb.image("a"), llb.image("b")),
    (llb.State(llb.image("a").op, 0), llb.State(llb.image("a").op, 1)),
    (llb.Bind("/x", llb.image("a")), llb.Bind("/x", llb.image("b"))),
    (llb.Bind("/x", llb.scratch()), llb.Tmpfs("/x")),
    (int, float),
]


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_what_is_different_is_told_apart(one: Any, two: Any) -> None:
    """Though the operation prints alike."""
    assert repr(Silent(value=one)) == repr(Silent(value=two))
    assert Silent(value=one) != Silent(value=two)
    assert 2 == len({_key(one), _key(two)})


EQUAL: list[tuple[Any, Any]] = [
    ("a", "a"),
    (0.1 + 0.2, 0.30000000000000004),
    (("a", 1), ("a", 1)),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}),
    ({"x", "y", "z"}, {"z", "y", "x"}),
    (frozenset(map(str, range(50))), frozenset(map(str, reversed(range(50))))),
    (Part("x", "y"), Part("x", "y")),
    (ops_pb2.Platform(OS="linux"), ops_pb2.Platform(OS="linux")),
    (llb.image("a"), llb.image("a")),
]


@pytest.mark.parametrize(("one", "two"), EQUAL)
def test_what_is_equal_is_one(one: Any, two: Any) -> None:
    """So that what is described twice is one vertex."""
    assert Silent(value=one) == Silent(value=two)
    assert hash(Silent(value=one)) == hash(Silent(value=two))


def test_an_object_is_equal_to_itself_alone() -> None:
    """Nothing is known of it but which it is."""
    same = Alike(1)

    assert Silent(value=same) == Silent(value=same)


def test_two_operations_with_the_same_fields_differ() -> None:
    """What they do with them is their own matter."""
    assert Silent(value="a") != Other(value="a")


def test_annotations_that_nobody_can_check_are_left_alone() -> None:
    """Any operation can be defined, whatever its fields."""
    one, two = (Typed(named=Path(name), sizes={"width": 1}, words=["a"], call=print) for name in ("a", "b"))

    assert one != two
    with pytest.raises(TypeError, match="`words` is a text"):
        Typed(named=Path(), sizes={"width": 1}, words="a", call=print)


def test_neither_is_merged_into_the_other() -> None:
    """Both vertices are in the graph."""
    parts = [llb.State(Silent(value=value)) for value in (1, True, 1.0, "1")]
    state = llb.scratch().file(*(llb.copy(part, "/", f"/{at}") for at, part in enumerate(parts)))
    definition = llb.marshal(state, platform=PLATFORM)

    sources: list[Mapping[str, str]] = [
        definition.op(digest).source.attrs for digest in definition.digests if definition.op(digest).HasField("source")
    ]
    assert ["int", "bool", "float", "str"] == [attributes["type"] for attributes in sources]
