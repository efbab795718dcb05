"""Other daemons than an engine with the containerd image store: the older graph drivers, a buildkitd."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, BuildResult, Exporter, Files, OciArchive, TarArchive
from buildkit_builder.buildkit.build import build as solve
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.errors import CapabilityError
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.buildkit.connect.test_engine import Front
from tests.conftest import Engine
from tests.integration.conftest import Build
from tests.integration.daemon import Daemon, daemon
from tests.integration.registry import exists, pull
from tests.integration.servers import PASSWORD, USER, PrivateRegistry, auth, private_registry

DEBIAN = "debian:bookworm-slim"
EXTRA = "FLYTE_DOCKER_BUILD_EXTRA_ARGS"
# The engine of these tests has no network for its steps, and the base no Python: a shell stands in for it.
BARE = "--network none --build-arg UV_PYTHON=/bin/sh"
PLATFORM = llb.Platform(architecture="amd64")


def uv_image() -> str:
    """The image that Flyte takes uv from."""
    from buildkit_builder.flyte_plugin.reader import default_uv_image

    return default_uv_image()


@pytest.fixture(scope="module")
def old(engine: Engine, docker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An engine without the containerd image store, with a base and uv in it."""
    assert engine.dockerd is not None
    archive = tmp_path_factory.mktemp("images") / "images.tar"
    subprocess.run([docker, "save", "-o", str(archive), DEBIAN, uv_image()], check=True, env=dict(engine.environ))
    with daemon(engine.dockerd, engine.environ, containerd_store=False) as own:
        own.load(archive)
        yield own


@pytest.fixture
def old_user(old: Daemon, user: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of that engine."""
    monkeypatch.setenv("DOCKER_HOST", old.address)
    monkeypatch.setenv(EXTRA, BARE)
    return user


@pytest.fixture
async def old_connection(old: Daemon) -> AsyncIterator[Connection]:
    """A connection to that engine."""
    async with await connect(Endpoint(address=old.address, kind="docker")) as opened:
        yield opened


@pytest.fixture
def private(engine: Engine, tmp_path: Path) -> Iterator[PrivateRegistry]:
    """A registry that wants a password."""
    assert engine.registry_bin is not None
    with private_registry(engine.registry_bin, tmp_path / "registry") as started:
        yield started


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own Docker config file, which has no credentials."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


def layered(name: str, registry: str | None) -> Image:
    """An image on that engine's base."""
    image = Image.from_base(DEBIAN).clone(name=name, registry=registry, extendable=True, python_version=(3, 11))
    return image.with_commands(["echo made > /made"])


async def export(connection: Connection, state: llb.State, *exporters: Exporter) -> BuildResult:
    """Builds a graph, and has it exported."""
    request = BuildRequest(title="test", frontend=GraphFrontend(state=state, platform=PLATFORM), exporters=exporters)
    screen = open_screen("quiet", sys.stderr, environ={}, clock=time.monotonic)
    return await solve(connection, request, screen.display())


# --- graph drivers ---


async def test_pushed_by_the_engine(old_user: Path, build: Build, engine_registry: str, name: str) -> None:
    """An image of layers is pushed through the engine's API, whole."""
    (old_user / "main.py").write_text("x = 1\n")
    image = layered(name, engine_registry).with_source_file(old_user / "main.py", dst="/app/")

    pulled = await build(image.with_env_vars({"WHO": "me"}))

    assert b"made\n" == pulled.tree()["made"].content
    assert b"x = 1\n" == pulled.tree()["app/main.py"].content
    assert "me" == pulled.env["WHO"]


async def test_dockerfile(old_user: Path, build: Build, engine_registry: str, name: str) -> None:
    """A Dockerfile is built there too."""
    (old_user / "Dockerfile").write_text(f"FROM {DEBIAN}\nCOPY a.txt /a.txt\nRUN cat a.txt a.txt > /twice\n")
    (old_user / "a.txt").write_text("a")

    pulled = await build(Image.from_dockerfile(old_user / "Dockerfile", registry=engine_registry, name=name))

    assert b"aa" == pulled.tree()["twice"].content


async def test_credentials_reach_the_engine(
    old_user: Path, private: PrivateRegistry, docker_config: Path, name: str
) -> None:
    """The engine pushes with the credentials of the user's Docker config."""
    docker_config.write_text(json.dumps({"auths": {private.address: {"auth": auth(USER, PASSWORD)}}}))

    await BuildKitImageBuilder().build_image(layered(name, private.address))

    assert private.has(name)


@pytest.mark.parametrize("password", [None, "wrong-password"])
async def test_refused_credentials(
    old_user: Path, private: PrivateRegistry, docker_config: Path, name: str, password: str | None
) -> None:
    """A push without credentials, or with wrong ones, says so, and names the image but no password."""
    auths = {private.address: {"auth": auth(USER, password)}} if password else {}
    docker_config.write_text(json.dumps({"auths": auths}))

    with pytest.raises(ImageBuildError, match=r"credentials[\s\S]*docker login") as caught:
        await BuildKitImageBuilder().build_image(layered(name, private.address))

    assert name in str(caught.value)
    assert "wrong-password" not in str(caught.value)
    assert not private.has(name)


async def test_registry_that_is_down(old_user: Path, name: str) -> None:
    """A push to where no registry listens says that it cannot be reached."""
    with pytest.raises(ImageBuildError, match="could not be reached"):
        await BuildKitImageBuilder().build_image(layered(name, "127.0.0.1:1"))


async def test_loaded_without_a_registry(
    old: Daemon, old_user: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that names no registry stays in the engine's store, under its name."""
    monkeypatch.delenv("FLYTE_IMAGE_REGISTRY")

    result = await BuildKitImageBuilder().build_image(layered(name, None))

    assert result.uri in old.images()


async def test_several_platforms(old: Daemon, old_user: Path, engine_registry: str, name: str) -> None:
    """Several platforms are refused before anything is built, with two ways out."""
    image = layered(name, engine_registry).clone(platform=("linux/amd64", "linux/arm64"))

    with pytest.raises(ImageBuildError, match=r"containerd-snapshotter[\s\S]*image\.buildkit\.platforms"):
        await BuildKitImageBuilder().build_image(image)


async def test_annotation(
    old: Daemon, old_user: Path, engine_registry: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An annotation, which such an engine would drop without a word, is refused."""
    monkeypatch.setenv(EXTRA, f"{BARE} --annotation a=b")

    with pytest.raises(ImageBuildError, match="cannot annotate"):
        await BuildKitImageBuilder().build_image(layered(name, engine_registry))

    assert not exists(f"{engine_registry}/{name}:latest")


async def test_no_merge(old_connection: Connection) -> None:
    """A graph that merges is refused there by the name of what is missing."""
    one = llb.scratch().file(llb.mkfile("/a", b"a"))
    two = llb.scratch().file(llb.mkfile("/b", b"b"))

    with pytest.raises(CapabilityError, match="mergeop"):
        await export(old_connection, llb.merge([one, two]))


async def test_archives(old_connection: Connection, tmp_path: Path) -> None:
    """Such an engine writes files and tar archives, and says that it writes no OCI archive."""
    state = llb.scratch().file(llb.mkfile("/a", b"a"))

    await export(old_connection, state, Files(path=tmp_path / "out"))
    await export(old_connection, state, TarArchive(path=tmp_path / "a.tar"))
    with pytest.raises(CapabilityError, match="oci"):
        await export(old_connection, state, OciArchive(path=tmp_path / "oci.tar"))

    assert b"a" == (tmp_path / "out" / "a").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert ["a"] == archive.getnames()
    assert not (tmp_path / "oci.tar").exists()


# --- a buildkitd ---


@pytest.mark.parametrize("path", ["b.sock", None])
async def test_buildkitd(
    engine: Engine, base: Image, user: Path, path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole image is built and pushed by what `BUILDKIT_HOST` names, which knows nothing of Docker."""
    (user / "main.py").write_text("x = 1\n")
    image = base.with_pip_packages("six").with_source_file(user / "main.py", dst="/app/")
    front = Front(engine.docker_host.removeprefix("unix://"), upgrade=True, path=path and str(user.parent / path))
    async with front:
        monkeypatch.delenv("DOCKER_HOST")
        monkeypatch.setenv("BUILDKIT_HOST", front.address)
        result = await BuildKitImageBuilder().build_image(image)

    assert result.uri is not None
    tree = (await asyncio.to_thread(pull, result.uri)).tree()
    assert "opt/venv/lib/python3.11/site-packages/six.py" in tree
    assert b"x = 1\n" == tree["app/main.py"].content


async def test_buildkitd_without_a_registry(
    engine: Engine, user: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that names no registry has nowhere to go there, and the error says so."""
    front = Front(engine.docker_host.removeprefix("unix://"), upgrade=True, path=str(tmp_path / "b.sock"))
    async with front:
        monkeypatch.delenv("DOCKER_HOST")
        monkeypatch.delenv("FLYTE_IMAGE_REGISTRY")
        monkeypatch.setenv("BUILDKIT_HOST", front.address)
        with pytest.raises(ImageBuildError, match="names no registry"):
            await BuildKitImageBuilder().build_image(layered(name, None))
