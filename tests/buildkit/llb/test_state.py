from __future__ import annotations

import dataclasses

import pytest

from buildkit_builder.buildkit import llb


def chain(length: int) -> llb.State:
    """A graph as deep as it is long."""
    state = llb.image("alpine")
    for number in range(length):
        state = state.run(["echo", str(number)]).root
    return state


def test_states_are_equal_by_content() -> None:
    """States that are described equally are equal, and can be found in sets."""
    one, two = chain(3), chain(3)

    assert one == two
    assert {one} == {one, two}
    assert one.op is not two.op


def test_states_differ_where_any_input_differs() -> None:
    """A difference far below is a difference."""
    one = llb.image("alpine").run(["a"]).root.run(["b"]).root
    two = llb.image("alpine:3").run(["a"]).root.run(["b"]).root

    assert one != two


def test_outputs_of_one_vertex_differ() -> None:
    """The root after a command is not its other outputs."""
    done = llb.image("alpine").run(["true"], mounts=[llb.Bind("/out", llb.scratch())])

    assert done.root != done.output("/out")
    assert done.root.op == done.output("/out").op


def test_long_chains_can_be_compared() -> None:
    """Equality and hash do not follow the graph, however deep it is."""
    one, two = chain(5_000), chain(5_000)

    assert one == two
    assert hash(one) == hash(two)


def test_states_say_nothing_of_other_values() -> None:
    """A vertex is not equal to what is no vertex."""
    assert llb.image("alpine").op != "alpine"
    assert llb.scratch() == llb.State()


def test_states_cannot_be_changed() -> None:
    """A state is a value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        llb.scratch().index = 1  # type: ignore[misc]


def test_the_text_of_a_state_is_short() -> None:
    """A state's text names its vertex by kind and key, however long the graph is."""
    assert "State(scratch)" == repr(llb.scratch())
    assert len(repr(chain(1))) == len(repr(chain(100)))
    assert repr(chain(1)).startswith("State(ExecOp ")
