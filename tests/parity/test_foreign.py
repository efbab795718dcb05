"""Images for arm64 made on another machine: by its own programs, and fully emulated. The trees must be equal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.image.lower import Environment
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    EnvLayer,
    ImageSpec,
    Layer,
    LocalFiles,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    UvProjectLayer,
    WorkdirLayer,
)
from tests.conftest import Engine
from tests.parity.differences import Ignored
from tests.parity.packages import BACKEND, Package, serve, write_project, write_sdist
from tests.parity.tools import Tools
from tests.parity.twice import differences

pytestmark = pytest.mark.usefixtures("emulator")

HANGS_AFTER_SECONDS = 180
SOUND = (
    'test -z "$(dpkg --audit)" && apt-get check -o Debug::NoLocking=1 && test "$(uname -m)" = aarch64',
    'for name in $(uv pip freeze --python $UV_PYTHON | sed "s/==.*//;s/-/_/g"); do $UV_PYTHON -c "import $name"; done',
)
LEFT = (
    Ignored(
        pattern=r"root/\.cache(/uv(/.*)?)?",
        what="path",
        reason="What uv leaves of a cache where it makes the environment: here that is not the image.",
    ),
)

# A backend whose wheels say which machine they were built on.
_BUILD = "def build_wheel(wheel_directory, config_settings=None, metadata_directory=None, editable=False):\n"
PLATFORM_IN_CODE = BACKEND.replace(
    _BUILD,
    f"{_BUILD}    import platform\n"
    "    pathlib.Path('src/parity_native/made.py').write_text(f'MADE = {platform.machine()!r}\\n')\n",
)


def _by_the_machine(environment: Environment) -> Environment:
    assert environment.native is not None, "this machine is no foreign one"
    return environment


def _emulated(environment: Environment) -> Environment:
    return replace(environment, native=None)


WAYS = (_by_the_machine, _emulated)


def image(engine: Engine, *layers: Layer) -> ImageSpec:
    """An image for arm64."""
    return ImageSpec(
        reference=f"{engine.registry}/twice:1",
        push=True,
        base="python:3.11-slim-bookworm",
        platforms=("linux/arm64",),
        python_version=(3, 11),
        layers=layers,
        creates_user=False,
        uv_image="ghcr.io/astral-sh/uv:0.13.4",
    )


async def patiently(compare: Callable[[], Coroutine[Any, Any, str]]) -> str:
    """What a comparison says; up to three times, as a program of several threads may hang when it starts another one.

    That is the emulator's doing: qemu's user mode and `uv`, which asks an interpreter what it is.
    """
    for _ in range(2):
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(compare(), HANGS_AFTER_SECONDS)
    return await compare()


def test_packages_environment_and_files_are_those_of_an_emulated_build(engine: Engine, tmp_path: Path) -> None:
    """Wheels with and without machine code, packages with scripts of their own, files, a command in between."""
    (tmp_path / "main.py").write_text("x = 1\n")
    sources = LocalFiles(kind="folder", root=tmp_path)
    spec = image(
        engine,
        EnvLayer(variables=(("MODE", "fast"),)),
        AptLayer(packages=("ca-certificates", "figlet")),
        PipLayer(packages=("markupsafe", "packaging")),
        AptLayer(packages=("cron",)),
        CommandsLayer(commands=("useradd --create-home worker && figlet -v > /srv/figlet",)),
        WorkdirLayer(path="/app"),
        PipLayer(packages=("six", "packaging<24")),
        CopyLayer(files=sources, destination="src", origin="with_source_folder"),
    )

    def compare() -> Coroutine[Any, Any, str]:
        return differences(spec, engine.address, WAYS, checks=SOUND, ignored=LEFT, ca=engine.ca)

    assert "" == asyncio.run(patiently(compare))


def test_what_has_to_be_built_is_built_for_the_platform(engine: Engine, tmp_path: Path) -> None:
    """By its own Python, after the wheels beside it were installed without it."""
    package = Package(name="parity-native", version="1.0", requires=("parity-beta",))
    with serve([write_sdist(tmp_path, package, backend=PLATFORM_IN_CODE)]) as index:
        options = PipOptions(index_url=index.public)
        spec = image(
            engine,
            PipLayer(packages=("parity-alpha",), options=options),
            RequirementsLayer(file=Path("r.txt"), content=b"parity-native\nparity-gamma\n", options=options),
        )
        checks = ("$UV_PYTHON -c 'import parity_native.made as m; assert m.MADE == \"aarch64\", m.MADE'",)

        def compare() -> Coroutine[Any, Any, str]:
            return differences(spec, engine.address, WAYS, checks=checks, ignored=LEFT)

        assert "" == asyncio.run(patiently(compare))


def test_what_the_image_steers_is_emulated(engine: Engine, tmp_path: Path, tools: Tools) -> None:
    """Settings of `uv` that a layer brings, and another environment that is active: both ways obey them."""
    (tmp_path / "uv.toml").write_text('[pip]\nprerelease = "allow"\n')
    settings = LocalFiles(kind="file", root=tmp_path / "uv.toml")
    with serve() as index:
        more = f'\n[[tool.uv.index]]\nurl = "{index.public}"\ndefault = true\n'
        pyproject = write_project(tmp_path / "app", "app", dependencies=["parity-gamma"], more=more)
        tools.uv_lock(tmp_path / "app")
        spec = image(
            engine,
            CopyLayer(files=settings, destination="/root/.config/uv/uv.toml", origin="with_source_file"),
            PipLayer(packages=("parity-alpha",), options=PipOptions(index_url=index.public)),
            EnvLayer(variables=(("VIRTUAL_ENV", "/app/.venv"),)),
            CommandsLayer(commands=("uv venv --python /usr/bin/python3 /app/.venv",)),
            UvProjectLayer(pyproject=pyproject, lock=pyproject.parent / "uv.lock"),
        )
        checks = (
            "test -e /opt/venv/lib/python3.11/site-packages/parity_alpha-2.0rc1.dist-info",
            "test -e /app/.venv/lib/python3.11/site-packages/parity_gamma",
        )

        def compare() -> Coroutine[Any, Any, str]:
            return differences(spec, engine.address, WAYS, checks=checks, ignored=LEFT)

        assert "" == asyncio.run(patiently(compare))
