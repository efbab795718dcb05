from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.definition import digest_of, serialize
from buildkit_builder.buildkit.wire import ops_pb2
from tests.buildkit.llb.graphs import AMD64, DIGEST, platforms, states

ARM64 = llb.Platform(architecture="arm64")
STEP = llb.image("debian", name="base").run(["make"], name="make it", ignore_cache=True).root


@given(states, platforms, platforms)
def test_a_definition_gives_itself(state: llb.State, platform: llb.Platform, other: llb.Platform) -> None:
    """Bytes, digests, names and demands are those it had, for whatever platform it is marshalled again."""
    definition = llb.marshal(state, platform=platform)

    assert definition == llb.marshal(llb.from_definition(definition), platform=other)


@given(states)
def test_a_definition_survives_the_wire_and_back(state: llb.State) -> None:
    """As when it comes from a daemon."""
    definition = llb.marshal(state, platform=AMD64)
    received = ops_pb2.Definition.FromString(definition.to_wire().SerializeToString())
    ready = llb.from_definition(llb.Definition.from_wire(received))

    assert definition == llb.marshal(ready, platform=AMD64)


@given(states, platforms)
def test_building_on_top_keeps_all_digests(state: llb.State, platform: llb.Platform) -> None:
    """What was solved already is not solved again, and what comes on top is what it would be on the original."""
    definition = llb.marshal(state, platform=platform)
    on_ready, on_original = (
        llb.marshal(below.file(llb.mkfile("/a", b"b"), name="on top"), platform=platform)
        for below in (llb.from_definition(definition), state)
    )

    assert set(definition.digests[:-1]) <= set(on_ready.digests)
    assert on_original == on_ready


@given(states)
def test_equal_definitions_are_equal_states(state: llb.State) -> None:
    """They are values like any other."""
    first, second = (llb.from_definition(llb.marshal(state, platform=AMD64)) for _ in range(2))

    assert first == second
    assert hash(first) == hash(second)


def test_scratch_is_scratch() -> None:
    """No vertices are the empty tree."""
    assert llb.scratch() == llb.from_definition(llb.Definition())


def test_the_platform_was_settled_before() -> None:
    """It is not replaced by that of the graph around it, whose own vertices have theirs."""
    ready = llb.from_definition(llb.marshal(STEP, platform=ARM64))
    definition = llb.marshal(ready.run(["true"], name="on top").root, platform=AMD64)
    names = {name: definition.op(digest).platform.Architecture for digest, name in definition.names.items()}

    assert {"base": "arm64", "make it": "arm64", "on top": "amd64"} == names


def test_vertices_of_both_kinds_are_one() -> None:
    """A vertex that is there ready-made and described anew is written once."""
    ready = llb.from_definition(llb.marshal(STEP, platform=AMD64))
    definition = llb.marshal(llb.merge([ready, STEP.file(llb.mkdir("/a"))]), platform=AMD64)

    assert 1 == list(definition.names.values()).count("make it")
    assert len(set(definition.digests)) == len(definition.digests)


def test_what_it_needs_is_still_demanded() -> None:
    """Of the daemon that builds on it, and so is not to use the cache."""
    ready = llb.from_definition(llb.marshal(STEP, platform=AMD64))
    definition = llb.marshal(ready.file(llb.mkfile("/a", b"")), platform=AMD64)
    [step] = [digest for digest, name in definition.names.items() if name == "make it"]

    assert {"exec.meta.base", "meta.ignorecache", "source.image"} <= definition.capabilities
    assert definition.metadata_of(step).ignore_cache


def test_another_output_of_a_vertex() -> None:
    """The result may be any output, not only the first."""
    run = llb.image("debian").run(["make"], mounts=[llb.Bind("/out", llb.scratch())])
    definition = llb.marshal(run.output("/out"), platform=AMD64)
    ready = llb.from_definition(definition)

    assert 1 == ready.index
    assert definition == llb.marshal(ready, platform=AMD64)


def test_inputs_that_repeat_keep_their_places() -> None:
    """A vertex refers to its inputs by position."""
    base = llb.image("debian")
    run = base.run(["diff", "/a", "/b"], mounts=[llb.Bind("/a", base, readonly=True), llb.Bind("/b", base)])
    definition = llb.marshal(run.root, platform=AMD64)
    twice = _edited(definition, lambda op: op.inputs.append(op.inputs[0]) if op.HasField("exec") else None)

    assert definition == llb.marshal(llb.from_definition(definition), platform=AMD64)
    assert 2 == len(ops_pb2.Op.FromString(twice.ops[1]).inputs)
    assert twice.ops == llb.marshal(llb.from_definition(twice), platform=AMD64).ops


def test_fields_of_a_newer_protocol_are_kept() -> None:
    """A daemon's frontend may say more than is known here."""
    definition = llb.marshal(STEP, platform=AMD64)
    unknown = b"\xfa\x3e\x03new"  # field 1007, three bytes
    newer = _edited(definition, lambda op: op.MergeFromString(unknown) if op.HasField("exec") else None)
    made = llb.marshal(llb.from_definition(newer), platform=AMD64)

    assert unknown in newer.ops[1]
    assert unknown in made.ops[1]


def _edited(definition: llb.Definition, edit: object) -> llb.Definition:
    """A definition with its vertices changed, and pointing at each other again."""
    assert callable(edit)
    digests: dict[str, str] = {}
    ops = []
    for digest, data in zip(definition.digests, definition.ops, strict=True):
        op = ops_pb2.Op.FromString(data)
        for given_input in op.inputs:
            given_input.digest = digests[given_input.digest]
        edit(op)
        ops.append(serialize(op))
        digests[digest] = digest_of(ops[-1])
    metadata = tuple(sorted((digests[digest], entry) for digest, entry in definition.metadata))
    return replace(definition, ops=tuple(ops), metadata=metadata)


# --- what is none ---


def test_a_vertex_that_is_used_before_it_is_defined() -> None:
    """It is named by its digest."""
    definition = llb.marshal(STEP, platform=AMD64)
    swapped = replace(definition, ops=(definition.ops[1], definition.ops[0], definition.ops[2]))
    with pytest.raises(ValueError, match=rf"the vertex {definition.digests[0]} is used before it is defined"):
        llb.from_definition(swapped)


def test_a_result_that_is_not_defined() -> None:
    """As with any other vertex."""
    terminal = ops_pb2.Op(inputs=[ops_pb2.Input(digest=DIGEST)])
    with pytest.raises(ValueError, match=f"the vertex {DIGEST} is used before it is defined"):
        llb.from_definition(llb.Definition(ops=(serialize(terminal),)))


@pytest.mark.parametrize("inputs", [0, 2])
def test_a_definition_without_a_result(inputs: int) -> None:
    """The last vertex has to point at one."""
    image = llb.marshal(llb.image("debian"), platform=AMD64)
    terminal = ops_pb2.Op(inputs=[ops_pb2.Input(digest=image.digests[0])] * inputs)
    with pytest.raises(ValueError, match="does not end with a vertex that points at its result"):
        llb.from_definition(llb.Definition(ops=(image.ops[0], serialize(terminal))))


def test_another_output() -> None:
    """Is what it was in the graph, and nothing of what is not below it."""
    base = llb.image("debian")
    one, two = (base.run([name], name=name).root for name in ("one", "two"))
    whole = llb.marshal(llb.merge([one, llb.diff(base, two)]), platform=AMD64)
    digest = llb.marshal(two, platform=AMD64).head
    assert digest is not None

    assert llb.marshal(two, platform=AMD64) == llb.marshal(llb.from_definition(whole, (digest, 0)), platform=AMD64)
    with pytest.raises(ValueError, match="sha256:none"):
        llb.from_definition(whole, ("sha256:none", 0))
