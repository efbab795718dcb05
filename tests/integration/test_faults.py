"""Builds that end badly: cancelled, interrupted, without room. Each is one clear error and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, build
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.errors import DiskFullError
from tests.conftest import Engine
from tests.integration.daemon import daemon

DEBIAN = "debian:bookworm-slim"
PLATFORM = llb.Platform(architecture="amd64")


def request(*command: str) -> BuildRequest:
    """A build of one step, which never comes from a cache."""
    base = llb.image(DEBIAN, resolve_mode="local")
    ran = base.run(command, name="the step", network="none", ignore_cache=True)
    return BuildRequest(title="test", frontend=GraphFrontend(state=ran.root, platform=PLATFORM))


async def started(connection: Connection, what: BuildRequest, marker: str) -> asyncio.Task[object]:
    """A build that is under way: a process of its step, with the marker in its command line, runs."""
    screen = open_screen("quiet", sys.stderr, environ={}, clock=time.monotonic)
    building: asyncio.Task[object] = asyncio.ensure_future(build(connection, what, screen.display()))
    while not running(marker):
        assert not building.done(), building
        await asyncio.sleep(0.05)
    return building


def running(marker: str) -> bool:
    """Whether a process on this machine, in a container or not, has the marker in its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


async def gone(marker: str) -> None:
    """Waits until no process has the marker; a test's time limit is the limit."""
    while running(marker):
        await asyncio.sleep(0.05)


async def interrupt_build(file: str, folder: Path, environ: Mapping[str, str], steps: Sequence[str]) -> None:
    """Interrupts `flyte build` of the environment `env` once its steps run; all of them end, and so does the command.

    Args:
        file: The user's.
        folder: Where it is, with a `config.yaml`.
        environ: Of the command.
        steps: What is in the command lines of the steps.
    """
    process = subprocess.Popen(
        [Path(sys.executable).parent / "flyte", "-c", "config.yaml", "build", file, "env"],
        cwd=folder, env=dict(environ), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while not all(running(step) for step in steps):
        assert process.poll() is None, process.communicate()[0].decode()
        await asyncio.sleep(0.05)

    os.killpg(process.pid, signal.SIGINT)
    output = (await asyncio.to_thread(process.communicate, timeout=30))[0].decode()

    assert 0 != process.returncode
    assert "Traceback" not in output
    for step in steps:
        await asyncio.wait_for(gone(step), 30)


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    """A connection to the shared engine."""
    opened = await connect(Endpoint(address=engine.docker_host, kind="docker"))
    async with opened:
        yield opened


@pytest.fixture(scope="module")
def debian(engine: Engine, docker: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the small image that the tests' own daemons start from."""
    archive = tmp_path_factory.mktemp("images") / "debian.tar"
    subprocess.run([docker, "save", "-o", str(archive), DEBIAN], check=True, env=dict(engine.environ))
    return archive


async def test_cancelled_task_stops_the_step(connection: Connection) -> None:
    """Cancelling the task ends the step's process in the daemon, and leaves no thread and no open file of ours."""
    marker = f"3600.{uuid.uuid4().int % 10**9}"
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    building = await started(connection, request("sleep", marker), marker)

    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    await asyncio.wait_for(gone(marker), 30)
    assert threads >= threading.active_count()
    assert files >= len(os.listdir("/proc/self/fd"))


async def test_interrupted_command_stops_the_step(engine: Engine, tmp_path: Path) -> None:
    """Ctrl-C at `flyte build` ends the step's process, and no process or temporary folder of the command is left."""
    marker = f"3600.{uuid.uuid4().int % 10**9}"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "config.yaml").write_text("image:\n  builder: local\ntask:\n  project: p\n  domain: d\n")
    (tmp_path / "long.py").write_text(
        "import flyte\n"
        "image = flyte.Image.from_base('python:3.11-slim-bookworm').clone(\n"
        f"    name='interrupted', registry='{engine.registry}', extendable=True, python_version=(3, 11)\n"
        f").with_commands(['sleep {marker}'])\n"
        "env = flyte.TaskEnvironment(name='long', image=image)\n"
    )
    environ = {**engine.environ, "TMPDIR": str(temporary)}
    await interrupt_build("long.py", tmp_path, environ, [f"sleep\0{marker}"])

    await asyncio.wait_for(gone(marker), 30)
    assert [] == list(temporary.iterdir())


async def test_full_disk_names_the_daemon(engine: Engine, debian: Path, tmp_path: Path) -> None:
    """A daemon without room is a `DiskFullError` that says so."""
    assert engine.dockerd is not None
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(tmp_path)], check=True)
    try:
        with daemon(engine.dockerd, engine.environ, data=tmp_path) as own:
            own.load(debian)
            async with await connect(Endpoint(address=own.address, kind="docker")) as connection:
                screen = open_screen("quiet", sys.stderr, environ={}, clock=time.monotonic)
                fill = request("sh", "-c", "head -c 2000000000 /dev/urandom > /big")

                with pytest.raises(DiskFullError) as caught:
                    await build(connection, fill, screen.display())
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)

    assert "prune" in str(caught.value)
