"""Layers as code: what images are made of here, so that it can be pasted."""

from __future__ import annotations

from typing import Any

from flyte import Image
from flyte._image import PythonWheels, _DockerLines

from tests.parity.random_layers.world import World

SITE = "/opt/venv/lib/python3.11/site-packages"
TRIPLET = "/lib/x86_64-linux-gnu"


def apt(*names: str) -> str:
    """Packages of the distribution, less what all of their names begin with."""
    return ".with_apt_packages({})".format(", ".join(f'"bkb-{name}"' for name in names))


def file(name: str, destination: str) -> str:
    """A copy of one of the files."""
    return f'.with_source_file(files / "{name}", "{destination}")'


def folder(name: str, destination: str) -> str:
    """A copy of what is in one of the directories."""
    return f'.with_source_folder(files / "{name}", "{destination}", copy_contents_only=True)'


def env(name: str, value: str) -> str:
    """A variable."""
    return f'.with_env_vars({{"{name}": "{value}"}})'


def pip(*names: str, **options: str) -> str:
    """Packages of Python."""
    words = [*(f'"{name}"' for name in names), *(f"{key}={value!r}" for key, value in options.items())]
    return f".with_pip_packages({', '.join(words)})"


def requirements(name: str, **options: str) -> str:
    """One of the files of requirements."""
    words = [f'files / "{name}"', *(f"{key}={value!r}" for key, value in options.items())]
    return f".with_requirements({', '.join(words)})"


def workdir(path: str) -> str:
    """A working directory."""
    return f'.with_workdir("{path}")'


def lines(*lines: str) -> str:
    """Lines of a Dockerfile."""
    return f".clone(addl_layer=_DockerLines(lines={lines!r}))"


def commands(*commands: str) -> str:
    """Commands."""
    return f".with_commands({list(commands)!r})"


def built(world: World, base: str, layers: tuple[str, ...], platform: str) -> Image:
    """The image that code stands for."""
    return evaluated(f"base{''.join(layers)}", world, world.base(base, platform))


def evaluated(code: str, world: World, base: Image) -> Image:
    """The image that an expression makes of a base; it may name `base`, `files` and what Flyte's layers are made by."""
    names: dict[str, Any] = {
        "base": base, "files": world.files, "_DockerLines": _DockerLines, "PythonWheels": PythonWheels,
    }  # fmt: skip
    image = eval(code, names)
    assert isinstance(image, Image)
    return image
