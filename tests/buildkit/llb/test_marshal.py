from __future__ import annotations

from hypothesis import given

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.definition import digest_of, serialize
from buildkit_builder.buildkit.wire import ops_pb2
from tests.buildkit.llb.graphs import AMD64, last_op, platforms, states

ARM64 = llb.Platform(architecture="arm64")


@given(states, platforms)
def test_marshalled_graphs_survive_the_wire(state: llb.State, platform: llb.Platform) -> None:
    """A definition that went over the wire is the definition that was sent."""
    definition = llb.marshal(state, platform=platform)
    received = ops_pb2.Definition.FromString(definition.to_wire().SerializeToString())

    assert definition == llb.Definition.from_wire(received)


@given(states)
def test_every_vertex_comes_once_and_after_its_inputs(state: llb.State) -> None:
    """Vertices are in order, each distinct one is there once, and all but the last are used."""
    definition = llb.marshal(state, platform=AMD64)
    known: set[str] = set()
    used: set[str] = set()
    for digest, data in zip(definition.digests, definition.ops, strict=True):
        inputs = {source.digest for source in ops_pb2.Op.FromString(data).inputs}
        assert inputs <= known
        assert digest not in known
        known.add(digest)
        used |= inputs

    assert set(definition.digests[:-1]) == used


@given(states)
def test_marshalling_is_deterministic(state: llb.State) -> None:
    """The same graph gives the same bytes every time."""
    assert llb.marshal(state, platform=AMD64) == llb.marshal(state, platform=AMD64)


@given(states)
def test_vertices_are_in_the_form_that_daemons_digest(state: llb.State) -> None:
    """Writing a decoded vertex again gives the same bytes."""
    definition = llb.marshal(state, platform=AMD64)

    assert definition.ops == tuple(serialize(ops_pb2.Op.FromString(data)) for data in definition.ops)


@given(states)
def test_all_metadata_belongs_to_a_vertex(state: llb.State) -> None:
    """There is metadata for every vertex and for nothing else, and each demands something of the daemon."""
    definition = llb.marshal(state, platform=AMD64)

    assert sorted(definition.digests) == [digest for digest, _ in definition.metadata]
    assert all(definition.metadata_of(digest).caps for digest in definition.digests)


@given(states)
def test_all_demands_are_ids_that_daemons_know(state: llb.State) -> None:
    """No vertex names an id that no daemon registers: that would fail every build."""
    definition = llb.marshal(state, platform=AMD64)
    named = {capability for digest in definition.digests for capability in definition.metadata_of(digest).caps}

    assert set() == named - set(llb.FIRST_RELEASE)
    assert set() == named & {"file.copy.modestring", "exec.meta.removemountstubs.recursive"}


def every_field() -> llb.State:
    """A graph with nearly every field of the protocol somewhere in it."""
    base = llb.image("python:3.11-slim-bookworm", resolve_mode="local", name="base")
    code = llb.local(
        "ctx",
        session="nosuch",
        include=["a<b>&", "é\u2028"],
        exclude=["x"],
        follow=["l"],
        shared_key="k",
        differ="none",
        metadata_only=True,
    )
    ssh = llb.git(
        "git@github.com:a/b.git", ref="main", subdir="x", keep_git_dir=True, known_ssh_hosts="h k", checksum="a" * 40
    )
    https = llb.git("https://u:p@github.com:8443/a/b.git#v1:/y/", auth_token_secret="t")
    download = llb.http(
        "https://localhost:1/x",
        filename="f",
        mode=0o600,
        uid=3,
        gid=4,
        checksum="sha256:" + "0" * 64,
        accept="a",
        user_agent="b",
        auth_header_secret="s",
    )
    run = base.run(
        ["false"],
        mounts=[
            llb.SecretFile("/s", "id", 1, 2, 0o444, optional=True),
            llb.Ssh(),
            llb.Ssh("/x", optional=True),
            llb.Bind("/l", code, selector="/q"),
            llb.Cache("/c", "c", "locked", source=llb.local("ctx", unique="u1")),
        ],
        secret_env=[llb.SecretEnv("E", "e", optional=True)],
        platform=llb.Platform(architecture="arm", variant="v7"),
        ulimits=[("nofile", -1, 1)],
        valid_exit_codes=[1, 200],
        cgroup_parent="x",
        network="none",
    )
    files = base.file(
        llb.copy(
            ssh,
            "/",
            "/a/.",
            owner=llb.Owner("u", "g", lookup=https),
            include=["é"],
            exclude=["y"],
            mode=0o4755,
            timestamp=0,
            replace=True,
        ),
        llb.copy(download, "f", "/b/", mode_str="u+s"),
        llb.copy(llb.scratch(), "/", "/c"),
        llb.rm("/z"),
    )
    layout = llb.oci_layout("st", "sha256:" + "1" * 64, session="zz", layer_limit=2)
    owned = llb.scratch().file(llb.mkdir("/a", owner=llb.Owner(0, 0)))
    return llb.merge([base, run.root, files, layout, llb.diff(base, llb.scratch()), owned])


def test_digests_are_those_a_daemon_reports() -> None:
    """BuildKit 0.25.2 reported these digests for these graphs; the first is of all that the graph is made from."""
    tree = llb.scratch().file(
        llb.mkdir("/d", parents=True, timestamp=0),
        llb.mkfile("/d/a.txt", b"hello", 0o600, owner=llb.Owner(user=5, group=6)),
        llb.symlink("a.txt", "/d/l"),
        llb.mkfile("/d/b.bin", b"\xff", timestamp=10**18),
    )

    assert (
        "sha256:9bc7b903e5cc9575ce9adbb11b033acf51bd06751cb9096b43e7486c1169b221"
        == llb.marshal(every_field(), platform=AMD64).head
    )
    assert "sha256:949bd25e2ab589f236dd4fddcea92dc6735b26615f0c59b1aaddba329b709d89" == (
        llb.marshal(tree, platform=AMD64).head
    )


def test_the_kind_of_a_vertex_is_written_last() -> None:
    """Go's encoder puts the member of a oneof after fields with higher numbers, and daemons digest that form."""
    definition = llb.marshal(llb.image("alpine"), platform=AMD64)
    data = definition.ops[0]
    source = ops_pb2.Op.FromString(data).source.SerializeToString(deterministic=True)

    assert data.endswith(bytes([0x5A, 0x00, 0x1A, len(source)]) + source)


def test_scratch_is_an_empty_definition() -> None:
    """Scratch has no vertices, and the daemon is told so by an empty message."""
    definition = llb.marshal(llb.scratch(), platform=AMD64)

    assert definition.is_scratch
    assert b"" == definition.to_wire().SerializeToString()


def test_the_terminal_vertex_points_at_the_result() -> None:
    """The last vertex holds nothing but the output that was asked for."""
    done = llb.image("alpine").run(["true"], mounts=[llb.Bind("/out", llb.scratch())])
    definition = llb.marshal(done.output("/out"), platform=AMD64)
    terminal = ops_pb2.Op.FromString(definition.ops[-1])

    assert ops_pb2.Op(inputs=[ops_pb2.Input(digest=definition.digests[-2], index=1)]) == terminal
    assert definition.digests[-2] == definition.head


def test_the_terminal_vertex_demands_what_the_graph_uses() -> None:
    """Descriptions and ignored caches anywhere are demands of the terminal vertex."""
    plain = llb.image("alpine")
    special = plain.run(["true"], name="check", ignore_cache=True).root

    def demands(state: llb.State) -> set[str]:
        definition = llb.marshal(state, platform=AMD64)
        return set(definition.metadata_of(definition.digests[-1]).caps)

    assert {"constraints", "platform"} == demands(plain)
    assert {"constraints", "platform", "meta.description", "meta.ignorecache"} == demands(special)


def test_names_and_ignored_caches_are_metadata() -> None:
    """What a vertex is called and whether its cache counts change its metadata, not its digest."""
    plain = llb.marshal(llb.image("alpine").run(["true"]).root, platform=AMD64)
    special = llb.marshal(llb.image("alpine").run(["true"], name="check", ignore_cache=True).root, platform=AMD64)

    assert plain.ops == special.ops
    assert {special.head: "check"} == special.names
    assert special.head is not None
    assert special.metadata_of(special.head).ignore_cache


def test_vertices_that_differ_only_in_metadata_are_one() -> None:
    """Such vertices are written once, with the demands of all of them."""
    base = llb.image("alpine")
    one, two = base.run(["true"], name="one").root, base.run(["true"], ignore_cache=True).root
    definition = llb.marshal(llb.merge([llb.diff(base, one), llb.diff(base, two)]), platform=AMD64)
    run = next(digest for digest in definition.digests if definition.command(digest) is not None)

    assert 5 == len(definition.ops)
    assert "one" == definition.names[run]
    assert definition.metadata_of(run).ignore_cache


def test_the_given_platform_is_for_vertices_without_one() -> None:
    """Images and commands without a platform get the one that the graph is marshalled for."""
    plain = llb.image("alpine")
    fixed = llb.image("alpine", platform=AMD64)

    assert "arm64" == last_op(plain, ARM64).platform.Architecture
    assert "arm64" == last_op(plain.run(["true"]).root, ARM64).platform.Architecture
    assert "amd64" == last_op(fixed, ARM64).platform.Architecture
    assert "amd64" == last_op(fixed.run(["true"], platform=AMD64).root, ARM64).platform.Architecture


def test_only_images_and_commands_have_a_platform() -> None:
    """Go's client clears the platform of all other vertices, and their digest depends on it."""
    base = llb.image("alpine")
    others = [
        llb.local("code"),
        llb.git("https://h/r"),
        llb.http("https://h/f"),
        base.file(llb.rm("/x")),
        llb.merge([base, llb.local("code")]),
        llb.diff(base, llb.local("code")),
    ]

    assert [False] * len(others) == [last_op(state).HasField("platform") for state in others]
    assert last_op(llb.oci_layout("store", "sha256:" + "0" * 64)).HasField("platform")


def test_long_chains_are_marshalled() -> None:
    """A graph may be far deeper than Python's stack."""
    state = llb.image("alpine")
    for number in range(10_000):
        state = state.run(["echo", str(number)]).root

    assert 10_002 == len(llb.marshal(state, platform=AMD64).ops)


def test_diamonds_are_visited_once() -> None:
    """A graph with many paths through few vertices is written in as many steps as it has vertices."""
    state = llb.image("alpine")
    for number in range(100):
        state = llb.merge([state.file(llb.mkdir(f"/a{number}")), state.file(llb.mkdir(f"/b{number}"))])

    assert 302 == len(llb.marshal(state, platform=AMD64).ops)


def test_digests_are_of_the_bytes_that_are_sent() -> None:
    """`digests` belong to `ops`, one by one."""
    definition = llb.marshal(llb.image("alpine").run(["true"]).root, platform=AMD64)

    assert tuple(map(digest_of, getattr(definition.to_wire(), "def"))) == definition.digests
