"""Which steps see which, for real layers; and what is done for a platform that is foreign to the daemon's machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.merge import DiffOp, MergeOp
from buildkit_builder.buildkit.wire import ops_pb2
from buildkit_builder.errors import CapabilityError
from buildkit_builder.image.lower import BuildLines, Environment, Lowered, Question, Resolved, ResolveImage, lower
from buildkit_builder.image.plan import plan
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    DockerfileLayer,
    EnvLayer,
    Layer,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    SecretRef,
    UvProjectLayer,
    WorkdirLayer,
)
from tests.image.lower.driver import AMD64, Daemon, Graph, environment_of, folder_layer, lowered, spec

ARM64 = llb.Platform(architecture="arm64")
WIDE = Environment(side_by_side=True)
FOREIGN = Environment(side_by_side=True, native=AMD64)
GIT, CURL = AptLayer(packages=("git",)), AptLayer(packages=("curl",))
NUMPY, PANDAS = PipLayer(packages=("numpy",)), PipLayer(packages=("pandas",))
SOURCE = folder_layer("/work/src", "/app")
COMMAND = CommandsLayer(commands=("make",))


def waits(result: Lowered) -> dict[str, set[str]]:
    """By the name of a step, the steps that come right before it."""
    steps = result.outline
    return {step.name: {steps[number].name for number in step.after} for step in steps}


def wide(*layers: Layer, **changes: Any) -> Lowered:
    """An image of these layers, side by side."""
    return lowered(spec(*layers), environment=replace(WIDE, **changes))


def test_an_installation_runs_beside_what_stands_before_it() -> None:
    """The trunk is everything else, each after the one before it; the joined tree has them all."""
    result = wide(GIT, NUMPY, SOURCE, CURL)

    assert {
        "uv": set(),
        "the Python 3.12 environment": {"uv"},
        "with_apt_packages git": {"the Python 3.12 environment"},
        "with_pip_packages numpy (wheels)": {"the Python 3.12 environment"},
        "with_source_folder src → /app": {"with_apt_packages git"},
        "with_apt_packages curl": {"with_pip_packages numpy (wheels)", "with_source_folder src → /app"},
    } == waits(result)


def test_layers_lie_in_the_written_order() -> None:
    """What runs ahead is put into its place."""
    result = wide(GIT, NUMPY, SOURCE)
    joined = result.state.op
    assert isinstance(joined, MergeOp)
    tops = [state.op.upper.op if isinstance(state.op, DiffOp) else state.op for state in joined.layers]

    assert [
        "with_apt_packages git", "with_pip_packages numpy (wheels)", "with_source_folder src → /app",
    ] == [op.name for op in tops if op is not None]  # fmt: skip


@pytest.mark.parametrize("place", ["/opt/venv/lib/x", "/opt", "/"])
def test_what_is_copied_into_the_environment_comes_after_what_was_installed(place: str) -> None:
    """And is there for what is installed after it."""
    result = waits(wide(NUMPY, folder_layer("/work/src", place), PANDAS))

    assert {"with_pip_packages numpy (wheels)"} == result[f"with_source_folder src → {place}"]
    assert {f"with_source_folder src → {place}"} == result["with_pip_packages pandas (wheels)"]


def test_copies_follow_each_other() -> None:
    """Where a path leads to, and whose its folders are, the ones before may have decided."""
    result = waits(wide(SOURCE, folder_layer("/work/data", "/srv/data"), WorkdirLayer(path="/var/x")))

    assert {"with_source_folder src → /app"} == result["with_source_folder data → /srv/data"]
    assert {"with_source_folder data → /srv/data"} == result["with_workdir /var/x"]


def test_in_sequence_each_waits_for_the_one_before() -> None:
    """As the setting `parallel: false` and a daemon without merges have it; nothing is tried ahead."""
    result = lowered(spec(GIT, NUMPY, SOURCE))
    names = list(waits(result))

    assert [set(), *({name} for name in names[:-1])] == list(waits(result).values())
    assert {} == result.attempts
    assert "MergeOp" not in str(result.state)


@pytest.mark.parametrize("barrier", [COMMAND, DockerfileLayer(lines=("RUN make",))])
def test_a_command_sees_all_before_it_and_is_seen_by_all_after_it(barrier: Layer) -> None:
    """What it reads and writes cannot be told."""
    result = waits(wide(GIT, NUMPY, SOURCE, barrier, CURL, PANDAS))
    [name] = [name for name in result if name.endswith("make")]

    assert {"with_pip_packages numpy (wheels)", "with_source_folder src → /app"} == result[name]
    assert {"with_apt_packages git"} == result["package lists"]
    assert [{name}] * 2 == [result["with_apt_packages curl"], result["with_pip_packages pandas (wheels)"]]


def test_an_installation_is_the_same_step_whatever_stands_before_it() -> None:
    """So that another layer before it does not make it run again."""
    before, after = wide(GIT, SOURCE, NUMPY), wide(NUMPY)

    assert attempt(before) == attempt(after)


def test_an_installation_that_cannot_be_tried_is_plain() -> None:
    """Where something may be read that other steps put there."""
    result = wide(GIT, PipLayer(packages=("-e /app",)))

    assert {} == result.attempts
    assert {"with_apt_packages git"} == waits(result)["with_pip_packages -e /app"]


def test_an_installation_is_tried_ahead_of_packages() -> None:
    """Whatever does not rest on it is wanted however it ends."""
    result = wide(GIT, NUMPY, PANDAS, SOURCE)
    apart = graph(replace(result, state=result.apart))

    assert 2 == len(result.attempts)
    assert {"with_apt_packages git", "with_source_folder src → /app"} <= set(apart.names)
    assert not {"with_pip_packages numpy (wheels)", "with_pip_packages pandas (wheels)"} & set(apart.names)


def test_an_installation_that_has_to_wait_runs_in_the_users_order() -> None:
    """After its wheels were installed ahead; those after it are tried ahead of nothing."""
    first = wide(GIT, NUMPY, PANDAS)
    [numpy, _] = first.attempts
    result = drive(lower(plan(spec(GIT, NUMPY, PANDAS)), AMD64, WIDE, frozenset({numpy})))
    runs = [run.meta.args[2] for run in graph(result).runs]

    assert {} == {number: state for number, state in result.attempts.items() if number == numpy}
    assert 1 == runs.count("uv pip install --python $UV_PYTHON numpy")
    assert {"with_apt_packages git", "with_pip_packages numpy (wheels)"} == waits(result)["with_pip_packages numpy"]


def test_what_an_installation_cannot_read_is_no_input_of_it() -> None:
    """A variable of the user's does not make wheels be installed again; one that uv knows does."""
    before = attempt(wide(GIT, NUMPY))
    other = attempt(wide(GIT, EnvLayer(variables=(("MODE", "fast"),)), NUMPY))
    known = attempt(wide(GIT, EnvLayer(variables=(("UV_PRERELEASE", "allow"),)), NUMPY))
    named = attempt(
        wide(GIT, EnvLayer(variables=(("PLACE", "a"),)), PipLayer(packages=("numpy",), options=INDEX))
    )  # fmt: skip

    assert before == other
    assert before != known
    assert "a" == environment_of(named)["PLACE"]


INDEX = PipOptions(index_url="https://$PLACE/simple")


def attempt(result: Lowered) -> ops_pb2.ExecOp:
    """The first installation that is tried ahead."""
    state = next(iter(result.attempts.values()))
    return graph(replace(result, state=state)).runs[-1]


def graph(result: Lowered, platform: llb.Platform = AMD64) -> Graph:
    """The graph of a lowered image."""
    return Graph(llb.marshal(result.state, platform=platform))


def test_a_python_of_the_systems_own_is_anywhere() -> None:
    """Installing into it is like any command."""
    daemon = Daemon(config={"Env": ["UV_PYTHON=/usr/bin/python3"]})
    result = waits(lowered(spec(GIT, NUMPY, SOURCE), daemon, WIDE))

    assert "with_apt_packages git" in result["with_pip_packages numpy"]
    assert {"with_pip_packages numpy"} == result["with_source_folder src → /app"]


@pytest.mark.parametrize("layers", [(GIT, NUMPY), (SOURCE, NUMPY), (NUMPY, GIT, PANDAS), (GIT, NUMPY, PANDAS)])
def test_an_installation_ahead_of_something_is_checked(layers: tuple[Layer, ...]) -> None:
    """Where it would have seen something else than it did, it is to follow."""
    result = wide(*layers)

    assert set() < set(result.checks) <= set(result.attempts)


def test_an_installation_that_sees_everything_needs_no_check() -> None:
    """There is nothing that could have steered it."""
    assert {} == wide(NUMPY, PANDAS).checks


def test_where_copies_lead_that_do_not_see_an_installation_is_checked() -> None:
    """A link may lead into the environment."""
    assert 1 == len(wide(NUMPY, SOURCE).checks)
    assert {} == wide(NUMPY, COMMAND, SOURCE).checks
    here, there = (check_of(wide(NUMPY, folder_layer(f"/work/{name}", "/app"))) for name in ("one", "two"))
    assert here == there != check_of(wide(NUMPY, folder_layer("/work/one", "/srv/app")))


def test_an_installation_ahead_starts_in_a_directory_that_is_there() -> None:
    """Its container would make the working directory anew, as root's."""
    ahead, after_all = wide(WorkdirLayer(path="/app"), GIT, NUMPY), wide(WorkdirLayer(path="/app"), COMMAND, NUMPY)

    assert "/" == attempt(ahead).meta.cwd
    assert "/app" == attempt(after_all).meta.cwd


def test_files_of_an_installation_ahead_are_where_no_image_has_any() -> None:
    """The image may have a directory of that name."""
    layer = RequirementsLayer(file=Path("r.txt"), content=b"six\n")
    targets = [mount.dest for mount in attempt(wide(GIT, layer)).mounts if "requirements" in mount.dest]

    assert ["/dev/buildkit-builder/here/requirements.txt"] == targets


def check_of(result: Lowered) -> str | None:
    """The digest of the only check."""
    [check] = result.checks.values()
    return llb.marshal(check, platform=AMD64).head


def test_installations_before_the_same_steps_have_one_check() -> None:
    """It does not tell them apart."""
    first, second = wide(GIT, NUMPY, PANDAS).checks.values()

    assert llb.marshal(first, platform=AMD64).head == llb.marshal(second, platform=AMD64).head


def test_what_is_to_be_in_order_is_not_ahead_at_all() -> None:
    """Nor is what has wheels."""
    [number] = wide(GIT, NUMPY).checks
    result = drive(lower(plan(spec(GIT, NUMPY)), AMD64, WIDE, frozenset({number}), frozenset({number})))

    assert {"with_apt_packages git"} == waits(result)["with_pip_packages numpy"]
    assert "with_pip_packages numpy (wheels)" not in waits(result)
    assert ({}, {}) == (result.attempts, result.checks)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("UV_INDEX", "file:///opt/simple"),
        ("UV_INDEX", "mine=/opt/simple"),
        ("UV_INDEX_URL", "https://example.com/simple /opt/simple"),
        ("UV_DEFAULT_INDEX", "/opt/simple"),
        ("UV_FIND_LINKS", "wheels"),
        ("UV_CONSTRAINT", "constraints.txt"),
        ("UV_OVERRIDE", "/etc/overrides.txt"),
        ("UV_EXCLUDE", "excludes.txt"),
        ("UV_CONFIG_FILE", "uv.toml"),
        ("UV_ENV_FILE", ".env"),
        ("UV_SOMETHING_NEW", "/opt/x"),
        ("NETRC", "netrc"),
        ("XDG_CONFIG_HOME", "/opt/config"),
        ("XDG_CONFIG_DIRS", "/opt/config"),
        ("XDG_CONFIG_DIRS", "conf"),
        ("BASH_ENV", "rc"),
        ("ENV", "rc"),
        ("LD_PRELOAD", "libx.so"),
        ("PYTHONHOME", "/opt/python"),
        ("PYTHONPYCACHEPREFIX", "/opt/cache"),
        ("TMPDIR", "/app/tmp"),
        ("PATH", "bin:$PATH"),
        ("PATH", "$PATH:"),
    ],
)
def test_a_variable_that_names_a_place_puts_an_installation_into_the_written_order(variable: str, value: str) -> None:
    """Steps before it may have written there, and an index that is not to be asked is not asked."""
    result = wide(GIT, EnvLayer(variables=((variable, value),)), NUMPY)

    assert {} == result.attempts
    assert {"with_apt_packages git"} == waits(result)["with_pip_packages numpy"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("UV_INDEX", "https://example.com/simple mine=http://example.org/simple"),
        ("UV_PRERELEASE", "allow"),
        ("UV_HTTP_TIMEOUT", "60"),
        ("UV_NO_CACHE", "false"),
        ("UV_INDEX_MINE_PASSWORD", "a/b"),
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("NO_PROXY", "10.0.0.0/8"),
        ("TZ", "Europe/Berlin"),
        ("PYTHONPATH", "/app"),
        ("PATH", "/opt/mine/bin:$PATH"),
        ("MODEL", "/data/model"),
    ],
)
def test_a_variable_that_names_no_place_keeps_an_installation_ahead(variable: str, value: str) -> None:
    """What PATH and PYTHONPATH lead to is looked at by the check."""
    assert 1 == len(wide(GIT, EnvLayer(variables=((variable, value),)), NUMPY).attempts)


@pytest.mark.parametrize(
    ("address", "is_ahead"), [("https://example.com/simple", True), ("file:///opt/simple", False), ("", False)]
)
@pytest.mark.parametrize("option", ["$MINE", "${MINE}", "${MINE}/simple"])
def test_a_variable_that_is_an_index_counts_as_what_it_is(address: str, is_ahead: bool, option: str) -> None:
    """Whether it stands in an option or in a requirements file."""
    variable = EnvLayer(variables=(("MINE", address),))
    of_option = wide(GIT, variable, PipLayer(packages=("numpy",), options=PipOptions(extra_index_urls=(option,))))
    of_file = wide(
        GIT, variable, RequirementsLayer(file=Path("r.txt"), content=f"--extra-index-url {option}\nsix\n".encode())
    )

    assert is_ahead == bool(of_option.attempts) == bool(of_file.attempts)


def test_a_secret_that_is_an_index_is_looked_at_where_it_is_known() -> None:
    """By the attempt itself, in whose container it is."""
    first, other = (
        texts_of(wide(GIT, PipLayer(packages=("numpy",), secrets=(secret(variable=name),))))
        for name in ("UV_INDEX_URL", "TOKEN")
    )

    assert any("for name in UV_INDEX_URL; do" in text for text in first)
    assert not any("for name in" in text for text in other)


@pytest.mark.parametrize(
    ("shell", "is_ahead"),
    [
        (["/bin/sh", "-c"], True),
        (["/bin/bash", "-euxo", "pipefail", "-c"], True),
        (["/usr/bin/bash", "-c"], True),
        (["/bin/bash", "-lc"], False),
        (["/bin/bash", "--login", "-c"], False),
        (["/bin/bash", "-ic"], False),
        (["bash", "-c"], False),
        (["/usr/bin/env", "bash", "-c"], False),
        (["/bin/zsh", "-c"], False),
        (["/usr/local/bin/sh", "-c"], False),
    ],
)
def test_a_shell_that_may_read_files_puts_an_installation_into_the_written_order(
    shell: list[str], is_ahead: bool
) -> None:
    """Steps before it may have written them."""
    daemon = Daemon(config={"Env": ["PATH=/usr/bin"], "Shell": shell})

    assert is_ahead == bool(lowered(spec(GIT, NUMPY), daemon, WIDE).attempts)


def test_a_secret_file_that_is_settings_puts_an_installation_into_the_written_order() -> None:
    """What it names cannot be told."""
    layer = PipLayer(packages=("numpy",), secrets=(secret(path="/etc/uv/uv.toml"),))

    assert {} == wide(GIT, layer).attempts


def test_a_project_is_not_ahead_where_another_environment_is_active() -> None:
    """`uv sync --active` writes there."""
    project = UvProjectLayer(pyproject=Path("p/pyproject.toml"), lock=Path("p/uv.lock"))

    assert 1 == len(wide(GIT, project).attempts)
    assert {} == wide(GIT, EnvLayer(variables=(("VIRTUAL_ENV", "/app/.venv"),)), project).attempts


def secret(*, variable: str | None = None, path: str | None = None) -> SecretRef:
    """A secret of a layer."""
    return SecretRef(id="x", variable=variable, path=path, source_variable="X", source_file="")


def texts_of(result: Lowered) -> list[str]:
    """The files that are written for steps to read."""
    definition = llb.marshal(result.state, platform=AMD64)
    return [
        action.mkfile.data.decode()
        for digest in definition.digests
        for action in definition.op(digest).file.actions
        if action.HasField("mkfile")
    ]


# --- a foreign platform ---


def foreign(*layers: Layer, environment: Environment = FOREIGN, native: bool = True) -> Lowered:
    """An image for arm64 on an amd64 machine, where the base is there for that as well or not."""
    return drive(lower(plan(spec(*layers)), ARM64, environment), native=native)


def drive(lowering: Any, *, native: bool = True) -> Lowered:
    """Answers as a daemon would."""
    daemon, answer = Daemon(), None
    try:
        while True:
            question: Question = lowering.send(answer)
            if isinstance(question, ResolveImage) and question.optional and not native:
                answer = None
            else:
                answer = daemon.answer(question)
    except StopIteration as done:
        result: Lowered = done.value
        return result


def platforms(result: Lowered) -> dict[str, set[str]]:
    """By the name of a command, the architectures of the machines that it runs on."""
    definition = llb.marshal(result.state, platform=ARM64)
    found: dict[str, set[str]] = {}
    for digest in definition.digests:
        op = definition.op(digest)
        if op.HasField("exec"):
            found.setdefault(definition.names[digest], set()).add(op.platform.Architecture)
    return found


def test_wheels_for_a_foreign_platform_are_installed_by_the_machines_own_programs() -> None:
    """The environment is made and filled in a container of the machine's platform, and both are checked."""
    result = foreign(NUMPY)

    assert {"the Python 3.12 environment": {"amd64"}, "with_pip_packages numpy (wheels)": {"amd64"}} == platforms(
        result
    )
    assert 2 == len(result.attempts) == len(result.checks)


@pytest.mark.parametrize("side_by_side", [True, False])
def test_what_would_have_been_steered_is_emulated(side_by_side: bool) -> None:
    """The machine's own programs see nothing of the image."""
    environment = replace(FOREIGN, side_by_side=side_by_side)
    numbers = frozenset(foreign(NUMPY, environment=environment).checks)
    result = drive(lower(plan(spec(NUMPY)), ARM64, environment, frozenset(), numbers))

    assert {
        "the Python 3.12 environment (emulated)": {"arm64"}, "with_pip_packages numpy (emulated)": {"arm64"},
    } == platforms(result)  # fmt: skip


@pytest.mark.parametrize(
    "layer", [SOURCE, COMMAND, WorkdirLayer(path="/app"), EnvLayer(variables=(("APT_CONFIG", "/etc/mine"),))]
)
def test_programs_are_lent_to_a_package_manager_that_nothing_can_steer(layer: Layer) -> None:
    """Else all of it is emulated, and says so."""
    assert "with_apt_packages git (scripts emulated)" in platforms(foreign(GIT, layer))
    assert "with_apt_packages git (emulated)" in platforms(foreign(layer, GIT))


def test_the_image_for_a_foreign_platform_has_its_own_programs() -> None:
    """Of the base and of uv the image has those of its platform, and the container those of the machine's."""
    result = foreign(NUMPY)
    definition = llb.marshal(result.state, platform=ARM64)
    sources = [definition.op(digest) for digest in definition.digests if definition.op(digest).HasField("source")]

    assert [("amd64", 2), ("arm64", 2)] == [
        (name, sum(op.platform.Architecture == name for op in sources)) for name in ("amd64", "arm64")
    ]


def test_commands_for_a_foreign_platform_are_emulated_and_say_so() -> None:
    """Nothing is known of them, so that nothing else will do."""
    assert {"arm64"} == platforms(foreign(COMMAND))["with_commands make (emulated)"]


def test_without_the_base_for_the_machine_all_is_emulated() -> None:
    """There is no container that the work could be done in."""
    found = platforms(foreign(NUMPY, native=False))

    assert {"arm64"} == set().union(*found.values())
    assert all(name.endswith(" (emulated)") for name in found)


@pytest.mark.parametrize("layer", [COMMAND, GIT, DockerfileLayer(lines=("FROM x", "  run make"))])
def test_without_an_emulator_a_step_that_needs_one_is_named(layer: Layer) -> None:
    """Before anything is built, with the ways out."""
    with pytest.raises(CapabilityError, match=r"(?s)^(with_|Dockerfile).*linux/arm64.*emulator.*node.*platform"):
        foreign(layer, environment=replace(FOREIGN, emulates=False))


def test_without_an_emulator_wheels_and_files_are_no_matter() -> None:
    """Nothing of the platform runs."""
    result = foreign(NUMPY, SOURCE, WorkdirLayer(path="/app"), environment=replace(FOREIGN, emulates=False))

    assert {"amd64"} == set().union(*platforms(result).values())


def test_of_several_platforms_each_step_says_whose_it_is() -> None:
    """In progress, where they are all in one view."""
    result = foreign(NUMPY, COMMAND, environment=replace(FOREIGN, label="linux/arm64"))

    assert "[linux/arm64] with_commands make (emulated)" in platforms(result)
    assert "[linux/arm64] with_pip_packages numpy (wheels)" in platforms(result)


def test_lines_of_a_dockerfile_see_what_was_before_them() -> None:
    """They are handed the joined tree."""
    daemon = Daemon()
    lowered(spec(GIT, SOURCE, DockerfileLayer(lines=("RUN make",))), daemon, WIDE)
    [question] = daemon.built

    assert isinstance(question, BuildLines)
    names = graph(question.image).names
    assert {"with_apt_packages git", "with_source_folder src → /app"} <= set(names)


def test_resolved_images_are_those_of_both_platforms() -> None:
    """The base and uv are asked for as the image's and as the machine's."""
    asked: list[ResolveImage] = []
    daemon, lowering, answer = Daemon(), lower(plan(spec(NUMPY)), ARM64, FOREIGN), None
    try:
        while True:
            question = lowering.send(answer)
            assert isinstance(question, ResolveImage)
            asked.append(question)
            answer = daemon.answer(question)
            assert isinstance(answer, Resolved)
    except StopIteration:
        pass

    assert [("debian:12", "arm64", False), ("debian:12", "amd64", True),
            ("ghcr.io/astral-sh/uv:1", "arm64", False), ("ghcr.io/astral-sh/uv:1", "amd64", True)] == [
        (question.reference, question.platform.architecture, question.optional) for question in asked
    ]  # fmt: skip


def test_package_lists_are_put_where_a_command_may_look_for_them() -> None:
    """Right after the last packages before it, so that they are of the same sources; an image without one has none."""
    names = [step.name for step in wide(GIT, CURL, SOURCE, COMMAND, COMMAND, CURL, NUMPY, COMMAND, GIT).outline]

    assert [
        "with_apt_packages git", "with_apt_packages curl", "package lists", "with_source_folder src → /app",
        "with_commands make", "with_commands make", "with_apt_packages curl", "package lists",
        "with_pip_packages numpy (wheels)", "with_commands make", "with_apt_packages git",
    ] == names[2:]  # fmt: skip


def test_packages_see_everything_before_them() -> None:
    """Their scripts may read it, and what they are called by may be relative to the working directory."""
    run = graph(wide(WorkdirLayer(path="/app"), SOURCE, GIT)).run("with_apt_packages git")

    assert "/app" == run.meta.cwd
    assert {"with_source_folder src → /app"} == waits(wide(SOURCE, GIT))["with_apt_packages git"]
    assert {"with_pip_packages numpy (wheels)"} == waits(wide(NUMPY, GIT))["with_apt_packages git"]
