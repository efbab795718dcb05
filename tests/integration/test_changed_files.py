"""Files that change without a trace in size and time: the next image has what is there now, however they are sent."""

from __future__ import annotations

import asyncio
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import flyte
import pytest
from flyte import Image
from flyte import _image as flyte_layers

from buildkit_builder.flyte_plugin import activation
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.integration.conftest import Build
from tests.integration.registry import PulledImage, pull
from tests.parity.packages import write_project

Way = Callable[[Path, Image], Image]
OLD, NEW = "NAME = '1.0.1'\n", "NAME = '1.0.2'\n"


def change(work: Path, content: str) -> None:
    """Writes what the images are made of, all with one time, as reproducible archives and some checkouts have it."""
    (work / "app" / "src" / "app" / "__init__.py").write_text(content)
    with zipfile.ZipFile(work / "dist" / "app-1.0-py3-none-any.whl", "w") as archive:
        info = "app-1.0.dist-info"
        archive.writestr(zipfile.ZipInfo("app/__init__.py"), content)
        archive.writestr(zipfile.ZipInfo(f"{info}/METADATA"), "Metadata-Version: 2.1\nName: app\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), tags)
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "app/__init__.py,,\n")
    for path in work.rglob("*"):
        os.utime(path, (1, 1))
    time.sleep(0.2)  # what has just been written would be sent again in any case


@pytest.fixture
def work(user: Path) -> Path:
    """A project with one module, and a folder with its wheel."""
    write_project(user / "app", "app")
    (user / "app" / "Dockerfile").write_text("FROM scratch\nCOPY src/app/__init__.py /app/\n")
    (user / "dist").mkdir()
    return user


def from_dockerfile(work: Path, base: Image) -> Image:
    return Image.from_dockerfile(
        work / "app" / "Dockerfile", registry=base.registry or "", name=base.name or "", platform=("linux/amd64",)
    )


WAYS: dict[str, Way] = {
    "folder": lambda work, base: base.with_source_folder(work / "app", "/app"),
    "contents of a folder": lambda work, base: base.with_source_folder(work / "app", "/a", copy_contents_only=True),
    "file": lambda work, base: base.with_source_file(work / "app" / "src" / "app" / "__init__.py", "/app/"),
    "code bundle": lambda work, base: base.clone(
        addl_layer=flyte_layers.CodeBundleLayer(copy_style="all", dst="/app", root_dir=work / "app")
    ),
    "Dockerfile": from_dockerfile,
    "uv project": lambda work, base: base.with_uv_project(
        work / "app" / "pyproject.toml", project_install_mode="install_project"
    ),
    "wheels": lambda work, base: base.clone(
        addl_layer=flyte_layers.PythonWheels(wheel_dir=work / "dist", package_name="app")
    ),
}


def found(image: PulledImage) -> set[bytes]:
    """What the image has of the module."""
    return {entry.content for path, entry in image.tree().items() if path.endswith("app/__init__.py")}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_what_is_there_gets_into_the_image(work: Path, base: Image, build: Build, way: Way) -> None:
    """Whatever a layer does with files, it does it with their content of now; and with that of before once more."""
    for content in (OLD, NEW, OLD):
        change(work, content)
        assert {content.encode()} == found(await build(way(work, base)))


@pytest.mark.parametrize("forced", [True, False])
async def test_and_into_one_that_is_built_by_force(work: Path, base: Image, forced: bool) -> None:
    """An image is not what it was before because it is built by force, or with nothing of the daemon's cache."""
    for content in (OLD, NEW):
        change(work, content)
        built = await BuildKitImageBuilder().build_image(WAYS["Dockerfile"](work, base), force=forced)
        assert built.uri is not None
        assert {content.encode()} == found(pull(built.uri))


async def test_and_into_one_without_a_cache(
    work: Path, base: Image, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the daemon was sent before is no cache that `--no-cache` would pass over."""
    for content in (OLD, NEW):
        change(work, content)
        assert {content.encode()} == found(await build(WAYS["file"](work, base)))
        monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--no-cache")


@pytest.mark.filterwarnings("ignore:alru_cache detected event loop change")
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_and_into_one_that_flyte_builds_again_in_one_process(
    work: Path, base: Image, monkeypatch: pytest.MonkeyPatch, way: Way, forced: bool
) -> None:
    """What Flyte remembers of a build is not the answer to the next one: for the same object, and for an equal one."""
    monkeypatch.setattr("flyte._initialize._init_config", None)  # given back in the end
    await flyte.init.aio(root_dir=work)
    activation.activate()  # which `flyte.init` does once in a process, and another test may have undone
    change(work, OLD)
    image = way(work, base)
    for content in (OLD, NEW, OLD):
        change(work, content)
        for asked in (image, way(work, base)):
            built = await flyte.build.aio(asked, force=forced)
            assert built.uri is not None
            assert {content.encode()} == found(pull(built.uri))


async def test_and_into_all_that_are_built_at_once(work: Path, base: Image) -> None:
    """Images that share a folder, which is sent once, all have what is in it."""
    for content in (OLD, NEW):
        change(work, content)
        images = [WAYS["folder"](work, base.with_env_vars({"NUMBER": str(number)})) for number in range(3)]
        results = await asyncio.gather(*(BuildKitImageBuilder().build_image(image) for image in images))
        for result in results:
            assert result.uri is not None
            assert {content.encode()} == found(pull(result.uri))
