"""What solves give and builds return: references to results that the daemon holds, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildkit_builder.buildkit.llb import Definition
from buildkit_builder.buildkit.wire import gateway_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A result that the daemon holds for this build; the empty id means scratch.

    Attributes:
        id: Its id.
        graph: What it was made from, where the daemon says it: the result of a frontend can be built upon.
    """

    id: str = ""
    graph: Definition | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a solve gives, and what a build returns: one ref, or one per platform id.

    Attributes:
        ref: The single ref, or `None` where there are `refs`.
        refs: Refs by platform id, for example `linux/arm64`; empty for a single ref.
        metadata: What exporters read, for example `containerimage.config`.
        attestations: Serialized `Attestations` by platform id, passed on as they came.
    """

    ref: Ref | None = None
    refs: Mapping[str, Ref] = field(default_factory=dict)
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    attestations: Mapping[str, bytes] = field(default_factory=dict)


def result_from_wire(wire: gateway_pb2.Result) -> Result:
    """Read a result in any of the four shapes that daemons have used."""
    kind = wire.WhichOneof("result")
    ref: Ref | None = None
    refs: dict[str, Ref] = {}
    if kind == "refs":
        refs = {name: _ref(found) for name, found in wire.refs.refs.items()}
    elif kind == "refsDeprecated":
        refs = {name: Ref(id=found) for name, found in wire.refsDeprecated.refs.items()}
    elif kind == "refDeprecated":
        ref = Ref(id=wire.refDeprecated)
    else:
        ref = _ref(wire.ref)
    return Result(
        ref=ref,
        refs=refs,
        metadata=dict(wire.metadata),
        attestations={name: found.SerializeToString() for name, found in wire.attestations.items()},
    )


def result_to_wire(result: Result) -> gateway_pb2.Result:
    """Write a result as daemons from 0.8 read it."""
    wire = gateway_pb2.Result(metadata=dict(result.metadata))
    if result.refs:
        for name, ref in result.refs.items():
            wire.refs.refs[name].id = ref.id
    else:
        wire.ref.CopyFrom(gateway_pb2.Ref(id=result.ref.id if result.ref else ""))
    for name, found in result.attestations.items():
        wire.attestations[name].MergeFromString(found)
    return wire


def _ref(wire: gateway_pb2.Ref) -> Ref:
    return Ref(id=wire.id, graph=Definition.from_wire(getattr(wire, "def")) if wire.HasField("def") else None)
