"""Builds as daemons remember them: read, chosen, and shown."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from buildkit_builder.buildkit.api.events import StatusUpdate, VertexEvent
from buildkit_builder.buildkit.api.history import BuildRecord, ExporterRecord
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.llb import Role
from buildkit_builder.buildkit.wire import control_pb2, rpcstatus_pb2, services
from buildkit_builder.cli.history import Remembered, chosen_of, details, in_hindsight, table
from tests.cli.asking import command
from tests.fakes.buildkit import FakeBuildKit

ENGINE = Endpoint(address="unix:///run/docker.sock", kind="docker")
NOW = 1_000_000.0
BUILT = BuildRecord(
    ref="abcdefghijklmnop", status="completed", created=NOW - 3600, completed=NOW - 3590, images=("reg/a:1", "reg/a:2"),
    exporters=(ExporterRecord(kind="image", attributes={"name": "reg/a:1,reg/a:2", "push": "true"}),),
    response={"containerimage.digest": "sha256:d"}, steps=3, cached=2, done=3, pinned=True,
)  # fmt: skip
FAILED = BuildRecord(
    ref="abcxyz", status="failed", created=NOW - 50, completed=NOW - 40, frontend="dockerfile.v0",
    options={"filename": "Dockerfile", "context": "."}, error="exit \x1b[31mcode: 1\nand more", steps=3, done=1,
    warnings=2,
)  # fmt: skip
RUNNING = BuildRecord(ref="r", status="running", created=NOW - 5)


def _wire(ref: str, created: int, **more: Any) -> control_pb2.BuildHistoryEvent:
    record = control_pb2.BuildHistoryRecord(Ref=ref, CreatedAt=Timestamp(seconds=created), **more)
    kind = control_pb2.COMPLETE if record.HasField("CompletedAt") else control_pb2.STARTED
    return control_pb2.BuildHistoryEvent(type=kind, record=record)


def _ended(ref: str, created: int, **more: Any) -> control_pb2.BuildHistoryEvent:
    return _wire(ref, created, CompletedAt=Timestamp(seconds=created + 10), **more)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (_wire("r", 1), "running"),
        (_ended("r", 1), "completed"),
        (_ended("r", 1, error=rpcstatus_pb2.Status(code=2, message="exit code: 1")), "failed"),
        (_ended("r", 1, error=rpcstatus_pb2.Status(code=1, message="gone")), "cancelled"),
        (_ended("r", 1, error=rpcstatus_pb2.Status(code=2, message="wrapped: context canceled")), "cancelled"),
    ],
)
def test_how_a_build_ended(event: control_pb2.BuildHistoryEvent, status: str) -> None:
    """A daemon says it with an end and an error."""
    assert status == BuildRecord.from_wire(event.record).status


def test_a_record_is_read() -> None:
    """The names are those that the exporters were told, each once."""
    exporters = [
        control_pb2.Exporter(Type="image", Attrs={"name": "reg/a:1,reg/a:2"}),
        control_pb2.Exporter(Type="oci", Attrs={"name": "reg/a:1"}),
    ]
    event = _ended("r", 1, Exporters=exporters, numTotalSteps=3, numCachedSteps=2, numCompletedSteps=3, pinned=True)
    read = BuildRecord.from_wire(event.record)

    assert (("reg/a:1", "reg/a:2"), 1.0, 11.0) == (read.images, read.created, read.completed)
    assert (3, 2, 3, True) == (read.steps, read.cached, read.done, read.pinned)


def test_what_failed_in_a_build_that_ended_well_was_only_tried() -> None:
    """Roles are not remembered by daemons; a step that failed was done without, and so was a cache or an image."""
    told = StatusUpdate(
        vertexes=(
            VertexEvent(digest="a", name="with_pip_packages numpy (wheels)", error="exit code: 75"),
            VertexEvent(digest="b", name="[internal] see whether there is reg/a:1", error="not found"),
            VertexEvent(digest="c", name="with_commands make"),
        )
    )
    step, look_up, other = in_hindsight(told).vertexes

    assert (Role(attempt=True), "exit code: 75") == (step.role, step.error)
    assert (None, "") == (look_up.role, look_up.error)
    assert told.vertexes[2] == other


def test_builds_in_columns() -> None:
    """A line each; what has no name is told by its Dockerfile."""
    assert [
        "REF           STATUS             BEGUN        TOOK  STEPS             IMAGE",
        "abcdefghijkl  completed, pinned  1 hour ago  10.0s  3, 2 cached       reg/a:1, reg/a:2",
        "abcxyz        failed             just now    10.0s  1 of 3, 0 cached  Dockerfile",
        "r             running            just now     5.0s",
    ] == table((BUILT, FAILED, RUNNING), now=NOW, width=None).splitlines()
    assert "no builds" == table((), now=NOW, width=None)


def test_all_about_a_build() -> None:
    """Only what there is to say, and nothing that a terminal would obey."""
    built = details(Remembered(ENGINE, BUILT), now=NOW).splitlines()
    failed = details(Remembered(ENGINE, FAILED), now=NOW)

    assert "daemon    Docker Engine at unix:///run/docker.sock" in built
    assert "status    completed, pinned" in built
    assert ["image     reg/a:1", "image     reg/a:2", "digest    sha256:d"] == built[6:9]
    assert "  push    true" in built
    assert not [line for line in built if "warnings" in line or "frontend" in line]
    assert "  filename  Dockerfile" in failed.splitlines()
    assert failed.endswith("\n\nexit code: 1\nand more")


def test_the_build_that_is_meant() -> None:
    """The newest, or the one that begins so."""
    known = [Remembered(ENGINE, record) for record in (RUNNING, FAILED, BUILT)]

    assert RUNNING == chosen_of(known, "").record
    assert FAILED == chosen_of(known, "abcx").record
    assert BuildRecord(ref="ab", status="running", created=0) == chosen_of(
        [*known, Remembered(ENGINE, BuildRecord(ref="ab", status="running", created=0))], "ab"
    ).record  # fmt: skip


@pytest.mark.parametrize(
    ("count", "ref", "said"),
    [
        (0, "", "No build is remembered"),
        (3, "x", "begins with `x`"),
        (3, "abc", "2 builds begin with `abc`: abcxyz, abc"),
    ],
)
def test_a_build_that_cannot_be_told(count: int, ref: str, said: str) -> None:
    """There is none, or more than one."""
    known = [Remembered(ENGINE, record) for record in (RUNNING, FAILED, BUILT)][:count]

    with pytest.raises(click.ClickException, match=said):
        chosen_of(known, ref)


@pytest.fixture
def events() -> list[control_pb2.BuildHistoryEvent]:
    """An old build, a new one that ends while it is listed, one that is deleted meanwhile, and one that failed."""
    deleted = _ended("deleted", 50)
    deleted.type = control_pb2.DELETED
    return [
        _wire("new", 300),
        _ended("old", 100, pinned=True),
        _ended("deleted", 50),
        _ended("new", 300),
        _ended("bad", 200, error=rpcstatus_pb2.Status(code=2, message="exit code: 1")),
        deleted,
    ]


async def test_ls(monkeypatch: pytest.MonkeyPatch, events: list[control_pb2.BuildHistoryEvent]) -> None:
    """The newest first, each as it ended."""
    async with FakeBuildKit() as fake:
        fake.history = events
        shown = await command(fake, monkeypatch, "history", "ls")
        listed = await command(fake, monkeypatch, "history", "ls", "--status", "completed", "--limit", "1", "--json")

    assert (0, 0) == (shown.exit_code, listed.exit_code), (shown.output, listed.output)
    assert ["REF", "new", "bad", "old"] == [line.split()[0] for line in shown.stdout.splitlines()]
    assert [(fake.address, "new", "completed")] == [
        (each["address"], each["ref"], each["status"]) for each in json.loads(listed.stdout)
    ]
    assert fake.called(services.CONTROL_LISTEN_BUILD_HISTORY)[0].EarlyExit


async def test_show_and_logs(monkeypatch: pytest.MonkeyPatch, events: list[control_pb2.BuildHistoryEvent]) -> None:
    """All that is remembered of a build, and what it printed."""
    said = control_pb2.StatusResponse(
        vertexes=[control_pb2.Vertex(digest="sha256:v", name="make it", started=Timestamp(seconds=1))],
        logs=[control_pb2.VertexLog(vertex="sha256:v", stream=1, msg=b"hello\n", timestamp=Timestamp(seconds=1))],
    )
    async with FakeBuildKit() as fake:
        fake.history = events
        shown = await command(fake, monkeypatch, "history", "show", "ba")
        as_json = await command(fake, monkeypatch, "history", "show", "--json")
        fake.answer(services.CONTROL_STATUS, said, said)
        logs = await command(fake, monkeypatch, "history", "logs", "old")
        raw = await command(fake, monkeypatch, "history", "logs", "old", "--json")

    assert [0] * 4 == [each.exit_code for each in (shown, as_json, logs, raw)], logs.output
    assert "exit code: 1" in shown.stdout
    assert "new" == json.loads(as_json.stdout)["ref"]
    assert "make it" in logs.stdout
    assert "hello" in logs.stdout
    assert all(isinstance(json.loads(line), dict) for line in raw.stdout.splitlines())
    assert ["old", "old"] == [request.Ref for request in fake.called(services.CONTROL_STATUS)]


async def test_rm_and_pin(monkeypatch: pytest.MonkeyPatch, events: list[control_pb2.BuildHistoryEvent]) -> None:
    """What is pinned stays unless it is named."""
    async with FakeBuildKit() as fake:
        fake.history = events
        ends = [
            await command(fake, monkeypatch, "history", *words)
            for words in (("rm", "--all"), ("rm", "old"), ("pin", "new"), ("pin", "old", "--off"))
        ]
        wrong = await command(fake, monkeypatch, "history", "rm")

    assert ["forgot 2 builds\n", "forgot 1 build\n", "new is now pinned\n", "old is no longer pinned\n"] == [
        end.output for end in ends
    ]
    update = control_pb2.UpdateBuildHistoryRequest
    assert [
        update(Ref="new", Delete=True), update(Ref="bad", Delete=True), update(Ref="old", Delete=True),
        update(Ref="new", Pinned=True), update(Ref="old"),
    ] == fake.called(services.CONTROL_UPDATE_BUILD_HISTORY)  # fmt: skip
    assert 2 == wrong.exit_code


async def test_a_daemon_without_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said which daemons have it."""
    async with FakeBuildKit(unimplemented=(services.CONTROL_LISTEN_BUILD_HISTORY,)) as fake:
        ended = await command(fake, monkeypatch, "history", "ls")

    assert 1 == ended.exit_code
    assert "does not remember builds. Update it: BuildKit 0.11 or newer" in ended.stderr
