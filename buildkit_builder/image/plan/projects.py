"""Projects, scripts' environments and wheels to steps, as Flyte's own Dockerfile has them."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator
from pathlib import Path

from buildkit_builder.image.plan.context import Context, step_name
from buildkit_builder.image.plan.steps import (
    CacheMount,
    CopyImage,
    CopyLocal,
    Run,
    SetEnv,
    SourceMount,
    Step,
    WriteFile,
)
from buildkit_builder.image.plan.wheels import dependencies, wheels
from buildkit_builder.image.spec import (
    LocalFiles,
    PipLayer,
    PixiProjectLayer,
    PoetryProjectLayer,
    UvProjectLayer,
    WheelLayer,
)

_PROJECTS = "/root/.flyte"
_VENV = "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv}"
_POETRY_CACHE = CacheMount(target="/tmp/poetry_cache", id="poetry")
_PIXI_CACHE = CacheMount(target="/root/.cache/rattler", id="pixi")


def uv_project(layer: UvProjectLayer, context: Context) -> Run:
    """A project's dependencies, or the project with them, put into the active environment by `uv sync`.

    Args:
        layer: The layer.
        context: What the steps share.
    """
    words = [_VENV, "uv sync --active --inexact"]
    arguments = layer.options.arguments()
    if layer.project is None:
        if "--no-install-project" not in " ".join(arguments):
            arguments.append("--no-install-project")
        words += arguments
        mounts = [context.mount(_file(layer.pyproject), "pyproject.toml")]
        if layer.lock is not None:
            mounts.append(context.mount(_file(layer.lock), "uv.lock", writable=True))
        place = "."
    else:
        place = f"{_PROJECTS}/{layer.place}"
        words += ["--no-editable", *arguments, f"--project {shlex.quote(place)}"]
        mounts = [context.mount(layer.project, place, writable=True)]
        if layer.lock is not None and layer.lock != layer.project.root / "uv.lock":
            mounts.append(context.mount(_file(layer.lock), f"{place}/uv.lock", writable=True))
    mounts += [context.mount(files, posixpath.join(place, path), writable=True) for path, files in layer.editables]
    command = " ".join(words)
    needed = dependencies(layer)
    return Run(
        name=step_name(layer.origin, layer.pyproject.parent.name),
        command=command,
        caches=(context.uv_cache,),
        mounts=tuple(mounts),
        secrets=layer.secrets,
        scope="python",
        wheels=wheels(layer, command),
        dependencies=uv_project(needed, context) if needed is not None else None,
    )


def poetry_project(layer: PoetryProjectLayer, context: Context) -> Iterator[Step]:
    """Poetry itself, then a project's dependencies, or the project with them."""
    name = step_name("with_poetry_project", layer.pyproject.parent.name)
    command = "uv pip install poetry"
    yield Run(
        name=f"{name}: poetry",
        command=command,
        caches=(context.uv_cache,),
        scope="python",
        wheels=wheels(PipLayer(packages=("poetry",)), command),
    )
    arguments = layer.extra_args
    if layer.project is None:
        yield SetEnv(variables=(("POETRY_CACHE_DIR", "/tmp/poetry_cache"), ("POETRY_VIRTUALENVS_IN_PROJECT", "true")))
        if "--no-root" not in arguments:
            arguments = f"{arguments} --no-root"
        mounts = [
            context.mount(_file(layer.lock), "poetry.lock"),
            context.mount(_file(layer.pyproject), "pyproject.toml"),
        ]
    else:
        place = f"{_PROJECTS}/{layer.place}"
        yield SetEnv(variables=(("POETRY_CACHE_DIR", "/tmp/poetry_cache"),))
        arguments = f"{arguments} -C {shlex.quote(place)}"
        mounts = [context.mount(layer.project, place, writable=True)]
        if layer.lock != layer.project.root / "poetry.lock":
            mounts.append(context.mount(_file(layer.lock), f"{place}/poetry.lock", writable=True))
    yield Run(
        name=name,
        command=f"{_VENV} poetry install {arguments.strip()}",
        caches=(_POETRY_CACHE,),
        mounts=tuple(mounts),
        secrets=layer.secrets,
        scope="python",
    )


def pixi_project(layer: PixiProjectLayer, context: Context) -> Iterator[Step]:
    """Pixi itself, the project, its environment; and the variables that make that the image's own."""
    name = step_name(layer.origin, layer.manifest_name)
    yield CopyImage(
        name=f"{name}: pixi", image=layer.pixi_image, path="/usr/local/bin/pixi", destination="/usr/local/bin/pixi"
    )
    manifest = f"{layer.folder}/{layer.manifest_name}"
    if layer.project is not None:
        yield _as_root(f"{name}: the project", context, layer.project, layer.folder)
    elif isinstance(layer.manifest, bytes):
        yield WriteFile(name=f"{name}: {layer.manifest_name}", path=manifest, content=layer.manifest)
    else:
        yield _as_root(f"{name}: {layer.manifest_name}", context, _file(layer.manifest), manifest)
    if layer.lock is not None and (layer.project is None or layer.lock != layer.project.root / "pixi.lock"):
        yield _as_root(f"{name}: pixi.lock", context, _file(layer.lock), f"{layer.folder}/pixi.lock")
    # The two options exclude each other, and the user's own comes first.
    locked = "--locked " if layer.lock is not None and "--frozen" not in layer.extra_args else ""
    command = f"pixi install --manifest-path {manifest} --environment {layer.environment} {locked}{layer.extra_args}"
    yield Run(name=name, command=command.strip(), caches=(_PIXI_CACHE,), secrets=layer.secrets)
    environment = f"{layer.folder}/.pixi/envs/{layer.environment}"
    yield SetEnv(
        variables=(
            ("VIRTUAL_ENV", environment),
            ("UV_PYTHON", f"{environment}/bin/python"),
            ("PIXI_PROJECT_MANIFEST", manifest),
            ("PATH", f"{environment}/bin:$PATH"),
        )
    )


def wheel(layer: WheelLayer, context: Context) -> Iterator[Step]:
    """A package's dependencies from the index, then the package itself from the folder and from nowhere else.

    In this order, since a resolution that comes after could put a published release in the place of the local one.
    """
    mount = context.mount(LocalFiles(kind="folder", root=layer.folder), "/dist")
    options = layer.options.arguments()
    for what, arguments in (
        ("dependencies", ["--find-links /dist", layer.package]),
        ("wheel", ["--find-links /dist --no-deps --no-index --reinstall", layer.package]),
    ):
        yield _wheel_step(layer, what, " ".join([*options, *arguments]), context, mount)


def _wheel_step(layer: WheelLayer, what: str, arguments: str, context: Context, mount: SourceMount) -> Run:
    command = f"uv pip install --python $UV_PYTHON {arguments}"
    return Run(
        name=step_name("local wheel", f"{layer.package}: {what}"),
        command=command,
        caches=(context.wheel_cache,),
        mounts=(mount,),
        secrets=layer.secrets,
        scope="python",
        wheels=wheels(layer, command),
    )


def _file(path: Path) -> LocalFiles:
    return LocalFiles(kind="file", root=path)


def _as_root(name: str, context: Context, files: LocalFiles, destination: str) -> CopyLocal:
    path = "/" if files.kind == "folder" else f"/{files.root.name}"
    return CopyLocal(name=name, source=context.source(files), path=path, destination=destination, as_root=True)
