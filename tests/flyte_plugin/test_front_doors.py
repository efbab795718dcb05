"""Whatever goes wrong, wherever: a build ends with an `ImageBuildError`, and what is looked up counts as missing.

Flyte takes an error of a checker for "it exists", and reports success for it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyte import Image
from flyte._internal.imagebuild import image_builder
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.gateway import Gateway
from buildkit_builder.buildkit.build import BuildResult, run
from buildkit_builder.buildkit.build.delivery import Delivery
from buildkit_builder.buildkit.connect.connection import Pool
from buildkit_builder.buildkit.progress.quiet import QuietDisplay, QuietScreen
from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.buildkit.session.patterns import PatternError
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.config import Settings
from buildkit_builder.errors import ConfigError, EndpointError, ImageError
from buildkit_builder.flyte_plugin import activation, background, reader
from buildkit_builder.flyte_plugin import settings as flyte_settings
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker, asked_for
from buildkit_builder.flyte_plugin.image_build import build_inputs, dry_run, ordered_image, sharing
from buildkit_builder.image import caches, contents, destination, dockerfile, frontend, memory, platform_build, probe
from buildkit_builder.image.identity import Identity
from buildkit_builder.image.unforeseen import as_ours
from tests.fakes.buildkit import FakeBuildKit

# The package gives its function this name.
build = importlib.import_module("buildkit_builder.flyte_plugin.image_build.build")
PUSHED = f"sha256:{'0' * 64}"
CONFIG = (
    b'{"architecture": "amd64", "os": "linux", "config": {"Labels": {"buildkit-builder.identity": "v=1"}}, '
    b'"rootfs": {"type": "layers", "diff_ids": []}}'
)

ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: PermissionError(13, "Permission denied", "/the/file"),
    lambda: FileNotFoundError(2, "No such file or directory", b"/caf\xe9"),
    lambda: OSError("no words"),
    lambda: UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "invalid"),
    lambda: UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed"),
    lambda: PatternError("the pattern 'a[' is malformed"),
    lambda: grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone"),
    lambda: grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), None),
    lambda: RecursionError("maximum recursion depth exceeded"),
    MemoryError,
    lambda: KeyError("key"),
    AssertionError,
    lambda: ImportError("no module"),
    asyncio.TimeoutError,
    EOFError,
    lambda: NotImplementedError("not here"),
    lambda: StopIteration("over"),
    lambda: ConfigError("a setting"),
    lambda: ImageError("the image"),
    lambda: EndpointError("the endpoint"),
)
# What is not for us to understand: somebody ends the process, or the task.
ENDS = (KeyboardInterrupt, asyncio.CancelledError, SystemExit)

DOORS = ("build", "build of a Dockerfile", "dry run", "in the background", "look-up", "look-up of a Dockerfile")
BUILDS, LOOK_UPS = DOORS[:2], DOORS[4:]
# What can raise, and the doors behind which it is.
PLACES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (flyte_settings, "load", DOORS),
    (reader, "needs_building", DOORS[:4]),
    (reader, "read", DOORS),
    (dry_run, "plan", ("dry run",)),
    (build_inputs, "plan", ("build", "look-up")),
    (build_inputs, "read_text", ("build of a Dockerfile", "look-up of a Dockerfile")),
    (contents, "digest_of", (*BUILDS, *LOOK_UPS)),
    (contents, "digest_of_tagged", ("build", "look-up")),
    (Identity, "of", (*BUILDS, *LOOK_UPS)),
    (ordered_image, "secret_values", BUILDS),
    (ordered_image, "redactor", BUILDS),
    (caches.Caches, "of", BUILDS),
    (DockerConfig, "load", (*BUILDS, *LOOK_UPS)),
    (sharing, "open_screen", (*BUILDS, *LOOK_UPS)),
    (build, "find_nodes", (*BUILDS, *LOOK_UPS)),
    (build, "open_screen", LOOK_UPS),
    (Pool, "get", (*BUILDS, *LOOK_UPS)),
    (Pool, "close", (*BUILDS, *LOOK_UPS)),
    (destination.Destination, "choose", BUILDS),
    (Session, "open", (*BUILDS, *LOOK_UPS)),
    (Control, "solve", (*BUILDS, *LOOK_UPS)),
    (Gateway, "ping", (*BUILDS, *LOOK_UPS)),
    (Gateway, "resolve_image", ("build", *LOOK_UPS)),
    (Gateway, "solve", BUILDS),
    (Gateway, "return_result", (*BUILDS, *LOOK_UPS)),
    (platform_build, "lower", ("build",)),
    (frontend, "result_of", ("build",)),
    (dockerfile, "images_of", ("build of a Dockerfile",)),
    (probe, "changes", LOOK_UPS),
    (memory.Memory, "note", BUILDS),
    (memory.Memory, "recall", BUILDS),
    (Delivery, "complete", (*BUILDS, *LOOK_UPS)),
    (BuildResult, "__init__", (*BUILDS, *LOOK_UPS)),
    (QuietScreen, "display", (*BUILDS, *LOOK_UPS)),
    (QuietDisplay, "done", (*BUILDS, *LOOK_UPS)),
    (background, "start", ("in the background",)),
    (subprocess, "Popen", ("in the background",)),
)
CASES = [
    pytest.param((door, owner, name), id=f"{door}-{owner.__name__.rpartition('.')[2]}.{name}")
    for owner, name, doors in PLACES
    for door in doors
]
_SHARE = 4


@pytest.fixture
async def fake(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeBuildKit]:
    """A daemon that has what the image is made from, and the image; settings that lead to it."""
    async with FakeBuildKit() as fake:
        clean_environ.chdir(tmp_path)
        clean_environ.setattr("flyte._initialize._init_config", None)
        clean_environ.setenv("FLYTE_BUILDKIT_ENDPOINT", fake.address)
        clean_environ.setenv("FLYTE_BUILDKIT_PROGRESS", "quiet")
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        (tmp_path / "source.txt").write_text("source")
        yield fake


def image_of(door: str, folder: Path) -> Image:
    """The image of a front door."""
    if "Dockerfile" in door:
        return Image.from_dockerfile(folder / "Dockerfile", registry="registry.example", name="mine")
    image = Image.from_base("base.example/base:1").clone(name="mine", registry="registry.example", extendable=True)
    return image.with_commands(["make"]).with_source_file(folder / "source.txt")


async def enter(door: str, image: Image) -> str | None:
    """Goes in by a front door; what comes out is an image's name, or `None`."""
    builder = BuildKitImageBuilder()
    match door.split(maxsplit=1)[0]:
        case "dry":
            return (await builder.build_image(image, dry_run=True)).uri
        case "in":
            return (await builder.build_image(image, wait=False)).uri
        case "build":
            return (await builder.build_image(image, force=True)).uri
    token = asked_for.set(image)
    try:
        repository, _, tag = image.uri.rpartition(":")
        return await BuildKitImageChecker.image_exists(repository, tag)
    finally:
        asked_for.reset(token)


def break_at(owner: Any, name: str, error: Callable[[], BaseException], patch: pytest.MonkeyPatch) -> list[str]:
    """Has something raise an error; gives a list that is not empty any more when it has."""
    raised: list[str] = []
    real = inspect.getattr_static(owner, name)

    def fail(*_: Any, **__: Any) -> Any:
        raised.append(name)
        raise error()

    async def fail_later(*_: Any, **__: Any) -> Any:
        fail()

    function = getattr(real, "__func__", real)
    broken: Any = fail_later if inspect.iscoroutinefunction(function) else fail
    patch.setattr(owner, name, staticmethod(broken) if isinstance(owner, type) else broken)
    return raised


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("case", CASES)
async def test_nothing_but_an_error_of_flytes_comes_out(
    fake: FakeBuildKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, Any, str]
) -> None:
    """Of a build an `ImageBuildError` that has words, of a look-up `None`. Each place raises a share of all errors."""
    door, owner, name = case
    image = image_of(door, tmp_path)
    fake.images = dict.fromkeys(("base.example/base:1", "uv.example/uv:1", image.uri), (PUSHED, CONFIG))
    monkeypatch.setattr(reader.image, "default_uv_image", lambda: "uv.example/uv:1")
    # A daemon that is told nothing more may take a while to say why.
    monkeypatch.setattr(run, "_GRACE_SECONDS", 0.1)
    first = (len(name) + DOORS.index(door)) % _SHARE
    for error in ERRORS[first::_SHARE]:
        with monkeypatch.context() as patch:
            raised = break_at(owner, name, error, patch)
            if door in LOOK_UPS:
                assert await enter(door, image) is None
            else:
                with pytest.raises(ImageBuildError) as caught:
                    await enter(door, image)
                said = str(caught.value)
                assert said.startswith("Building ") or isinstance(caught.value.__cause__, ConfigError)
                assert "\udce9" not in said
                assert "/the/file" in said or not isinstance(error(), PermissionError)
            assert raised
    assert {} == sharing._running


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("door", DOORS)
async def test_what_ends_a_process_or_a_task_does(
    fake: FakeBuildKit, tmp_path: Path, door: str, end: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no error of a build, and is not made one."""
    break_at(flyte_settings, "load", end, monkeypatch)

    with pytest.raises(end):
        await enter(door, image_of(door, tmp_path))


# --- activation ---


@pytest.fixture
def activated() -> Iterator[None]:
    """Flyte with this package, for the time of a test."""
    was_active = hasattr(image_builder.ImageBuildEngine._get_builder, activation._MARK)
    activation.activate()
    yield
    if not was_active:
        activation.deactivate()


@pytest.mark.parametrize("error", ERRORS)
def test_settings_that_cannot_be_read(
    activated: None, error: Callable[[], Exception], clean_environ: pytest.MonkeyPatch
) -> None:
    """Choosing a builder is a front door as well."""
    break_at(Settings, "load", error, clean_environ)

    with pytest.raises(ImageBuildError):
        image_builder.ImageBuildEngine._get_builder("local")


@pytest.mark.filterwarnings("ignore:alru_cache detected event loop change")
@pytest.mark.parametrize("error", ERRORS)
async def test_an_image_that_flyte_cannot_name(
    activated: None, fake: FakeBuildKit, error: Callable[[], Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is a digest of files, before anybody is asked for it."""
    image = image_of("build", tmp_path).with_env_vars({"ERROR": str(ERRORS.index(error))})

    def fail(_: Image) -> str:
        raise error()

    monkeypatch.setattr(Image, "_final_tag", property(fail))

    with pytest.raises(ImageBuildError, match="Building the image `mine` failed"):
        await image_builder.ImageBuildEngine.image_exists(image)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(24, "Too many open files"), "Too many open files while asking."),
        (OSError(28, "No space left on device"), "No space left on device while asking."),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "No usable temporary directory"),
    ],
)
def test_what_a_machine_lacks_is_no_fault_of_this_package(error: OSError, said: str) -> None:
    """Nor is it to be reported."""
    text = str(as_ours(error, doing="asking"))

    assert text.startswith(said)
    assert "report" not in text
