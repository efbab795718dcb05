"""What goes wrong on engines of all ages: one error that says what, and never half an image under a tag."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.daemons.conftest import Command
from tests.daemons.packages import PIP_ARGS
from tests.integration.command import write_project
from tests.integration.proxies import Silent, Spoiling, registry_proxy
from tests.integration.registry import exists, pull, tags
from tests.integration.servers import PASSWORD, USER, auth, private_registry
from tests.integration.test_faults import gone, interrupt_build, running


async def failure(image: Image) -> str:
    """What a build that fails says."""
    with pytest.raises(ImageBuildError) as caught:
        await BuildKitImageBuilder().build_image(image)
    return str(caught.value)


async def test_a_failing_step_is_named(base: Image, user: Path, name: str) -> None:
    """Its name, its exit code and the last lines that it printed are told; nothing is under the tag."""
    image = base.with_commands([f"echo first {name}; echo last {name}; exit 7"]).with_env_vars({"A": "1"})

    said = await failure(image)

    assert f"with_commands echo first {name}" in said
    assert "exit code 7" in said
    assert ["Its last lines:", f"first {name}", f"last {name}"] == [line.strip() for line in said.splitlines()[-3:]]
    assert not exists(image.uri)


def test_a_failing_command_line(engine: Engine, furnished: str, name: str, user: Path, command: Command) -> None:
    """`flyte build` ends with the error and without a traceback; its exit code says that it failed."""
    write_project(
        user,
        image=f"flyte.Image.from_base('{furnished}').clone(name='{name}', registry='{engine.registry}',"
        f" extendable=True, python_version=(3, 11)).with_pip_packages('bkb-none', extra_args='{PIP_ARGS}')",
    )

    ended = command("flyte", "-c", "config.yaml", "build", "app.py", "env")

    assert 0 != ended.code
    assert "bkb-none was not found" in ended.plain
    assert "Traceback" not in ended.output
    assert [] == tags(engine.registry, name)


async def test_a_base_that_is_not_there(engine: Engine, user: Path, name: str) -> None:
    """A base image that the registry does not have is told by its name."""
    image = Image.from_base(f"{engine.registry}/{name}-none:1").clone(
        name=name, registry=engine.registry, extendable=True, python_version=(3, 11)
    )

    assert f"{name}-none:1" in await failure(image.with_commands(["true"]))


async def test_a_registry_that_is_down(base: Image, user: Path) -> None:
    """A push to where no registry listens says that it cannot be reached."""
    assert "could not be reached" in await failure(base.clone(registry="127.0.0.1:1").with_commands(["true"]))


async def test_a_registry_with_a_password(
    small: Image, engine: Engine, user: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is pushed with the right password; with a wrong one the error says so, and does not repeat it."""
    assert engine.registry_bin is not None
    folder = user / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    def log_in(password: str) -> None:
        auths = {registry.address: {"auth": auth(USER, password)}}
        (folder / "config.json").write_text(json.dumps({"auths": auths}))

    with private_registry(engine.registry_bin, user / "registry") as registry:
        image = small.clone(registry=registry.address)
        log_in("wrong-password")
        said = await failure(image)
        before = registry.has(name)
        log_in(PASSWORD)
        await BuildKitImageBuilder().build_image(image)
        after = registry.has(name)

    assert "credentials" in said
    assert "wrong-password" not in said
    assert (False, True) == (before, after)


async def test_cancelled_while_a_step_runs(base: Image, user: Path) -> None:
    """The step ends in the engine, and nothing is under the tag."""
    marker = f"3600.{uuid.uuid4().int % 10**9}"
    image = base.with_commands([f"sleep {marker}"])
    building = asyncio.ensure_future(BuildKitImageBuilder().build_image(image))
    while not running(f"sleep\0{marker}"):
        assert not building.done(), building
        await asyncio.sleep(0.05)

    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    await asyncio.wait_for(gone(f"sleep\0{marker}"), 60)
    assert not exists(image.uri)


async def test_interrupted(engine: Engine, furnished: str, user: Path, name: str) -> None:
    """Ctrl-C at `flyte build` ends the step and the command."""
    marker = f"3600.{uuid.uuid4().int % 10**9}"
    write_project(
        user,
        image=f"flyte.Image.from_base('{furnished}').clone(name='{name}', registry='{engine.registry}',"
        f" extendable=True, python_version=(3, 11)).with_commands(['sleep {marker}'])",
    )

    await interrupt_build("app.py", user, os.environ, [f"sleep\0{marker}"])

    assert [] == tags(engine.registry, name)


async def test_cancelled_while_it_pushes(small: Image, engine: Engine, user: Path, name: str) -> None:
    """A build that is cancelled when all but the manifest is pushed leaves nothing under the tag."""
    rule = Spoiling(Silent(), method="PUT", path="/manifests/")
    async with registry_proxy(engine.registry, rule) as proxy:
        image = small.clone(registry=proxy.address)
        building = asyncio.ensure_future(BuildKitImageBuilder().build_image(image))
        await asyncio.wait_for(proxy.until("PUT", "/manifests/"), 120)

        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building

    assert [] == tags(engine.registry, name)


async def test_gathered(base: Image, user: Path, name: str) -> None:
    """Of images that are built at once, the one that fails is named; the others are pushed, and share their steps."""
    shared = base.with_commands([f"cat /proc/sys/kernel/random/uuid > /made; : {name}"])
    images = [shared.clone(name=f"{name}-{number}").with_commands([f"exit {3 * (number == 0)}"]) for number in range(4)]

    ends = await asyncio.gather(
        *(BuildKitImageBuilder().build_image(image) for image in images), return_exceptions=True
    )

    assert f"Building {images[0].uri} failed" in str(ends[0])
    assert not exists(images[0].uri)
    assert 1 == len({pull(image.uri).tree()["made"].content for image in images[1:]})
