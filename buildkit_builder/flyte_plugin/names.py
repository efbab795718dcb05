"""What this package needs of Flyte, by name, so that it can look before it touches anything.

Most of it is private, and may be missing in an older Flyte or be renamed in a later one. Where something is missing,
Flyte's own builder goes on as if this package were not installed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

KNOWN_FLYTE = "2.12.1"
ENGINE = "flyte._internal.imagebuild.image_builder"
# By module; of classes also what instances have.
ENGINE_NAMES = (
    "ImageBuildEngine._get_builder",
    "ImageBuildEngine.build",
    "ImageBuildEngine.image_exists",
    "_builds_locally",
)
NEEDED: Mapping[str, tuple[str, ...]] = {
    "flyte": ("Image", "ImageBuild", "Secret", "__version__", "init_from_config"),
    "flyte.config": ("auto",),
    "flyte.errors": ("BaseRuntimeError", "ImageBuildError"),
    "flyte._initialize": (
        "_get_init_config",
        "_InitConfig.image_builder",
        "_InitConfig.root_dir",
        "_InitConfig.source_config_path",
    ),
    "flyte._status": ("status.info", "status.warn"),
    "flyte._secret": ("Secret.as_env_var", "Secret.group", "Secret.key", "Secret.mount"),
    ENGINE: ENGINE_NAMES,
    "flyte._image": (
        "_CREATE_FLYTE_USER_CMD",
        "_DockerLines.lines",
        "AptPackages.packages",
        "AptPackages.secret_mounts",
        "CodeBundleLayer.copy_style",
        "CodeBundleLayer.dst",
        "CodeBundleLayer.root_dir",
        "Commands.commands",
        "Commands.secret_mounts",
        "CopyConfig.dst",
        "CopyConfig.path_type",
        "CopyConfig.src",
        "DockerIgnore.path",
        "Env.env_vars",
        "Image._image_registry_secret",
        "Image._is_cloned",
        "Image._layers",
        "Image.base_image",
        "Image.dockerfile",
        "Image.from_debian_base",
        "Image.name",
        "Image.platform",
        "Image.python_version",
        "Image.registry",
        "Image.uri",
        "Layer",
        "PipOption.extra_args",
        "PipOption.extra_index_urls",
        "PipOption.index_url",
        "PipOption.pre",
        "PipOption.secret_mounts",
        "PipPackages.packages",
        "PixiProject.environment",
        "PixiProject.extra_args",
        "PixiProject.manifest",
        "PixiProject.pixi_lock",
        "PixiProject.project_install_mode",
        "PixiProject.secret_mounts",
        "PixiScript.environment",
        "PixiScript.extra_args",
        "PixiScript.pixi_lock",
        "PixiScript.render_manifest",
        "PixiScript.script",
        "PixiScript.secret_mounts",
        "PoetryProject.extra_args",
        "PoetryProject.poetry_lock",
        "PoetryProject.project_install_mode",
        "PoetryProject.pyproject",
        "PoetryProject.secret_mounts",
        "PythonWheels.package_name",
        "PythonWheels.wheel_dir",
        "Requirements.file",
        "UVProject.project_install_mode",
        "UVProject.pyproject",
        "UVProject.uvlock",
        "UVScript.script",
        "WorkDir.workdir",
    ),
    "flyte._code_bundle._ignore": ("STANDARD_IGNORE_PATTERNS", "IgnoreGroup", "StandardIgnore"),
    "flyte._code_bundle._utils": ("ls_files",),
    "flyte._internal.imagebuild.docker": ("PatternMatcher.matches",),
    "flyte._internal.imagebuild.docker_builder": ("DOCKER_FILE_UV_BASE_TEMPLATE.template",),
    "flyte._internal.imagebuild.utils": ("PIXI_PROJECT_DIR", "PIXI_VERSION"),
    "flyte._utils.pixi_script_parser": ("_extract_pep723_block",),
    "flyte._utils.uv_script_parser": ("_extract_uv_metadata_block", "parse_uv_script_file"),
}


def why_not() -> str | None:
    """Why this package cannot build in this process, in a sentence; `None` where it can."""
    return cannot_run() or (complaint(lacking) if (lacking := missing()) else None)


@functools.cache
def missing() -> tuple[str, ...]:
    """What the installed Flyte has not of all that is needed to build, as `module.name`."""
    return tuple(name for module, names in NEEDED.items() for name in missing_of(module, names))


def missing_of(module: str, names: Iterable[str]) -> list[str]:
    """What a module has not of some names, as `module.name`; the module alone, where it cannot be loaded."""
    try:
        found = importlib.import_module(module)
    except Exception:  # noqa: BLE001 - whatever keeps it from being loaded keeps it from being used
        return [module]
    return [f"{module}.{name}" for name in names if not _has(found, name)]


def complaint(names: Iterable[str]) -> str:
    """A sentence that says which Flyte lacks what."""
    first, *others = names
    more = f" and {len(others)} more" if others else ""
    return f"flyte {_version('flyte')} has no `{first}`{more}; this package was made for flyte {KNOWN_FLYTE}."


@functools.cache
def cannot_run() -> str | None:
    """Where this package cannot run at all, a sentence that says why."""
    if sys.platform != "win32":
        with contextlib.suppress(ImportError):
            importlib.import_module("fcntl")
            return None
    return "it does not run on Windows. Install it in WSL, or uninstall it here."


def steps_aside(reason: str) -> str:
    """The line that says so."""
    return f"buildkit-builder {_version('buildkit_builder')} steps aside, and Flyte's own builder is used: {reason}"


def cannot_build(reason: str) -> str:
    """Word the error for a user who chose this builder by name."""
    return f"buildkit-builder {_version('buildkit_builder')} cannot build: {reason}"


def _has(found: Any, name: str) -> bool:
    for part in name.split("."):
        if isinstance(found, type) and part in getattr(found, "__dataclass_fields__", {}):
            return True
        try:
            found = getattr(found, part)
        except AttributeError:
            return False
    return True


def _version(package: str) -> str:
    try:
        return str(importlib.import_module(package).__version__)
    except Exception:  # noqa: BLE001 - it is only to be told
        return "of an unknown version"
