"""Caches beside a build: written by a solve of their own, if at all; what goes wrong with them is said, and no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit.api import events
from buildkit_builder.buildkit.build import build
from buildkit_builder.buildkit.build.cache_export import has_made_something
from buildkit_builder.buildkit.build.cache_news import CacheNews, not_written
from buildkit_builder.buildkit.build.request import CacheEntry, CacheExport
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.trace import Trace
from buildkit_builder.buildkit.session import oci_layout
from buildkit_builder.buildkit.wire import control_pb2, gateway_pb2, services
from buildkit_builder.errors import SolveError, StepFailedError
from tests.buildkit.build.test_run import PLATFORM, Daemon, Told, request
from tests.fakes.buildkit import Build, Refusal, exit_message

REF = "r.example/cache:1"
ENTRY = CacheEntry(type="registry", attributes={"ref": REF, "mode": "max"})
STEP, SOURCE = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


class CachingDaemon(Daemon):
    """A daemon that says what it solved and, of a build that is no cache, that it ran or had a step."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = True
        self.refuses: str | None = None
        self.order: list[str] = []

    def caches(self) -> list[control_pb2.SolveRequest]:
        """The solves for caches."""
        return [found for found in self.called(services.CONTROL_SOLVE) if found.Cache.Exports]

    async def _control_solve(self, request: control_pb2.SolveRequest, context: Any) -> Any:
        if request.Cache.Exports and self.refuses is not None:
            await Refusal(self.refuses).raise_in(context)
        try:
            return await super()._control_solve(request, context)
        finally:
            self.order.append("cache" if request.Cache.Exports else "build")

    async def _llbbridge_solve(self, request: gateway_pb2.SolveRequest, context: Any) -> Any:
        response: Any = await super()._llbbridge_solve(request, context)
        getattr(response.result.ref, "def").CopyFrom(request.Definition)
        made = await self._build_of(context)
        source = control_pb2.Vertex(digest=SOURCE, name="main.py")
        step = control_pb2.Vertex(digest=STEP, name="make it", inputs=[SOURCE], cached=not self.ran)
        for vertex in (source, step):
            vertex.started.FromSeconds(1)
            vertex.completed.FromSeconds(2)
        made.tell(control_pb2.StatusResponse(vertexes=[source, step]))
        return response


@dataclass
class Hearing(Told):
    """A display that keeps what it was told, our own messages too."""

    lines: list[str] = field(default_factory=list)

    def log(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Caching:
    """A daemon, a connection, and a display."""

    daemon: CachingDaemon
    connection: Connection
    display: Hearing = field(default_factory=Hearing)

    async def build(self, *exports: CacheExport, **fields: Any) -> None:
        """Builds, and writes caches."""
        await build(self.connection, request(cache_exports=exports, **fields), self.display)

    def shown(self) -> set[str]:
        """The names of all vertices that were shown, and not to be failures."""
        vertexes = [vertex for update in self.display.updates for vertex in update.vertexes]
        assert not any(vertex.error for vertex in vertexes)
        return {vertex.name for vertex in vertexes}


@pytest.fixture
async def caching() -> AsyncIterator[Caching]:
    """What it takes to build."""
    daemon = CachingDaemon()
    async with daemon, await connect(Endpoint(address=daemon.address, kind="buildkit")) as connection:
        yield Caching(daemon, connection)


def export(**fields: Any) -> CacheExport:
    """A cache in a registry."""
    return CacheExport(**{"entry": ENTRY, "platforms": (PLATFORM,), **fields})


async def test_a_cache_is_written_by_a_solve_of_its_own(caching: Caching) -> None:
    """The build's own solve knows nothing of it; that of the cache has the same graph and session, and ends later."""
    await caching.build(export(only_if_made=True), cache_imports=(ENTRY,), entitlements=("network.host",))

    whole, cache = sorted(caching.daemon.called(services.CONTROL_SOLVE), key=lambda found: len(found.Cache.Exports))
    assert [("registry", dict(ENTRY.attributes))] == [(one.Type, dict(one.Attrs)) for one in cache.Cache.Exports]
    assert (whole.Session, True, ["network.host"]) == (cache.Session, cache.Internal, list(cache.Entitlements))
    assert not cache.Exporters
    # The steps are run by the build, and the cache's solve comes by them afterwards.
    assert 1 == len(caching.daemon.called(services.LLBBRIDGE_EVALUATE))
    built, again = (list(caching.daemon.builds[found.Ref].solved.values()) for found in (whole, cache))
    assert built[-1].Definition == again[-1].Definition
    assert again[-1].Evaluate
    assert [REF] == [one.Attrs["ref"] for one in again[-1].CacheImports]
    assert ["build", "cache"] == caching.daemon.order
    assert [] == caching.display.lines


async def test_the_graph_is_held_before_the_build_ends(caching: Caching) -> None:
    """The cache's solve has the graph before the build gives its result away, as what it built is forgotten then."""
    held: list[bool] = []

    async def look(one: Build) -> None:
        held.append(all(other.solved for other in caching.daemon.builds.values() if other is not one))

    caching.daemon.export = look

    await caching.build(export())

    assert held[0]


async def test_nothing_was_made(caching: Caching) -> None:
    """Where every step was cached, a derived cache stays as it is, and its solve ends without a result."""
    caching.daemon.ran = False

    await caching.build(export(only_if_made=True))

    (cache,) = caching.daemon.caches()
    assert caching.daemon.builds[cache.Ref].returned.result().HasField("error")
    assert [] == caching.display.lines


async def test_a_named_cache_is_written_whatever_was_made(caching: Caching) -> None:
    """As buildx does it."""
    caching.daemon.ran = False

    await caching.build(export())

    (cache,) = caching.daemon.caches()
    assert not caching.daemon.builds[cache.Ref].returned.result().HasField("error")


async def test_only_the_writing_is_shown(caching: Caching) -> None:
    """Of the cache's solve neither the steps, shown before, nor failures are shown."""

    async def tell(one: Build) -> None:
        if one.request.Cache.Exports:
            failed = control_pb2.Vertex(digest=f"sha256:{'3' * 64}", name="exporting cache to registry", error="no")
            again = control_pb2.Vertex(digest=f"sha256:{'4' * 64}", name="importing cache manifest from x", error="no")
            one.tell(control_pb2.StatusResponse(vertexes=[failed, again]))
            # The end of a build does not wait for whoever follows it.
            while one.updates.qsize():
                await asyncio.sleep(0)
            await asyncio.sleep(0.2)

    caching.daemon.export = tell

    await caching.build(export())

    assert {"main.py", "make it", "exporting cache to registry"} == caching.shown()


REFUSALS = {
    'unknown cache exporter: "s3"': "This daemon knows no build cache of type s3",
    'unknown cache exporter: "registry"': "the containerd image store writes no build cache of type registry",
    "failed to configure registry cache exporter: denied": f"its build cache was not saved to {REF}: denied.",
}


@pytest.mark.parametrize(("said", "expected"), REFUSALS.items(), ids=["unknown", "no store", "refused"])
async def test_a_cache_that_is_refused(caching: Caching, said: str, expected: str) -> None:
    """The image is built all the same, and one sentence says why the cache is not."""
    caching.daemon.refuses = said

    await caching.build(export())

    (line,) = caching.display.lines
    assert expected in line
    assert [None] == caching.display.ends


@pytest.mark.parametrize("can_have_store", [True, False])
@pytest.mark.parametrize("kind", ["registry", "local", "gha"])
def test_a_store_is_recommended_to_whom_can_have_it(kind: str, can_have_store: bool) -> None:
    """Without it an engine writes none of these; one that is too old is told to be updated."""
    text = not_written(REF, f'unknown cache exporter: "{kind}"', can_have_store=can_have_store)

    assert can_have_store == ("containerd-snapshotter" in text)
    assert "has only registry" not in text


async def test_a_cache_that_fails_in_the_end(caching: Caching) -> None:
    """What the daemon says when the cache is being written is said, too."""

    async def fail(one: Build) -> None:
        if one.request.Cache.Exports:
            raise RuntimeError("disk on fire")

    caching.daemon.export = fail

    await caching.build(export(entry=CacheEntry(type="gha", attributes={"token": "hush"})))

    (line,) = caching.display.lines
    assert "was not saved to type gha" in line
    assert "disk on fire" in line
    assert "hush" not in line


async def test_a_cache_that_is_required(caching: Caching) -> None:
    """With `ignore-error=false` the build fails, and says that the image is there."""
    caching.daemon.refuses = "denied"

    with pytest.raises(SolveError, match=r"The image is built, but its build cache was not saved.*denied"):
        await caching.build(export(required=True))


async def test_a_daemon_that_does_not_say_what_it_built(caching: Caching) -> None:
    """Without a graph there is nothing to write a cache of, and that is said."""
    caching.daemon.answer(
        services.LLBBRIDGE_SOLVE, gateway_pb2.SolveResponse(result=gateway_pb2.Result(ref=gateway_pb2.Ref(id="1")))
    )

    await caching.build(export())

    assert "a newer one does" in caching.display.lines[0]


async def test_a_build_that_fails(caching: Caching) -> None:
    """No cache is written, and the failure is the build's own."""
    caching.daemon.refuse(services.LLBBRIDGE_SOLVE, "did not complete", details=[exit_message(2)])

    with pytest.raises(StepFailedError):
        await caching.build(export())

    (cache,) = caching.daemon.caches()
    await caching.daemon.builds[cache.Ref].ended.wait()
    assert caching.daemon.builds[cache.Ref].returned.cancelled()
    assert [] == caching.display.lines


async def test_inline_is_a_part_of_the_image(caching: Caching) -> None:
    """That cache is in the build's own solve, and there is no other."""
    await caching.build(CacheExport(entry=CacheEntry(type="inline"), platforms=(PLATFORM,)))

    (solve,) = caching.daemon.called(services.CONTROL_SOLVE)
    assert ["inline"] == [entry.Type for entry in solve.Cache.Exports]


async def test_a_local_cache_gets_its_index(caching: Caching, tmp_path: Path) -> None:
    """What the daemon says it has written is put under the tag."""
    descriptor = {"mediaType": "m", "digest": f"sha256:{'7' * 64}", "size": 3}
    caching.daemon.exporter_response = {"cache.manifest": json.dumps(descriptor)}
    entry = CacheEntry(type="local", attributes={"dest": str(tmp_path)})

    await caching.build(export(entry=entry, folder=tmp_path, tag="mine"))

    assert descriptor["digest"] == oci_layout.digest_of(tmp_path, "mine")


async def test_notes_are_said_first(caching: Caching) -> None:
    """What is known of caches before the build is said when it begins."""
    await caching.build(notes=("there is no cache",))

    assert ["there is no cache"] == caching.display.lines


# --- what counts as made ---


@pytest.mark.parametrize(
    ("vertex", "expected"),
    [
        (events.VertexEvent(digest="a", name="step", inputs=("b",), started=1, completed=2), True),
        (events.VertexEvent(digest="a", name="step", inputs=("b",), started=1, completed=2, cached=True), False),
        (events.VertexEvent(digest="a", name="base image", started=1, completed=2), False),
        (events.VertexEvent(digest="a", name="step", inputs=("b",), started=1, completed=2, error="no"), False),
        (events.VertexEvent(digest="a", name="step", inputs=("b",)), False),
    ],
    ids=["ran", "cached", "source", "failed", "never"],
)
def test_what_counts_as_made(vertex: events.VertexEvent, expected: bool) -> None:
    """Only a step that ran to its end, on something."""
    trace = Trace()
    trace.apply(events.StatusUpdate(vertexes=(vertex,)), 3.0)

    assert expected == has_made_something(trace)


# --- what is said of reading ---


def told(name: str, error: str) -> tuple[str, list[str]]:
    """The error that is left of a vertex, and what is said instead."""
    news = CacheNews()
    update = events.StatusUpdate(vertexes=(events.VertexEvent(digest="a", name=name, error=error),))
    (vertex,) = news.softened(update).vertexes
    assert news.softened(update).vertexes == (vertex,)
    return vertex.error, news.lines


def test_a_cache_that_is_not_there() -> None:
    """One line, once, and no failed step."""
    error = f"failed to configure registry cache importer: {REF}: not found"

    assert ("", [f"There is no build cache at {REF} yet."]) == told(f"importing cache manifest from {REF}", error)


def test_a_cache_that_cannot_be_read() -> None:
    """The reason is said."""
    error = f'failed to configure registry cache importer: failed to do request: Head "http://{REF}": EOF'

    left, lines = told(f"importing cache manifest from {REF}", error)

    assert "" == left
    assert [f'The build cache at {REF} could not be read, and is done without: Head "http://{REF}": EOF.'] == lines


def test_a_cache_of_a_type_that_is_not_known() -> None:
    """The daemon's number for what has no reference is not repeated, and who knows the type is said."""
    left, lines = told("importing cache manifest from s3:1234567890123", "unknown cache importer: s3")

    assert ("", 1) == (left, len(lines))
    assert "no build cache of type s3" in lines[0]
    assert "docker-container" in lines[0]


def test_numbers_are_not_repeated() -> None:
    """A cache without a reference goes by its type."""
    _, lines = told("importing cache manifest from gha:1234567890123", "401 Unauthorized")

    assert ["The build cache at type gha could not be read, and is done without: 401 Unauthorized."] == lines


@pytest.mark.parametrize(
    ("name", "error"), [("make it", "failed"), (f"importing cache manifest from {REF}", "context canceled")]
)
def test_other_failures_are_left_alone(name: str, error: str) -> None:
    """Steps that fail do, and what was cancelled was."""
    assert (error, []) == told(name, error)


def test_words_of_one_line() -> None:
    """An error of many lines is one."""
    assert not_written("x", "a\n  b.\n").endswith("saved to x: a b.")
