"""The layers of an image, one by one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flyte
from flyte import _image as flyte_layers

from buildkit_builder.errors import ImageError, MissingSourceError, UnsupportedLayerError
from buildkit_builder.flyte_plugin.names import KNOWN_FLYTE
from buildkit_builder.flyte_plugin.reader import projects
from buildkit_builder.flyte_plugin.reader.header import reading
from buildkit_builder.flyte_plugin.reader.local_files import local_file, local_folder
from buildkit_builder.flyte_plugin.reader.options import pip_options
from buildkit_builder.flyte_plugin.reader.secrets import layer_secrets
from buildkit_builder.flyte_plugin.reader.texts import check_layer
from buildkit_builder.image.lower.dockerfile_words import join_lines
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    DockerfileLayer,
    EnvLayer,
    LabelsLayer,
    Layer,
    LocalFiles,
    PipLayer,
    RequirementsLayer,
    SecretRef,
    WorkdirLayer,
)


def read_layer(layer: flyte_layers.Layer, ignore: tuple[str, ...]) -> Iterable[Layer]:
    """What one layer of an image is, in layers of a spec.

    Args:
        layer: The layer.
        ignore: The patterns of the image's `.dockerignore`.

    Raises:
        UnsupportedLayerError: It is of a kind that this version does not know.
        ImageError: It makes no sense, or names a file that is not there.
    """
    check_layer(layer)
    for kind, reader in _READERS:
        if isinstance(layer, kind):
            return reader(layer, ignore)
    raise UnsupportedLayerError(
        f"The layer `{type(layer).__name__}` is not known to this version of buildkit-builder, which knows those of "
        f"flyte {KNOWN_FLYTE} (installed: {flyte.__version__}). Update buildkit-builder, or use "
        "`image.builder: docker` for Flyte's own builder."
    )


def _pip(layer: flyte_layers.PipPackages) -> PipLayer:
    return PipLayer(packages=layer.packages or (), options=pip_options(layer), secrets=layer_secrets(layer))


def _commands(layer: flyte_layers.Commands) -> Iterable[Layer]:
    """Commands for a shell; those in the syntax of a Dockerfile's `RUN` (options, a list of words) as lines of one."""
    secrets = layer_secrets(layer)
    for command in layer.commands:
        if command.lstrip().startswith(("--", "<<")) or _is_exec_form(command):
            mounts = " ".join(_dockerfile_mount(secret) for secret in secrets)
            yield DockerfileLayer(lines=(f"RUN {mounts} {command}",), secrets=secrets)
        else:
            yield CommandsLayer(commands=(join_lines(command),), secrets=secrets)


def _dockerfile_mount(secret: SecretRef) -> str:
    place = f"target={secret.path}" if secret.path is not None else f"env={secret.variable}"
    return f"--mount=type=secret,id={secret.id},{place}"


def _is_exec_form(command: str) -> bool:
    try:
        words = json.loads(command)
    except ValueError:
        return False
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _env(layer: flyte_layers.Env) -> EnvLayer:
    variables = tuple((str(key), str(value)) for key, value in layer.env_vars)
    for key, _ in variables:
        if not key or "=" in key or any(char.isspace() for char in key):
            raise ImageError(f"with_env_vars: `{key}` cannot be the name of a variable.")
    return EnvLayer(variables=variables)


def _requirements(layer: flyte_layers.Requirements) -> RequirementsLayer:
    file = local_file(layer.file, "with_requirements")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MissingSourceError(f"with_requirements: the file `{file}` cannot be read: {error.strerror}.") from error
    return RequirementsLayer(file=file, content=content, options=pip_options(layer), secrets=layer_secrets(layer))


def _script(layer: flyte_layers.UVScript, ignore: tuple[str, ...]) -> Iterable[Layer]:
    from flyte._utils.uv_script_parser import _extract_uv_metadata_block, parse_uv_script_file

    script = local_file(layer.script, "from_uv_script")
    with reading(script, _extract_uv_metadata_block, "from_uv_script"):
        header = parse_uv_script_file(script)
    if header.dependencies:
        yield PipLayer(
            packages=tuple(header.dependencies), options=pip_options(layer), secrets=layer_secrets(layer),
            origin="from_uv_script",
        )  # fmt: skip
    if header.pyprojects:
        yield AptLayer(packages=("git",))  # for the version of a project that takes it from there
    for folder in header.pyprojects:
        yield projects.script_project(layer, Path(folder), ignore)


def _copy(layer: flyte_layers.CopyConfig, ignore: tuple[str, ...]) -> CopyLayer:
    if layer.path_type == 0:
        files = LocalFiles(kind="file", root=local_file(layer.src, "with_source_file"))
        return CopyLayer(files=files, destination=layer.dst, origin="with_source_file")
    files = LocalFiles(kind="folder", root=local_folder(layer.src, "with_source_folder"), ignore=ignore)
    return CopyLayer(files=files, destination=layer.dst, origin="with_source_folder")


def _lines(layer: flyte_layers._DockerLines) -> Layer:
    """Lines of a Dockerfile: labels as labels, since Flyte's default image has them; all else for its frontend."""
    labels: list[tuple[str, str]] = []
    for line in layer.lines:
        found = _labels(line)
        if found is None:
            return DockerfileLayer(lines=layer.lines)
        labels += found
    return LabelsLayer(labels=tuple(labels))


def _labels(line: str) -> list[tuple[str, str]] | None:
    keyword, _, rest = line.strip().partition(" ")
    if keyword.upper() != "LABEL" or "$" in rest or "\\" in rest or "\n" in rest:
        return None
    try:
        pairs = [word.partition("=") for word in shlex.split(rest)]
    except ValueError:
        return None
    if not pairs or not all(key and equals for key, equals, _ in pairs):
        return None
    return [(key, value) for key, _, value in pairs]


# A requirements layer is a layer of packages to Flyte, so it comes before that.
_READERS: tuple[tuple[type[flyte_layers.Layer], Callable[[Any, tuple[str, ...]], Iterable[Layer]]], ...] = (
    (flyte_layers.Requirements, lambda layer, _: [_requirements(layer)]),
    (flyte_layers.PipPackages, lambda layer, _: [_pip(layer)]),
    (flyte_layers.UVScript, _script),
    (flyte_layers.AptPackages, lambda layer, _: [AptLayer(packages=layer.packages, secrets=layer_secrets(layer))]),
    (flyte_layers.Commands, lambda layer, _: _commands(layer)),
    (flyte_layers.Env, lambda layer, _: [_env(layer)]),
    (flyte_layers.WorkDir, lambda layer, _: [WorkdirLayer(path=layer.workdir)]),
    (flyte_layers.CopyConfig, lambda layer, ignore: [_copy(layer, ignore)]),
    (flyte_layers.DockerIgnore, lambda _layer, _: []),  # its patterns are with every folder that is copied
    (flyte_layers._DockerLines, lambda layer, _: [_lines(layer)]),
    (flyte_layers.UVProject, lambda layer, ignore: [projects.uv_project(layer, ignore)]),
    (flyte_layers.PoetryProject, lambda layer, ignore: [projects.poetry_project(layer, ignore)]),
    (flyte_layers.PixiProject, lambda layer, ignore: [projects.pixi_project(layer, ignore)]),
    (flyte_layers.PixiScript, lambda layer, _: [projects.pixi_script(layer)]),
    (flyte_layers.PythonWheels, lambda layer, _: [projects.wheels(layer)]),
    (flyte_layers.CodeBundleLayer, lambda layer, _: [projects.code_bundle(layer)]),
)
