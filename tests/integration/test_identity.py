"""What an image was made from: said in a label of it, and compared before a build is left out."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flyte import Image
from flyte._internal.imagebuild.image_builder import ImageBuildEngine

from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.buildkit.wire import control_pb2
from buildkit_builder.errors import BuildKitError, SourceError
from buildkit_builder.flyte_plugin import activation
from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker, asked_for
from buildkit_builder.flyte_plugin.image_build import ordered_image
from buildkit_builder.image import contents
from buildkit_builder.image.identity import LABEL
from tests.conftest import Engine
from tests.integration.conftest import BASE, Build
from tests.integration.registry import forget, manifest, pull


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
    assert all(re.fullmatch(r"[\w./:-]+", value) for value in label.values())
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


@pytest.fixture
def context(user: Path, name: str, engine_registry: str) -> Image:
    """An image of a Dockerfile that copies a file of its context."""
    (user / "data.txt").write_text("one")
    (user / "Dockerfile").write_text("FROM scratch\nCOPY data.txt /\n")
    return Image.from_dockerfile(user / "Dockerfile", registry=engine_registry, name=name)


@pytest.mark.parametrize("before", ["small", "big"])
async def test_what_cannot_be_told_any_more_has_changed(
    context: Image, build: Build, user: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A context that has grown over what is read for a look-up, with or without another file that changed."""
    monkeypatch.setattr(contents, "BYTES_MAX", 10_000)
    image = context
    if before == "big":
        (user / "big.bin").write_bytes(bytes(10_001))
    await build(image)
    assert (before == "small") is (await asked(image) is not None)

    (user / "data.txt").write_text("two")
    (user / "big.bin").write_bytes(bytes(10_001))

    assert await asked(image) is None


@pytest.mark.parametrize("what", ["a folder that cannot be listed", "a name that is not UTF-8", "a file that vanishes"])
async def test_a_context_that_cannot_be_told_counts_as_changed(
    context: Image, build: Build, user: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It is built, so that the build says what is wrong, if anything is."""
    image = context
    await build(image)
    assert image.uri == await asked(image)

    if what == "a name that is not UTF-8":
        Path(os.fsdecode(os.fsencode(user) + b"/caf\xe9")).write_text("x")
    else:
        error: BuildKitError | OSError = SourceError("no") if "folder" in what else FileNotFoundError(2, "gone", "x")

        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(LocalDirectory, "entries", fail)

    assert await asked(image) is None


async def test_a_base_that_cannot_be_looked_up_counts_as_moved(
    engine: Engine, docker: str, name: str, build: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its tag may stand for something else by now; the build says what is wrong with it."""
    moving = f"{engine.registry}/moving-{name}:1"
    environ = dict(engine.environ)
    for words in (["tag", BASE, moving], ["push", "-q", moving], ["rmi", moving]):
        subprocess.run([docker, *words], check=True, env=environ)
    image = Image.from_base(moving).clone(name=name, registry=engine.registry, extendable=True, python_version=(3, 11))
    image = image.with_commands(["echo base"])
    await build(image)
    assert image.uri == await asked(image)

    forget(moving)

    assert await asked(image) is None
    assert "it cannot be told whether the base image has moved" in capfd.readouterr().err


async def test_the_mode_of_a_source_counts(
    base: Image, build: Build, user: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`chmod +x` is in the image and not in Flyte's tag; the times of a file are in neither."""
    (user / "src").mkdir()
    script = user / "src" / "run.sh"
    script.write_text("#!/bin/sh\n")

    def image() -> Image:
        return base.with_source_folder(user / "src")

    await build(image())
    assert image().uri == await asked(image())
    os.utime(script, (1, 1))
    assert image().uri == await asked(image())

    script.chmod(0o755)
    assert await asked(image()) is None
    assert "a local file or its mode has changed" in capfd.readouterr().err

    pulled = await build(image())
    (entry,) = (entry for path, entry in pulled.tree().items() if path.endswith("src/run.sh"))
    assert 0o755 == entry.mode


async def test_a_link_in_a_source_folder_counts(base: Image, build: Build, user: Path) -> None:
    """A link that leads to another file with the same content, but another mode, is another file in the image."""
    (user / "src").mkdir()
    for name, mode in (("one", 0o644), ("two", 0o755)):
        (user / name).write_text("same")
        (user / name).chmod(mode)
    link = user / "src" / "link"
    link.symlink_to("../one")
    await build(base.with_source_folder(user / "src"))
    link.unlink()
    link.symlink_to("../two")

    assert await asked(base.with_source_folder(user / "src")) is None


SETTINGS = [
    ("FLYTE_BUILDKIT_LABELS", "a=1", "a=2", "the labels are others"),
    ("FLYTE_BUILDKIT_LABELS", "", "a=2", "the labels are others"),
    ("FLYTE_BUILDKIT_LABELS", "a=1", "", "the labels are others"),
    ("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--label a=1", "--label a=2", "the labels are others"),
    ("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--build-arg A=1", "--build-arg A=2", "a build argument is another"),
    ("FLYTE_BUILDKIT_ANNOTATIONS", "a=1", "a=2", "the annotations are others"),
    ("FLYTE_BUILDKIT_SOURCE_DATE_EPOCH", "1000", "1001", "the time that nothing may be younger than is another"),
    ("SOURCE_DATE_EPOCH", "", "1001", "the time that nothing may be younger than is another"),
    ("FLYTE_BUILDKIT_COMPRESSION", "", "zstd", "layers are to be packed another way"),
    ("FLYTE_BUILDKIT_COMPRESSION_LEVEL", "", "9", "layers are to be packed another way"),
    ("FLYTE_BUILDKIT_OCI_MEDIA_TYPES", "false", "true", "layers are to be packed another way"),
    ("FLYTE_BUILDKIT_PROVENANCE", "", "max", "another attestation is wanted"),
]


@pytest.mark.parametrize(("variable", "before", "after", "words"), SETTINGS)
async def test_a_setting_that_is_in_the_image_counts(  # noqa: PLR0917 - four of them are one case
    base: Image, build: Build, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    variable: str, before: str, after: str, words: str,
) -> None:  # fmt: skip
    """Labels, annotations, build arguments, the epoch, packing and attestations: an image without them is another."""
    image = base.with_env_vars({"A": "1"})
    monkeypatch.setenv(variable, before)
    await build(image)
    assert image.uri == await asked(image)

    monkeypatch.setenv(variable, after)

    assert await asked(image) is None
    assert words in capfd.readouterr().err
    await build(image)
    assert image.uri == await asked(image)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLYTE_BUILDKIT_HTTP_PROXY", "http://proxy.example:1"),
        ("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--build-arg HTTPS_PROXY=http://u:p@proxy.example:1 --add-host a=10.0.0.1"),
        ("FLYTE_BUILDKIT_PARALLEL", "false"),
        ("FLYTE_BUILDKIT_CACHE", "registry"),
    ],
)
async def test_a_setting_that_leaves_no_trace_does_not_count(
    base: Image, build: Build, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """How an image is made, and from where, differs from machine to machine."""
    image = base.with_env_vars({"A": "1"})
    await build(image)
    monkeypatch.setenv(variable, value)

    assert image.uri == await asked(image)


async def test_a_dockerfile_that_its_own_context_leaves_out_counts(
    engine_registry: str, name: str, build: Build, user: Path
) -> None:
    """The text of a Dockerfile is in the label also where `.dockerignore` has everything left out."""
    (user / ".dockerignore").write_text("*\n")
    (user / "Dockerfile").write_text(f"FROM {BASE}\nENV A=1\n")
    image = Image.from_dockerfile(user / "Dockerfile", registry=engine_registry, name=name)
    await build(image)
    assert image.uri == await asked(image)

    (user / "Dockerfile").write_text(f"FROM {BASE}\nENV A=2\n")
    assert await asked(image) is None


@pytest.mark.parametrize("size", ["small", "big"])
async def test_the_same_image_object_again(
    base: Image, build: Build, user: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    """Flyte makes its name once: what its files became is built under it, and is then there if that can be told."""
    if size == "big":
        monkeypatch.setattr(contents, "TAGGED_BYTES_MAX", 2)
    (user / "data.txt").write_text("one")
    image = base.with_source_file(user / "data.txt")
    name = image.uri
    solved: list[str] = []
    solve = Control.solve

    async def count(self: Control, request: control_pb2.SolveRequest) -> Mapping[str, str]:
        solved.extend(["built"] if request.Exporters else [])
        return await solve(self, request)

    monkeypatch.setattr(Control, "solve", count)

    async def again(image: Image) -> str | None:
        """As Flyte does it: asks for the tag of the files as they are, builds under the name that it has kept."""
        token = asked_for.set(image)
        try:
            repository = image.uri.rpartition(":")[0]
            found = await BuildKitImageChecker.image_exists(repository, image._final_tag, tuple(image.platform))
        finally:
            asked_for.reset(token)
        if found is None:
            await build(image)
        return found

    assert await again(image) is None
    for text in ("two", "six", "one"):
        solved.clear()
        (user / "data.txt").write_text(text)
        assert await again(image) is None
        (content,) = (entry.content for path, entry in pull(name).tree().items() if path.endswith("data.txt"))
        assert text.encode() == content
        assert ["built"] == solved
        # Of much there is to read only the tag tells, and it does not tell what it was made of.
        assert (name if size == "small" else None) == await again(image)


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
    from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder

    await BuildKitImageBuilder().build_image(image)


@pytest.mark.parametrize("kind", ["folder", "Dockerfile", "large folder"])
async def test_a_file_that_is_saved_while_the_image_is_built(  # noqa: PLR0917 - fixtures
    base: Image, build: Build, user: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    """After it was looked at, and before the daemon asked for it: nothing counts as what it was before."""
    folder = user / "src"
    folder.mkdir()
    file = folder / "a.txt"
    file.write_text("one")
    if kind == "large folder":
        (folder / "large").write_bytes(os.urandom(contents.TAGGED_BYTES_MAX))
    (folder / "Dockerfile").write_text("FROM python:3.11-slim-bookworm\nCOPY a.txt /src/\n")
    own = ordered_image.Order.build_on
    saved: list[str] = []

    async def saves_first(*args: Any) -> Any:
        if not saved:
            saved.append(file.read_text())
            file.write_text("two")
        return await own(*args)

    monkeypatch.setattr(ordered_image.Order, "build_on", saves_first)
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")

    def made() -> Image:
        if kind == "Dockerfile":
            return Image.from_dockerfile(
                folder / "Dockerfile", registry=base.registry or "", name=base.name or "", platform=("linux/amd64",)
            )
        return base.with_source_folder(folder, "/src", copy_contents_only=True)

    pulled = await build(made())
    assert b"two" == pulled.tree()["src/a.txt"].content
    assert "Files changed while the image was built" in capfd.readouterr().err
    for content in ("one", "two"):
        file.write_text(content)
        assert await asked(made()) is None
    pulled = await build(made())
    assert b"two" == pulled.tree()["src/a.txt"].content
    assert await asked(made()) is not None
