"""Which steps see which, for real layers; and what is done for a platform that is foreign to the daemon's machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from buildkit_builder import llb
from buildkit_builder.errors import CapabilityError
from buildkit_builder.lower import BuildLines, Environment, Lowered, Question, Resolved, ResolveImage, lower
from buildkit_builder.plan import plan
from buildkit_builder.spec import (
    AptLayer,
    CommandsLayer,
    DockerfileLayer,
    EnvLayer,
    Layer,
    PipLayer,
    PipOptions,
    WorkdirLayer,
)
from buildkit_builder.wire import ops_pb2
from tests.lower.driver import AMD64, Daemon, Graph, environment_of, folder_layer, lowered, spec

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


def test_packages_environment_and_sources_are_branches_of_the_base() -> None:
    """Whatever their order; the joined tree has them all."""
    result = wide(GIT, NUMPY, SOURCE, CURL)

    assert {
        "uv": set(),
        "the Python 3.12 environment": {"uv"},
        "with_apt_packages git": set(),
        "with_apt_packages curl": {"with_apt_packages git"},
        "with_pip_packages numpy (wheels)": {"the Python 3.12 environment"},
        "with_source_folder src → /app": set(),
    } == waits(result)
    assert type(result.state.op).__name__ == "MergeOp"


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

    assert {"package lists", "with_pip_packages numpy (wheels)", "with_source_folder src → /app"} == result[name]
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
    assert {"with_apt_packages git", "the Python 3.12 environment"} == waits(result)["with_pip_packages -e /app"]


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


def test_a_file_where_uv_looks_for_settings_is_seen() -> None:
    """Sources that are copied into the working directory may bring one."""
    here = wide(WorkdirLayer(path="/app"), SOURCE, NUMPY)
    elsewhere = wide(WorkdirLayer(path="/srv/x"), SOURCE, NUMPY)

    assert "with_source_folder src → /app" in waits(here)["with_pip_packages numpy (wheels)"]
    assert "with_source_folder src → /app" not in waits(elsewhere)["with_pip_packages numpy (wheels)"]


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
    """The environment is made and filled in a container of the machine's platform."""
    result = foreign(NUMPY)

    assert {"the Python 3.12 environment": {"amd64"}, "with_pip_packages numpy (wheels)": {"amd64"}} == platforms(
        result
    )
    assert 1 == len(result.attempts)


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
    """Before the first command after packages; an image without one has none."""
    names = [step.name for step in wide(GIT, COMMAND, COMMAND, CURL, NUMPY, COMMAND, GIT).outline]

    assert [
        "with_apt_packages git", "package lists", "with_commands make", "with_commands make", "with_apt_packages curl",
        "with_pip_packages numpy (wheels)", "package lists", "with_commands make", "with_apt_packages git",
    ] == names[2:]  # fmt: skip


def test_packages_named_by_a_file_see_everything() -> None:
    """Another step may have put it there, and it may be relative to the working directory."""
    here = WorkdirLayer(path="/app")
    result = wide(here, SOURCE, AptLayer(packages=("./mine.deb",)))
    run = graph(result).run("with_apt_packages ./mine.deb")

    assert "with_source_folder src → /app" in waits(result)["with_apt_packages ./mine.deb"]
    assert "/app" == run.meta.cwd
    assert "/" == graph(wide(here, GIT)).run("with_apt_packages git").meta.cwd
