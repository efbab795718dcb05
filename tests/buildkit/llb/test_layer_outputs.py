from __future__ import annotations

from hypothesis import given

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.layer_outputs import lineage
from tests.buildkit.llb.graphs import AMD64, states

BASE = llb.image("debian")


def names(state: llb.State) -> list[tuple[str, int]]:
    """The steps among the layers of a tree, by name, with the number of their output."""
    definition = llb.marshal(state, platform=AMD64)
    return sorted((definition.names[digest], index) for digest, index in lineage(definition))


def step(state: llb.State, name: str, *mounts: llb.Mount) -> llb.Exec:
    return state.run([name], name=name, mounts=mounts)


def test_layers_of_a_chain() -> None:
    """Every command and file operation down to the source."""
    state = step(step(BASE, "one").root.file(llb.mkfile("/two", b""), name="two"), "three").root

    assert [("one", 0), ("three", 0), ("two", 0)] == names(state)


def test_layers_of_branches() -> None:
    """All of what is merged, and of a difference what it is taken from; what both have is there once."""
    common = step(BASE, "common").root
    one, two = step(common, "one").root, step(common, "two").root

    assert [("common", 0), ("one", 0), ("two", 0)] == names(llb.merge([one, llb.diff(common, two)]))


def test_what_is_only_used_is_no_layer() -> None:
    """A tool that is mounted, a tree that is copied from."""
    tool, tree = step(BASE, "tool").root, step(BASE, "tree").root
    used = step(BASE, "work", llb.Bind("/tool", tool, readonly=True)).root
    copied = used.file(llb.copy(tree, "/a", "/b"), name="copy")

    assert [("copy", 0), ("work", 0)] == names(copied)


def test_a_mount_that_is_the_result() -> None:
    """What is below it is what was mounted there, not where the command ran."""
    target = step(BASE, "target").root
    done = step(step(BASE, "tools").root, "work", llb.Bind("/target", target)).output("/target")

    assert [("target", 0), ("work", 1)] == names(done)


def test_file_actions_in_a_row() -> None:
    """An action upon another's result has the layers of what that one began with."""
    state = step(BASE, "below").root.file(llb.mkdir("/a"), llb.mkfile("/a/b", b""), name="files")

    assert [("below", 0), ("files", 0)] == names(state)


def test_scratch_has_no_layers() -> None:
    """No more than a source alone."""
    assert [] == names(llb.scratch())
    assert [] == names(BASE)


@given(states)
def test_layers_of_a_layer(state: llb.State) -> None:
    """The graph of one of them alone has vertices of the whole, to the byte, and layers of the whole."""
    whole = llb.marshal(state, platform=AMD64)
    for output in lineage(whole):
        alone = llb.marshal(llb.from_definition(whole, output), platform=llb.Platform(architecture="arm64"))

        assert output[0] == alone.head
        assert set(alone.digests[:-1]) <= set(whole.digests)
        assert {output} <= lineage(alone) <= lineage(whole)
