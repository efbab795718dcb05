"""Graphs for tests of this room: made by hypothesis, and typical ones."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2

AMD64 = llb.Platform()
DIGEST = "sha256:" + "0123456789abcdef" * 4

words = st.text("abcxyz<&é\u2028 ", min_size=1, max_size=6)
names = st.none() | words
paths = st.lists(st.sampled_from(["a", "b", "c.d", "ü"]), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
platforms = st.sampled_from(
    [llb.Platform(), llb.Platform(architecture="arm64"), llb.Platform(architecture="arm", variant="v6")]
)
timestamps = st.none() | st.integers(0, 2**62)
modes = st.integers(0, 0o777)

sources = st.one_of(
    st.builds(llb.scratch),
    st.builds(
        llb.image,
        st.sampled_from(["python:3.12", "ghcr.io/a/b", f"x@{DIGEST}"]),
        platform=st.none() | platforms,
        resolve_mode=st.sampled_from(["default", "pull", "local"]),
        layer_limit=st.none() | st.integers(1, 9),
        name=names,
    ),
    st.builds(
        llb.local,
        st.sampled_from(["context", "code"]),
        session=st.sampled_from(["", "s1"]),
        include=st.lists(words, max_size=2),
        exclude=st.lists(words, max_size=2),
        follow=st.lists(words, max_size=2),
        differ=st.sampled_from([None, "none", "metadata"]),
        metadata_only=st.booleans(),
        display=names,
    ),
    st.builds(llb.git, st.sampled_from(["https://h/r.git", "git@h:r.git"]), ref=st.sampled_from(["", "main"])),
    st.builds(llb.http, st.just("https://h/f"), mode=st.none() | st.integers(1, 0o777), uid=st.none() | st.just(7)),
    st.builds(llb.oci_layout, st.just("store"), st.just(DIGEST), platform=st.none() | platforms),
)


def owners(states: st.SearchStrategy[llb.State]) -> st.SearchStrategy[llb.Owner | None]:
    """Owners by number, and by name in a state that has names."""
    real = states.map(lambda state: state if state.op is not None else llb.image("alpine"))
    return st.none() | st.builds(llb.Owner, user=st.integers(0, 9)) | st.builds(llb.Owner, words, words, lookup=real)


def actions(states: st.SearchStrategy[llb.State]) -> st.SearchStrategy[llb.FileAction]:
    """File actions of every kind."""
    return st.one_of(
        st.builds(
            llb.copy,
            states,
            paths,
            paths,
            owner=owners(states),
            mode=st.none() | modes,
            wildcard=st.booleans(),
            contents_only=st.booleans(),
            include=st.lists(words, max_size=2),
            exclude=st.lists(words, max_size=2),
            timestamp=timestamps,
        ),
        st.builds(llb.mkfile, paths, st.binary(max_size=8), modes, owner=owners(states), timestamp=timestamps),
        st.builds(llb.mkdir, paths, modes, parents=st.booleans(), owner=owners(states), timestamp=timestamps),
        st.builds(llb.rm, paths, allow_not_found=st.booleans(), wildcard=st.booleans()),
        st.builds(llb.symlink, words, paths, owner=owners(states), timestamp=timestamps),
    )


def mounts(states: st.SearchStrategy[llb.State]) -> st.SearchStrategy[list[llb.Mount]]:
    """Mounts of every kind, at targets of their own."""
    any_mount = st.one_of(
        st.builds(llb.Bind, paths, states, readonly=st.booleans(), output=st.booleans()),
        st.builds(llb.Cache, paths, words, st.sampled_from(["shared", "private", "locked"]), st.none() | states),
        st.builds(llb.Tmpfs, paths, st.none() | st.integers(1, 2**40)),
        st.builds(llb.SecretFile, paths, words, mode=modes, optional=st.booleans()),
        st.builds(llb.Ssh, paths, words),
    )
    return st.lists(any_mount, max_size=4, unique_by=lambda mount: mount.target)


def grown(states: st.SearchStrategy[llb.State]) -> st.SearchStrategy[llb.State]:
    """Graphs one vertex larger than the given ones."""
    runs = st.builds(
        llb.State.run,
        states,
        st.lists(words, min_size=1, max_size=3),
        env=st.lists(st.tuples(st.sampled_from(["PATH", "A", "B"]), words), max_size=3),
        mounts=mounts(states),
        secret_env=st.lists(st.builds(llb.SecretEnv, words, words), max_size=1),
        network=st.sampled_from(["default", "host", "none"]),
        valid_exit_codes=st.lists(st.integers(0, 255), max_size=2),
        platform=st.none() | platforms,
        name=names,
        ignore_cache=st.booleans(),
        read_only_root=st.booleans(),
    )
    files = st.builds(
        lambda base, made, name: base.file(*made, name=name),
        states,
        st.lists(actions(states), min_size=1, max_size=4),
        names,
    )
    return st.one_of(
        runs.map(lambda done: done.root),
        files,
        st.lists(states, max_size=3).map(llb.merge),
        st.builds(llb.diff, states, states),
    )


@st.composite
def graphs(draw: st.DrawFn) -> llb.State:
    """The last of some states that are made from sources and from each other."""
    known: list[llb.State] = [draw(sources) for _ in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(0, 4))):
        known.append(draw(grown(st.sampled_from(known))))
    return known[-1]


states = graphs()


def last_op(state: llb.State, platform: llb.Platform = AMD64) -> ops_pb2.Op:
    """The marshalled vertex of a state, decoded."""
    definition = llb.marshal(state, platform=platform)
    assert definition.head is not None
    return definition.op(definition.head)


def capabilities(state: llb.State) -> set[str]:
    """What the vertex of a state demands of the daemon."""
    definition = llb.marshal(state, platform=AMD64)
    assert definition.head is not None
    return set(definition.metadata_of(definition.head).caps)


def typical() -> Mapping[str, llb.State]:
    """Graphs as builds of images have them, by name."""
    base = llb.image(f"python:3.12-slim@{DIGEST}", name="base image")
    apt = base.run(
        ["/bin/sh", "-c", "apt-get update && apt-get install -y git"],
        env=[("DEBIAN_FRONTEND", "noninteractive")],
        mounts=[
            llb.Cache("/var/cache/apt", "apt", "locked"),
            llb.Cache("/var/lib/apt/lists", "apt-lists", "locked"),
        ],
        name="install git",
    ).root
    venv = base.run(
        ["uv", "pip", "install", "numpy"],
        env=[("PATH", "/opt/venv/bin:/usr/bin"), ("UV_LINK_MODE", "copy")],
        mounts=[
            llb.Cache("/root/.cache/uv", "uv"),
            llb.SecretFile("/run/secrets/netrc", "netrc", optional=True),
            llb.Bind("/opt/venv", llb.scratch()),
            llb.Bind("/src", llb.local("code", session="session", exclude=["**/*.pyc"]), readonly=True),
        ],
        secret_env=[llb.SecretEnv("UV_INDEX_PASSWORD", "index-password")],
        proxy=llb.ProxyEnv(https="http://proxy:3128", no="localhost"),
        name="install numpy",
    )
    code = base.file(
        llb.mkdir("/app", parents=True, owner=llb.Owner.parse("nobody:nogroup"), timestamp=0),
        llb.copy(llb.local("code", session="session"), "/", "/app/", contents_only=True, exclude=[".git"]),
        llb.mkfile("/app/READY", b"yes\n", 0o600, timestamp=0),
        llb.symlink("READY", "/app/link"),
        llb.rm("/tmp/*", wildcard=True, allow_not_found=True),
        name="copy the code",
    )
    return {
        "chain": apt.file(llb.mkfile("/etc/motd", b"hello\n"))
        .run(["git", "--version"], user="nobody", cwd="/tmp")
        .root,
        "branches": llb.merge([base, llb.diff(base, apt), llb.diff(base, code)], name="join"),
        "mounts": venv.output("/opt/venv"),
        "files": code,
    }
