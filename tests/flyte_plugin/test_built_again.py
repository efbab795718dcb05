"""What Flyte would remember of a build, and what it would wait for: with this package it does neither."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flyte import Image
from flyte._internal.imagebuild.image_builder import ImageBuildEngine
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin import activation
from buildkit_builder.flyte_plugin import engine as flyte_engine
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder


class Own:
    """Flyte's own `build`, which here takes until it is told, and counts."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def __wrapped__(self, engine: type, image: str, **options: Any) -> str:
        self.begun += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return f"{image}, built {options}"

    async def __call__(self, engine: type, image: str, *args: Any, **options: Any) -> str:
        return "remembered"


@pytest.fixture(autouse=True)
def _no_config(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that Flyte was told nothing of."""
    clean_environ.chdir(tmp_path)
    clean_environ.setattr("flyte._initialize._init_config", None)


@pytest.fixture
def active() -> Iterator[None]:
    """Flyte with this package activated, and then as it was."""
    was_active = hasattr(ImageBuildEngine._get_builder, activation._MARK)
    activation.activate()
    yield
    if not was_active:
        activation.deactivate()


async def test_equal_builds_that_are_started_together_are_one() -> None:
    """And one that differs in anything is another."""
    own = Own()
    build = flyte_engine.Build(own, activation._builds)
    own.go_on.set()

    results = await asyncio.gather(*(build(Own, "a", force=force) for force in (False, True, False)), build(Own, "b"))

    assert [
        "a, built {'force': False}",
        "a, built {'force': True}",
        "a, built {'force': False}",
        "b, built {}",
    ] == results
    assert 3 == own.begun


async def test_a_build_that_is_under_way_is_no_answer_to_the_next() -> None:
    """It may have read files that have changed since."""
    own = Own()
    build = flyte_engine.Build(own, activation._builds)
    first = asyncio.ensure_future(build(Own, "a"))
    while not own.begun:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(build(Own, "a"))
    while own.begun < 2:
        await asyncio.sleep(0)
    own.go_on.set()

    assert await first == await second
    await build(Own, "a")
    assert 3 == own.begun


def test_no_build_is_remembered_where_tasks_are_eager() -> None:
    """A build has then begun before anybody knows of it (Python 3.12 and newer; older ones have no such tasks)."""
    own = Own()
    build = flyte_engine.Build(own, activation._builds)

    async def twice() -> None:
        own.go_on.set()
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
        await build(Own, "a")
        await build(Own, "a")

    asyncio.run(twice())
    assert (2, {}) == (own.begun, build._not_begun)


async def test_a_build_ends_with_the_last_that_waits_for_it() -> None:
    """Not with the first, and an error is told to each."""
    own = Own()
    build = flyte_engine.Build(own, activation._builds)
    waiting = [asyncio.ensure_future(build(Own, "a")) for _ in range(3)]
    while not own.begun:
        await asyncio.sleep(0)
    waiting[0].cancel()
    own.error = ImageBuildError("no")
    own.go_on.set()
    assert ["CancelledError", "ImageBuildError", "ImageBuildError"] == [
        type(result).__name__ for result in await asyncio.gather(*waiting, return_exceptions=True)
    ]
    assert (1, 0) == (own.begun, own.cancelled)

    own.go_on.clear()
    waiting = [asyncio.ensure_future(build(Own, "a")) for _ in range(2)]
    while own.begun < 2:
        await asyncio.sleep(0)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert (2, 1) == (own.begun, own.cancelled)


@pytest.mark.parametrize(
    ("builder", "ours"),
    [
        (None, True),
        ("local", True),
        ("buildkit", True),
        ("docker", False),
        ("remote", False),
        (BuildKitImageBuilder(), True),
        (object(), False),
    ],
)
async def test_other_builders_are_remembered_as_before(builder: Any, ours: bool) -> None:
    """By whatever argument they are named."""
    own = Own()
    own.go_on.set()
    build = flyte_engine.Build(own, activation._builds)

    assert ours == (await build(Own, "a", builder=builder) != "remembered")
    if ours:
        return
    assert "remembered" == await build(Own, "a", builder)


@pytest.mark.parametrize("kind", ["in a folder", "by a link", "the file itself", "a device"])
@pytest.mark.parametrize("force", [False, True])
async def test_a_pipe_is_named_and_not_waited_for(active: None, tmp_path: Path, kind: str, force: bool) -> None:
    """Nobody writes to it: Flyte, which names an image by the content of its files, would wait for ever."""
    folder = tmp_path / "src"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    image = Image.from_base("debian:12").clone(name="mine", registry="localhost:1", extendable=True)
    if kind == "by a link":
        (folder / "pipe").rename(tmp_path / "elsewhere")
        (folder / "pipe").symlink_to(tmp_path / "elsewhere")
    if kind in {"in a folder", "by a link"}:
        image = image.with_source_folder(folder)
    else:
        image = image.with_source_file(folder / "pipe" if kind == "the file itself" else Path("/dev/zero"))

    with pytest.raises(ImageBuildError, match=r"'.*(src/pipe|/dev/zero)' is a pipe or a device"):
        await asyncio.wait_for(ImageBuildEngine.build(image, force=force), 20)


def test_an_ignored_pipe_is_nobodys_business(active: None, tmp_path: Path) -> None:
    """What no image has need not be readable."""
    folder = tmp_path / "src"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (tmp_path / ".dockerignore").write_text("**/pipe\npipe\n")
    image = Image.from_base("debian:12").clone(name="mine", registry="localhost:1", extendable=True)

    assert image.with_source_folder(folder).with_dockerignore(tmp_path / ".dockerignore").uri


def test_flyte_has_its_own_functions_back(tmp_path: Path) -> None:
    """All that were replaced."""
    import flyte._utils
    from flyte._utils import file_handling

    activation.deactivate()
    owners: list[Any] = [flyte._utils, file_handling]
    before = ImageBuildEngine.__dict__["build"], [owner.filehash_update for owner in owners]
    for _ in range(2):
        activation.activate()
        assert before[0] is not ImageBuildEngine.__dict__["build"]
        activation.deactivate()
        assert before == (ImageBuildEngine.__dict__["build"], [owner.filehash_update for owner in owners])
