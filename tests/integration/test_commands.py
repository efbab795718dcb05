"""The command lines and scripts that a user of Flyte has, in processes of their own."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from flyte import Image

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker
from tests.conftest import Engine
from tests.integration.command import Finished, run, write_project
from tests.integration.conftest import BASE, Private
from tests.integration.registry import pull, tags
from tests.integration.servers import PASSWORD

CLOSED = "127.0.0.1:1"
DEADLINE_SECONDS = 60


@pytest.fixture
def image(name: str) -> str:
    """The Python expression of an image that is built in a moment, and whose registry the config names."""
    return f"flyte.Image.from_base('{BASE}').clone(name='{name}', extendable=True).with_env_vars({{'ANSWER': '42'}})"


@pytest.fixture
def no_docker(user: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` command that only notes what it was asked for, and that there is nothing like it."""
    folder = user / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\necho "not found" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FLYTE_DOCKER_BUILDKIT_BUILDER_NAME", "default")
    return folder / "asked"


def flyte_build(folder: Path, *options: str, **variables: str) -> Finished:
    """`flyte -c config.yaml build app.py env`."""
    return run(
        "flyte",
        "-c",
        "config.yaml",
        *options,
        "build",
        "app.py",
        "env",
        folder=folder,
        FLYTE_IMAGE_REGISTRY="",
        **variables,
    )


# --- flyte build ---


def test_build_and_build_again(engine: Engine, name: str, image: str, user: Path) -> None:
    """The image is built and pushed; where it is there already, that is said and nothing is built."""
    write_project(user, image=image, config={"registry": engine.registry, "buildkit": "{progress: plain}"})

    first = flyte_build(user, FLYTE_BUILDKIT_PROGRESS="")
    second = flyte_build(user, "--image-builder", "local", FLYTE_BUILDKIT_PROGRESS="")

    (tag,) = tags(engine.registry, name)
    assert (0, 0) == (first.code, second.code), (first.output, second.output)
    assert "42" == pull(f"{engine.registry}/{name}:{tag}").env["ANSWER"]
    assert "pushing" in first.plain
    assert f"{engine.registry}/{name}:{tag}" in first.plain
    assert f"Image {engine.registry}/{name}:{tag} already exists, skipping build" in second.plain
    assert "pushing" not in second.plain


@pytest.mark.parametrize("how", ["--image-builder=local", "FLYTE_IMAGE_BUILDER=buildkit"])
def test_names_of_this_builder(engine: Engine, name: str, image: str, no_docker: Path, how: str) -> None:
    """By `local` on the command line or `buildkit` in the variable, this package builds, without a `docker` command."""
    folder = no_docker.parent.parent
    write_project(folder, image=image, config={"registry": engine.registry}, builder="")

    ended = flyte_build(folder, how) if how.startswith("--") else flyte_build(folder, FLYTE_IMAGE_BUILDER="buildkit")

    assert 0 == ended.code, ended.output
    assert 1 == len(tags(engine.registry, name))
    assert not no_docker.exists()


@pytest.mark.parametrize(
    ("builder", "variables"), [("", {"FLYTE_IMAGE_BUILDER": "docker"}), ("local", {"FLYTE_BUILDKIT_ENABLED": "false"})]
)
def test_flytes_own_builder(name: str, image: str, no_docker: Path, builder: str, variables: dict[str, str]) -> None:
    """By `docker`, or where this package is turned off, Flyte's own builder runs its `docker` command."""
    folder = no_docker.parent.parent
    write_project(folder, image=image, config={"registry": "registry.example.com"}, builder=builder)

    ended = flyte_build(folder, **variables)

    assert 0 != ended.code
    assert f"Run command: docker buildx build --builder default --tag registry.example.com/{name}" in ended.plain
    assert "buildx build" in no_docker.read_text()


def test_registry_that_is_down(name: str, image: str, user: Path) -> None:
    """Where it cannot be told whether the image is there, the build is tried, and says what is wrong."""
    write_project(user, image=image, config={"registry": CLOSED})

    ended = flyte_build(user)

    assert 0 != ended.code
    assert "already exists" not in ended.plain
    assert f"Could not look up {CLOSED}/{name}" in ended.plain
    assert f"A registry could not be reached for the image `{CLOSED}/{name}" in ended.plain


def test_image_by_its_name_in_the_config(engine: Engine, name: str, user: Path) -> None:
    """An image that the config names is a base like any other; without layers it is not built at all."""
    write_project(
        user,
        image="flyte.Image.from_ref_name('mine')",
        config={"registry": engine.registry, "image_refs": f"{{mine: '{BASE}'}}"},
        rest=(
            f"layered = image.clone(name='{name}', extendable=True, python_version=(3, 11))\n"
            "more = flyte.TaskEnvironment(name='more', image=layered.with_env_vars({'ANSWER': '42'}))\n"
        ),
    )

    plain = flyte_build(user)
    layered = run("flyte", "-c", "config.yaml", "build", "app.py", "more", folder=user, FLYTE_IMAGE_REGISTRY="")

    assert (0, 0) == (plain.code, layered.code), (plain.output, layered.output)
    (tag,) = tags(engine.registry, name)
    assert "42" == pull(f"{engine.registry}/{name}:{tag}").env["ANSWER"]


# --- scripts ---


def script(folder: Path, *lines: str, **variables: str) -> Finished:
    """Runs lines of Python that know the image, after `flyte.init_from_config`."""
    text = "\n".join(("import flyte", "from app import image", "", "flyte.init_from_config('config.yaml')", *lines))
    (folder / "script.py").write_text(f"{text}\n")
    return run("python", "script.py", folder=folder, FLYTE_IMAGE_REGISTRY="", **variables)


def test_script(engine: Engine, name: str, image: str, user: Path) -> None:
    """`flyte.build` prints a plan in a dry run, builds, leaves what is there alone, and builds it again by force."""
    write_project(user, image=image, config={"registry": engine.registry})

    dry = script(user, "print('URI', flyte.build(image, dry_run=True).uri)", DOCKER_HOST="unix:///nowhere.sock")
    assert [] == tags(engine.registry, name)
    built = script(
        user,
        "print('URI', flyte.build(image).uri)",
        "print('=== again', flush=True)",
        "print('URI', flyte.build(image).uri)",
        "print('=== forced', flush=True)",
        "print('URI', flyte.build(image, force=True).uri)",
        FLYTE_BUILDKIT_PROGRESS="plain",
        PYTHONUNBUFFERED="1",
    )

    (tag,) = tags(engine.registry, name)
    uri = f"URI {engine.registry}/{name}:{tag}"
    assert (0, 0) == (dry.code, built.code), (dry.output, built.output)
    assert uri in dry.plain
    assert "Dry run: nothing was built." in dry.plain
    assert f"base {BASE}" in dry.plain
    parts = built.output.split("===")
    assert [1, 1, 1] == [part.count(uri) for part in parts]
    assert [True, False, True] == ["exporting the image" in part for part in parts]


def test_script_that_does_not_wait(engine: Engine, name: str, image: str, user: Path) -> None:
    """`wait=False` names the log and returns, so that even a build that fails is no error; the image comes later."""
    write_project(user, image=image, config={"registry": engine.registry})

    ended = script(
        user,
        "flyte.build(image, wait=False)",
        "flyte.build(image.with_commands(['echo the last words; exit 7']), wait=False)",
    )

    assert 0 == ended.code, ended.output
    assert "the last words" not in ended.output
    built, failed = (Path(part.split()[0]) for part in ended.plain.split("its log is ")[1:])
    assert f"Built {engine.registry}/{name}:" in when_said(built, f"{name}:")
    log = when_said(failed, "exit code 7.")
    assert f"Building {engine.registry}/{name}:" in log
    assert "Traceback" not in log
    (tag,) = tags(engine.registry, name)
    assert "42" == pull(f"{engine.registry}/{name}:{tag}").env["ANSWER"]


def when_said(log: Path, words: str) -> str:
    """What a log holds once its last line, which ends it, has the words."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        text = log.read_text()
        if any(line.startswith(("Built ", "Building ")) and words in line for line in text.splitlines()):
            return text
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


# --- doctor ---


def test_doctor(engine: Engine, user: Path) -> None:
    """Both commands say which daemon was found and why, to people and to programs; a dead end is an error."""
    write_project(user, image="None", config={"registry": engine.registry})

    shown = run("flyte", "-c", "config.yaml", "buildkit", "doctor", folder=user)
    told = run("buildkit-builder", "-c", "config.yaml", "doctor", "--json", folder=user)
    dead = run("buildkit-builder", "doctor", folder=user, DOCKER_HOST="unix:///nowhere.sock")

    assert (0, 0, 1) == (shown.code, told.code, dead.code), (shown.output, told.output, dead.output)
    assert engine.docker_host in shown.plain
    assert "DOCKER_HOST" in shown.plain
    assert "linux/amd64" in json.dumps(json.loads(told.output))
    assert engine.docker_host in json.dumps(json.loads(told.output))
    assert "No BuildKit could be reached at unix:///nowhere.sock" in dead.plain
    assert "Traceback" not in dead.output


# --- is it there already? ---


async def test_checker(engine: Engine, base: Image, name: str, user: Path) -> None:
    """An image is there when it is there for every platform; else it is missing."""
    image = base.with_env_vars({"A": "1"})
    await BuildKitImageBuilder().build_image(image)
    repository, _, tag = image.uri.rpartition(":")

    assert image.uri == await BuildKitImageChecker.image_exists(repository, tag, ("linux/amd64",))
    assert None is await BuildKitImageChecker.image_exists(repository, tag, ("linux/amd64", "linux/arm64"))
    assert None is await BuildKitImageChecker.image_exists(repository, "other", ("linux/amd64",))
    assert None is await BuildKitImageChecker.image_exists(f"{engine.registry}/{name}-other", tag, ("linux/amd64",))


async def test_checker_with_credentials(private: Private, capfd: pytest.CaptureFixture[str]) -> None:
    """A private registry is asked with the user's credentials; without them it cannot be told, which is said."""
    private.auths(PASSWORD)
    await BuildKitImageBuilder().build_image(private.image)
    repository, _, tag = private.image.uri.rpartition(":")

    assert private.image.uri == await BuildKitImageChecker.image_exists(repository, tag, ("linux/amd64",))
    assert "Could not look up" not in "".join(capfd.readouterr())
    private.config()
    assert None is await BuildKitImageChecker.image_exists(repository, tag, ("linux/amd64",))
    assert f"Could not look up {private.image.uri}" in "".join(capfd.readouterr())
