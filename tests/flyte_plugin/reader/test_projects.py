"""Projects of uv, Poetry and pixi, wheels, and code bundles."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from flyte import Image
from flyte import _image as flyte_layers
from flyte._code_bundle._ignore import STANDARD_IGNORE_PATTERNS
from flyte._internal.imagebuild.utils import PIXI_PROJECT_DIR, PIXI_VERSION

from buildkit_builder.errors import ImageError, MissingSourceError
from buildkit_builder.image.spec import (
    CopyLayer,
    LocalFiles,
    PipOptions,
    PixiProjectLayer,
    PoetryProjectLayer,
    UvProjectLayer,
    WheelLayer,
    secrets_of,
)
from tests.flyte_plugin.reader.images import TOKEN, base, file, folder, folder_layer, layer, read, with_layer, write

Mode = Literal["dependencies_only", "install_project"]
MODES: tuple[Mode, ...] = ("dependencies_only", "install_project")
CLUTTER = tuple(STANDARD_IGNORE_PATTERNS)


def project(root: Path, manifest: str = "pyproject.toml", lock: str = "", text: str = "") -> Path:
    """A project of any kind; gives its manifest."""
    if lock:
        write(root / lock)
    return write(root / manifest, text)


def ignoring(image: Image, *patterns: str) -> Image:
    """The image with a `.dockerignore`."""
    return image.with_dockerignore(write(Path("ignore").absolute(), "\n".join(patterns)))


# --- uv ---


def test_with_uv_project(tmp_path: Path) -> None:
    """By default the dependencies alone, with the lock beside the project."""
    pyproject = project(tmp_path / "app", lock="uv.lock")

    assert (
        UvProjectLayer(pyproject=pyproject, lock=tmp_path / "app" / "uv.lock", place="app")
        == layer(base().with_uv_project("app/pyproject.toml"))
    )  # fmt: skip


def test_with_uv_project_installed(tmp_path: Path) -> None:
    """The whole folder, its project file and lock whatever is ignored."""
    pyproject = project(tmp_path / "app", lock="uv.lock")
    image = ignoring(base(), "*.toml", "*.lock", ".venv").with_uv_project(
        Path("app/pyproject.toml"), project_install_mode="install_project"
    )
    files = folder(pyproject.parent, "*.toml", "*.lock", ".venv", always=("pyproject.toml", "uv.lock"))

    assert (
        UvProjectLayer(pyproject=pyproject, lock=pyproject.with_name("uv.lock"), project=files, place="app")
        == layer(image)
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_options_of_with_uv_project(tmp_path: Path, mode: Mode) -> None:
    """They are those of pip; `--only-group` and whatever else uv knows are extra arguments."""
    image = base().with_uv_project(
        project(tmp_path), index_url="https://a", extra_index_urls=("https://b",), pre=True,
        extra_args="--only-group dev --frozen", secret_mounts="TOKEN", project_install_mode=mode,
    )  # fmt: skip
    found = layer(image)

    assert (
        PipOptions(
            index_url="https://a", extra_index_urls=("https://b",), pre=True, extra_args="--only-group dev --frozen"
        )
        == found.options
    )
    assert (TOKEN,) == found.secrets == secrets_of(read(image))


@pytest.mark.parametrize("mode", MODES)
def test_the_lock_of_uv(tmp_path: Path, mode: Mode) -> None:
    """None, or one from elsewhere, in place of the one beside the project."""
    other = write(tmp_path / "locks" / "gpu.lock")
    alone, locked = project(tmp_path / "alone"), project(tmp_path / "locked", lock="uv.lock")

    assert None is layer(base().with_uv_project(alone, project_install_mode=mode)).lock
    assert other == layer(base().with_uv_project(alone, other, project_install_mode=mode)).lock
    assert other == layer(base().with_uv_project(locked, Path("locks/gpu.lock"), project_install_mode=mode)).lock


SOURCES = """\
[tool.uv.sources]
inner = {path = 'libs/inner', editable = true}
outer = {path = '../outer'}
"""
LOCKED = """\
[[package]]
name = 'app'
source = {virtual = '.'}
[[package]]
name = 'inner'
source = {editable = 'libs/inner'}
[[package]]
name = 'outer'
source = {directory = '../outer'}
"""


@pytest.mark.parametrize(("lock", "text"), [(None, SOURCES), (LOCKED, "")])
def test_what_a_uv_project_depends_on_in_place(tmp_path: Path, lock: str | None, text: str) -> None:
    """Each folder comes along without Flyte's usual clutter; with the project itself, only those outside of it."""
    pyproject = project(tmp_path / "app", text=text)
    if lock is not None:
        write(tmp_path / "app" / "uv.lock", lock)
    inner, outer = (project(tmp_path / path).parent for path in ("app/libs/inner", "outer"))
    image = ignoring(base(), "*.log")
    always = ("pyproject.toml",)
    found = (
        ("libs/inner", folder(inner, *CLUTTER, "*.log", always=always)),
        ("../outer", folder(outer, *CLUTTER, "*.log", always=always)),
    )

    assert found == layer(image.with_uv_project(pyproject)).editables
    assert found[1:] == layer(image.with_uv_project(pyproject, project_install_mode="install_project")).editables


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("locked", [True, False])
def test_a_missing_dependency_of_a_uv_project_is_named(tmp_path: Path, mode: Mode, locked: bool) -> None:
    """What depends on it, as it is written there, and where it was looked for."""
    pyproject = project(tmp_path / "app", text="[tool.uv.sources]\nx = {path = '../gone'}\n")
    if locked:
        write(tmp_path / "app" / "uv.lock", "[[package]]\nname = 'x'\nsource = {editable = '../gone'}\n")
    with pytest.raises(
        MissingSourceError,
        match=rf"with_uv_project: `{pyproject}` depends on `\.\./gone`, and `{tmp_path}/gone` does not exist",
    ):
        read(base().with_uv_project(pyproject, project_install_mode=mode))


# --- Poetry ---


def test_with_poetry_project(tmp_path: Path) -> None:
    """By default the dependencies alone, with the lock beside the project."""
    pyproject = project(tmp_path / "app", lock="poetry.lock")
    image = base().with_poetry_project("app/pyproject.toml", extra_args="--only main", secret_mounts="TOKEN")

    assert (
        PoetryProjectLayer(
            pyproject=pyproject, lock=tmp_path / "app" / "poetry.lock", extra_args="--only main", secrets=(TOKEN,),
            place="app",
        )
        == layer(image)
    )  # fmt: skip
    assert (TOKEN,) == secrets_of(read(image))


def test_with_poetry_project_installed(tmp_path: Path) -> None:
    """The whole folder, its project file and lock whatever is ignored."""
    pyproject = project(tmp_path, lock="poetry.lock")
    image = ignoring(base(), "*.toml").with_poetry_project(pyproject, project_install_mode="install_project")
    files = folder(tmp_path, "*.toml", always=("pyproject.toml", "poetry.lock"))

    assert (
        PoetryProjectLayer(
            pyproject=pyproject, lock=tmp_path / "poetry.lock", project=files, place=f"_flyte_abs_context{tmp_path}"
        )
        == layer(image)
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_lock_of_poetry_from_elsewhere(tmp_path: Path, mode: Mode) -> None:
    """It is the one that was named, whatever lies beside the project."""
    other = write(tmp_path / "other.lock")
    pyproject = project(tmp_path / "app", lock="poetry.lock")

    assert other == layer(base().with_poetry_project(pyproject, other, project_install_mode=mode)).lock


# --- pixi ---


def pixi_layer(manifest: Path, **options: Any) -> PixiProjectLayer:
    """A pixi project, from where Flyte's own builder takes it and at the place where it puts it."""
    return PixiProjectLayer(
        pixi_image=f"ghcr.io/prefix-dev/pixi:{PIXI_VERSION}", folder=PIXI_PROJECT_DIR, manifest_name=manifest.name,
        manifest=manifest, **{"lock": None, **options},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["pixi.toml", "pyproject.toml"])
def test_with_pixi_project(tmp_path: Path, name: str) -> None:
    """Either manifest, by its own name or by its folder's, with the lock beside it."""
    manifest = project(tmp_path / "app", name, "pixi.lock")
    image = base().with_pixi_project(
        manifest, environment="gpu", extra_args="--frozen", secret_mounts="TOKEN"
    )  # fmt: skip
    lock = tmp_path / "app" / "pixi.lock"

    assert pixi_layer(manifest, lock=lock) == layer(base().with_pixi_project("app"))
    assert (
        pixi_layer(manifest, lock=lock, environment="gpu", extra_args="--frozen", secrets=(TOKEN,)) == layer(image)
    )  # fmt: skip
    assert (TOKEN,) == secrets_of(read(image))


@pytest.mark.parametrize("name", ["pixi.toml", "pyproject.toml"])
def test_with_pixi_project_installed(tmp_path: Path, name: str) -> None:
    """The whole folder, its manifest and lock whatever is ignored."""
    manifest = project(tmp_path / "app", name)
    image = ignoring(base(), "*.toml").with_pixi_project(manifest, project_install_mode="install_project")
    files = folder(manifest.parent, "*.toml", always=(name, "pixi.lock"))

    assert pixi_layer(manifest, project=files) == layer(image)


@pytest.mark.parametrize("mode", MODES)
def test_a_lock_of_pixi_from_elsewhere(tmp_path: Path, mode: Mode) -> None:
    """It is the one that was named, whatever lies beside the manifest."""
    other = write(tmp_path / "other.lock")
    manifest = project(tmp_path / "app", "pixi.toml", "pixi.lock")

    assert other == layer(base().with_pixi_project(manifest, other, project_install_mode=mode)).lock


PIXI_SCRIPT = """\
# /// script
# requires-python = ">=3.12"
# dependencies = ["httpx"]
# [tool.pixi.workspace]
# channels = ["conda-forge"]
# [tool.pixi.dependencies]
# gdal = "*"
# ///
"""


@pytest.mark.parametrize("locked", [True, False])
def test_from_pixi_script(tmp_path: Path, locked: bool) -> None:
    """The manifest is the one that Flyte makes of the header; a lock beside the script counts."""
    script = write(tmp_path / "job.py", PIXI_SCRIPT)
    lock = write(tmp_path / "job.py.pixi.lock") if locked else None
    image = Image.from_pixi_script(
        Path("job.py"), name="job", registry="r.example.com", extra_args="-v", secret_mounts="TOKEN"
    )
    found = read(image).layers[-1]
    assert isinstance(found, PixiProjectLayer)
    assert isinstance(found.manifest, bytes)
    expected = flyte_layers.PixiScript(script=script, platforms=("linux-64", "linux-aarch64")).render_manifest()

    assert expected == found.manifest.decode()
    assert "gdal" in expected
    assert ("pixi.toml", lock, "default", "-v", None) == (
        found.manifest_name, found.lock, found.environment, found.extra_args, found.project
    )  # fmt: skip
    assert ((TOKEN,), "from_pixi_script") == (found.secrets, found.origin)


@pytest.mark.parametrize(
    "text",
    [
        "print('no header')\n",
        "# /// script\n# dependencies = [\n# ///\n",
        "# /// script\n# dependencies = 'numpy'\n# ///\n",
        "# /// script\n# dependencies = 3\n# [tool.pixi.dependencies]\n# a = '*'\n# ///\n",
        "# /// script\n# tool = 'pixi'\n# ///\n",
    ],
)
def test_a_bad_header_of_a_pixi_script_is_an_error_that_names_the_script(tmp_path: Path, text: str) -> None:
    """Whatever stands where it should be, the error is one sentence about the script."""
    script = write(tmp_path / "job.py", text)
    with pytest.raises(
        ImageError, match=r"from_pixi_script: the `# /// script` header of `/.*/job\.py` makes no sense"
    ):
        read(with_layer(flyte_layers.PixiScript(script=script)))


def test_a_pixi_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """As with any other file."""
    with pytest.raises(MissingSourceError, match=r"from_pixi_script: the file `/.*gone\.py` does not exist"):
        read(with_layer(flyte_layers.PixiScript(script=tmp_path / "gone.py")))


# --- wheels ---


def test_wheels(tmp_path: Path) -> None:
    """A folder of wheels and the one package of it that is wanted."""
    write(tmp_path / "dist" / "flyte-1-py3-none-any.whl")
    found = layer(
        with_layer(
            flyte_layers.PythonWheels(
                wheel_dir=Path("dist"), package_name="flyte", index_url="https://a", pre=True, secret_mounts=("TOKEN",)
            )
        )
    )

    assert (
        WheelLayer(
            folder=tmp_path / "dist", package="flyte", options=PipOptions(index_url="https://a", pre=True),
            secrets=(TOKEN,),
        )
        == found
    )  # fmt: skip


def test_flytes_own_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer of Flyte builds images with: the package, its plugins and its controller."""
    dist, controller = tmp_path / "dist", tmp_path / "rs"
    write(dist / "flyteidl2-1-py3-none-any.whl")
    controller.mkdir()
    monkeypatch.setattr(flyte_layers, "DIST_FOLDER", dist)
    monkeypatch.setattr(flyte_layers, "RS_CONTROLLER_DIST_FOLDER", controller)
    image = base().with_local_v2().with_local_v2_plugins("flyteplugins-hitl").with_local_rs_controller()

    assert (
        WheelLayer(folder=dist, package="flyte"),
        WheelLayer(folder=dist, package="flyteidl2"),
        WheelLayer(folder=dist, package="flyteplugins_hitl"),
        WheelLayer(folder=controller, package="flyte_controller_base"),
    ) == read(image).layers


def test_a_folder_of_wheels_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The package is named, since the user never named a folder."""
    wheels = flyte_layers.PythonWheels(wheel_dir=tmp_path / "dist", package_name="flyte")
    with pytest.raises(MissingSourceError, match=r"the local wheel of flyte: `/.*/dist` does not exist"):
        read(with_layer(wheels))


# --- code bundles ---


def bundle(root: Path, style: Literal["loaded_modules", "all"], *, resolved: bool = True) -> Image:
    """An image with a code bundle of a folder, as Flyte hands it to the builder."""
    return with_layer(flyte_layers.CodeBundleLayer(copy_style=style, dst="/code", root_dir=root if resolved else None))


def test_a_resolved_code_bundle_of_all_is_a_folder(tmp_path: Path) -> None:
    """With `copy_style="none"` Flyte turns a bundle of all files into a folder before it builds."""
    write(tmp_path / "root" / "a.py")
    image = flyte_layers.resolve_code_bundle_layer(
        base().with_code_bundle(copy_style="all", dst="/code"), "none", tmp_path / "root"
    )

    assert (folder_layer(tmp_path / "root", "/code"),) == read(image).layers


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of which one module is imported and others are not."""
    root = tmp_path / "root"
    write(root / "bundled_package" / "__init__.py")
    write(root / "bundled_package" / "used.py")
    write(root / "bundled_package" / "unused.py")
    write(root / "data.csv")
    monkeypatch.syspath_prepend(str(root))
    __import__("bundled_package.used")
    yield root
    for name in [name for name in sys.modules if name.startswith("bundled_package")]:
        del sys.modules[name]


def test_a_resolved_code_bundle_of_loaded_modules_is_those_files(loaded: Path) -> None:
    """What was imported from the folder, and nothing else that is in it."""
    image = flyte_layers.resolve_code_bundle_layer(base().with_code_bundle(dst="/code"), "none", loaded)
    only = ("bundled_package/__init__.py", "bundled_package/used.py")

    assert (
        CopyLayer(
            files=LocalFiles(kind="folder", root=loaded, only=only), destination="/code", origin="with_code_bundle"
        )
        == layer(image)
    )  # fmt: skip


def test_a_code_bundle_of_all_files_by_flytes_own_rules(tmp_path: Path) -> None:
    """The files that Flyte would put into a bundle: no clutter, and folders that are linked to are not entered."""
    root = tmp_path / "root"
    for name in ("a.py", "data/b.csv", "__pycache__/a.pyc", ".venv/bin/python", ".git/HEAD"):
        write(root / name)
    (root / "link.py").symlink_to("a.py")
    (root / "folder").symlink_to("data")

    assert ("a.py", "data/b.csv", "link.py") == layer(bundle(root, "all")).files.only


def test_a_code_bundle_without_files_is_not_the_whole_folder(tmp_path: Path) -> None:
    """Nothing loaded from a folder means nothing of it, which is something else than all of it."""
    write(tmp_path / "root" / "a.py")

    assert () == layer(bundle(tmp_path / "root", "loaded_modules")).files.only
    assert None is file(tmp_path).only


def test_a_code_bundle_that_flyte_did_not_resolve_is_an_error(tmp_path: Path) -> None:
    """The folder is known only when the code is deployed, so the error says how to build."""
    with pytest.raises(ImageError, match=r"with_code_bundle: .*--copy-style none"):
        read(bundle(tmp_path, "all", resolved=False))
