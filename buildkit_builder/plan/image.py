"""Layers to steps. What each layer becomes is Flyte's own Dockerfile, instruction by instruction."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from buildkit_builder.plan.steps import (
    CacheMount,
    CopyImage,
    CopyLocal,
    LocalSource,
    Plan,
    Run,
    SetEnv,
    SetLabels,
    SetShell,
    SetUser,
    Step,
    Workdir,
)
from buildkit_builder.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    EnvLayer,
    ImageSpec,
    LabelsLayer,
    Layer,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    WorkdirLayer,
)

_APT_CACHE = CacheMount(target="/var/cache/apt", id="apt-{architecture}", locked=True)
_REQUIREMENTS = "requirements.txt"


def plan(spec: ImageSpec, build_args: Mapping[str, str] = MappingProxyType({})) -> Plan:
    """Puts a spec into steps: the Python environment first, then the layers in the user's order.

    Args:
        spec: The image.
        build_args: The arguments that the Dockerfile of Flyte's own builder has: `VIRTUALENV`, where the Python
            environment is, and `UV_PYTHON`, its interpreter. A variable of the base wins over them, as it does there.
    """
    sources: dict[tuple[object, ...], LocalSource] = {}
    steps: list[Step] = [*_environment(spec, build_args)]
    uv_cache = _uv_cache(spec.uv_image)
    for layer in spec.layers:
        steps += _layer(layer, uv_cache, sources)
    if spec.creates_user:
        steps += [SetUser(user="flyte"), Workdir(name="the flyte user's home", path="/home/flyte")]
    steps += [SetEnv(variables=(("_F_IMG_ID", spec.reference),)), SetShell(shell=("/bin/bash", "-c"))]
    return Plan(base=spec.base, steps=tuple(steps), sources=tuple(sources.values()), creates_user=spec.creates_user)


def _environment(spec: ImageSpec, build_args: Mapping[str, str]) -> Iterator[Step]:
    """`uv` and a virtual environment, unless the base says through `UV_PYTHON` that it has one."""
    version = "{}.{}".format(*spec.python_version)
    venv = _literal(build_args["VIRTUALENV"]) if "VIRTUALENV" in build_args else "/opt/venv"
    python = _literal(build_args["UV_PYTHON"]) if "UV_PYTHON" in build_args else f"${{VIRTUALENV-{venv}}}/bin/python"
    yield SetUser(user="root")
    yield CopyImage(name="uv", image=spec.uv_image, path="/uv", destination="/usr/bin/uv")
    yield SetEnv(
        variables=(
            ("UV_COMPILE_BYTECODE", "1"),
            ("UV_LINK_MODE", "copy"),
            ("VIRTUALENV", f"${{VIRTUALENV-{venv}}}"),
            ("UV_PYTHON", f"${{UV_PYTHON-{python}}}"),
        ),
    )
    yield Run(
        name=f"the Python {version} environment",
        command=(
            f'if [ ! -f "$UV_PYTHON" ]; then uv venv $VIRTUALENV --python={version} && '
            "uv run --python=$UV_PYTHON python -m compileall $VIRTUALENV; fi"
        ),
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


def _uv_cache(uv_image: str) -> CacheMount:
    """One cache per version of uv, since a newer one may write entries that an older one refuses."""
    name, _, digest = uv_image.partition("@")
    _, _, tag = name.rpartition("/")[2].partition(":")  # a colon further left belongs to the registry's port
    version = tag or digest.replace(":", "-") or "latest"
    return CacheMount(target="/root/.cache/uv", id=f"uv-{version}")


def _layer(layer: Layer, uv_cache: CacheMount, sources: dict[tuple[object, ...], LocalSource]) -> Iterator[Step]:
    match layer:
        case AptLayer():
            yield _apt(layer)
        case PipLayer():
            yield _pip(layer, uv_cache)
        case RequirementsLayer():
            yield _requirements(layer, uv_cache)
        case CommandsLayer():
            for command in layer.commands:
                yield Run(
                    name=_name("with_commands", command), command=command, secrets=layer.secrets, may_add_users=True
                )
        case EnvLayer():
            # One at a time: in a Dockerfile of Flyte's, each may refer to the one before it.
            for variable in layer.variables:
                yield SetEnv(variables=(variable,))
        case WorkdirLayer():
            yield Workdir(name=_name("with_workdir", layer.path), path=layer.path)
        case LabelsLayer():
            yield SetLabels(labels=layer.labels)
        case CopyLayer():
            yield _copy(layer, sources)


def _apt(layer: AptLayer) -> Run:
    return Run(
        name=_name("with_apt_packages", ", ".join(layer.packages)),
        command=f"apt-get update && apt-get install -y --no-install-recommends {' '.join(layer.packages)}",
        caches=(_APT_CACHE,),
        secrets=layer.secrets,
    )


def _pip(layer: PipLayer, uv_cache: CacheMount) -> Run:
    packages = " ".join(shlex.quote(package) for package in layer.packages)
    return Run(
        name=_name(layer.origin, ", ".join(layer.packages)),
        command=_uv_install(layer.options, packages),
        caches=(uv_cache,),
        secrets=layer.secrets,
    )


def _requirements(layer: RequirementsLayer, uv_cache: CacheMount) -> Run:
    return Run(
        name=_name("with_requirements", layer.file.name),
        command=_uv_install(layer.options, f"--requirement {_REQUIREMENTS}"),
        caches=(uv_cache,),
        files=MappingProxyType({_REQUIREMENTS: layer.content}),
        secrets=layer.secrets,
    )


def _uv_install(options: PipOptions, what: str) -> str:
    return " ".join(["uv pip install --python $UV_PYTHON", *options.arguments(), what])


def _copy(layer: CopyLayer, sources: dict[tuple[object, ...], LocalSource]) -> CopyLocal:
    key = (layer.kind, layer.source, layer.ignore)
    source = sources.get(key)
    if source is None:
        # Named by what it is and not by its place among the layers: the daemon files its copy under the name.
        digest = hashlib.sha256(repr((layer.kind, str(layer.source), layer.ignore)).encode()).hexdigest()
        name = f"{layer.source.name or 'root'}-{digest[:12]}"
        source = LocalSource(name=name, kind=layer.kind, root=layer.source, ignore=layer.ignore)
        sources[key] = source
    return CopyLocal(
        name=_name(f"with_source_{layer.kind}", f"{layer.source.name} → {layer.destination}"),
        source=source.name,
        path="/" if layer.kind == "folder" else f"/{layer.source.name}",
        destination=layer.destination,
    )


def _name(layer: str, what: str) -> str:
    """A step's name in the user's words, on one line."""
    text = " ".join([layer, *what.split()])
    return text if len(text) <= 120 else text[:119] + "…"
