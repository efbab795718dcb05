"""Many images at once, as Flyte gathers them, and many after another: what they share, and what they leave alone."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flyte import Image, Secret
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit.api.gateway import Gateway
from buildkit_builder.buildkit.build import early_compression
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session.filesync import FileSync
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.command import run, write_project
from tests.integration.conftest import BASE
from tests.integration.leftovers import Held, left_since
from tests.integration.registry import exists, pull
from tests.integration.servers import open_registry
from tests.integration.test_faults import gone, interrupt_build, running

MakeImage = Callable[[int], Image]
# Says what no other run of the step says.
STAMP = "head -c 16 /dev/urandom | od -An -tx1 > /stamp"


@pytest.fixture
def image(engine: Engine, name: str, user: Path) -> MakeImage:
    """Makes images of different names on the same base."""

    def make(number: int) -> Image:
        return Image.from_base(BASE).clone(
            name=f"{name}-{number}", registry=engine.registry, extendable=True, python_version=(3, 11)
        )

    return make


async def build(*images: Image) -> None:
    """Builds images as Flyte does: the first error is that of all."""
    await asyncio.gather(*(BuildKitImageBuilder().build_image(image) for image in images))


def counted(monkeypatch: pytest.MonkeyPatch, of: type, method: str, key: Callable[..., str]) -> Counter[str]:
    """Counts the calls of a coroutine method from now on."""
    calls: Counter[str] = Counter()
    real = getattr(of, method)

    async def counting(self: Any, *arguments: Any, **named: Any) -> Any:
        calls[key(*arguments, **named)] += 1
        return await real(self, *arguments, **named)

    monkeypatch.setattr(of, method, counting)
    return calls


# --- what images share ---


async def test_what_is_the_same_is_done_once(image: MakeImage, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps before and after a source folder, and with a secret, run once; the folder is read once, the base is too."""
    monkeypatch.setenv("TOKEN", "sesame")
    (user / "src").mkdir()
    (user / "src" / "main.py").write_text(f"x = '{uuid.uuid4()}'\n")
    reads = counted(monkeypatch, FileSync, "_diff_copy", lambda call: call.metadata["dir-name"][0])
    lookups = counted(monkeypatch, Gateway, "resolve_image", lambda reference, *_, **__: str(reference))
    token = uuid.uuid4().hex
    images = [
        image(number)
        .with_commands([f"{STAMP}-before; : {token}"])
        .with_source_folder(user / "src", dst="/src")
        .with_commands([f'{STAMP}-after; test -n "$TOKEN"; : {token}'], secret_mounts=[Secret("TOKEN")])
        .with_commands([f"echo {number} > /number"])
        for number in range(8)
    ]

    await build(*images)

    trees = [pull(image.uri).tree() for image in images]
    for place in ("before", "after"):
        assert 1 == len({tree[f"stamp-{place}"].content for tree in trees})
    assert [f"{number}\n".encode() for number in range(8)] == [tree["number"].content for tree in trees]
    assert [1] == list(reads.values())
    assert 1 == lookups[f"docker.io/library/{BASE}"]


async def test_a_layer_is_sent_once(
    image: MakeImage, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a registry that links what it has in one repository into others."""
    assert engine.registry_bin is not None
    # However busy the machine is.
    monkeypatch.setattr(early_compression, "_TOLD_SECONDS", 60.0)
    token = uuid.uuid4().hex
    with open_registry(engine.registry_bin, tmp_path / "registry") as address:
        images = [
            image(number)
            .clone(registry=address)
            .with_commands([f"head -c 5000000 /dev/urandom > /large; : {token}"])
            .with_commands([f"echo {number} > /number"])
            for number in range(6)
        ]

        await build(*images)

        layers = [layer for image in images for layer in pull(image.uri).layers]
        [large] = {layer.digest for layer in layers if "large" in layer.entries}
        sent = re.findall(r'"PUT /v2/\S+/blobs/uploads/\S+digest=(\S+) HTTP', (tmp_path / "registry/log").read_text())
    assert [large] == [digest for digest in map(unquote, sent) if digest == large]


async def test_a_folder_that_changes_between_builds(image: MakeImage, user: Path) -> None:
    """A build that begins after a change has the change, although another with the same folder still runs."""
    (user / "src").mkdir()
    (user / "src" / "main.py").write_text("before")
    marker = f"3600.{uuid.uuid4().int % 10**9}"
    long = image(0).with_source_folder(user / "src", dst="/src").with_commands([f"sleep {marker}"])
    building = asyncio.ensure_future(build(long))
    while not running(marker):
        await asyncio.sleep(0.05)
    (user / "src" / "main.py").write_text("after it")

    later = image(1).with_source_folder(user / "src", dst="/src")
    await build(later)

    assert b"after it" == pull(later.uri).tree()["src/main.py"].content
    building.cancel()
    await asyncio.gather(building, return_exceptions=True)
    await asyncio.wait_for(gone(marker), 30)


async def test_plain_progress_of_several(
    image: MakeImage, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line says which image it is of."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    images = [image(number).with_commands([f"echo {uuid.uuid4()}"]) for number in range(8)]

    await build(*images)

    lines = capfd.readouterr().err.splitlines()
    for each in images:
        repository, _, tag = each.uri.rpartition("/")[2].partition(":")
        own = [line for line in lines if line.startswith(f"[{repository}:{tag[:8]}] #")]
        assert any("exporting the image" in line for line in own)
        assert any("echo" in line for line in own)
    assert 0 == sum(not line.startswith("[") for line in lines)


@pytest.fixture
async def connected(engine: Engine) -> AsyncIterator[None]:
    """A connection that stays, and with it what gRPC keeps for as long as there is any: a thread and its files."""
    async with await connect(Endpoint(address=engine.docker_host, kind="docker")):
        yield


# --- failures ---


async def test_one_that_fails_disturbs_no_other(image: MakeImage) -> None:
    """Its error names it, and comes out when the others are pushed, although whoever gathers them ends with it."""
    marker = uuid.uuid4().hex
    failing = image(0).with_commands([f"echo {marker} >&2; exit 3"])
    others = [image(number).with_commands([f"sleep 2; echo {number} {marker} > /made"]) for number in range(1, 4)]

    with pytest.raises(ImageBuildError, match=f"Building {failing.uri} failed: The step `with_commands .* exit code 3"):
        await build(failing, *others)

    assert [True] * 3 == [exists(other.uri) for other in others]
    assert not exists(failing.uri)


def test_one_that_fails_in_a_command_line(engine: Engine, name: str, user: Path) -> None:
    """`flyte build` of an environment and those it depends on: the error names the image, the others are pushed."""
    image = (
        f"[flyte.Image.from_base('{BASE}').clone(name=f'{name}-{{i}}', registry='{engine.registry}', extendable=True)"
        ".with_commands([f'sleep {i}; exit {3 * (i == 0)}']) for i in range(3)]"
    )
    write_project(user, image="None")
    (user / "app.py").write_text(
        f"import flyte\n\nimages = {image}\n"
        "others = [flyte.TaskEnvironment(name=f'other{i}', image=images[i]) for i in (1, 2)]\n"
        "env = flyte.TaskEnvironment(name='app', image=images[0], depends_on=others)\n"
        "print('URIS', *(image.uri for image in images))\n"
    )

    ended = run("flyte", "-c", "config.yaml", "build", "app.py", "env", folder=user)

    [uris] = [line.split()[1:] for line in ended.output.splitlines() if line.startswith("URIS")]
    assert 0 != ended.code
    assert f"Building {uris[0]} failed: The step" in ended.plain
    assert [False, True, True] == [exists(uri) for uri in uris]


async def test_an_interrupt_ends_all(engine: Engine, name: str, user: Path) -> None:
    """Ctrl-C at `flyte build` of three images ends the steps of all of them."""
    marker = f"3600.{uuid.uuid4().int % 10**8}"
    write_project(user, image="None")
    (user / "app.py").write_text(
        "import flyte\n\n"
        f"images = [flyte.Image.from_base('{BASE}').clone(name=f'{name}-{{i}}', registry='{engine.registry}',"
        f" extendable=True).with_commands([f'sleep {marker}{{i}}']) for i in range(3)]\n"
        "others = [flyte.TaskEnvironment(name=f'other{i}', image=images[i]) for i in (1, 2)]\n"
        "env = flyte.TaskEnvironment(name='app', image=images[0], depends_on=others)\n"
    )
    await interrupt_build("app.py", user, os.environ, [f"sleep\0{marker}{number}" for number in range(3)])


@pytest.mark.usefixtures("connected")
async def test_fifty_at_once(image: MakeImage, user: Path, tmp_path: Path) -> None:
    """Three fail and three are cancelled while they run; the others are pushed, and nothing is left behind."""
    token, marker = uuid.uuid4().hex, f"3600.{uuid.uuid4().int % 10**8}"
    (user / "main.py").write_text("x = 1\n")

    def one(number: int) -> Image:
        shared = image(number).with_source_file(user / "main.py", dst="/app/").with_commands([f": {token}"])
        last = f"exit {number}" if number in (1, 2, 3) else f"sleep {marker}{number}" if number in (4, 5, 6) else "true"
        return shared.with_commands([f"{last}; echo {number} > /number"])

    images = {number: one(number) for number in range(1, 51)}
    await build(image(0))
    gc.collect()
    before = Held.now(tmp_path)

    tasks = {number: asyncio.ensure_future(build(image)) for number, image in images.items()}
    while not all(running(f"sleep {marker}{number}") for number in (4, 5, 6)):
        assert not any(tasks[number].done() for number in (4, 5, 6)), tasks
        await asyncio.sleep(0.05)
    for number in (4, 5, 6):
        tasks[number].cancel()
    ends = dict(zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True))

    for number in (1, 2, 3):
        assert f"Building {images[number].uri} failed" in str(ends[number])
        assert f"ended with exit code {number}" in str(ends[number])
    assert [asyncio.CancelledError] * 3 == [type(ends[number]) for number in (4, 5, 6)]
    assert {None} == {ends[number] for number in range(7, 51)}
    assert [False] * 6 + [True] * 44 == [exists(image.uri) for image in images.values()]
    assert b"50\n" == pull(images[50].uri).tree()["number"].content
    for number in (4, 5, 6):
        await asyncio.wait_for(gone(f"sleep {marker}{number}"), 30)
    del tasks, ends
    gc.collect()
    assert {} == await left_since(before, tmp_path)


# --- many after another ---


def resident() -> int:
    """Bytes of this process's memory that are in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.usefixtures("connected")
async def test_many_after_another(image: MakeImage, user: Path, tmp_path: Path) -> None:
    """Threads, open files, tasks, temporary files and objects are as many after many builds as after ten."""
    (user / "main.py").write_text("x = 1\n")
    subject = image(0).with_source_file(user / "main.py", dst="/app/").with_env_vars({"A": "1"})
    for _ in range(10):
        await build(subject)
    gc.collect()
    before, objects, memory = Held.now(tmp_path), len(gc.get_objects()), resident()

    for _ in range(50):
        await build(subject)

    gc.collect()
    assert {} == await left_since(before, tmp_path)
    assert objects + 500 > len(gc.get_objects())
    assert memory + (16 << 20) > resident()
