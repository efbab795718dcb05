from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.definition import digest_of, serialize
from buildkit_builder.buildkit.wire import ops_pb2
from tests.buildkit.llb.graphs import AMD64, platforms, states


@given(states, platforms)
def test_dumped_graphs_give_the_same_bytes(state: llb.State, platform: llb.Platform) -> None:
    """What was dumped can be had back, byte for byte."""
    definition = llb.marshal(state, platform=platform)

    assert definition == llb.parse(llb.dump(definition))


@given(states)
def test_graphs_are_dumped_from_their_fields(state: llb.State) -> None:
    """Graphs that are made here are readable throughout: nothing falls back to raw bytes."""
    entries = json.loads(llb.dump(llb.marshal(state, platform=AMD64)))

    assert all(not entry.keys() & {"raw", "raw_metadata"} for entry in entries)


@given(st.lists(st.binary(max_size=20), max_size=3, unique=True))
def test_foreign_vertices_are_dumped_raw(contents: list[bytes]) -> None:
    """Vertices and metadata with fields of a newer protocol keep their bytes."""
    foreign = [b"\xfa\x07" + bytes([len(content)]) + content for content in contents]
    definition = llb.Definition(ops=tuple(foreign), metadata=((digest_of(b""), b"\xfa\x07\x01x"),))
    entries = json.loads(llb.dump(definition))

    assert definition == llb.parse(llb.dump(definition))
    assert [b64encode(data).decode() for data in foreign] == [entry["raw"] for entry in entries if "raw" in entry]


def test_source_maps_are_dumped() -> None:
    """Where vertices were written survives too."""
    wire = llb.marshal(llb.image("alpine"), platform=AMD64).to_wire()
    wire.Source.infos.add(filename="Dockerfile", data=b"FROM alpine")
    definition = llb.Definition.from_wire(wire)

    assert definition == llb.parse(llb.dump(definition))


def test_vertices_that_are_not_made_here_are_dumped_from_their_fields() -> None:
    """A frontend may send kinds of vertices that this room has no verb for."""
    build = ops_pb2.BuildOp(builder=-1, inputs={"buildkit.llb.definition": ops_pb2.BuildInput(input=0)})
    op = serialize(ops_pb2.Op(inputs=[ops_pb2.Input(digest="sha256:1")], build=build))
    definition = llb.Definition(ops=(op,))
    entry = json.loads(llb.dump(definition))[0]

    assert {"build": {"builder": -1, "inputs": {"buildkit.llb.definition": {"input": 0}}}} == entry["op"]
    assert "raw" not in entry
    assert definition == llb.parse(llb.dump(definition))


def test_scratch_is_an_empty_list() -> None:
    """An empty graph is dumped as one."""
    assert "[]\n" == llb.dump(llb.Definition())
    assert llb.Definition() == llb.parse("[]")


def test_a_dump_is_readable() -> None:
    """Text is text, other bytes are base64, modes are octal, and indexes are always there."""
    state = llb.scratch().file(llb.mkfile("/a", "é\n".encode()), llb.mkfile("/b", b"\xff", 0), name="files")
    entry = json.loads(llb.dump(llb.marshal(state, platform=AMD64)))[0]

    assert "files" == entry["name"]
    assert [] == entry["inputs"]
    assert [
        {
            "input": -1,
            "secondaryInput": -1,
            "output": -1,
            "mkfile": {"path": "/a", "mode": "0644", "data": "é\n", "timestamp": -1},
        },
        {
            "input": 0,
            "secondaryInput": -1,
            "output": 0,
            "mkfile": {"path": "/b", "data": {"base64": "/w=="}, "timestamp": -1},
        },
    ] == entry["op"]["file"]["actions"]
    assert {"description": {"llb.customname": "files"}, "caps": {"file.base": True}} == entry["metadata"]


def test_other_outputs_are_marked() -> None:
    """An input that is not the first output of its vertex says which it is."""
    done = llb.image("alpine").run(["true"], mounts=[llb.Bind("/out", llb.scratch())])
    definition = llb.marshal(done.output("/out"), platform=AMD64)

    assert [f"{definition.head}#1"] == json.loads(llb.dump(definition))[-1]["inputs"]


def dumped() -> list[Any]:
    """A dump to be spoilt."""
    entries: list[Any] = json.loads(llb.dump(llb.marshal(llb.image("alpine").run(["true"]).root, platform=AMD64)))
    return entries


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["digest"], "sha256:0", "its digest is sha256:"),
        (["op", "exec", "meta", "args"], ["false"], "its digest is sha256:"),
        (["op", "exec", "colour"], "red", "`ExecOp` has no field `colour`"),
        (["op", "exec", "network"], "TELEPATHY", "`network` cannot be `TELEPATHY`"),
        (["op", "exec", "meta", "args"], "true", "`args` is not a list"),
        (["op", "exec", "meta", "args"], [1], "sense"),
        (["op", "exec"], 7, "`ExecOp` is not an object"),
        (["inputs"], None, "sense"),
        (["weight"], 1, "`weight` is unknown"),
        (["raw"], "*", "sense"),
        (["metadata"], {"caps": []}, "sense"),
        (["digest"], None, "it has no digest"),
        ([], "sha256:", "it is not an object"),
    ],
)
def test_spoilt_dumps_are_refused(path: list[str], value: object, message: str) -> None:
    """A dump that was changed is refused, with the entry and what is wrong with it."""
    entries: Any = json.loads(llb.dump(llb.marshal(llb.image("alpine").run(["true"]).root, platform=AMD64)))
    names: list[Any] = [1, *path]
    place, target = names.pop(0), entries
    for name in names:
        target, place = target[place], name
    target[place] = value

    with pytest.raises(ValueError, match=f"Entry 1 of the dumped graph makes no .*{message}"):
        llb.parse(json.dumps(entries))


@pytest.mark.parametrize("text", ["", "{}", "null", "[", '"x"'])
def test_other_text_is_refused(text: str) -> None:
    """What is not a dump says so."""
    with pytest.raises(ValueError, match="This is not a dumped graph"):
        llb.parse(text)
