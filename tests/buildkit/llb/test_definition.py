from __future__ import annotations

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2
from tests.buildkit.llb.graphs import AMD64


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["/bin/sh", "-c", "echo $HOME"], "echo $HOME"),
        (["/bin/bash", "-euxo", "pipefail", "-c", "a | b"], "a | b"),
        (["bash", "-lc", "make"], "make"),
        (["/bin/sh", "-c", "echo $1", "name", "x"], "/bin/sh -c 'echo $1' name x"),
        (["python", "-c", "print(1)"], "python -c 'print(1)'"),
        (["uv", "pip", "install", "a b"], "uv pip install 'a b'"),
        (["sh", "-c"], "sh -c"),
    ],
)
def test_commands_read_as_typed(args: list[str], command: str) -> None:
    """A shell's command is the text it was given; other commands are quoted for a shell."""
    definition = llb.marshal(llb.image("alpine").run(args).root, platform=AMD64)
    assert definition.head is not None

    assert command == definition.command(definition.head)


def test_only_commands_have_a_command() -> None:
    """A vertex that runs nothing has none, and a vertex that is not there is an error."""
    definition = llb.marshal(llb.image("alpine"), platform=AMD64)

    assert definition.command(definition.digests[0]) is None
    with pytest.raises(KeyError, match="sha256:none"):
        definition.command("sha256:none")


def test_vertices_are_found_by_digest() -> None:
    """`op` decodes the vertex with a digest."""
    definition = llb.marshal(llb.image("alpine"), platform=AMD64)

    assert ops_pb2.Op.FromString(definition.ops[0]) == definition.op(definition.digests[0])
    assert ops_pb2.OpMetadata() == definition.metadata_of("sha256:none")


def test_capabilities_are_those_of_all_vertices() -> None:
    """What a daemon needs for a graph is what it needs for all of it."""
    definition = llb.marshal(llb.merge([llb.image("alpine"), llb.local("code", session="s")]), platform=AMD64)

    assert {
        "constraints",
        "mergeop",
        "platform",
        "source.image",
        "source.local",
        "source.local.sessionid",
    } == definition.capabilities


def test_where_vertices_were_written_is_kept() -> None:
    """A definition that a frontend made keeps its source map."""
    wire = llb.marshal(llb.image("alpine"), platform=AMD64).to_wire()
    wire.Source.infos.add(filename="Dockerfile", data=b"FROM alpine")

    assert wire == llb.Definition.from_wire(wire).to_wire()


def test_scratch_has_no_head() -> None:
    """An empty definition has no vertex that makes its result."""
    assert llb.Definition().head is None
    assert llb.Definition(ops=(b"",)).head is None
    assert {} == llb.Definition().names
    assert frozenset() == llb.Definition().capabilities
