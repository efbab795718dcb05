"""What states become: graphs and configs, lowered without a daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder import buildkit as bk
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.front.recipe import Lowered, Lowering, ResolvedBase
from buildkit_builder.errors import ImageError

AMD64 = llb.Platform(architecture="amd64")
ARM64 = llb.Platform(architecture="arm64")
DIGEST = f"sha256:{'0' * 64}"
BASE = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Env": ["PATH=/opt/bin:/bin", "VERSION=3"],
        "Cmd": ["python3"],
        "User": "app",
        "WorkingDir": "/srv",
        "Labels": {"made": "here"},
    },
}


def lowered(state: bk.State, platform: llb.Platform = AMD64, base: dict[str, Any] = BASE) -> Lowered:
    """The state for one platform, where every image has the config `BASE`."""
    config = llb.ImageConfig.parse(json.dumps(base).encode())
    bases = {
        image: ResolvedBase(reference=str(llb.ImageReference.parse(image.reference).with_digest(DIGEST)), config=config)
        for image in state.bases()
    }
    return Lowering(platform=platform, bases=bases).lower(state)


def execs(state: bk.State, platform: llb.Platform = AMD64) -> list[Any]:
    """What the commands of the state's graph are told."""
    definition = llb.marshal(lowered(state, platform).tree, platform=platform)
    found = (definition.op(digest) for digest in definition.digests)
    return [op.exec for op in found if op.HasField("exec")]


def test_a_command_runs_with_the_environment_directory_and_user_of_the_base() -> None:
    """As after a Dockerfile's `FROM`."""
    (meta,) = (found.meta for found in execs(bk.image("base").run(["env"])))

    assert ["PATH=/opt/bin:/bin", "VERSION=3"] == list(meta.env)
    assert "/srv" == meta.cwd
    assert "app" == meta.user


def test_the_image_keeps_what_its_base_says_of_itself() -> None:
    """A step changes nothing of the config."""
    config = lowered(bk.image("base").run(["true"])).config

    assert ("python3",) == config.cmd
    assert {"made": "here"} == config.labels
    assert "app" == config.user


def test_the_base_is_taken_by_its_digest() -> None:
    """What was looked up is what is built on."""
    definition = llb.marshal(lowered(bk.image("base")).tree, platform=AMD64)

    assert (f"docker.io/library/base:latest@{DIGEST}",) == definition.images


def test_verbs_change_later_commands_and_the_image() -> None:
    """And leave the commands before them as they were."""
    state = bk.image("base").run(["one"]).env(A="1").env({"B-C": "2"}).dir("sub").user("0").run(["two"])
    one, two = execs(state)

    assert ["PATH=/opt/bin:/bin", "VERSION=3"] == list(one.meta.env)
    assert ["PATH=/opt/bin:/bin", "VERSION=3", "A=1", "B-C=2"] == list(two.meta.env)
    assert ("/srv/sub", "0") == (two.meta.cwd, two.meta.user)
    assert "/srv/sub" == lowered(state).config.working_dir


def test_a_variable_of_one_command_is_not_in_the_image() -> None:
    """`env=` of a command wins over the state's, for that command."""
    state = bk.image("base").run(["one"], env={"VERSION": "4"})
    (one,) = execs(state)

    assert "VERSION=4" in one.meta.env
    assert "3" == lowered(state).config.env["VERSION"]


def test_a_text_runs_in_the_shell_of_the_image() -> None:
    """In `/bin/sh -c`, unless the base says otherwise."""
    state = bk.image("base").shell("a && b")
    base = {**BASE, "config": {"Shell": ["/bin/bash", "-ec"]}}
    tree = lowered(state, base=base).tree
    definition = llb.marshal(tree, platform=AMD64)
    (bash,) = (op.exec for op in map(definition.op, definition.digests) if op.HasField("exec"))

    assert ["/bin/sh", "-c", "a && b"] == list(execs(state)[0].meta.args)
    assert ["/bin/bash", "-ec", "a && b"] == list(bash.meta.args)


def test_a_new_entrypoint_drops_the_command_of_the_base_alone() -> None:
    """As with Docker: a command of one's own stays."""
    assert () == lowered(bk.image("base").entrypoint(["x"])).config.cmd
    assert ("y",) == lowered(bk.image("base").cmd(["y"]).entrypoint(["x"])).config.cmd


def test_directories_come_before_the_path_of_the_base() -> None:
    """Which no state knows before it is built."""
    state = bk.image("base").prepend_path("/venv/bin", "/tools")

    assert "/venv/bin:/tools:/opt/bin:/bin" == lowered(state).config.env["PATH"]


@pytest.mark.parametrize(
    ("dst", "path"),
    [("out", "/srv/out"), ("out/", "/srv/out/"), (".", "/srv/"), ("/", "/"), ("../a", "/a"), ("/b", "/b")],
)
def test_a_copy_goes_to_the_directory_of_the_state(dst: str, path: str) -> None:
    """And a `/` at the end still tells a directory."""
    state = bk.image("base").copy(bk.scratch().write("/f", "x"), dst)
    definition = llb.marshal(lowered(state).tree, platform=AMD64)
    (copy,) = (
        action.copy
        for op in map(definition.op, definition.digests)
        for action in op.file.actions
        if action.HasField("copy")
    )

    assert path == copy.dest
    assert "/" == copy.src


def test_a_copy_of_a_single_file_takes_the_file(tmp_path: Path) -> None:
    """And not a directory that holds it."""
    (tmp_path / "f.txt").write_text("x")

    assert "/f.txt" == bk.local(tmp_path / "f.txt").step.content
    assert "/tool" == bk.http("https://host.example/a/tool?x=1").step.content
    assert "/" == bk.local(tmp_path).step.content


def test_a_state_of_several_stages_looks_each_image_up_once() -> None:
    """However often it is used."""
    build = bk.image("build").run(["make"])
    state = bk.image("base").copy(build, "/out", "/a").copy(build, "/out", "/b").copy(bk.image("base"), "/c", "/d")

    assert ["base", "build"] == sorted(base.reference for base in state.bases())
    assert 1 == len(execs(state))


def test_a_base_for_one_platform_runs_on_that_platform() -> None:
    """As `FROM --platform=` does for a compiler."""
    state = bk.scratch().copy(bk.image("build", platform="linux/amd64").run(["make"]), "/out", "/")
    definition = llb.marshal(lowered(state, ARM64).tree, platform=ARM64)
    platforms = [op.platform.Architecture for op in map(definition.op, definition.digests) if op.HasField("exec")]

    assert ["amd64"] == platforms


def test_mounts_become_mounts_and_no_value_enters_the_graph() -> None:
    """A secret is in the graph by its name alone."""
    mounts = [
        bk.cache("/cache"),
        bk.tmpfs("/tmp", size=1024),
        bk.bind("/tool", bk.image("tool"), "/usr"),
        bk.secret("file", value="hidden-1"),
        bk.secret("var", value="hidden-2").as_env("TOKEN"),
        bk.ssh(),
    ]
    state = bk.image("base").run(["x"], mounts=mounts)
    definition = llb.marshal(lowered(state).tree, platform=AMD64)
    (found,) = execs(state)

    assert {"/", "/cache", "/tmp", "/tool", "/run/secrets/file", "/run/buildkit/ssh_agent.0"} == {
        mount.dest for mount in found.mounts
    }
    assert [("TOKEN", "var")] == [(secret.name, secret.ID) for secret in found.secretenv]
    assert not any(b"hidden" in op for op in definition.ops)
    assert "hidden" not in repr(mounts)


def test_a_repository_asks_for_its_token_or_its_agent() -> None:
    """Which is no part of the graph."""
    https = bk.git("https://host.example/a/b.git", "v1", subdir="docs", token=bk.secret("t", value="hidden"))
    definition = llb.marshal(lowered(https).tree, platform=AMD64)

    assert "git://host.example/a/b.git#v1:docs" == definition.op(definition.digests[0]).source.identifier
    assert "t" == definition.op(definition.digests[0]).source.attrs["git.authtokensecret"]
    assert {"t": b"hidden"} == https.needs().secrets
    assert not any(b"hidden" in op for op in definition.ops)


def test_many_steps_are_no_deep_recursion() -> None:
    """A state of thousands of steps is lowered, and printed."""
    state = bk.image("base")
    for number in range(5000):
        state = state.env(N=str(number))

    assert "4999" == lowered(state).config.env["N"]
    assert "<State of 5000 steps>" == repr(state)


base = bk.image("base")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: base.run("echo hi"), r"`args` is 'echo hi', and has to be a list of texts. Write `.shell"),
        (lambda: base.run(["x", 1]), "`args` has 1 in it"),  # type: ignore[list-item]
        (lambda: base.shell(["echo"]), r"`command` is \['echo'\], and has to be a text. Write `.run"),  # type: ignore[arg-type]
        (lambda: base.env(PORT=80), '`PORT` is 80, and has to be a text. Write `"80"`'),  # type: ignore[arg-type]
        (lambda: base.env([("A", "b")]), "is not a mapping"),  # type: ignore[arg-type]
        (lambda: base.copy(".", "/app"), r'has to be a state. Write `bk.local\("."\)`'),  # type: ignore[call-overload]
        (lambda: base.run(["x"], mounts=bk.ssh()), "`mounts` is .* has to be a list"),  # type: ignore[arg-type]
        (lambda: base.run(["x"], mounts=["/cache"]), "takes what `bk.cache`"),  # type: ignore[list-item]
        (lambda: base.cmd("python"), "`args` is 'python'"),
        (lambda: base.user(1000), "has to be text"),  # type: ignore[arg-type]
        (lambda: base.write("/f", 3), "3"),  # type: ignore[arg-type]
        (lambda: bk.image(3), "has to be the name of an image"),  # type: ignore[arg-type]
        (lambda: bk.local(".", exclude="*.log"), "has to be a list of patterns"),
        (lambda: bk.bind("/x", "python"), "has to be a state"),  # type: ignore[arg-type]
        (lambda: bk.secret("a", value=3), "has to be text or bytes"),  # type: ignore[arg-type]
        (lambda: bk.build("python:3.12"), r'Write `bk.image\("python:3.12"\)`'),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_type_is_refused_before_anything_is_built(wrong: Callable[[], object], says: str) -> None:
    """And the message says what to write."""
    with pytest.raises(TypeError, match=says):
        wrong()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: base.run([]),
        lambda: base.shell(""),
        lambda: base.env({"A=B": "c"}),
        lambda: base.copy(base, "/a", "/b", owner=":x"),
        lambda: bk.secret("a", value="x", env="X"),
        lambda: bk.http("ftp://host/x"),
        lambda: base.run(["x"], network="host"),  # type: ignore[arg-type]
    ],
)
def test_a_senseless_value_is_refused_before_anything_is_built(wrong: Callable[[], object]) -> None:
    """With a `ValueError`."""
    with pytest.raises(ValueError, match=r"."):
        wrong()


def test_a_malformed_name_is_an_error_of_the_image() -> None:
    """Names are what people write into settings."""
    with pytest.raises(ImageError):
        bk.image("Not A Name")
