"""Layers to steps: what runs, in which order, under which name."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.image.plan import (
    CopyImage,
    CopyLocal,
    DockerfileLines,
    InstallPackages,
    LocalSource,
    Plan,
    Run,
    SetEnv,
    SetLabels,
    SetShell,
    SetUser,
    Workdir,
    plan,
)
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    DockerfileLayer,
    EnvLayer,
    ImageSpec,
    LabelsLayer,
    Layer,
    LocalFiles,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    SecretRef,
    WorkdirLayer,
)

TOKEN = SecretRef(id="flyte/TOKEN", variable="TOKEN", source_variable="TOKEN", source_file="/etc/secrets/TOKEN")


def spec(*layers: Layer, **changes: Any) -> ImageSpec:
    """An image with these layers."""
    return replace(
        ImageSpec(
            reference="reg.example.com/team/mine:1",
            push=True,
            base="debian:12",
            platforms=("linux/amd64",),
            python_version=(3, 12),
            layers=layers,
            creates_user=False,
            uv_image="ghcr.io/astral-sh/uv:0.13.4",
        ),
        **changes,
    )


def file_layer(root: str, destination: str) -> CopyLayer:
    """A file that is copied."""
    files = LocalFiles(kind="file", root=Path(root))
    return CopyLayer(files=files, destination=destination, origin="with_source_file")


def folder_layer(root: str, destination: str, *ignore: str) -> CopyLayer:
    """A folder that is copied."""
    files = LocalFiles(kind="folder", root=Path(root), ignore=ignore)
    return CopyLayer(files=files, destination=destination, origin="with_source_folder")


def user_steps(*layers: Layer) -> list[Any]:
    """The steps of the layers alone, without those that every image has before and after."""
    before = len(plan(spec()).steps) - 2
    return list(plan(spec(*layers)).steps[before:-2])


def step(layer: Layer) -> Any:
    """The one step of a layer."""
    [found] = user_steps(layer)
    return found


def shown(planned: Plan) -> str:
    """A plan for people."""
    lines = [f"FROM {planned.base}"]
    for step in planned.steps:
        match step:
            case Run():
                extras = [f"cache {cache.target} as {cache.id}{' alone' * cache.locked}" for cache in step.caches]
                extras += [f"file {path}: {content.decode()!r}" for path, content in step.files.items()]
                extras += [f"secret {secret.id} as {secret.variable or secret.path}" for secret in step.secrets]
                lines += [f"RUN {step.name}", *(f"    {extra}" for extra in extras), f"    $ {step.command}"]
            case InstallPackages():
                lines += [f"APT {step.name}", f"    {' '.join(step.packages)}"]
            case CopyLocal():
                lines.append(f"COPY {step.name}: {step.source.partition('-')[0]}-…{step.path} to {step.destination}")
            case DockerfileLines():
                lines += [
                    f"DOCKERFILE {step.name}",
                    *(f"    secret {secret.id} as {secret.variable or secret.path}" for secret in step.secrets),
                    *(f"    | {line}" for line in step.lines),
                ]
            case CopyImage():
                lines.append(f"COPY {step.name}: {step.path} of {step.image} to {step.destination}")
            case Workdir():
                lines.append(f"WORKDIR {step.name}: {step.path}")
            case SetEnv():
                lines.append("ENV " + " ".join(f"{key}={value}" for key, value in step.variables))
            case SetLabels():
                lines.append("LABEL " + " ".join(f"{key}={value}" for key, value in step.labels))
            case SetUser():
                lines.append(f"USER {step.user}")
            case SetShell():
                lines.append(f"SHELL {' '.join(step.shell)}")
    return "\n".join(lines) + "\n"


GOLDEN = """\
FROM debian:12
USER root
COPY uv: /uv of ghcr.io/astral-sh/uv:0.13.4 to /usr/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUALENV=${VIRTUALENV-/opt/venv} \
UV_PYTHON=${UV_PYTHON-${VIRTUALENV-/opt/venv}/bin/python}
RUN the Python 3.12 environment
    $ if [ ! -f "$UV_PYTHON" ]; then uv venv $VIRTUALENV --python=3.12 && \
uv run --python=$UV_PYTHON python -m compileall $VIRTUALENV; fi
ENV PATH=$VIRTUALENV/bin:$PATH
ENV PATH=$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin LD_LIBRARY_PATH=/usr/local/nvidia/lib64
LABEL a=b c=d
RUN with_commands useradd flyte
    $ useradd flyte
WORKDIR with_workdir /home/flyte: /home/flyte
ENV A=1
ENV B=$A
APT with_apt_packages git, curl
    git curl
RUN with_pip_packages numpy<3, torch
    cache /root/.cache/uv as uv-0.13.4
    secret flyte/TOKEN as TOKEN
    $ uv pip install --python $UV_PYTHON --index-url https://$TOKEN@a --extra-index-url https://b \
--extra-index-url https://c --pre --no-deps -v 'numpy<3' torch
RUN with_requirements requirements.txt
    cache /root/.cache/uv as uv-0.13.4
    file requirements.txt: 'httpx\\n'
    $ uv pip install --python $UV_PYTHON --requirement requirements.txt
COPY with_source_folder src → ./src: src-…/ to ./src
COPY with_source_file a.py → .: a.py-…/a.py to .
DOCKERFILE Dockerfile ARG X=1; RUN true
    secret flyte/TOKEN as TOKEN
    | ARG X=1
    | RUN true
USER flyte
WORKDIR the flyte user's home: /home/flyte
ENV _F_IMG_ID=reg.example.com/team/mine:1
SHELL /bin/bash -c
"""


def test_a_typical_image() -> None:
    """The whole plan of an image with every kind of layer, as people would read it."""
    options = PipOptions(
        index_url="https://$TOKEN@a", extra_index_urls=("https://b", "https://c"), pre=True, extra_args="--no-deps -v"
    )
    planned = plan(
        spec(
            LabelsLayer(labels=(("a", "b"), ("c", "d"))),
            CommandsLayer(commands=("useradd flyte",)),
            WorkdirLayer(path="/home/flyte"),
            EnvLayer(variables=(("A", "1"), ("B", "$A"))),
            AptLayer(packages=("git", "curl")),
            PipLayer(packages=("numpy<3", "torch"), options=options, secrets=(TOKEN,)),
            RequirementsLayer(file=Path("/work/requirements.txt"), content=b"httpx\n"),
            folder_layer("/work/src", "./src"),
            file_layer("/work/src/a.py", "."),
            DockerfileLayer(lines=("ARG X=1", "RUN true"), secrets=(TOKEN,)),
            creates_user=True,
        )
    )

    assert GOLDEN == shown(planned)


def test_an_image_that_creates_no_user_keeps_running_as_root() -> None:
    """Nothing is said of a user at the end, as Flyte's own builder says nothing."""
    assert [SetUser(user="root")] == [step for step in plan(spec()).steps if isinstance(step, SetUser)]


def test_layers_take_effect_in_the_users_order() -> None:
    """The same layers in another order are another plan."""
    layers = (AptLayer(packages=("git",)), PipLayer(packages=("numpy",)), CommandsLayer(commands=("true",)))

    assert user_steps(*layers) == list(reversed(user_steps(*reversed(layers))))


def test_the_images_that_are_needed_are_each_named_once() -> None:
    """The base and the image of uv, or one if they are the same."""
    assert ("debian:12", "ghcr.io/astral-sh/uv:0.13.4") == plan(spec()).images
    assert ("debian:12",) == plan(spec(uv_image="debian:12")).images


# --- names ---


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (AptLayer(packages=("git", "curl")), "with_apt_packages git, curl"),
        (PipLayer(packages=("numpy",)), "with_pip_packages numpy"),
        (PipLayer(packages=()), "with_pip_packages"),
        (PipLayer(packages=("numpy",), origin="from_uv_script"), "from_uv_script numpy"),
        (RequirementsLayer(file=Path("/a/b.txt"), content=b""), "with_requirements b.txt"),
        (CommandsLayer(commands=("set -e\n\n  echo \t'a b'\n",)), "with_commands set -e echo 'a b'"),
        (CommandsLayer(commands=("",)), "with_commands"),
        (WorkdirLayer(path="/a\nb"), "with_workdir /a b"),
        (file_layer("/a/b c.py", "/x/"), "with_source_file b c.py → /x/"),
        (folder_layer("/", "/x"), "with_source_folder → /x"),
        (DockerfileLayer(lines=("RUN  a  <<EOF\nb\nEOF", "ENV A=1")), "Dockerfile RUN a <<EOF b EOF; ENV A=1"),
    ],
)
def test_steps_are_named_in_the_users_words(layer: Layer, name: str) -> None:
    """The layer's own method, then what it was given, on one line."""
    assert name == step(layer).name


@given(st.text(max_size=400))
def test_a_name_is_one_line_of_bounded_length(command: str) -> None:
    """Whatever a command holds, its name can be shown in one line of progress."""
    name = step(CommandsLayer(commands=(command,))).name

    assert name.splitlines() == [name]
    assert len(name) <= 120


def test_a_long_name_says_that_it_was_cut() -> None:
    """The command itself stays whole."""
    found = step(CommandsLayer(commands=("echo " + "x" * 200,)))

    assert found.name.endswith("xxx…")
    assert "echo " + "x" * 200 == found.command


# --- commands ---


def test_options_keep_the_order_of_flytes_own_builder() -> None:
    """Index, extra indexes, pre-releases, extra arguments, packages: unquoted but for the packages."""
    options = PipOptions(index_url="https://$U@a/?b", extra_index_urls=("c", "d"), pre=True, extra_args="-v --x 'y z'")

    assert (
        "uv pip install --python $UV_PYTHON --index-url https://$U@a/?b --extra-index-url c --extra-index-url d --pre "
        "-v --x 'y z' p"
    ) == step(PipLayer(packages=("p",), options=options)).command


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=5))
def test_packages_reach_the_installer_as_they_are(packages: list[str]) -> None:
    """Nothing in the name of a package is taken for shell."""
    command = step(PipLayer(packages=tuple(packages))).command

    assert ["uv", "pip", "install", "--python", "$UV_PYTHON", *packages] == shlex.split(command)


def test_each_command_of_a_layer_is_a_step_with_its_secrets() -> None:
    """A shell that changes its directory does so for its own command only."""
    first, second = user_steps(CommandsLayer(commands=("cd /a", "pwd"), secrets=(TOKEN,)))

    assert ["cd /a", "pwd"] == [first.command, second.command]
    assert [(TOKEN,), (TOKEN,)] == [first.secrets, second.secrets]


@pytest.mark.parametrize("layer", [AptLayer(packages=("a",), secrets=(TOKEN,)), PipLayer(packages=(), secrets=(TOKEN,)),
                                   RequirementsLayer(file=Path("/r.txt"), content=b"", secrets=(TOKEN,))])  # fmt: skip
def test_secrets_come_with_their_layer(layer: Layer) -> None:
    """Every layer that runs something takes secrets."""
    assert (TOKEN,) == step(layer).secrets


def test_a_layer_without_anything_gives_no_step() -> None:
    """No commands and no variables are nothing to do."""
    assert [] == user_steps(CommandsLayer(commands=()), EnvLayer(variables=()))


# --- caches ---


@pytest.mark.parametrize(
    ("image", "cache"),
    [
        ("ghcr.io/astral-sh/uv:0.13.4", "uv-0.13.4"),
        ("ghcr.io/astral-sh/uv:0.13.4-debian-slim", "uv-0.13.4-debian-slim"),
        ("uv", "uv-latest"),
        ("ghcr.io/astral-sh/uv", "uv-latest"),
        ("localhost:5000/uv", "uv-latest"),
        ("localhost:5000/astral/uv:1.2", "uv-1.2"),
        (f"ghcr.io/astral-sh/uv@sha256:{'a' * 64}", f"uv-sha256-{'a' * 64}"),
        (f"localhost:5000/uv@sha256:{'a' * 64}", f"uv-sha256-{'a' * 64}"),
        (f"localhost:5000/uv:1.2@sha256:{'a' * 64}", "uv-1.2"),
    ],
)
def test_the_cache_of_uv_is_one_per_version(image: str, cache: str) -> None:
    """The version is the tag, else the digest; a port is neither."""
    layers = (PipLayer(packages=("numpy",)), RequirementsLayer(file=Path("/r.txt"), content=b""))
    runs = [step for step in plan(spec(*layers, uv_image=image)).steps if isinstance(step, Run) and step.caches]

    assert [(cache, False)] * 2 == [(run.caches[0].id, run.caches[0].locked) for run in runs]


# --- local files ---


def sources(*layers: Layer) -> tuple[LocalSource, ...]:
    """The local sources of an image with these layers."""
    return plan(spec(*layers)).sources


FOLDER = folder_layer("/work/src", "./src", "*.pyc")


def test_a_source_keeps_its_name_whatever_else_is_in_the_image() -> None:
    """The daemon files its copy of a folder under the name, so adding a layer must not send everything again."""
    [alone] = sources(FOLDER)
    among = sources(file_layer("/work/a.py", "."), AptLayer(packages=("git",)), FOLDER)

    assert alone == among[1]
    assert alone == LocalSource(name=alone.name, files=FOLDER.files)
    assert alone.name.startswith("src-")


def test_two_copies_of_one_folder_share_a_source() -> None:
    """It is read and sent once, and copied to both places."""
    again = replace(FOLDER, destination="/elsewhere")
    planned = plan(spec(FOLDER, again))
    copies = [step for step in planned.steps if isinstance(step, CopyLocal)]

    assert 1 == len(planned.sources)
    assert ["./src", "/elsewhere"] == [copy.destination for copy in copies]
    assert {planned.sources[0].name} == {copy.source for copy in copies}


@pytest.mark.parametrize(
    "changes",
    [
        {"ignore": ()},
        {"ignore": ("*.pyc", "x")},
        {"root": Path("/work/other/src")},
        {"kind": "file"},
        {"always": ("a",)},
        {"only": ()},
        {"only": ("a",)},
    ],
)
def test_what_differs_in_any_way_is_another_source(changes: dict[str, Any]) -> None:
    """Another folder of the same name, other patterns, other files, or a file are never mixed up."""
    first, second = sources(FOLDER, replace(FOLDER, files=replace(FOLDER.files, **changes)))

    assert first.name != second.name


def test_what_is_copied_of_a_source() -> None:
    """A folder's contents, or the one file."""
    folder, file = user_steps(FOLDER, file_layer("/work/a b.py", "/x"))

    assert "/" == folder.path
    assert "/a b.py" == file.path
