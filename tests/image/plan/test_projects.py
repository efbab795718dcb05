"""Projects, wheels and their like to steps: the commands of Flyte's own Dockerfile, and what is mounted for them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flyte._internal.imagebuild import docker_builder

from buildkit_builder.image.plan import CacheMount, CopyImage, CopyLocal, Plan, Run, SetEnv, WriteFile, plan
from buildkit_builder.image.spec import (
    ImageSpec,
    Layer,
    LocalFiles,
    PipOptions,
    PixiProjectLayer,
    PoetryProjectLayer,
    SecretRef,
    UvProjectLayer,
    WheelLayer,
)

TOKEN = SecretRef(id="flyte/TOKEN", variable="TOKEN", source_variable="TOKEN", source_file="/etc/secrets/TOKEN")
APP = Path("/work/app")
UV_CACHE = CacheMount(target="/root/.cache/uv", id="uv-1")
OPTIONS = PipOptions(index_url="https://i", extra_index_urls=("https://j",), pre=True, extra_args="--only-group dev")
ARGUMENTS = "--index-url https://i --extra-index-url https://j --pre --only-group dev"


def planned(*layers: Layer) -> Plan:
    """The plan of an image with these layers."""
    return plan(
        ImageSpec(
            reference="reg.example.com/mine:1", push=True, base="debian:12", platforms=("linux/amd64",),
            python_version=(3, 12), layers=layers, creates_user=False, uv_image="uv:1",
        )
    )  # fmt: skip


def steps(layer: Layer) -> list[Any]:
    """The steps of a layer alone, without those that every image has before and after."""
    return list(planned(layer).steps[len(planned().steps) - 2 : -2])


def mounts(layer: Layer, run: Run) -> dict[str, tuple[LocalFiles, str, bool]]:
    """What a step sees of this machine: by target the files, what of them, and whether it may write."""
    sources = {source.name: source.files for source in planned(layer).sources}
    assert len({mount.target for mount in run.mounts}) == len(run.mounts)
    return {mount.target: (sources[mount.source], mount.path, mount.writable) for mount in run.mounts}


def file(path: Path) -> LocalFiles:
    return LocalFiles(kind="file", root=path)


def folder(path: Path) -> LocalFiles:
    return LocalFiles(kind="folder", root=path, ignore=("*.log",))


def template(name: str, **values: str) -> list[str]:
    """The commands of a template of Flyte's own builder, without their mounts."""
    text = getattr(docker_builder, name).substitute(SECRET_MOUNT="", **values)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    instructions = re.split(r"^(?=RUN|ENV|COPY)", "\n".join(lines).replace("\\\n", " "), flags=re.MULTILINE)
    runs = [text.removeprefix("RUN") for text in instructions if text.startswith("RUN")]
    return [" ".join(word for word in run.split() if not word.startswith("--mount=")) for run in runs]


# --- uv ---

UV = UvProjectLayer(pyproject=APP / "pyproject.toml", lock=APP / "uv.lock", place="app", secrets=(TOKEN,))
UV_INSTALLED = replace(UV, project=folder(APP))


def test_dependencies_of_a_uv_project() -> None:
    """The command is Flyte's; the project file can be read, the lock written, and neither stays in the image."""
    [run] = steps(UV)

    assert (
        "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv} uv sync --active --inexact --no-install-project" == run.command
    )  # fmt: skip
    assert {
        "pyproject.toml": (file(APP / "pyproject.toml"), "/pyproject.toml", False),
        "uv.lock": (file(APP / "uv.lock"), "/uv.lock", True),
    } == mounts(UV, run)
    assert ((UV_CACHE,), (TOKEN,), "with_uv_project app") == (run.caches, run.secrets, run.name)


@pytest.mark.parametrize("lock", [APP / "uv.lock", None])
@pytest.mark.parametrize("options", [PipOptions(), OPTIONS, PipOptions(extra_args="--no-install-project -v")])
def test_commands_of_a_uv_project_are_flytes(lock: Path | None, options: PipOptions) -> None:
    """With and without a lock, and with every option."""
    [run] = steps(replace(UV, lock=lock, options=options))
    arguments = " ".join(options.arguments())
    if "--no-install-project" not in arguments:
        arguments += " --no-install-project"
    name = "UV_LOCK_WITHOUT_PROJECT_INSTALL_TEMPLATE" if lock else "UV_NO_LOCK_WITHOUT_PROJECT_INSTALL_TEMPLATE"
    values = {"UV_LOCK_PATH": "l"} if lock else {}

    assert [run.command] == template(
        name, PYPROJECT_PATH="p", PIP_INSTALL_ARGS=arguments, EDITABLE_INSTALL_MOUNTS="", **values
    )


@pytest.mark.parametrize("options", [PipOptions(), OPTIONS])
def test_commands_of_an_installed_uv_project_are_flytes(options: PipOptions) -> None:
    """The project is where Flyte has it, since that is recorded in what gets installed."""
    [run] = steps(replace(UV_INSTALLED, options=options))

    assert [run.command] == template(
        "UV_LOCK_INSTALL_TEMPLATE", PYPROJECT_PATH="app", PIP_INSTALL_ARGS=" ".join(options.arguments())
    )


def test_options_of_a_uv_project() -> None:
    """They stand before what the mode adds."""
    [dependencies], [installed] = steps(replace(UV, options=OPTIONS)), steps(replace(UV_INSTALLED, options=OPTIONS))

    assert dependencies.command.endswith(f"uv sync --active --inexact {ARGUMENTS} --no-install-project")
    assert installed.command.endswith(f"--inexact --no-editable {ARGUMENTS} --project /root/.flyte/app")


def test_a_uv_project_without_a_lock() -> None:
    """There is nothing beside the project file."""
    layer = replace(UV, lock=None)
    [run] = steps(layer)

    assert ["pyproject.toml"] == list(mounts(layer, run))


def test_an_installed_uv_project() -> None:
    """The whole folder, which may be written to; the lock is in it."""
    [run] = steps(UV_INSTALLED)

    assert {"/root/.flyte/app": (folder(APP), "/", True)} == mounts(UV_INSTALLED, run)
    assert ((UV_CACHE,), (TOKEN,)) == (run.caches, run.secrets)


def test_a_lock_of_uv_from_elsewhere() -> None:
    """It takes the place of the project's own, by the name that uv looks for."""
    lock = Path("/work/locks/gpu.lock")
    layer, installed = replace(UV, lock=lock), replace(UV_INSTALLED, lock=lock)

    assert (file(lock), "/gpu.lock", True) == mounts(layer, steps(layer)[0])["uv.lock"]
    assert (file(lock), "/gpu.lock", True) == mounts(installed, steps(installed)[0])["/root/.flyte/app/uv.lock"]


def test_what_a_uv_project_depends_on_in_place() -> None:
    """Seen from the project where it is on this machine, and writable, as build tools want it."""
    needed = (
        ("libs/a", folder(APP / "libs/a")),
        ("../b", folder(Path("/work/b"))),
        ("/srv/c", folder(Path("/srv/c"))),
        ("d.whl", file(APP / "d.whl")),
    )
    layer, installed = replace(UV, editables=needed), replace(UV_INSTALLED, editables=needed)
    found = mounts(layer, steps(layer)[0])
    below = mounts(installed, steps(installed)[0])

    assert {
        "./libs/a": (folder(APP / "libs/a"), "/", True),
        "./../b": (folder(Path("/work/b")), "/", True),
        "/srv/c": (folder(Path("/srv/c")), "/", True),
        "./d.whl": (file(APP / "d.whl"), "/d.whl", True),
    } == {target: mount for target, mount in found.items() if target not in ("pyproject.toml", "uv.lock")}
    assert {
        "/root/.flyte/app", "/root/.flyte/app/libs/a", "/root/.flyte/app/../b", "/srv/c", "/root/.flyte/app/d.whl",
    } == set(below)  # fmt: skip


def test_a_project_with_a_space_in_its_path() -> None:
    """The shell takes it for one word; the mount has it as it is."""
    uv = replace(UV_INSTALLED, place="my app")
    poetry = replace(POETRY_INSTALLED, place="my app")

    assert steps(uv)[0].command.endswith("--project '/root/.flyte/my app'")
    assert "/root/.flyte/my app" in mounts(uv, steps(uv)[0])
    assert steps(poetry)[-1].command.endswith("-C '/root/.flyte/my app'")


def test_a_project_of_a_script_is_named_after_its_constructor() -> None:
    """The user never wrote `with_uv_project`."""
    assert "from_uv_script app" == steps(replace(UV_INSTALLED, origin="from_uv_script"))[0].name


# --- Poetry ---

POETRY = PoetryProjectLayer(
    pyproject=APP / "pyproject.toml", lock=APP / "poetry.lock", place="app", secrets=(TOKEN,)
)  # fmt: skip
POETRY_INSTALLED = replace(POETRY, project=folder(APP))
POETRY_CACHE = CacheMount(target="/tmp/poetry_cache", id="poetry")


@pytest.mark.parametrize("arguments", ["", "--only main", "--no-root -v"])
@pytest.mark.parametrize("layer", [POETRY, POETRY_INSTALLED])
def test_commands_of_a_poetry_project_are_flytes(layer: PoetryProjectLayer, arguments: str) -> None:
    """Poetry itself, and the project by it, in both modes and with every option."""
    runs = [step.command for step in steps(replace(layer, extra_args=arguments)) if isinstance(step, Run)]
    if layer.project is None:
        given = arguments if "--no-root" in arguments else f"{arguments} --no-root"
        expected = template(
            "POETRY_LOCK_WITHOUT_PROJECT_INSTALL_TEMPLATE", POETRY_LOCK_PATH="l", PYPROJECT_PATH="p",
            POETRY_INSTALL_ARGS=given,
        )  # fmt: skip
    else:
        expected = template("POETRY_LOCK_INSTALL_TEMPLATE", PYPROJECT_PATH="app", POETRY_INSTALL_ARGS=arguments)

    assert expected == [" ".join(command.split()) for command in runs]


def test_dependencies_of_a_poetry_project() -> None:
    """Variables of the image as Flyte sets them, and files that only the step sees; the secrets reach it."""
    poetry, env, run = steps(POETRY)

    assert ("uv pip install poetry", (UV_CACHE,), ()) == (poetry.command, poetry.caches, poetry.secrets)
    assert (
        SetEnv(variables=(("POETRY_CACHE_DIR", "/tmp/poetry_cache"), ("POETRY_VIRTUALENVS_IN_PROJECT", "true"))) == env
    )
    assert "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv} poetry install --no-root" == run.command
    assert {
        "pyproject.toml": (file(APP / "pyproject.toml"), "/pyproject.toml", False),
        "poetry.lock": (file(APP / "poetry.lock"), "/poetry.lock", False),
    } == mounts(POETRY, run)
    assert ((POETRY_CACHE,), (TOKEN,)) == (run.caches, run.secrets)


def test_an_installed_poetry_project() -> None:
    """The whole folder, which may be written to."""
    _, env, run = steps(POETRY_INSTALLED)

    assert SetEnv(variables=(("POETRY_CACHE_DIR", "/tmp/poetry_cache"),)) == env
    assert run.command.endswith(" poetry install -C /root/.flyte/app")
    assert {"/root/.flyte/app": (folder(APP), "/", True)} == mounts(POETRY_INSTALLED, run)
    assert ((POETRY_CACHE,), (TOKEN,)) == (run.caches, run.secrets)


def test_a_lock_of_poetry_from_elsewhere() -> None:
    """It takes the place of the project's own, by the name that Poetry looks for."""
    lock = Path("/work/locks/other.lock")
    layer, installed = replace(POETRY, lock=lock), replace(POETRY_INSTALLED, lock=lock)

    assert (file(lock), "/other.lock", False) == mounts(layer, steps(layer)[-1])["poetry.lock"]
    assert (
        (file(lock), "/other.lock", True) == mounts(installed, steps(installed)[-1])["/root/.flyte/app/poetry.lock"]
    )  # fmt: skip


# --- pixi ---

PIXI = PixiProjectLayer(
    pixi_image="ghcr.io/prefix-dev/pixi:0.1", folder="/opt/pixi-project", manifest_name="pixi.toml",
    manifest=APP / "pixi.toml", lock=APP / "pixi.lock", secrets=(TOKEN,),
)  # fmt: skip
PIXI_CACHE = CacheMount(target="/root/.cache/rattler", id="pixi")


def copies(layer: Layer) -> dict[str, tuple[LocalFiles, str]]:
    """What is copied, by destination; all of it for root."""
    sources = {source.name: source.files for source in planned(layer).sources}
    found = [step for step in steps(layer) if isinstance(step, CopyLocal)]
    assert all(step.as_root for step in found)
    return {step.destination: (sources[step.source], step.path) for step in found}


@pytest.mark.parametrize(
    ("lock", "extra", "arguments"),
    [
        (None, "", ""),
        (APP / "pixi.lock", "", "--locked"),
        (APP / "pixi.lock", "-v", "--locked -v"),
        (APP / "pixi.lock", "--frozen", "--frozen"),
        (None, "--frozen -v", "--frozen -v"),
    ],
)
@pytest.mark.parametrize("environment", ["default", "gpu"])
def test_commands_of_a_pixi_project_are_flytes(lock: Path | None, extra: str, arguments: str, environment: str) -> None:
    """A lock counts, unless the user says otherwise: pixi refuses both options at once."""
    [run] = [
        step
        for step in steps(replace(PIXI, lock=lock, extra_args=extra, environment=environment))
        if isinstance(step, Run)
    ]

    assert [run.command] == template(
        "PIXI_INSTALL_TEMPLATE", PIXI_VERSION="1", MANIFEST_COPY_LINES="", MANIFEST_NAME="pixi.toml",
        PIXI_PROJECT_DIR="/opt/pixi-project", PIXI_ENVIRONMENT=environment, PIXI_ENV_DIR="e",
        PIXI_INSTALL_ARGS=arguments,
    )  # fmt: skip
    assert ((PIXI_CACHE,), (TOKEN,), ()) == (run.caches, run.secrets, run.mounts)


def test_a_pixi_project() -> None:
    """Pixi comes from its image, manifest and lock from here, and the environment becomes the image's own."""
    made = steps(replace(PIXI, environment="gpu"))
    environment = "/opt/pixi-project/.pixi/envs/gpu"

    assert [CopyImage, CopyLocal, CopyLocal, Run, SetEnv] == [type(step) for step in made]
    assert (
        ("ghcr.io/prefix-dev/pixi:0.1", "/usr/local/bin/pixi", "/usr/local/bin/pixi")
        == (made[0].image, made[0].path, made[0].destination)
    )  # fmt: skip
    assert {
        "/opt/pixi-project/pixi.toml": (file(APP / "pixi.toml"), "/pixi.toml"),
        "/opt/pixi-project/pixi.lock": (file(APP / "pixi.lock"), "/pixi.lock"),
    } == copies(PIXI)
    assert (
        SetEnv(
            variables=(
                ("VIRTUAL_ENV", environment),
                ("UV_PYTHON", f"{environment}/bin/python"),
                ("PIXI_PROJECT_MANIFEST", "/opt/pixi-project/pixi.toml"),
                ("PATH", f"{environment}/bin:$PATH"),
            )
        )
        == made[-1]
    )
    assert ("debian:12", "uv:1", "ghcr.io/prefix-dev/pixi:0.1") == planned(PIXI).images


def test_a_pixi_project_in_a_pyproject() -> None:
    """The manifest keeps its name, in the image and in the command."""
    layer = replace(PIXI, manifest_name="pyproject.toml", manifest=APP / "pyproject.toml", lock=None)
    [run] = [step for step in steps(layer) if isinstance(step, Run)]

    assert ["/opt/pixi-project/pyproject.toml"] == list(copies(layer))
    assert "--manifest-path /opt/pixi-project/pyproject.toml " in run.command


def test_an_installed_pixi_project() -> None:
    """The whole folder; a lock from elsewhere is put into it."""
    whole = replace(PIXI, project=folder(APP))
    other = replace(whole, lock=Path("/work/locks/other.lock"))

    assert {"/opt/pixi-project": (folder(APP), "/")} == copies(whole)
    assert {
        "/opt/pixi-project": (folder(APP), "/"),
        "/opt/pixi-project/pixi.lock": (file(Path("/work/locks/other.lock")), "/other.lock"),
    } == copies(other)


def test_a_pixi_script() -> None:
    """What Flyte made of the header is written; the lock comes from beside the script."""
    lock = Path("/work/job.py.pixi.lock")
    layer = replace(PIXI, manifest=b"[workspace]\n", lock=lock, origin="from_pixi_script")
    [written] = [step for step in steps(layer) if isinstance(step, WriteFile)]

    assert ("/opt/pixi-project/pixi.toml", b"[workspace]\n") == (written.path, written.content)
    assert {"/opt/pixi-project/pixi.lock": (file(lock), "/job.py.pixi.lock")} == copies(layer)
    assert all(step.name.startswith("from_pixi_script") for step in steps(layer) if not isinstance(step, SetEnv))


# --- wheels ---


@pytest.mark.parametrize("options", [PipOptions(), OPTIONS])
def test_wheels(options: PipOptions) -> None:
    """First what the package needs, from the index; then the package itself, from the folder alone."""
    layer = WheelLayer(folder=Path("/work/dist"), package="flyte", options=options, secrets=(TOKEN,))
    made = steps(layer)
    given = [*options.arguments(), "--find-links", "/dist"]
    expected = [[*given, "flyte"], [*given, "--no-deps", "--no-index", "--reinstall", "flyte"]]

    assert [run.command for run in made] == [
        command
        for arguments in expected
        for command in template("UV_WHEEL_INSTALL_COMMAND_TEMPLATE", PIP_INSTALL_ARGS=" ".join(arguments))
    ]
    for run in made:
        assert {"/dist": (LocalFiles(kind="folder", root=Path("/work/dist")), "/", False)} == mounts(layer, run)
        assert (CacheMount(target="/root/.cache/uv", id="wheel-1"),) == run.caches
        assert (TOKEN,) == run.secrets


def test_wheels_of_one_folder_are_read_once() -> None:
    """However many packages of it are wanted."""
    one, two = (WheelLayer(folder=Path("/work/dist"), package=name) for name in ("flyte", "flyteidl2"))

    assert 1 == len(planned(one, two).sources)
