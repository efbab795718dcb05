"""Trees from branches: what a step sees, and what comes out in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder import llb
from buildkit_builder.llb.files import FileOp, MakeFile
from buildkit_builder.llb.merge import DiffOp, MergeOp
from buildkit_builder.lower.branches import Branches
from buildkit_builder.plan.effects import BARRIER, EVERYTHING, SYSTEM, Effects

BASE = llb.image("debian:12")
TREE = dict[str, str]

PACKAGES = Effects.of(writes=(SYSTEM,))
PLACES = ("/usr/lib/a", "/opt/venv/b", "/app/c", "/app/d", "/root/e", "/srv/f")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(PACKAGES), st.sampled_from(["/usr/lib/a", "/etc/x"])),
        st.tuples(st.just(BARRIER), st.sampled_from(PLACES)),
        st.tuples(st.just(Effects.of(reads=(EVERYTHING,), writes=("/opt/venv",))), st.just("/opt/venv/b")),
        st.sampled_from(PLACES).map(lambda path: (Effects.of(writes=(path,)), path)),
        st.tuples(st.just(Effects.of(reads=("/app/c",), writes=("/srv/f",))), st.just("/srv/f")),
    ),
    max_size=8,
)


def tree(state: llb.State) -> TREE:
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


def built(steps: list[tuple[Effects, str]], *, side_by_side: bool) -> Branches:
    """All steps, each writing to its path what it finds there and its own number."""
    branches = Branches(BASE, side_by_side=side_by_side)
    for number, (effects, path) in enumerate(steps):
        needed = branches.needed(effects)
        before = branches.tree(needed)
        branches.add(str(number), effects, before, write(before, path, number), needed)
    return branches


@given(STEPS)
def test_branches_give_what_a_chain_gives(steps: list[tuple[Effects, str]]) -> None:
    """Whatever the steps are, the tree in the end is the one of the user's order."""
    chain, wide = built(steps, side_by_side=False), built(steps, side_by_side=True)

    assert tree(chain.tree(chain.all)) == tree(wide.tree(wide.all))


@given(STEPS)
def test_a_step_sees_what_those_it_depends_on_did_and_nothing_else(steps: list[tuple[Effects, str]]) -> None:
    """Every file that it finds was written by one of them."""
    branches = built(steps, side_by_side=True)
    for change in branches.changes:
        seen = {int(part) for text in tree(change.before).values() for part in text.split(".") if part}
        assert seen <= change.needed


@given(STEPS)
def test_the_same_steps_give_the_same_graph(steps: list[tuple[Effects, str]]) -> None:
    """Nothing in it depends on anything but the steps."""
    first, second = (built(steps, side_by_side=True) for _ in range(2))

    assert first.tree(first.all) == second.tree(second.all)


def test_what_belongs_together_stays_a_chain() -> None:
    """No vertex is added where nothing is joined."""
    branches = built([(PACKAGES, "/usr/lib/a"), (PACKAGES, "/etc/x"), (BARRIER, "/app/c")], side_by_side=True)
    state = branches.tree(branches.all)

    assert isinstance(state.op, FileOp)
    assert BASE == state.op.base.op.base.op.base  # type: ignore[union-attr]


def test_a_branch_of_several_steps_is_joined_by_one_difference() -> None:
    """The longest chain is the one that the others are laid over."""
    steps = [
        (Effects.of(writes=("/app",)), "/app/c"),
        (PACKAGES, "/usr/lib/a"),
        (Effects.of(writes=("/app",)), "/app/d"),
        (PACKAGES, "/etc/x"),
        (PACKAGES, "/etc/x"),
    ]
    branches = built(steps, side_by_side=True)
    joined = branches.tree(branches.all).op
    assert isinstance(joined, MergeOp)
    trunk, over = joined.layers
    assert isinstance(over.op, DiffOp)

    assert branches.changes[4].after == trunk
    assert (BASE, branches.changes[2].after) == (over.op.lower, over.op.upper)


def test_a_branch_alone_is_no_matter_of_the_others() -> None:
    """Another branch may change without this one's steps changing."""
    python = Effects.of(writes=("/opt/venv",))
    with_one = built([(PACKAGES, "/usr/lib/a"), (python, "/opt/venv/b")], side_by_side=True)
    with_two = built([(PACKAGES, "/usr/lib/a"), (PACKAGES, "/etc/x"), (python, "/opt/venv/b")], side_by_side=True)

    assert with_one.changes[1].before == with_two.changes[2].before == BASE


def test_a_step_that_changes_nothing_is_none() -> None:
    """It is nothing that others could depend on."""
    branches = Branches(BASE, side_by_side=True)
    branches.add("nothing", BARRIER, BASE, BASE, frozenset())

    assert frozenset() == branches.all
    assert BASE == branches.tree(branches.all)
