"""Builds images of the real Flyte on the real engine, and fetches them from the registry they were pushed to."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flyte import Image

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.registry import PulledImage, pull
from tests.integration.servers import USER, PrivateRegistry, auth, private_registry

Build = Callable[[Image], Awaitable[PulledImage]]

BASE = "python:3.11-slim-bookworm"


@dataclass(frozen=True, kw_only=True)
class Private:
    """A registry that asks for a password, an image for it, and the Docker config with what the user knows of it."""

    registry: PrivateRegistry
    image: Image
    folder: Path

    def config(self, **content: object) -> None:
        """Writes Docker's config.json, as `docker login` would."""
        (self.folder / "config.json").write_text(json.dumps(content))

    def auths(self, password: str) -> None:
        """Writes a config with a password in it."""
        self.config(auths={self.registry.address: {"auth": auth(USER, password)}})

    def helper(self, answer: str, *, code: int = 0) -> None:
        """Puts the credential helper `test` on the PATH, which answers every question alike."""
        program = self.folder / "docker-credential-test"
        program.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\nexit {code}\n")
        program.chmod(0o755)


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


@pytest.fixture(scope="module")
def private_server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    """A registry that asks for a password."""
    assert engine.registry_bin is not None
    with private_registry(engine.registry_bin, tmp_path_factory.mktemp("private") / "registry") as started:
        yield started


@pytest.fixture
def private(private_server: PrivateRegistry, base: Image, user: Path, monkeypatch: pytest.MonkeyPatch) -> Private:
    """The registry, and a user without any credentials."""
    folder = user / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    image = base.clone(registry=private_server.address).with_env_vars({"PRIVATE": "1"})
    return Private(registry=private_server, image=image, folder=folder)
