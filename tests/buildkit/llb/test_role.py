"""What is known of a vertex beside its name stays out of its digest and off the wire."""

from __future__ import annotations

import pytest

from buildkit_builder.buildkit import llb

PLATFORM = llb.Platform(architecture="amd64")
BASE = llb.image("debian:12")
QUIET = llb.Role(quiet=True)
ATTEMPT = llb.Role(attempt=True, script=True)


def _marshal(state: llb.State) -> llb.Definition:
    return llb.marshal(state, platform=PLATFORM)


@pytest.mark.parametrize("role", [QUIET, ATTEMPT, llb.Role(quiet=True, attempt=True, script=True)])
def test_a_role_changes_no_digest(role: llb.Role) -> None:
    """The daemon finds in its cache what was made under another role."""
    plain = _marshal(BASE.run(["make"], name="make").root)
    with_role = _marshal(BASE.run(["make"], name="make", role=role).root)

    assert plain.ops == with_role.ops
    assert {plain.head: llb.Role()} == dict(plain.roles)
    assert {with_role.head: role} == dict(with_role.roles)


def test_every_verb_takes_one() -> None:
    """Commands, changes of files, merges and differences."""
    changed = BASE.file(llb.mkfile("/x", b""), name="file", role=QUIET)
    states = {
        "file": changed,
        "run": BASE.run(["x"], name="run", role=QUIET).root,
        "merge": llb.merge([BASE, changed], name="merge", role=QUIET),
        "diff": llb.diff(BASE, changed, name="diff", role=QUIET),
    }

    for state in states.values():
        definition = _marshal(state)
        assert QUIET == dict(definition.roles)[definition.head or ""]


def test_the_name_on_the_wire_is_the_name() -> None:
    """Nothing is put before it or after it for a program to read."""
    definition = _marshal(BASE.run(["make"], name="make it (wheels)", role=QUIET).root)

    assert "make it (wheels)" == definition.names[definition.head or ""]


def test_other_programs_leave_out_what_is_quiet() -> None:
    """They know groups of which no member is to be seen; a step that is to be seen is in none."""
    quiet = _marshal(BASE.run(["make"], name="make", role=QUIET).root)
    seen = _marshal(BASE.run(["make"], name="make", role=ATTEMPT).root)

    assert quiet.metadata_of(quiet.head or "").progress_group.weak
    assert not seen.metadata_of(seen.head or "").HasField("progress_group")


@pytest.mark.parametrize("quiet_first", [True, False])
def test_what_two_operations_describe_is_only_what_both_are(quiet_first: bool) -> None:
    """A vertex that one part of the graph keeps quiet about, and another does not, is seen under the latter's name."""
    quiet = BASE.run(["make"], name="helper", role=llb.Role(quiet=True, attempt=True)).root
    seen = BASE.run(["make"], name="make", role=llb.Role(attempt=True)).root
    both = [quiet, seen] if quiet_first else [seen, quiet]
    definition = _marshal(llb.scratch().file(*(llb.copy(state, "/", f"/{n}") for n, state in enumerate(both))))

    [(digest, name)] = [(digest, name) for digest, name in definition.names.items() if name in ("helper", "make")]
    assert "make" == name
    assert llb.Role(attempt=True) == dict(definition.roles)[digest]
    assert not definition.metadata_of(digest).HasField("progress_group")


def test_what_nobody_named_has_none() -> None:
    """It is called what the daemon calls it."""
    assert () == _marshal(BASE.run(["make"]).root).roles


def test_a_graph_of_the_daemons_has_none() -> None:
    """What a frontend of the daemon made is the daemon's, names and all; what was made here keeps its role."""
    ours = _marshal(BASE.run(["make"], name="make", role=ATTEMPT).root)
    theirs = llb.Definition.from_wire(ours.to_wire())

    assert ours == theirs
    assert () == theirs.roles == _marshal(llb.from_definition(theirs)).roles
    assert "make" in _marshal(llb.from_definition(theirs)).names.values()
    assert ours.roles == _marshal(llb.from_definition(ours)).roles


@pytest.mark.parametrize(
    ("state", "title"),
    [
        (BASE, "docker-image://docker.io/library/debian:12"),
        (BASE.run(["sh", "-c", "make it"]).root, "make it"),
        (BASE.run(["make", "a b"]).root, "make 'a b'"),
        (BASE.run(["make"], name="its name").root, "its name"),
        (BASE.file(llb.mkdir("/x")), "a change of files"),
        (llb.merge([BASE, BASE.file(llb.mkdir("/x"))]), "a merge"),
        (llb.diff(BASE, BASE.file(llb.mkdir("/x"))), "a difference"),
    ],
)
def test_a_vertex_has_a_title_without_a_name(state: llb.State, title: str) -> None:
    """What an error calls it, where the daemon has not said what it calls it."""
    definition = _marshal(state)

    assert title == definition.title(definition.head or "")
