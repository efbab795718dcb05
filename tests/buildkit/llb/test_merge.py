from __future__ import annotations

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2
from tests.buildkit.llb.graphs import AMD64, capabilities, last_op

ONE, TWO = llb.local("one"), llb.local("two")


def test_trees_are_merged_in_order() -> None:
    """Each tree is an input, lowest first."""
    state = llb.merge([ONE, TWO], name="join")

    assert ops_pb2.MergeOp(inputs=[ops_pb2.MergeInput(input=0), ops_pb2.MergeInput(input=1)]) == last_op(state).merge
    assert {"mergeop"} == capabilities(state)
    assert ["join"] == list(llb.marshal(state, platform=AMD64).names.values())


def test_equal_trees_are_merged_as_two_inputs() -> None:
    """Go's client repeats the input, and the digest depends on it."""
    assert 2 == len(last_op(llb.merge([ONE, ONE])).inputs)


def test_scratch_adds_nothing_to_a_merge() -> None:
    """A merge of fewer than two trees is no vertex."""
    assert llb.scratch() == llb.merge([])
    assert llb.scratch() == llb.merge([llb.scratch(), llb.scratch()])
    assert ONE == llb.merge([llb.scratch(), ONE])
    assert llb.merge([ONE, TWO]) == llb.merge([ONE, llb.scratch(), TWO])


def test_a_difference_has_both_trees() -> None:
    """Both sides are inputs."""
    state = llb.diff(ONE, TWO, name="new")

    assert (
        ops_pb2.DiffOp(lower=ops_pb2.LowerDiffInput(input=0), upper=ops_pb2.UpperDiffInput(input=1))
        == last_op(state).diff
    )
    assert last_op(state).diff.HasField("lower")
    assert {"diffop"} == capabilities(state)


def test_a_difference_from_scratch_is_the_tree() -> None:
    """What is new against nothing is everything."""
    assert TWO == llb.diff(llb.scratch(), TWO)
    assert llb.scratch() == llb.diff(llb.scratch(), llb.scratch())


def test_a_difference_to_scratch_removes_everything() -> None:
    """Scratch as the upper side is no input."""
    assert -1 == last_op(llb.diff(ONE, llb.scratch())).diff.upper.input
