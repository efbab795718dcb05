"""Builds images of the real Flyte on the real engine, and fetches them from the registry they were pushed to."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from flyte import Image

from buildkit_builder.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.registry import PulledImage, pull

Build = Callable[[Image], Awaitable[PulledImage]]

BASE = "python:3.11-slim-bookworm"


@pytest.fixture
def user(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, home and environment: the engine is found as Docker's, the registry is Flyte's setting."""
    for name, value in engine.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLYTE_IMAGE_REGISTRY", engine.registry)
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "quiet")
    if engine.ca is not None:
        monkeypatch.setenv("FLYTE_BUILDKIT_CA_BUNDLE", str(engine.ca))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def name() -> str:
    """A name for an image that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def engine_registry(engine: Engine) -> str:
    """The registry's `host:port`."""
    return engine.registry


@pytest.fixture
def base(engine: Engine, name: str) -> Image:
    """An image to put layers on: Python on Debian, for one platform, without a user of its own."""
    return Image.from_base(BASE).clone(name=name, registry=engine.registry, extendable=True, python_version=(3, 11))


@pytest.fixture
def build(user: Path) -> Build:
    """Builds and pushes an image, and fetches what was pushed."""

    async def built(image: Image) -> PulledImage:
        result = await BuildKitImageBuilder().build_image(image)
        assert result.uri is not None
        return pull(result.uri)

    return built
