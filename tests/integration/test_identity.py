"""What an image was made from: said in a label of it, and compared before a build is left out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from flyte import Image
from flyte._internal.imagebuild.image_builder import ImageBuildEngine

from buildkit_builder import activation
from buildkit_builder.checker import BuildKitImageChecker, asked_for
from buildkit_builder.identity import LABEL
from tests.conftest import Engine
from tests.integration.conftest import Build
from tests.integration.registry import manifest, pull


async def asked(image: Image) -> str | None:
    """What Flyte is told when it asks whether an image is there; Flyte itself would remember the first answer."""
    token = asked_for.set(image)
    try:
        repository, _, tag = image.uri.rpartition(":")
        return await BuildKitImageChecker.image_exists(repository, tag, tuple(image.platform))
    finally:
        asked_for.reset(token)


@pytest.mark.filterwarnings("ignore:alru_cache detected event loop change")
async def test_flyte_asks_for_the_image_itself(base: Image, build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    """A checker is given a name; through `activation` it knows the image, and so can compare it."""
    activation.activate()
    one, other = base.with_commands(["true #xy", "z=1"]), base.with_commands(["true #x", "yz=1"])
    assert one.uri == other.uri
    await build(one)

    assert await ImageBuildEngine.image_exists(other) is None

    assert "a layer says something else" in capfd.readouterr().err


async def test_the_label_names_every_part(base: Image, build: Build) -> None:
    """The label holds the platform, the base's digest, the Python version and a digest of the layers."""
    pulled = await build(base.with_commands(["true"]))

    label = dict(part.split("=") for part in pulled.config["config"]["Labels"][LABEL].split())
    assert {"v", "platform", "base", "python", "layers"} == set(label)
    assert "linux/amd64" == label["platform"]
    assert "3.11" == label["python"]
    assert label["base"].startswith("sha256:")


async def test_an_image_that_is_there_is_found(base: Image, build: Build) -> None:
    """Built once, it is not built again."""
    image = base.with_commands(["echo once"])

    assert await asked(image) is None
    await build(image)

    assert image.uri == await asked(image)


async def test_lists_that_run_together_are_told_apart(
    base: Image, build: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    """Flyte's tag is one for `("ab", "c")` and `("a", "bc")`; the label is not."""
    one = base.with_commands(["true #ab", "c=1"])
    other = base.with_commands(["true #a", "bc=1"])
    assert one.uri == other.uri
    await build(one)

    assert await asked(other) is None

    assert "a layer says something else" in capfd.readouterr().err


async def test_another_python_version_is_another_image(
    base: Image, build: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    """The Python version is not in Flyte's tag; the label has it."""
    one = base.with_commands(["echo python"])
    other = one.clone(python_version=(3, 13), extendable=True)
    assert one.uri == other.uri
    await build(one)

    assert await asked(other) is None

    assert "the Python version is another" in capfd.readouterr().err


async def test_a_base_that_moved_is_another_image(
    engine: Engine, docker: str, name: str, build: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    """When the base's tag stands for something else, the image is built again."""
    moving = f"moving-{name}:latest"
    environ = dict(engine.environ)
    subprocess.run([docker, "tag", "python:3.11-slim-bookworm", moving], check=True, env=environ)
    image = Image.from_base(moving).clone(
        name=name, registry=engine.registry, extendable=True, python_version=(3, 11)
    ).with_commands(["echo base"])  # fmt: skip
    await build(image)
    assert image.uri == await asked(image)

    subprocess.run([docker, "tag", "python:3.13-slim-bookworm", moving], check=True, env=environ)
    try:
        assert await asked(image) is None
    finally:
        subprocess.run([docker, "rmi", moving], check=True, env=environ)

    assert "the base image has moved" in capfd.readouterr().err


async def test_the_context_of_a_dockerfile_counts(
    engine_registry: str, name: str, build: Build, user: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that a Dockerfile copies is not in Flyte's tag; the label has it, less what is ignored."""
    (user / "Dockerfile").write_text("FROM python:3.11-slim-bookworm\nCOPY data.txt /\n")
    (user / ".dockerignore").write_text("*.log\n")
    (user / "data.txt").write_text("one")
    image = Image.from_dockerfile(user / "Dockerfile", registry=engine_registry, name=name)
    await build(image)
    assert image.uri == await asked(image)

    (user / "noise.log").write_text("ignored")
    assert image.uri == await asked(image)
    (user / "data.txt").write_text("two")
    assert await asked(image) is None

    assert "a local file that the tag does not cover has changed" in capfd.readouterr().err


async def test_an_image_without_the_label_counts_as_there(engine: Engine, docker: str, user: Path, base: Image) -> None:
    """An image that something else pushed under the tag is taken for what it says it is."""
    image = base.with_commands(["echo elsewhere"])
    environ = dict(engine.environ)
    subprocess.run([docker, "tag", "python:3.11-slim-bookworm", image.uri], check=True, env=environ)
    subprocess.run([docker, "push", "-q", image.uri], check=True, env=environ)
    subprocess.run([docker, "rmi", image.uri], check=True, env=environ)

    assert image.uri == await asked(image)


async def test_another_platform_is_added_to_the_index(
    engine: Engine, docker: str, name: str, user: Path, build: Build
) -> None:
    """What is there for another platform, and says the same, stays when this one is pushed."""
    image = Image.from_dockerfile(_dockerfile(user), registry=engine.registry, name=name, platform=("linux/arm64",))
    both = Image.from_dockerfile(_dockerfile(user), registry=engine.registry, name=name, platform=("linux/amd64",))
    assert image.uri == both.uri
    await _build_only(image)
    await build(both)

    index, _ = manifest(image.uri)

    assert {"amd64", "arm64"} == {entry["platform"]["architecture"] for entry in index["manifests"]}
    assert b"hello" == pull(image.uri, platform="linux/arm64").tree()["data.txt"].content


async def test_another_platform_that_says_otherwise_is_not_kept(
    engine: Engine, name: str, user: Path, build: Build
) -> None:
    """What is there for another platform, but was made from something else, does not stay beside the new one."""
    arm = Image.from_dockerfile(_dockerfile(user), registry=engine.registry, name=name, platform=("linux/arm64",))
    await _build_only(arm)
    (user / "data.txt").write_text("changed")
    amd = Image.from_dockerfile(user / "Dockerfile", registry=engine.registry, name=name, platform=("linux/amd64",))

    await build(amd)

    assert "manifests" not in manifest(amd.uri)[0]


def _dockerfile(user: Path) -> Path:
    """A Dockerfile that runs nothing, so that any platform can be built anywhere."""
    (user / "data.txt").write_text("hello")
    (user / "Dockerfile").write_text("FROM scratch\nCOPY data.txt /\n")
    return user / "Dockerfile"


async def _build_only(image: Image) -> None:
    from buildkit_builder.builder import BuildKitImageBuilder

    await BuildKitImageBuilder().build_image(image)
