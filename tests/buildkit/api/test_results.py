from __future__ import annotations

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Ref, Result, result_from_wire, result_to_wire
from buildkit_builder.buildkit.wire import gateway_pb2, ops_pb2

GRAPH = llb.marshal(llb.image("debian").run(["make"], name="make it").root, platform=llb.Platform())


def wire_ref(name: str, graph: llb.Definition | None) -> gateway_pb2.Ref:
    """A ref as a daemon sends it."""
    ref = gateway_pb2.Ref(id=name)
    if graph is not None:
        getattr(ref, "def").CopyFrom(graph.to_wire())
    return ref


def test_what_a_result_was_made_from() -> None:
    """The graph comes with the ref, name for name and byte for byte."""
    ref = result_from_wire(gateway_pb2.Result(ref=wire_ref("a", GRAPH))).ref

    assert ref is not None
    assert GRAPH == ref.graph
    assert GRAPH.names == ref.graph.names


def test_what_each_platform_was_made_from() -> None:
    """Every ref has its own graph, or none."""
    refs = gateway_pb2.RefMap(refs={"linux/amd64": wire_ref("a", GRAPH), "linux/arm64": wire_ref("b", None)})
    found = result_from_wire(gateway_pb2.Result(refs=refs)).refs

    assert {"linux/amd64": GRAPH, "linux/arm64": None} == {name: ref.graph for name, ref in found.items()}


def test_an_empty_graph_is_scratch_and_not_unknown() -> None:
    """That a result is empty is an answer; that a daemon says nothing is not."""
    said, unsaid = (
        result_from_wire(gateway_pb2.Result(ref=wire_ref("", graph))).ref for graph in (llb.Definition(), None)
    )

    assert said is not None
    assert said.graph is not None
    assert said.graph.is_scratch
    assert unsaid == Ref()
    assert unsaid.graph is None


def test_old_shapes_say_nothing_of_their_graph() -> None:
    """A bare id is a ref all the same."""
    one = result_from_wire(gateway_pb2.Result(refDeprecated="a")).ref
    several = result_from_wire(
        gateway_pb2.Result(refsDeprecated=gateway_pb2.RefMapDeprecated(refs={"linux/amd64": "a"}))
    ).refs

    assert [None, None] == [ref.graph for ref in (one, several["linux/amd64"]) if ref is not None]


def test_a_graph_is_not_sent_back() -> None:
    """The daemon knows it by the id, and two refs of one id are the same whatever is known of them."""
    ref = Ref(id="a", graph=GRAPH)
    wire = result_to_wire(Result(ref=ref, metadata={}))

    assert not wire.ref.HasField("def")
    assert Ref(id="a") == ref
    assert "graph" not in repr(ref)
    assert ops_pb2.Definition() == getattr(wire.ref, "def")
