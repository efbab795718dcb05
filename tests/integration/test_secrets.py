"""No secret value is left anywhere: every place that a build writes to is searched for the values."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from flyte import Image, Secret
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.wire import control_pb2, services
from buildkit_builder.errors import StepFailedError
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.command import run, write_project
from tests.integration.conftest import BASE, Build

MOUNT = "/etc/flyte/secrets"
# Both secrets, whole, line by line, and in two halves a moment apart, on both streams.
PRINT = (
    f"echo the token is $TOKEN; cat {MOUNT} >&2; "
    "printf %s $(echo $TOKEN | cut -c 1-20); sleep 0.2; echo $TOKEN | cut -c 21-"
)
SECRETS: list[str | Secret] = ["TOKEN", Secret(key="key", group="team", mount=Path(MOUNT))]


@dataclass(frozen=True, slots=True)
class Hidden:
    """The values that must not be seen: a token, and the lines of a key."""

    token: str
    key: tuple[str, ...]

    @property
    def environ(self) -> dict[str, str]:
        """Where the builder finds them."""
        return {
            "TOKEN": self.token,
            "TEAM_KEY": "\n".join(("-----BEGIN KEY-----", *self.key, "}", "-----END KEY-----")),
        }

    def in_bytes(self, content: bytes) -> list[str]:
        """Those of the values, or halves of them, that stand in a content."""
        parts = [self.token, self.token[20:], *self.key]
        return [part for part in parts if part.encode() in content]

    def in_text(self, *texts: object) -> list[str]:
        """Those that stand in what objects look like."""
        return self.in_bytes("\n".join(f"{text!s}\n{text!r}" for text in texts).encode(errors="replace"))


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Hidden:
    """Values that no other test has."""
    values = Hidden(token=f"tok/{uuid.uuid4().hex}+=", key=(uuid.uuid4().hex, f"{uuid.uuid4().hex[:8]}="))
    for name, value in values.environ.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[llb.Definition]:
    """Every graph that is made."""
    made: list[llb.Definition] = []
    marshal = llb.marshal

    def kept(state: llb.State, **options: Any) -> llb.Definition:
        made.append(marshal(state, **options))
        return made[-1]

    monkeypatch.setattr(llb, "marshal", kept)
    return made


async def remembered(engine: Engine) -> tuple[dict[str, str], list[object]]:
    """What the daemon remembers of builds that are over, by their ref, and what it says of its cache."""
    async with await connect(Endpoint(address=engine.docker_host, kind="docker")) as connection:
        call = connection.channel.unary_stream(
            services.CONTROL_LISTEN_BUILD_HISTORY,
            request_serializer=control_pb2.BuildHistoryRequest.SerializeToString,
            response_deserializer=control_pb2.BuildHistoryEvent.FromString,
        )
        events = [event async for event in call(control_pb2.BuildHistoryRequest(EarlyExit=True))]
        cache = await Control(connection.channel).disk_usage()
    return {event.record.Ref: str(event) for event in events}, list(cache)


def written_since(marker: Path, folder: Path) -> Iterator[tuple[Path, bytes]]:
    """The files below a folder that changed after another file did, and what they hold."""
    found = subprocess.run(
        ["find", str(folder), "-xdev", "-type", "f", "-cnewer", str(marker), "-print0"],
        capture_output=True,
        check=False,
    )
    for path in map(os.fsdecode, filter(None, found.stdout.split(b"\0"))):
        with contextlib.suppress(OSError):  # the daemon is at work: files vanish, and some are mounts of namespaces
            yield Path(path), Path(path).read_bytes()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and all that led to it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [current.__cause__, current.__context__]


def texts(error: BaseException) -> list[object]:
    """All that an error says of itself."""
    said: list[object] = [error, error.args, getattr(error, "__notes__", ()), *vars(error).values()]
    if isinstance(error, grpc.aio.AioRpcError):
        said += [error.details(), error.debug_error_string(), *(error.trailing_metadata() or ())]
    return [*said, "".join(traceback.format_exception(error))]


def leaking(base: Image, *, then: str = "true") -> Image:
    """An image with a step that prints the secrets and ends as told; never from the cache."""
    return base.with_commands([f"{PRINT}; : {uuid.uuid4().hex}; {then}"], secret_mounts=SECRETS)


async def test_image_graph_and_logs(
    base: Image, build: Build, hidden: Hidden, graphs: list[llb.Definition], caplog: pytest.LogCaptureFixture
) -> None:
    """Graph, image and logs of a build that prints its secrets have none of them."""
    caplog.set_level(logging.DEBUG)

    pulled = await build(leaking(base))

    assert any("with_commands" in name for graph in graphs for name in graph.names.values())
    assert [] == hidden.in_text(*(llb.dump(graph) for graph in graphs), *(op for graph in graphs for op in graph.ops))
    assert "flyte/team/key" in "".join(llb.dump(graph) for graph in graphs)
    assert [] == hidden.in_text(json.dumps(pulled.manifest), json.dumps(pulled.config))
    entries = [entry for layer in pulled.layers for entry in layer.entries.items()]
    assert [] == [path for path, entry in entries if hidden.in_bytes(entry.content) or hidden.in_text(path)]
    assert [] == hidden.in_text(*(record.getMessage() for record in caplog.records), caplog.text)


async def test_disks_of_daemon_and_registry(
    base: Image, build: Build, hidden: Hidden, engine: Engine, tmp_path: Path
) -> None:
    """Nothing of it is on the disks of daemon and registry, in the daemon's log, its history or its cache's names."""
    marker = tmp_path / "marker"
    marker.touch()
    before, _ = await remembered(engine)
    shown = f"shown-{uuid.uuid4().hex}"
    await build(base.with_commands([f"echo {shown} | tr a-z A-Z"]))

    await build(leaking(base))

    found = dict(written_since(marker, Path(engine.environ["BUILDKIT_BUILDER_ENGINE_DIR"])))
    assert [] == [path for path, content in found.items() if hidden.in_bytes(content)]
    # That the search finds what there is to find: the log of the build without secrets is there.
    assert [] != [path for path, content in found.items() if shown.upper().encode() in content]
    after, cache = await remembered(engine)
    new = [record for ref, record in after.items() if ref not in before]
    assert [] != new
    assert [] == hidden.in_text(*new)
    assert any("with_commands" in str(record) or shown in str(record) for record in cache)
    assert [] == hidden.in_text(*cache)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("mode", ["tty", "plain", "rawjson", "quiet"])
async def test_progress_and_errors(
    base: Image, hidden: Hidden, mode: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that prints its secrets and fails: neither the progress nor the errors repeat them."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", mode)

    with pytest.raises(ImageBuildError) as caught:
        await BuildKitImageBuilder().build_image(leaking(base, then="exit 9"))

    shown = "".join(capfd.readouterr())
    assert "the token is ***" in shown
    assert [] == hidden.in_text(shown)
    errors = list(chain(caught.value))
    assert [] == [error for error in errors if hidden.in_text(*texts(error))]
    failed = caught.value.__cause__
    assert isinstance(failed, StepFailedError)
    assert 9 == failed.exit_code
    assert "the token is ***" in failed.log_tail
    assert "}" in failed.log_tail
    assert any(isinstance(error, grpc.aio.AioRpcError) for error in errors)


def test_command_line(engine: Engine, name: str, user: Path, hidden: Hidden) -> None:
    """`flyte -vvv build`, which shows all that Flyte and this package log, shows none of them."""
    write_project(
        user,
        image=f"flyte.Image.from_base('{BASE}').clone(name='{name}', registry='{engine.registry}', extendable=True)"
        f".with_commands([{f'{PRINT}; exit 9'!r}],"
        f" secret_mounts=['TOKEN', flyte.Secret(key='key', group='team', mount=Path('{MOUNT}'))])",
    )

    ended = run(
        "flyte", "-vvv", "-c", "config.yaml", "build", "app.py", "env", folder=user, FLYTE_BUILDKIT_PROGRESS="plain"
    )

    assert 0 != ended.code
    assert "the token is ***" in ended.output
    assert [] == hidden.in_text(ended.output)
