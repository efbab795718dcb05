"""Folders and files whose names are not plain words, however they get into an image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from flyte import Image

from tests.integration.conftest import Build
from tests.integration.registry import PulledImage
from tests.parity.packages import write_project

LATIN = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    "called", ["Übung", "日本", "e\u0301 🐳", "a\nb", " a ", "a+b%41", "it's\x01", LATIN], ids=ascii
)
async def test_folders(user: Path, base: Image, build: Build, called: str) -> None:
    """A source folder may have any name, also where it is the folder that the user is in."""
    (user / called).mkdir()
    (user / called / "file").write_text("x")
    image = base.with_source_folder(user / called, "/app")
    assert {"app/file"} == files(await build(image))

    os.chdir(user / called)
    (user / called / "file").rename(user / called / "other")
    assert {"app/other"} == files(await build(base.with_source_folder(Path(), "/app")))


@pytest.mark.parametrize("called", ["ä.txt", "日本", "e\u0301 🐳", "a+b%41"], ids=ascii)
async def test_files(user: Path, base: Image, build: Build, called: str) -> None:
    """So may a source file, whose name is that in the image."""
    (user / called).write_text("x")
    assert {f"app/{called}"} == files(await build(base.with_source_file(user / called, "/app/")))


async def test_projects(user: Path, base: Image, build: Build) -> None:
    """So may the folder of a project."""
    pyproject = write_project(user / "Übung", "app")
    image = await build(base.with_uv_project(pyproject, project_install_mode="install_project"))

    assert "opt/venv/lib/python3.11/site-packages/app/__init__.py" in image.tree()


DOCKERFILES: dict[str, Callable[[Path], Path]] = {
    "folder": lambda user: user / "Übung" / "Dockerfile",
    "Dockerfile": lambda user: user / "Dockerfile.ü",
    "both": lambda user: user / "日本 a" / "ä.Dockerfile",
    "not UTF-8": lambda user: user / LATIN / "Dockerfile",
}


@pytest.mark.parametrize("place", DOCKERFILES.values(), ids=DOCKERFILES.keys())
async def test_dockerfiles(
    user: Path, engine_registry: str, name: str, build: Build, place: Callable[[Path], Path]
) -> None:
    """So may a Dockerfile, its folder, what it copies, and what its `.dockerignore` leaves out."""
    path = place(user)
    path.parent.mkdir(exist_ok=True)
    path.write_text("FROM scratch\nCOPY ä.txt ö /app/\n")
    for file in ("ä.txt", "ö/one.txt", "ö/zwölf.txt"):
        (path.parent / file).parent.mkdir(exist_ok=True)
        (path.parent / file).write_text("x")
    (path.parent / ".dockerignore").write_text("**/zwölf*\n", encoding="utf-8")
    image = Image.from_dockerfile(path, registry=engine_registry, name=name, platform=("linux/amd64",))

    assert {"app/ä.txt", "app/one.txt"} == files(await build(image))


def files(image: PulledImage) -> set[str]:
    """The paths below `app`."""
    return {path for path, entry in image.tree("app").items() if entry.kind == "file"}
