"""Files of this machine that only a step sees, files that are written, and lines of a Dockerfile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2
from buildkit_builder.image.lower import BuildLines, Environment, Lowered
from buildkit_builder.image.plan import plan
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    DockerfileLayer,
    EnvLayer,
    PixiProjectLayer,
    PoetryProjectLayer,
    SecretRef,
    UvProjectLayer,
    WheelLayer,
    WorkdirLayer,
)
from tests.image.lower.driver import Daemon, Graph, environment_of, files, folder_layer, graph, lowered, spec

APP = Path("/work/app")
FOLDER = folder_layer("/work/src", "./src")
COMMAND = CommandsLayer(commands=("true",))
LINES = DockerfileLayer(lines=("ARG X=1", "RUN true"))
UV = UvProjectLayer(pyproject=APP / "pyproject.toml", lock=APP / "uv.lock", place="app")
UV_INSTALLED = replace(UV, project=files("folder", "/work/app"))
PIXI = PixiProjectLayer(
    pixi_image="ghcr.io/prefix-dev/pixi:0.1", folder="/opt/pixi-project", manifest_name="pixi.toml",
    manifest=APP / "pixi.toml", lock=APP / "pixi.lock",
)  # fmt: skip


def bound(made: Graph, prefix: str) -> dict[str, tuple[str, str, bool]]:
    """What is mounted for a command, by target: the local source's identifier, what of it, and whether it is fixed."""
    definition = made.definition
    [op] = [op for op in made.ops(prefix) if op.HasField("exec")]
    found = {}
    for mount in op.exec.mounts:
        if mount.mountType == ops_pb2.BIND and mount.dest != "/":
            source = definition.op(op.inputs[mount.input].digest).source
            found[mount.dest] = (source.identifier.rpartition("-")[0], mount.selector, mount.readonly)
            # What is written to it is lost.
            assert -1 == mount.output
    return found


# --- mounts ---


@pytest.mark.parametrize(
    ("workdir", "place"), [(None, "/"), ("/srv", "/srv/"), ("srv/x", "/srv/x/")]
)  # fmt: skip
def test_files_of_a_project_are_in_the_working_directory(workdir: str | None, place: str) -> None:
    """A file is mounted alone, under the name that the tool looks for."""
    layers = [WorkdirLayer(path=workdir)] if workdir else []
    made = graph(lowered(spec(*layers, UV)))

    assert {
        f"{place}pyproject.toml": ("local://pyproject.toml", "/pyproject.toml", True),
        f"{place}uv.lock": ("local://uv.lock", "/uv.lock", False),
    } == bound(made, "with_uv_project")


def test_a_whole_project_is_mounted_where_it_is_installed_from() -> None:
    """As a folder; a lock from elsewhere lies in it."""
    layer = replace(UV_INSTALLED, lock=Path("/work/locks/gpu.lock"))
    made = graph(lowered(spec(WorkdirLayer(path="/srv"), layer)))

    assert {
        "/root/.flyte/app": ("local://app", "", False),
        "/root/.flyte/app/uv.lock": ("local://gpu.lock", "/gpu.lock", False),
    } == bound(made, "with_uv_project")


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (UV, {"/srv/app/libs/a": "local://a", "/srv/b": "local://b", "/abs/c": "local://c"}),
        (UV_INSTALLED, {"/root/.flyte/app/libs/a": "local://a", "/root/.flyte/b": "local://b", "/abs/c": "local://c"}),
    ],
)
def test_what_a_project_depends_on_is_where_it_looks_for_it(layer: UvProjectLayer, expected: dict[str, str]) -> None:
    """Relative to the project, upwards as well; an absolute path stays one."""
    editables = (
        ("libs/a", files("folder", "/work/app/libs/a")),
        ("../b", files("folder", "/work/b")),
        ("/abs/c", files("folder", "/abs/c")),
    )
    made = graph(lowered(spec(WorkdirLayer(path="/srv/app"), replace(layer, editables=editables))))
    found = bound(made, "with_uv_project")

    assert expected == {target: found[target][0] for target in expected}
    assert {("", False)} == {found[target][1:] for target in expected}


def test_wheels_are_mounted_and_cannot_be_written_to() -> None:
    """For both steps."""
    made = graph(lowered(spec(WheelLayer(folder=Path("/work/dist"), package="flyte"))))

    for what in ("dependencies", "wheel"):
        assert {"/dist": ("local://dist", "", True)} == bound(made, f"local wheel flyte: {what}")


def test_nothing_of_a_mount_is_in_the_image() -> None:
    """The only output of a step is its root, and its files come from the step before."""
    made = graph(lowered(spec(UV, COMMAND)))
    [command], [project] = made.ops("with_commands"), made.ops("with_uv_project")

    assert [0] == [given.index for given in command.inputs]
    assert ["/"] == [mount.dest for mount in project.exec.mounts if mount.output == 0]
    assert project == made.definition.op(command.inputs[0].digest)


def test_mounted_sources_carry_the_session_and_their_shared_key() -> None:
    """So that the daemon asks the right client, and only for what changed."""
    keys = {source.name: f"key of {source.name}" for source in plan(spec(UV)).sources}
    made = graph(lowered(spec(UV), environment=Environment(session="s1", shared_keys=keys)))
    sources = [op.source for op in made.ops("read ")]

    assert 2 == len(sources)
    for source in sources:
        name = source.identifier.removeprefix("local://")
        assert ("s1", keys[name]) == (source.attrs["local.session"], source.attrs["local.sharedkeyhint"])


# --- what is root's ---


@pytest.mark.parametrize("creates_user", [True, False])
def test_a_pixi_project_is_roots(creates_user: bool) -> None:
    """Whatever users there are; what is copied otherwise is the `flyte` user's."""
    layer = replace(PIXI, project=files("folder", "/work/app"), lock=Path("/work/locks/other.lock"))
    made = graph(lowered(spec(layer, FOLDER, creates_user=creates_user)))
    project, lock = (made.action(f"with_pixi_project pixi.toml: {what}").copy for what in ("the project", "pixi.lock"))

    assert ("/", "/opt/pixi-project", True) == (project.src, project.dest, project.dirCopyContents)
    assert ("/other.lock", "/opt/pixi-project/pixi.lock", False) == (lock.src, lock.dest, lock.dirCopyContents)
    assert not project.HasField("owner")
    assert not lock.HasField("owner")
    assert "flyte" == made.action("with_source_folder").copy.owner.user.byName.name


def test_a_manifest_is_written() -> None:
    """With the folder around it, for root, so that anybody can read it."""
    made = graph(lowered(spec(replace(PIXI, manifest=b"[workspace]\n", lock=None), creates_user=True)))
    [op] = made.ops("with_pixi_project pixi.toml: pixi.toml")
    folder, file = op.file.actions

    assert ("/opt/pixi-project", 0o755, True) == (folder.mkdir.path, folder.mkdir.mode, folder.mkdir.makeParents)
    assert (
        ("/opt/pixi-project/pixi.toml", 0o644, b"[workspace]\n")
        == (file.mkfile.path, file.mkfile.mode, file.mkfile.data)
    )  # fmt: skip
    assert not folder.mkdir.HasField("owner")
    assert not file.mkfile.HasField("owner")


def test_the_environment_of_pixi_becomes_the_images() -> None:
    """What comes later goes into it."""
    made = dict(lowered(spec(PIXI, EnvLayer(variables=(("A", "$UV_PYTHON"),)))).config.env)

    assert "/opt/pixi-project/.pixi/envs/default/bin/python" == made["A"] == made["UV_PYTHON"]
    assert made["PATH"].startswith("/opt/pixi-project/.pixi/envs/default/bin:/opt/venv/bin:")


# --- lines of a Dockerfile ---


def test_lines_are_carried_out_on_the_image_so_far() -> None:
    """Its files and its config, as they are at that moment."""
    daemon = Daemon()
    before, after = EnvLayer(variables=(("A", "1"),)), EnvLayer(variables=(("B", "2"),))
    lowered(spec(before, WorkdirLayer(path="/srv"), COMMAND, LINES, after), daemon)
    [question] = daemon.built
    names = graph(question.image).names

    assert (("ARG X=1", "RUN true"), "Dockerfile ARG X=1; RUN true") == (question.lines, question.name)
    assert "with_commands true" == names[-1]
    assert ("1", "/srv", "root") == (
        question.image.config.env["A"], question.image.config.working_dir, question.image.config.user
    )  # fmt: skip
    assert "B" not in question.image.config.env


def test_layers_go_on_from_what_lines_made() -> None:
    """From the files and from the config of the answer."""
    daemon = Daemon()
    result = lowered(spec(LINES, COMMAND, LINES, EnvLayer(variables=(("A", "$LINES"),))), daemon)
    run = graph(result).run("with_commands")

    assert ("1", "/lines") == (environment_of(run)["LINES"], run.meta.cwd)
    assert "1" == daemon.built[1].image.config.env["LINES"]
    assert ("2", "2") == (result.config.env["LINES"], result.config.env["A"])
    assert [name for name in graph(result).names if name.startswith(("carried", "with"))] == [
        "carried out: Dockerfile ARG X=1; RUN true",
        "with_commands true",
        "carried out: Dockerfile ARG X=1; RUN true",
    ]


def test_lines_that_drop_everything_are_taken_at_their_word() -> None:
    """The answer is the image, whatever became of what stood before."""

    class Another(Daemon):
        def answer(self, question: object) -> object:
            if isinstance(question, BuildLines):
                return Lowered(state=llb.image("alpine"), config=llb.ImageConfig().with_user("nobody"))
            return super().answer(question)  # type: ignore[arg-type]

    made = lowered(spec(AptLayer(packages=("git",)), LINES, COMMAND), Another())

    assert "nobody" == graph(made).run("with_commands").meta.user
    assert ["with_commands true"] == [name for name in graph(made).names if name.startswith("with_")]


# --- what surrounds a build, told to a Dockerfile frontend ---


def test_surroundings_as_options_of_a_dockerfile() -> None:
    """Each as the frontend calls it, and nothing where nothing is set; the user's own arguments win."""
    proxy = llb.ProxyEnv(http="http://p", https="https://p", no="localhost", all="socks5://p")
    environment = Environment(
        proxy=proxy, network="none", extra_hosts=(("a", "10.0.0.1"), ("b", "::1")), no_cache=True, session="s",
        build_args=(("X", "1"), ("no_proxy", "mine")),
    )  # fmt: skip

    assert {} == Environment(session="s").dockerfile_options()
    assert {
        "build-arg:http_proxy": "http://p",
        "build-arg:https_proxy": "https://p",
        "build-arg:no_proxy": "mine",
        "build-arg:all_proxy": "socks5://p",
        "build-arg:X": "1",
        "no-cache": "",
        "force-network-mode": "none",
        "add-hosts": "a=10.0.0.1,b=::1",
    } == environment.dockerfile_options()


def test_secrets_of_a_project_reach_its_step() -> None:
    """Poetry's as well, which Flyte's own builder forgets to hand over."""
    token = SecretRef(id="flyte/T", variable="T", source_variable="T", source_file="/etc/secrets/T")
    layers = (
        replace(UV, secrets=(token,)),
        PoetryProjectLayer(pyproject=APP / "pyproject.toml", lock=APP / "poetry.lock", secrets=(token,)),
        replace(PIXI, secrets=(token,)),
    )
    runs = [run for run in graph(lowered(spec(*layers))).runs if run.secretenv]

    assert 3 == len(runs)
    assert {("flyte/T", "T")} == {(secret.ID, secret.name) for run in runs for secret in run.secretenv}
