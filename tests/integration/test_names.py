"""What steps are called while a real engine builds them, and in the errors that come of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc.aio
import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build import BuildRequest, build
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint, Kind
from buildkit_builder.buildkit.progress import choose
from buildkit_builder.errors import StepFailedError
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.conftest import BASE

PLATFORM = llb.Platform(architecture="amd64")


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    """To the engine that the tests run against."""
    kind: Kind = "docker" if engine.docker_host else "buildkit"
    async with await connect(Endpoint(address=engine.address, kind=kind)) as connection:
        yield connection


@dataclass(frozen=True)
class Trying:
    """Solves graphs one after another; only the last one has to succeed."""

    states: tuple[llb.State, ...]
    failures: list[str] = field(default_factory=list)

    async def build(self, bridge: Bridge) -> Result:
        await bridge.gateway.ping()
        for state in self.states:
            graph = llb.marshal(state, platform=PLATFORM)
            bridge.remember(graph)
            try:
                result = await bridge.gateway.solve(graph, evaluate=True)
            except grpc.aio.AioRpcError as error:
                if state is self.states[-1]:
                    raise bridge.explain(error, doing="building") from error
        return result


async def shown(connection: Connection, *states: llb.State, fails: bool = False) -> list[str]:
    """Builds these and gives the lines of the progress, without times."""
    stream = io.StringIO()
    display = choose("plain", stream, environ={}, clock=time.monotonic)
    with pytest.raises(StepFailedError) if fails else contextlib.nullcontext():
        await build(connection, BuildRequest(title="app", frontend=Trying(states)), display)
    return [re.sub(r"(?<=DONE )[0-9.]+s", "T", line) for line in stream.getvalue().splitlines()]


def outcome(lines: list[str], name: str) -> str:
    """What became of the one step of this name."""
    [number] = [line.partition(" ")[0] for line in lines if line.partition(" ")[2] == name]
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{number} ")][-1]


def step(script: str, name: str, role: llb.Role | None = None) -> llb.State:
    """A command that nobody has run before."""
    text = f"{script} # {uuid.uuid4().hex}"
    return llb.image(BASE).run(["sh", "-c", text], name=name, role=role or llb.Role()).root


@pytest.mark.parametrize(
    "name", ["make (wheels)", "[quiet] make", "[optional] make", "exporting to image", "[internal] load", "sha256:abc"]
)
async def test_a_step_is_called_what_the_user_calls_it(connection: Connection, name: str) -> None:
    """And is done or an error, whatever that looks like."""
    assert "DONE T" == outcome(await shown(connection, step("true", name)), name)
    failed = outcome(await shown(connection, step("exit 3", name), fails=True), name)
    assert failed.startswith("ERROR: process")
    assert failed.endswith("exit code: 3")


async def test_what_is_tried_is_postponed_and_what_serves_is_not_shown(connection: Connection) -> None:
    """By the roles that this build gave, which the engine is not told."""
    helper = llb.scratch().file(llb.mkfile("/x", uuid.uuid4().bytes), name="a helper", role=llb.Role(quiet=True))
    attempt = step("exit 75", "an attempt", llb.Role(attempt=True))
    needed = step("true", "the step").file(llb.copy(helper, "/x", "/x"), name="a file")

    lines = await shown(connection, attempt, needed)

    assert "POSTPONED" == outcome(lines, "an attempt")
    assert ["DONE T"] * 2 == [outcome(lines, "the step"), outcome(lines, "a file")]
    assert not [line for line in lines if "a helper" in line]


async def test_builds_at_once_call_a_step_that_they_share_what_each_calls_it(connection: Connection) -> None:
    """The engine runs it once, and calls it what the first of them does."""
    text = f"sleep 2 # {uuid.uuid4().hex}"
    one, two = (llb.image(BASE).run(["sh", "-c", text], name=name).root for name in ("the one", "the other"))

    first, second = await asyncio.gather(shown(connection, one), shown(connection, two))

    assert "DONE T" == outcome(first, "the one")
    assert "DONE T" == outcome(second, "the other")


async def failure_of(image: Image) -> StepFailedError:
    """Why an image is not built."""
    with pytest.raises(ImageBuildError) as caught:
        await BuildKitImageBuilder().build_image(image)
    assert isinstance(caught.value.__cause__, StepFailedError)
    return caught.value.__cause__


@pytest.mark.parametrize(
    "script", ["exit 3  # (wheels)", "exit 3  # [quiet]\n\n  (POSTPONED)", "exit 3 #" + "x" * 5000]
)
async def test_a_failed_command_of_an_image_is_named_as_progress_names_it(
    base: Image, user: object, script: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the error and in the lines of the progress, which calls it an error."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    error = await failure_of(base.with_commands([script, uuid.uuid4().hex]))

    lines = capfd.readouterr().err.splitlines()
    assert error.step.startswith("with_commands exit 3 #")
    assert outcome(lines, error.step).startswith("ERROR: process")
    assert 3 == error.exit_code


async def test_a_failed_installation_is_told_without_words_of_ours(
    base: Image, user: object, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step's name says what was installed; how this package does that is nobody's matter."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    error = await failure_of(base.with_apt_packages("no-such-package-anywhere"))

    said = capfd.readouterr().err
    assert "with_apt_packages no-such-package-anywhere" == error.step
    assert str(error).startswith("The step `with_apt_packages no-such-package-anywhere` failed: its command ended")
    assert "/dev/buildkit-builder" not in str(error) + said
    assert [] == [line for line in said.splitlines() if "layers of" in line or "/dev/" in line]
