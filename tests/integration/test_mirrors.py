"""Mirrors on a real daemon: an image is built from them as it is from the registries themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.wire import control_pb2
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.conftest import BASE, Build
from tests.parity.packages import Index, serve
from tests.parity.tools import UV_IMAGE


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An index of packages, of which some are there only as sources."""
    with serve() as served:
        yield served


@pytest.fixture
def mirrored(engine: Engine, docker: str, name: str) -> str:
    """A folder of the registry that has the base under `base:1`, and under no other name; and the image of uv."""
    folder = f"{engine.registry}/{name}"
    _, _, uv = UV_IMAGE.partition("/")
    names = ((BASE, "deep/base:1"), (BASE, f"library/{BASE}"), (UV_IMAGE, uv))
    for image, reference in ((image, f"{folder}/{place}") for image, place in names):
        for command in (["tag", image, reference], ["push", "-q", reference], ["rmi", reference]):
            subprocess.run([docker, *command], check=True, env=dict(engine.environ), stdout=subprocess.DEVNULL)
    return folder


@pytest.mark.parametrize(("source", "part"), [("example.invalid", ""), ("example.invalid/deep", "/deep")])
async def test_mirror(mirrored: str, build: Build, source: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base of a registry that does not exist comes from the mirror of the registry, or of a part of it."""
    monkeypatch.setenv("FLYTE_BUILDKIT_REGISTRY_MIRRORS", f"other.invalid=nowhere.invalid,{source}={mirrored}{part}")
    registry, _, name = mirrored.partition("/")
    image = Image.from_base("example.invalid/deep/base:1").clone(
        name=f"{name}-built", registry=registry, extendable=True, python_version=(3, 11)
    )

    pulled = await build(image.with_commands(["echo made > /made"]))

    assert b"made\n" == pulled.tree()["made"].content
    assert "bin/bash" in pulled.tree() or "usr/bin/bash" in pulled.tree()


async def test_mirror_of_docker_hub(
    mirrored: str, build: Build, engine_registry: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name without a registry is Docker Hub's, in a Dockerfile as well, and its mirror is asked."""
    monkeypatch.setenv("FLYTE_BUILDKIT_REGISTRY_MIRRORS", f"docker.io={mirrored}")
    Path("Dockerfile").write_text("FROM deep/base:1\nENV MIRRORED=yes\n")

    pulled = await build(
        Image.from_dockerfile(Path("Dockerfile").absolute(), registry=engine_registry, name=f"{name}-built")
    )

    assert "yes" == pulled.env["MIRRORED"]


async def test_mirror_without_the_image(
    user: Path, mirrored: str, engine_registry: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that the mirror has not is told with the name of the mirror."""
    monkeypatch.setenv("FLYTE_BUILDKIT_REGISTRY_MIRRORS", f"example.invalid={mirrored}")
    image = Image.from_base("example.invalid/deep/other:1").clone(
        name=f"{name}-built", registry=engine_registry, extendable=True, python_version=(3, 11)
    )

    with pytest.raises(ImageBuildError, match=r"other:1"):
        await BuildKitImageBuilder().build_image(image)


@pytest.fixture
def image(user: Path, mirrored: str, monkeypatch: pytest.MonkeyPatch) -> Image:
    """An image of a registry that does not exist, but for its mirror; the image of uv has one as well."""
    monkeypatch.setenv("FLYTE_BUILDKIT_REGISTRY_MIRRORS", f"example.invalid={mirrored},ghcr.io={mirrored}")
    # The index is on this machine's loopback.
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--network host")
    registry, _, name = mirrored.partition("/")
    return Image.from_base("example.invalid/deep/base:1").clone(
        name=f"{name}-built", registry=registry, extendable=True, python_version=(3, 11)
    )


async def test_an_installation_that_has_to_wait(image: Image, build: Build, index: Index) -> None:
    """What is tried ahead is known by the vertex that the daemon names, with mirrors as without."""
    pulled = await build(image.with_apt_packages("less").with_pip_packages("parity-delta", index_url=index.public))

    assert any("parity_delta" in path for path in pulled.tree())
    assert "usr/bin/less" in pulled.tree()


async def test_builds_with_mirrors_and_without_in_turn(
    mirrored: str, build: Build, index: Index, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one of them remembers of the base is nothing for the other, and an installation that has to wait waits."""
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--network host")
    registry, _, _ = mirrored.partition("/")
    base = Image.from_base(BASE).clone(name=f"{name}-built", registry=registry, extendable=True, python_version=(3, 11))
    for turn, mirrors in enumerate((f"docker.io={mirrored},ghcr.io={mirrored}", "") * 2):
        monkeypatch.setenv("FLYTE_BUILDKIT_REGISTRY_MIRRORS", mirrors)
        image = base.with_env_vars({"TURN": f"{name}-{turn}"}).with_apt_packages("less")
        pulled = await build(image.with_pip_packages("parity-delta", index_url=index.public))

        assert any("parity_delta" in path for path in pulled.tree())


async def test_a_step_that_fails_has_its_name_and_its_last_lines(image: Image) -> None:
    """The daemon reports it by the digest that it was sent with."""
    with pytest.raises(ImageBuildError) as caught:
        await BuildKitImageBuilder().build_image(image.with_commands(["echo made", "echo last words; exit 3"]))

    assert "The step `with_commands echo last words; exit 3` failed" in str(caught.value)
    assert "\n  last words" in str(caught.value)


async def test_layers_are_packed_ahead(image: Image, build: Build, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that has ended is known as a layer of the image while another runs."""
    asked: list[control_pb2.SolveRequest] = []
    solve = Control.solve

    async def watched(self: Control, request: control_pb2.SolveRequest) -> Mapping[str, str]:
        asked.append(request)
        return await solve(self, request)

    monkeypatch.setattr(Control, "solve", watched)
    await build(image.with_commands([f"sleep 2; echo {name} > /a"]).with_commands([f"sleep 4; echo {name} > /b"]))

    exports = [dict(exporter.Attrs)["push"] for request in asked for exporter in request.Exporters]
    assert ["false", "true"] == sorted(exports)
    assert [False, False] == [request.HasField("SourcePolicy") for request in asked]


async def test_lines_of_a_dockerfile(image: Image, build: Build) -> None:
    """An image that only they name comes from its mirror too: the daemon follows the mirrors there by itself."""
    line = "--mount=type=bind,from=example.invalid/deep/base:1,target=/other cp /other/etc/debian_version /from-other"

    pulled = await build(image.with_commands(["echo before > /before"]).with_commands([line, "cat /before"]))

    assert pulled.tree()["from-other"].content == pulled.tree()["etc/debian_version"].content
