"""Projects of uv, Poetry and pixi, local wheels, and code that Flyte bundles."""

from __future__ import annotations

from pathlib import Path

from flyte import _image as flyte_layers

from buildkit_builder.errors import ImageError
from buildkit_builder.flyte_plugin.reader.header import reading
from buildkit_builder.flyte_plugin.reader.local_files import local_file, local_folder
from buildkit_builder.flyte_plugin.reader.options import pip_options
from buildkit_builder.flyte_plugin.reader.secrets import layer_secrets
from buildkit_builder.flyte_plugin.reader.uv_files import editables, is_outside, place_of
from buildkit_builder.image.spec import (
    CopyLayer,
    LocalFiles,
    PipOptions,
    PixiProjectLayer,
    PoetryProjectLayer,
    SecretRef,
    UvProjectLayer,
    WheelLayer,
)


def uv_project(layer: flyte_layers.UVProject, ignore: tuple[str, ...]) -> UvProjectLayer:
    """`with_uv_project`, in either mode."""
    installs = layer.project_install_mode == "install_project"
    return _uv_project(
        layer.pyproject,
        layer.uvlock,
        origin="with_uv_project",
        ignore=ignore,
        installs=installs,
        options=pip_options(layer),
        secrets=layer_secrets(layer),
    )


def script_project(layer: flyte_layers.UVScript, folder: Path, ignore: tuple[str, ...]) -> UvProjectLayer:
    """A local project that a script's header names. Of the script's options, the index is not the project's."""
    lock = folder / "uv.lock"
    options = PipOptions(pre=layer.pre, extra_args=layer.extra_args)
    return _uv_project(
        folder / "pyproject.toml",
        lock if lock.exists() else None,
        origin="from_uv_script",
        ignore=ignore,
        installs=True,
        options=options,
        secrets=layer_secrets(layer),
    )


def _uv_project(
    pyproject: Path,
    lock: Path | None,
    *,
    origin: str,
    ignore: tuple[str, ...],
    installs: bool,
    options: PipOptions,
    secrets: tuple[SecretRef, ...],
) -> UvProjectLayer:
    file = local_file(pyproject, origin)
    locked = local_file(lock, origin) if lock is not None else None
    # Flyte's own builder leaves the usual clutter out of what is used in place, and only there.
    needed = editables(file, locked, (*_clutter(), *ignore), origin)
    project = None
    if installs:
        project = LocalFiles(kind="folder", root=file.parent, ignore=ignore, always=("pyproject.toml", "uv.lock"))
        needed = tuple((path, files) for path, files in needed if is_outside(path))
    return UvProjectLayer(
        pyproject=file, lock=locked, options=options, secrets=secrets, editables=needed, project=project,
        place=place_of(pyproject.parent), origin=origin,
    )  # fmt: skip


def _clutter() -> tuple[str, ...]:
    """What Flyte leaves out of folders by default."""
    from flyte._code_bundle._ignore import STANDARD_IGNORE_PATTERNS

    return tuple(STANDARD_IGNORE_PATTERNS)


def poetry_project(layer: flyte_layers.PoetryProject, ignore: tuple[str, ...]) -> PoetryProjectLayer:
    """`with_poetry_project`, in either mode."""
    pyproject = local_file(layer.pyproject, "with_poetry_project")
    project = None
    if layer.project_install_mode == "install_project":
        always = ("pyproject.toml", "poetry.lock")
        project = LocalFiles(kind="folder", root=pyproject.parent, ignore=ignore, always=always)
    return PoetryProjectLayer(
        pyproject=pyproject,
        lock=local_file(layer.poetry_lock, "with_poetry_project"),
        extra_args=layer.extra_args or "",
        secrets=layer_secrets(layer),
        project=project,
        place=place_of(layer.pyproject.parent),
    )


def pixi_project(layer: flyte_layers.PixiProject, ignore: tuple[str, ...]) -> PixiProjectLayer:
    """`with_pixi_project`, in either mode."""
    manifest = local_file(layer.manifest, "with_pixi_project")
    project = None
    if layer.project_install_mode == "install_project":
        always = (manifest.name, "pixi.lock")
        project = LocalFiles(kind="folder", root=manifest.parent, ignore=ignore, always=always)
    image, folder = _pixi()
    return PixiProjectLayer(
        pixi_image=image,
        folder=folder,
        manifest_name=manifest.name,
        manifest=manifest,
        lock=local_file(layer.pixi_lock, "with_pixi_project") if layer.pixi_lock is not None else None,
        environment=layer.environment,
        extra_args=layer.extra_args or "",
        secrets=layer_secrets(layer),
        project=project,
    )


def pixi_script(layer: flyte_layers.PixiScript) -> PixiProjectLayer:
    """`from_pixi_script`: the manifest that Flyte makes of the script's header, and the lock file beside it."""
    from flyte._utils.pixi_script_parser import _extract_pep723_block

    script = local_file(layer.script, "from_pixi_script")
    with reading(script, _extract_pep723_block, "from_pixi_script"):
        manifest = layer.render_manifest()
    image, folder = _pixi()
    return PixiProjectLayer(
        pixi_image=image,
        folder=folder,
        manifest_name="pixi.toml",
        manifest=manifest.encode(),
        lock=layer.pixi_lock.absolute() if layer.pixi_lock is not None else None,
        environment=layer.environment,
        extra_args=layer.extra_args or "",
        secrets=layer_secrets(layer),
        origin="from_pixi_script",
    )


def _pixi() -> tuple[str, str]:
    """The image that Flyte's own builder takes pixi from, and the folder that it uses."""
    from flyte._internal.imagebuild.utils import PIXI_PROJECT_DIR, PIXI_VERSION

    return f"ghcr.io/prefix-dev/pixi:{PIXI_VERSION}", PIXI_PROJECT_DIR


def wheels(layer: flyte_layers.PythonWheels) -> WheelLayer:
    """`with_local_v2` and its like."""
    return WheelLayer(
        folder=local_folder(layer.wheel_dir, f"the local wheel of {layer.package_name}"),
        package=layer.package_name,
        options=pip_options(layer),
        secrets=layer_secrets(layer),
    )


def code_bundle(layer: flyte_layers.CodeBundleLayer) -> CopyLayer:
    """`with_code_bundle`, once Flyte has said which folder it is about."""
    from flyte._code_bundle._ignore import IgnoreGroup, StandardIgnore
    from flyte._code_bundle._utils import ls_files

    if layer.root_dir is None:
        raise ImageError(
            "with_code_bundle: the code is known only when Flyte deploys it. Build with `flyte deploy --copy-style "
            "none`, or `flyte build --copy-style none`."
        )
    root = layer.root_dir.resolve()
    found, _ = ls_files(root, layer.copy_style, deref_symlinks=False, ignore_group=IgnoreGroup(root, StandardIgnore))
    only = tuple(sorted(str(Path(path).relative_to(root)) for path in found))
    return CopyLayer(
        files=LocalFiles(kind="folder", root=root, only=only), destination=layer.dst, origin="with_code_bundle"
    )
