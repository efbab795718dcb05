"""Texts that no image can have: of characters that no argument, name or variable of a process can carry."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from flyte import Image
from flyte import _image as flyte_layers

from buildkit_builder.errors import ImageError
from buildkit_builder.image.spec import LocalFiles

_METHODS: tuple[tuple[type, str], ...] = (
    (flyte_layers.Requirements, "with_requirements"),
    (flyte_layers.PipPackages, "with_pip_packages"),
    (flyte_layers.UVScript, "from_uv_script"),
    (flyte_layers.AptPackages, "with_apt_packages"),
    (flyte_layers.Commands, "with_commands"),
    (flyte_layers.Env, "with_env_vars"),
    (flyte_layers.WorkDir, "with_workdir"),
    (flyte_layers.DockerIgnore, "with_dockerignore"),
    (flyte_layers.UVProject, "with_uv_project"),
    (flyte_layers.PoetryProject, "with_poetry_project"),
    (flyte_layers.PixiProject, "with_pixi_project"),
    (flyte_layers.PixiScript, "from_pixi_script"),
    (flyte_layers.CodeBundleLayer, "with_code_bundle"),
)
_LISTS = ("commands", "packages")


def check_layer(layer: flyte_layers.Layer) -> None:
    """Looks at all texts of a layer before anything is made of them.

    Raises:
        ImageError: One of them cannot be sent; names the method that was given it.
    """
    origin = next((method for kind, method in _METHODS if isinstance(layer, kind)), type(layer).__name__)
    if isinstance(layer, flyte_layers.CopyConfig):
        origin = "with_source_file" if layer.path_type == 0 else "with_source_folder"
    for name in _LISTS:
        for value in getattr(layer, name, None) or ():
            if not isinstance(value, str):
                raise ImageError(
                    f"{origin}: {value!r} is of the type {type(value).__name__}, and a text is needed. Quote it."
                )
    check(origin, layer)


def check(origin: str, value: Any) -> None:
    """Looks at all texts of a value, however deep.

    Where files are on this machine is in no image, so that their paths may be anything: what they are named within
    their directory is looked at when they are sent.

    Raises:
        ImageError: One of them cannot be sent.
    """
    values: list[Any] = [value]
    while values:
        found = values.pop()
        if isinstance(found, str):
            if "\0" in found:
                shown = found.replace("\0", "\\0")
                raise ImageError(f"{origin}: `{shown}` has a NUL character in it, which no process can be given.")
            if not found.isascii() and found.encode(errors="ignore").decode() != found:
                raise ImageError(f"{origin}: `{found}` is not UTF-8. Rename it.")
        elif isinstance(found, (list, tuple)):
            values += found
        elif is_dataclass(found) and not isinstance(found, LocalFiles):
            values += [getattr(found, field.name) for field in fields(found)]


def named(image: Image, error: UnicodeEncodeError) -> str:
    """The file that Flyte's tag could not take in, which Flyte knows by the parts of its path with nothing between."""
    for layer in image._layers:
        for value in vars(layer).values():
            if isinstance(value, Path):
                root = value if value.is_dir() else value.parent
                for folder, _, files in os.walk(root):
                    for file in files:
                        path = Path(folder, file)
                        if "".join(path.relative_to(root).parts) == error.object:
                            return f"`{path}`"
    return f"`{error.object}`"
