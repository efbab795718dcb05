"""The smoke suite for engines of all ages: `BUILDKIT_BUILDER_ENGINE` says which one this run is against."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.daemons.lanes import LANES, Lane
from tests.daemons.packages import build_base
from tests.integration.command import Finished, run
from tests.integration.registry import PulledImage, exists, pull

Command = Callable[..., Finished]

BASE = "python:3.11-slim-bookworm"


async def build(image: Image) -> PulledImage:
    """Builds and pushes an image, and fetches what was pushed."""
    result = await BuildKitImageBuilder().build_image(image)
    assert result.uri is not None
    return pull(result.uri)


async def refused(image: Image, capfd: pytest.CaptureFixture[str]) -> str:
    """What a build says that is refused: one sentence, before a step has run, and nothing is pushed."""
    with pytest.raises(ImageBuildError) as caught:
        await BuildKitImageBuilder().build_image(image)
    shown = capfd.readouterr().err
    assert "with_commands" not in shown
    assert "COPY" not in shown
    assert not exists(image.uri)
    return str(caught.value)


@pytest.fixture(scope="session")
def lane(engine: Engine) -> Lane:
    """What the engine can do."""
    return LANES[engine.environ.get("BUILDKIT_BUILDER_ENGINE", "")]


@pytest.fixture(scope="session")
def furnished(engine: Engine, docker: str, lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A base in the engine's store that has the suite's packages in it, for all platforms that the engine can hold."""
    tag = f"furnished-{uuid.uuid4().hex[:8]}:1"
    platforms = "linux/amd64"
    if lane.store and not engine.environ.get("BUILDKIT_BUILDER_NO_EMULATOR"):
        platforms += ",linux/arm64"
    folder = tmp_path_factory.mktemp("furnished")
    build_base(folder, BASE, docker=docker, tag=tag, platforms=platforms, environ=engine.environ)
    yield tag
    subprocess.run([docker, "rmi", tag], check=True, env=dict(engine.environ), stdout=subprocess.DEVNULL)


@pytest.fixture
def user(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, home and environment: the engine is found as Docker's, the registry is Flyte's setting."""
    for name, value in engine.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLYTE_IMAGE_REGISTRY", engine.registry)
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def name() -> str:
    """A name for an image that no other test has; in a command, what makes the step one that no cache has."""
    return f"smoke-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def base(engine: Engine, furnished: str, user: Path, name: str) -> Image:
    """An image for a user to put layers on: Python on Debian, for one platform."""
    image = Image.from_base(furnished).clone(name=name, registry=engine.registry, extendable=True)
    return image.clone(python_version=(3, 11))


@pytest.fixture
def small(engine: Engine, user: Path, name: str) -> Image:
    """An image of one file, which is in any registry in no time."""
    (user / "a.txt").write_text(name)
    (user / "Dockerfile").write_text("FROM scratch\nCOPY a.txt /\n")
    return Image.from_dockerfile(user / "Dockerfile", registry=engine.registry, name=name)


@pytest.fixture
def command(user: Path) -> Command:
    """Runs a command line in the user's folder."""

    def ran(*words: str, **variables: str) -> Finished:
        return run(*words, folder=user, **variables)

    return ran
