"""Trees from a trunk and a branch: what a step sees, and what comes out in the end."""

from __future__ import annotations

from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.file_actions import FileOp, MakeFile
from buildkit_builder.buildkit.llb.merge import DiffOp, MergeOp
from buildkit_builder.buildkit.llb.operation import Output
from buildkit_builder.image.lower.branches import Branches

BASE = llb.image("debian:12")
TREE = dict[str, str]
Kind = Literal["ahead", "all", "anew", "files"]

PLACES = ("/usr/lib/a", "/opt/venv/b", "/app/c", "/app/d")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ahead"), st.sampled_from(["/opt/venv/b", "/opt/venv/c"])),
        st.tuples(st.sampled_from(["all", "anew"]), st.sampled_from(PLACES)),
        st.tuples(st.just("files"), st.sampled_from(["/usr/lib/a", "/app/c", "/app/d"])),
    ),
    max_size=8,
)


def tree(state: Output) -> TREE:
    """The files of a graph of merges, differences and written files, as a daemon would have them."""
    op = state.op
    if isinstance(op, MergeOp):
        joined: TREE = {}
        for layer in op.layers:
            joined |= tree(layer)
        return joined
    if isinstance(op, DiffOp):
        lower, upper = tree(op.lower), tree(op.upper)
        return {path: text for path, text in upper.items() if lower.get(path) != text}
    if isinstance(op, FileOp):
        files = tree(op.base)
        for action in op.actions:
            assert isinstance(action, MakeFile)
            files[action.path] = action.data.decode()
        return files
    return {}


def write(state: llb.State, path: str, number: int) -> llb.State:
    """A step that adds its number to a file."""
    before = tree(state).get(path, "")
    return state.file(llb.mkfile(path, f"{before}{number}.".encode()))


def add(branches: Branches, kind: Kind, path: str) -> None:
    """Adds a step as lowering does: those that see all may be ones that write to the environment."""
    number = len(branches.changes)
    needed = {"ahead": branches.branch, "files": branches.trunk}.get(kind, branches.all)
    branches.add(str(number), needed, lambda state: write(state, path, number), ahead=kind == "ahead")
    if kind == "anew" or (kind == "all" and path.startswith("/opt/venv")):
        branches.begin_anew()


def built(steps: list[tuple[Kind, str]], *, side_by_side: bool = True) -> Branches:
    """All steps, each writing to its path what it finds there and its own number."""
    branches = Branches(BASE, side_by_side=side_by_side)
    for kind, path in steps:
        add(branches, kind, path)
    return branches


@given(STEPS)
def test_the_tree_is_that_of_the_written_order(steps: list[tuple[Kind, str]]) -> None:
    """Whatever the steps are."""
    chain, wide = built(steps, side_by_side=False), built(steps)

    assert tree(chain.tree(chain.all)) == tree(wide.tree(wide.all))


@given(STEPS, st.sampled_from(PLACES))
def test_an_overlap_that_nobody_foresaw_ends_as_written(steps: list[tuple[Kind, str]], path: str) -> None:
    """A step that is ahead, and writes where it was not expected to, still loses to what was written after it."""
    branches = Branches(BASE, side_by_side=True)
    for kind, _ in steps:
        number = len(branches.changes)
        needed = {"ahead": branches.branch, "files": branches.trunk}.get(kind, branches.all)
        branches.add(
            str(number),
            needed,
            lambda state, number=number: state.file(llb.mkfile(path, str(number).encode())),  # type: ignore[misc]
            ahead=kind == "ahead",
        )
    wanted = {path: str(len(steps) - 1)} if steps else {}

    assert wanted == tree(branches.tree(branches.all))


@given(STEPS)
def test_a_step_sees_what_it_follows_and_nothing_else(steps: list[tuple[Kind, str]]) -> None:
    """Every file that it finds was written by one of the changes that it is said to need."""
    branches = built(steps)
    for change in branches.changes:
        seen = {int(part) for text in tree(change.before).values() for part in text.split(".") if part}
        assert seen <= change.needed


@given(STEPS)
def test_a_step_of_the_trunk_sees_the_whole_trunk(steps: list[tuple[Kind, str]]) -> None:
    """Nothing is told of what it reads."""
    branches = built(steps)
    for number, change in enumerate(branches.changes):
        before = {other for other in range(number) if not branches.changes[other].ahead}
        assert change.ahead or before <= change.needed


@given(STEPS)
def test_what_a_check_compares_differs_by_the_trunk_alone(steps: list[tuple[Kind, str]]) -> None:
    """Where the branch forks off, the trunk has every installation that the branch has."""
    branches = built(steps)
    ahead = {number for number, change in enumerate(branches.changes) if change.ahead}

    assert branches.fork <= branches.trunk
    assert branches.fork & ahead == branches.trunk & ahead


@given(STEPS)
def test_the_same_steps_give_the_same_graph(steps: list[tuple[Kind, str]]) -> None:
    """Nothing in it depends on anything but the steps."""
    first, second = built(steps), built(steps)

    assert first.tree(first.all) == second.tree(second.all)


def test_what_belongs_together_stays_a_chain() -> None:
    """No vertex is added where nothing is joined."""
    branches = built([("all", "/usr/lib/a"), ("files", "/app/c"), ("anew", "/app/c")])
    state = branches.tree(branches.all)

    assert isinstance(state.op, FileOp)
    assert BASE == state.op.base.op.base.op.base  # type: ignore[union-attr]


def test_layers_are_laid_over_the_trunk_in_their_places() -> None:
    """What is a chain becomes one difference."""
    branches = built([("all", "/usr/lib/a"), ("ahead", "/opt/venv/b"), ("files", "/app/c"), ("files", "/app/d")])
    joined = branches.tree(branches.all).op
    assert isinstance(joined, MergeOp)
    trunk, installed, copied = joined.layers
    assert isinstance(installed.op, DiffOp)
    assert isinstance(copied.op, DiffOp)

    assert branches.changes[0].after == trunk
    assert (BASE, branches.changes[1].after) == (installed.op.lower, installed.op.upper)
    assert (branches.changes[0].after, branches.changes[3].after) == (copied.op.lower, copied.op.upper)


def test_an_installation_is_the_same_whatever_the_trunk_has() -> None:
    """The trunk may change without the installation being made again."""
    with_one = built([("all", "/usr/lib/a"), ("ahead", "/opt/venv/b")])
    with_two = built([("all", "/usr/lib/a"), ("files", "/etc/x"), ("ahead", "/opt/venv/b")])

    assert with_one.changes[1].before == with_two.changes[2].before == BASE


def test_a_step_that_changes_nothing_is_left_out() -> None:
    """It is nothing that others could see."""
    branches = Branches(BASE, side_by_side=True)
    branches.add("nothing", frozenset(), lambda state: state)

    assert frozenset() == branches.all
    assert BASE == branches.tree(branches.all)
