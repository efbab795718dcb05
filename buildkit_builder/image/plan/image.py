"""Layers to steps. What each layer becomes is Flyte's own Dockerfile, instruction by instruction."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from buildkit_builder.image.plan import projects
from buildkit_builder.image.plan.context import Context, step_name, uv_caches
from buildkit_builder.image.plan.steps import (
    CopyImage,
    CopyLocal,
    DockerfileLines,
    InstallPackages,
    Plan,
    Run,
    SetEnv,
    SetLabels,
    SetShell,
    SetUser,
    Step,
    Workdir,
)
from buildkit_builder.image.plan.wheels import wheels
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    DockerfileLayer,
    EnvLayer,
    ImageSpec,
    LabelsLayer,
    Layer,
    PipLayer,
    PipOptions,
    PixiProjectLayer,
    PoetryProjectLayer,
    RequirementsLayer,
    UvProjectLayer,
    WheelLayer,
    WorkdirLayer,
)

_REQUIREMENTS = "requirements.txt"


def plan(spec: ImageSpec, build_args: Mapping[str, str] = MappingProxyType({})) -> Plan:
    """Puts a spec into steps: the Python environment first, then the layers in the user's order.

    Args:
        spec: The image.
        build_args: The arguments that the Dockerfile of Flyte's own builder has: `VIRTUALENV`, where the Python
            environment is, and `UV_PYTHON`, its interpreter. They win over variables of the base, as they do there.
    """
    context = Context(*uv_caches(spec.uv_image))
    steps: list[Step] = [*_environment(spec, build_args)]
    for layer in spec.layers:
        steps += _PLANNERS[type(layer)](layer, context)
    if spec.creates_user:
        steps += [SetUser(user="flyte"), Workdir(name="the flyte user's home", path="/home/flyte")]
    steps += [SetEnv(variables=(("_F_IMG_ID", spec.reference),)), SetShell(shell=("/bin/bash", "-c"))]
    return Plan(base=spec.base, steps=tuple(steps), sources=tuple(context.sources.values()))


def _environment(spec: ImageSpec, build_args: Mapping[str, str]) -> Iterator[Step]:
    """`uv` and a virtual environment, unless the base says through `UV_PYTHON` that it has one."""
    version = "{}.{}".format(*spec.python_version)
    # Without an argument, the base's variables hold. Flyte's own builder overrules them, and so makes a second
    # environment next to the base's, from which the base's packages cannot be imported.
    venv, python = "${VIRTUALENV-/opt/venv}", "${UV_PYTHON-${VIRTUALENV-/opt/venv}/bin/python}"
    if "VIRTUALENV" in build_args:
        venv = _literal(build_args["VIRTUALENV"])
        python = f"{venv}/bin/python"
    if "UV_PYTHON" in build_args:
        python = _literal(build_args["UV_PYTHON"])
    yield SetUser(user="root")
    yield CopyImage(name="uv", image=spec.uv_image, path="/uv", destination="/usr/bin/uv")
    yield SetEnv(
        variables=(
            ("UV_COMPILE_BYTECODE", "1"),
            ("UV_LINK_MODE", "copy"),
            ("VIRTUALENV", venv),
            ("UV_PYTHON", python),
        ),
    )
    yield Run(
        name=f"the Python {version} environment",
        command=(
            f'if [ ! -f "$UV_PYTHON" ]; then uv venv $VIRTUALENV --python={version} && '
            "uv run --python=$UV_PYTHON python -m compileall $VIRTUALENV; fi"
        ),
        scope="environment",
    )
    yield SetEnv(variables=(("PATH", "$VIRTUALENV/bin:$PATH"),))
    # The folders of the NVIDIA drivers, which a node mounts at run time.
    yield SetEnv(
        variables=(
            ("PATH", "$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin"),
            ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64"),
        )
    )


def _literal(text: str) -> str:
    """A text as a word of a Dockerfile that stands for itself."""
    return re.sub(r"[^\w./:@+-]", r"\\\g<0>", text)


def _commands(layer: CommandsLayer) -> Iterator[Run]:
    for command in layer.commands:
        yield Run(name=step_name("with_commands", command), command=command, secrets=layer.secrets)


def _env(layer: EnvLayer) -> Iterator[SetEnv]:
    # One at a time: in the Dockerfile of Flyte's own builder, each may refer to the one before it.
    for variable in layer.variables:
        yield SetEnv(variables=(variable,))


def _lines(layer: DockerfileLayer) -> DockerfileLines:
    return DockerfileLines(
        name=step_name("Dockerfile", "; ".join(layer.lines)), lines=layer.lines, secrets=layer.secrets
    )


def _apt(layer: AptLayer) -> InstallPackages:
    return InstallPackages(
        name=step_name("with_apt_packages", ", ".join(layer.packages)), packages=layer.packages, secrets=layer.secrets
    )


def _pip(layer: PipLayer, context: Context) -> Run:
    packages = " ".join(shlex.quote(package) for package in layer.packages)
    command = _uv_install(layer.options, packages)
    return Run(
        name=step_name(layer.origin, ", ".join(layer.packages)),
        command=command,
        caches=(context.uv_cache,),
        secrets=layer.secrets,
        scope="python",
        wheels=wheels(layer, command),
    )


def _requirements(layer: RequirementsLayer, context: Context) -> Run:
    command = _uv_install(layer.options, f"--requirement {_REQUIREMENTS}")
    return Run(
        name=step_name("with_requirements", layer.file.name),
        command=command,
        caches=(context.uv_cache,),
        files=MappingProxyType({_REQUIREMENTS: layer.content}),
        secrets=layer.secrets,
        scope="python",
        wheels=wheels(layer, command),
    )


def _uv_install(options: PipOptions, what: str) -> str:
    return " ".join(["uv pip install --python $UV_PYTHON", *options.arguments(), what])


def _copy(layer: CopyLayer, context: Context) -> CopyLocal:
    files = layer.files
    return CopyLocal(
        name=step_name(layer.origin, f"{files.root.name} → {layer.destination}"),
        source=context.source(files),
        path="/" if files.kind == "folder" else f"/{files.root.name}",
        destination=layer.destination,
    )


_PLANNERS: Mapping[type[Layer], Callable[[Any, Context], Iterable[Step]]] = {
    AptLayer: lambda layer, _: [_apt(layer)],
    PipLayer: lambda layer, context: [_pip(layer, context)],
    RequirementsLayer: lambda layer, context: [_requirements(layer, context)],
    CommandsLayer: lambda layer, _: _commands(layer),
    EnvLayer: lambda layer, _: _env(layer),
    WorkdirLayer: lambda layer, _: [Workdir(name=step_name("with_workdir", layer.path), path=layer.path)],
    LabelsLayer: lambda layer, _: [SetLabels(labels=layer.labels)],
    CopyLayer: lambda layer, context: [_copy(layer, context)],
    UvProjectLayer: lambda layer, context: [projects.uv_project(layer, context)],
    PoetryProjectLayer: projects.poetry_project,
    PixiProjectLayer: projects.pixi_project,
    WheelLayer: projects.wheel,
    DockerfileLayer: lambda layer, _: [_lines(layer)],
}
