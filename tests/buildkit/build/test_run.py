from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.events import StatusUpdate
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build import (
    BuildRequest,
    BuildResult,
    DockerArchive,
    OciArchive,
    Push,
    TarArchive,
    build,
    run,
)
from buildkit_builder.buildkit.build.exporters import Compression
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.build.request import Bridge, CacheEntry, CacheExport
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.buildkit.wire import control_pb2, filesync_pb2, rpcstatus_pb2, services
from buildkit_builder.config import Annotation
from buildkit_builder.errors import (
    BuildKitError,
    CapabilityError,
    ConfigError,
    DaemonLostError,
    ImageError,
    SolveError,
    StepFailedError,
)
from tests.fakes.buildkit import LLB_CAPS, Build, FakeBuildKit, abort, exit_message, vertex

PLATFORM = llb.Platform(architecture="amd64")
STEP = llb.image("debian").run(["make", "it"], name="make it").root
DIGEST = f"sha256:{'0' * 64}"


class Daemon(FakeBuildKit):
    """A daemon that may be told what to do between `Return` and the end of the solve."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"llb_caps": dict.fromkeys((*LLB_CAPS, "exporter.multiple"), True), **options})
        self.export: Callable[[Build], Awaitable[None]] | None = None

    async def _control_solve(self, request: control_pb2.SolveRequest, context: Any) -> Any:
        build = Build(request.Ref, request, asyncio.get_running_loop().create_future())
        async with self._changed:
            self.builds[request.Ref] = build
            self._changed.notify_all()
        try:
            returned = await build.returned
            if self.export is not None:
                await self.export(build)
            if returned.HasField("error"):
                await abort(context, returned.error)
            return control_pb2.SolveResponse(ExporterResponse=self.exporter_response)
        finally:
            build.ended.set()
            build.updates.put_nowait(None)


@dataclass
class Told:
    """A display that keeps what it was told."""

    updates: list[StatusUpdate] = field(default_factory=list)
    ends: list[BaseException | None] = field(default_factory=list)

    def update(self, update: StatusUpdate) -> None:
        self.updates.append(update)

    def log(self, text: str) -> None: ...

    def refresh(self) -> None: ...

    def done(self, error: BaseException | None) -> None:
        self.ends.append(error)


class Calls:
    """A frontend made of a function."""

    def __init__(self, function: Callable[[Bridge], Awaitable[Result]]) -> None:
        self.function = function

    async def build(self, bridge: Bridge) -> Result:
        return await self.function(bridge)


GRAPH = GraphFrontend(state=STEP, platform=PLATFORM)


def request(**fields: Any) -> BuildRequest:
    return BuildRequest(**{"title": "an image", "frontend": GRAPH, **fields})


@dataclass
class Bench:
    """A daemon, and a connection to it."""

    daemon: Daemon
    connection: Connection
    display: Told = field(default_factory=Told)

    async def build(self, asked: BuildRequest, **options: Any) -> BuildResult:
        return await build(self.connection, asked, self.display, **options)

    @property
    def solve(self) -> control_pb2.SolveRequest:
        """What was asked of `Control.Solve`, once."""
        (found,) = self.daemon.called(services.CONTROL_SOLVE)
        return found  # type: ignore[no-any-return]

    @property
    def returned(self) -> Any:
        """What was handed to `Return`, once."""
        (found,) = self.daemon.called(services.LLBBRIDGE_RETURN)
        return found


@contextlib.asynccontextmanager
async def bench_of(daemon: Daemon) -> AsyncIterator[Bench]:
    async with daemon, await connect(Endpoint(address=daemon.address, kind="buildkit")) as connection:
        yield Bench(daemon, connection)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A daemon that can do everything."""
    async with bench_of(Daemon()) as opened:
        yield opened


# --- the request ---


async def test_own_frontend_is_neither_definition_nor_frontend(bench: Bench) -> None:
    """The solve names no frontend and has no definition, not even an empty one, and carries the session's id."""
    await bench.build(request())

    assert not bench.solve.HasField("Definition")
    assert "" == bench.solve.Frontend
    assert [bench.solve.Session] == list(bench.daemon.session_metadata)
    assert not bench.solve.Exporters
    assert "" == bench.solve.ExporterDeprecated


async def test_exporters_are_named_for_old_daemons_too(bench: Bench) -> None:
    """The first exporter also stands where daemons before 0.13 look for it."""
    push = Push(reference="r.example/a:1")

    await bench.build(request(exporters=(push, Push(reference="r.example/b:1"))))

    assert ("image", push.attributes()) == (bench.solve.ExporterDeprecated, dict(bench.solve.ExporterAttrsDeprecated))
    assert ["r.example/a:1", "r.example/b:1"] == [exporter.Attrs["name"] for exporter in bench.solve.Exporters]


async def test_everything_asked_for(bench: Bench) -> None:
    """Caches, entitlements, policy and attributes are passed on as they are."""
    cache = CacheEntry(type="registry", attributes={"ref": "r.example/cache"})
    policy = Mirrors.of({"a.example": "b.example"}).policy()

    await bench.build(
        request(
            cache_imports=(cache,), cache_exports=(CacheExport(entry=CacheEntry(type="inline")),),
            entitlements=("network.host",),
            source_policy=policy, frontend_attributes={"platform": "linux/arm64"}, internal=True,
        )
    )  # fmt: skip

    solve = bench.solve
    assert [("registry", {"ref": "r.example/cache"})] == [(e.Type, dict(e.Attrs)) for e in solve.Cache.Imports]
    assert ["inline"] == [entry.Type for entry in solve.Cache.Exports]
    assert ["network.host"] == list(solve.Entitlements)
    assert policy == solve.SourcePolicy
    assert {"platform": "linux/arm64"} == dict(solve.FrontendAttrs)
    assert solve.Internal


async def test_wrong_exporter_is_found_before_anything_is_asked(bench: Bench) -> None:
    """What an exporter refuses to say is raised before the daemon hears of the build."""
    with pytest.raises(ConfigError):
        await bench.build(request(exporters=(Push(reference="a", compression=Compression(level=99)),)))

    assert [] == bench.daemon.called(services.CONTROL_SOLVE)


@pytest.mark.parametrize(
    ("missing", "fields"),
    [
        ("exporter.multiple", {"exporters": (Push(reference="a"), Push(reference="b"))}),
        ("source.policy", {"source_policy": Mirrors.of({"a.example": "b.example"}).policy()}),
        (
            "exporter.image.annotations",
            {"exporters": (Push(reference="a", annotations=(Annotation(key="k", value="v"),)),)},
        ),
        ("exporter.image.attestations", {"frontend_attributes": {"attest:provenance": "mode=min"}}),
        ("exporter.sourcedateepoch", {"frontend_attributes": {"build-arg:SOURCE_DATE_EPOCH": "1"}}),
    ],
)
async def test_what_old_daemons_would_ignore(missing: str, fields: dict[str, Any]) -> None:
    """What the daemon does not know of a request is an error before anything is built, and ends the solve."""
    known = {name: True for name in LLB_CAPS if name != missing}
    async with bench_of(Daemon(llb_caps=known)) as bench:
        with pytest.raises(CapabilityError, match=missing):
            await bench.build(request(**fields))

        assert bench.returned.HasField("error")
        assert [] == bench.daemon.called(services.LLBBRIDGE_SOLVE)


# --- success ---


async def test_result_is_returned_once(bench: Bench) -> None:
    """The frontend's result is handed over, and what the exporters say comes back."""
    bench.daemon.exporter_response = {"containerimage.digest": DIGEST, "image.name": "a:1"}

    result = await bench.build(request())

    assert bench.returned.result.ref.id.startswith("ref-")
    assert (DIGEST, "a:1") == (result.digest, result.response["image.name"])
    assert [None] == bench.display.ends


async def test_progress_is_shown_to_its_end(bench: Bench) -> None:
    """What the daemon says between `Return` and the end of the build is shown as well."""

    async def export(build: Build) -> None:
        build.tell(control_pb2.StatusResponse(vertexes=[control_pb2.Vertex(digest=DIGEST, name="pushing")]))

    bench.daemon.export = export
    await bench.build(request())

    assert ["pushing"] == [vertex.name for update in bench.display.updates for vertex in update.vertexes]


async def test_archive_is_received(bench: Bench, tmp_path: Path) -> None:
    """The session takes an exporter's archive by the exporter's place in the request."""
    path = tmp_path / "made.tar"

    async def export(build: Build) -> None:
        await _send(bench.daemon, build, 1, b"archive")
        assert not path.exists()

    bench.daemon.export = export
    await bench.build(request(exporters=(Push(reference="a"), OciArchive(path=path))))

    assert b"archive" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


# --- what daemons would ignore ---


@pytest.mark.parametrize("kind", ["zstd", "estargz"])
@pytest.mark.parametrize("exporter", [Push(reference="a"), OciArchive(path=Path("a")), DockerArchive(path=Path("a"))])
async def test_packing_that_a_daemon_does_not_know(kind: str, exporter: Any) -> None:
    """BuildKit before 0.10 refuses it only when all is built."""
    old = {name: True for name in LLB_CAPS if name not in ("exec.secretenv", "mergeop", "diffop")}
    asked = replace(exporter, compression=Compression(type=kind))
    async with bench_of(Daemon(llb_caps=old)) as bench:
        with pytest.raises(CapabilityError, match=rf"cannot pack layers as {kind} .*BuildKit 0\.10 or newer"):
            await bench.build(request(exporters=(asked,)))

        assert [] == bench.daemon.called(services.LLBBRIDGE_SOLVE)


async def test_times_of_files_that_a_daemon_would_leave() -> None:
    """BuildKit before 0.13 ignores that they are to be set."""
    async with bench_of(Daemon(gateway_caps={"gateway.evaluate": True})) as bench:
        with pytest.raises(CapabilityError, match=r"set the times of an image's files .*BuildKit 0\.13 or newer"):
            await bench.build(request(exporters=(Push(reference="a", rewrite_timestamps=True),)))


@pytest.mark.parametrize("level", ["index", "index-descriptor"])
async def test_an_annotation_of_an_index_that_is_not_there(bench: Bench, level: str) -> None:
    """An image for one platform has none, unless it is attested; it is told before anything is exported."""
    bench.daemon.llb_caps |= {"exporter.image.annotations": True, "exporter.image.attestations": True}
    push = Push(reference="a", annotations=(Annotation(key="org.example.a", value="1", level=level),))
    with pytest.raises(ConfigError, match=rf"`{level}:org\.example\.a` has no place"):
        await bench.build(request(exporters=(push,)))
    assert bench.returned.HasField("error")

    await bench.build(request(exporters=(push,), frontend_attributes={"attest:provenance": "mode=min"}))


async def test_an_annotation_of_an_index_that_is_there(bench: Bench) -> None:
    """Several platforms have one, of which some may have been in the registry before."""
    bench.daemon.llb_caps |= {"exporter.image.annotations": True}
    push = Push(reference="a", annotations=(Annotation(key="a.b", value="1", level="index"),))

    async def two(bridge: Bridge) -> Result:
        return Result(refs={"linux/amd64": Ref(id=""), "linux/arm64": Ref(id="")})

    assert DIGEST == (await bench.build(request(frontend=Calls(two), exporters=(push,)))).digest


# --- failures ---


async def test_failing_step(bench: Bench) -> None:
    """A step that fails is told with its log to the last line, and the daemon gets its own error back, once."""
    digest = next(d for d in llb.marshal(STEP, platform=PLATFORM).digests if _runs(d))
    bench.daemon.refuse(
        services.LLBBRIDGE_SOLVE, "process did not complete successfully", details=[vertex(digest), exit_message(3)]
    )

    async def export(build: Build) -> None:
        told = control_pb2.Vertex(digest=digest, name="make it")
        told.started.GetCurrentTime()
        log = control_pb2.VertexLog(vertex=digest, stream=2, msg=b"its last words\n")
        log.timestamp.GetCurrentTime()
        build.tell(control_pb2.StatusResponse(vertexes=[told], logs=[log]))

    bench.daemon.export = export
    with pytest.raises(StepFailedError) as caught:
        await bench.build(request())

    assert ("make it", 3, ("its last words",)) == (caught.value.step, caught.value.exit_code, caught.value.log_tail)
    assert 2 == len(bench.returned.error.details)
    assert all(found.ended.is_set() for found in bench.daemon.builds.values())
    assert [caught.value] == bench.display.ends


@pytest.mark.parametrize("named", [True, False])
async def test_a_failing_step_is_known_by_what_progress_says(bench: Bench, named: bool) -> None:
    """The daemon may name a step of another build that came to the same; that of an old Docker Engine names none."""
    stranger = f"sha256:{'5' * 64}"
    said = 'process "/bin/sh -c make" did not complete successfully: exit code: 3'
    details = [vertex(stranger), exit_message(3)] if named else []
    bench.daemon.refuse(services.LLBBRIDGE_SOLVE, f"failed: {said}", details=details)

    async def export(build: Build) -> None:
        told = control_pb2.Vertex(digest=stranger, name="make it elsewhere", error=said)
        told.started.GetCurrentTime()
        told.completed.GetCurrentTime()
        log = control_pb2.VertexLog(vertex=stranger, stream=2, msg=b"its last words\n")
        log.timestamp.GetCurrentTime()
        build.tell(control_pb2.StatusResponse(vertexes=[told], logs=[log]))

    bench.daemon.export = export
    with pytest.raises(StepFailedError) as caught:
        await bench.build(request())

    expected = ("make it elsewhere", "/bin/sh -c make", 3, ("its last words",))
    assert expected == (caught.value.step, caught.value.command, caught.value.exit_code, caught.value.log_tail)


async def test_frontend_of_ours_fails(bench: Bench) -> None:
    """An error of the frontend itself is raised as it is; the daemon hears of it without the secrets in it."""

    async def fail(bridge: Bridge) -> Result:
        await bridge.gateway.ping()
        raise ImageError("no such thing as s3cret")

    with pytest.raises(ImageError, match="s3cret"):
        await bench.build(request(frontend=Calls(fail)), redact=lambda text: text.replace("s3cret", "***"))

    assert "no such thing as ***" == bench.returned.error.message
    assert all(found.ended.is_set() for found in bench.daemon.builds.values())


async def test_bug_in_the_frontend(bench: Bench) -> None:
    """An error that nobody expected also ends the solve."""

    async def fail(bridge: Bridge) -> Result:
        await bridge.gateway.ping()
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError):
        await bench.build(request(frontend=Calls(fail)))

    assert "by zero" == bench.returned.error.message


async def test_refused_while_the_frontend_waits(bench: Bench) -> None:
    """A solve that the daemon refuses ends the frontend, and the daemon's reason is told."""
    bench.daemon.refuse(services.CONTROL_SOLVE, "granting entitlement network.host is not allowed")
    waiting = asyncio.Event()

    async def wait(bridge: Bridge) -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            waiting.set()
        raise AssertionError

    with pytest.raises(SolveError, match="entitlement network"):
        await bench.build(request(frontend=Calls(wait)))

    assert waiting.is_set()
    assert [] == bench.daemon.called(services.LLBBRIDGE_RETURN)


async def test_refused_while_it_is_pinged(bench: Bench) -> None:
    """A refused solve is told, although the frontend only ever heard that there is no such build."""
    bench.daemon.refuse(services.CONTROL_SOLVE, "unknown entitlement")

    with pytest.raises(SolveError, match="unknown entitlement"):
        await bench.build(request())


async def test_ended_without_a_result(bench: Bench) -> None:
    """A daemon that ends the solve before there was anything to build has not built anything."""
    bench.daemon.answer(services.CONTROL_SOLVE, control_pb2.SolveResponse())

    with pytest.raises(SolveError, match="ended the build"):
        await bench.build(request(frontend=Calls(_forever)))


async def test_failing_export(bench: Bench, tmp_path: Path) -> None:
    """An export that fails after the archive was written leaves none."""
    bench.daemon.export = _failing_after(bench.daemon, b"archive")
    with pytest.raises(BuildKitError, match="failed to push"):
        await bench.build(request(exporters=(TarArchive(path=tmp_path / "made.tar"), Push(reference="r.example/a:1"))))

    assert bench.returned.HasField("result")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("refused", ["return already called", "no such job"])
async def test_refused_return(bench: Bench, refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that the daemon does not take is handed over only once, and what it said is told."""
    monkeypatch.setattr(run, "_GRACE_SECONDS", 0.05)
    bench.daemon.refuse(services.LLBBRIDGE_RETURN, refused)

    with pytest.raises(SolveError, match=refused):
        await bench.build(request())

    assert bench.returned.HasField("result")


async def test_lost_daemon(bench: Bench, tmp_path: Path) -> None:
    """A daemon that goes away in mid-build is one clear error, and leaves nothing."""

    async def lose(bridge: Bridge) -> Result:
        await bridge.gateway.ping()
        await bench.daemon.lose()
        return await bridge.gateway.solve(llb.marshal(STEP, platform=PLATFORM))

    with pytest.raises(DaemonLostError):
        await bench.build(request(frontend=Calls(lose), exporters=(TarArchive(path=tmp_path / "made.tar"),)))

    assert [] == list(tmp_path.iterdir())


# --- endings ---


async def test_status_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status stream that does not end with the build is cut off."""
    monkeypatch.setattr(run, "_GRACE_SECONDS", 0.05)
    cut = asyncio.Event()

    class Talkative(Daemon):
        async def _status(self, request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                yield control_pb2.StatusResponse()
                await asyncio.Event().wait()
            finally:
                cut.set()

    async with bench_of(Talkative()) as bench:
        await bench.build(request())
        await cut.wait()

    assert [None] == bench.display.ends


@pytest.mark.parametrize(
    "phase", [services.LLBBRIDGE_PING, services.LLBBRIDGE_SOLVE, services.LLBBRIDGE_RETURN, "export"]
)
async def test_cancelled(bench: Bench, tmp_path: Path, phase: str) -> None:
    """In whichever phase a build is cancelled, the daemon's solve is too, and nothing is left of it here."""
    reached = asyncio.Event()

    async def hang(_: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    if phase == "export":
        bench.daemon.export = hang
    else:
        bench.daemon.answer(phase, hang)
    before = ours()
    asked = request(exporters=(TarArchive(path=tmp_path / "made.tar"),), attachables=(Secrets({}),))
    building = asyncio.ensure_future(bench.build(asked))
    await reached.wait()

    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    (found,) = bench.daemon.builds.values()
    await found.ended.wait()
    assert (phase in (services.LLBBRIDGE_RETURN, "export")) == bool(bench.daemon.called(services.LLBBRIDGE_RETURN))
    assert [asyncio.CancelledError] == [type(end) for end in bench.display.ends]
    assert [] == list(tmp_path.iterdir())
    assert before == ours()


async def test_builds_share_a_connection(bench: Bench) -> None:
    """Several builds at once each have their own ref and session."""
    await asyncio.gather(*(bench.build(request()) for _ in range(5)))

    solves = bench.daemon.called(services.CONTROL_SOLVE)
    assert (5, 5) == (len({solve.Ref for solve in solves}), len({solve.Session for solve in solves}))


# --- pieces ---


async def _forever(_: Bridge) -> Result:
    await asyncio.Event().wait()
    return Result(ref=Ref(id=""))


def _runs(digest: str) -> bool:
    definition = llb.marshal(STEP, platform=PLATFORM)
    return digest in definition.digests and definition.command(digest) is not None


def ours() -> set[asyncio.Task[Any]]:
    """The tasks that run code of the package."""
    folder = str(Path(run.__file__).parents[2])
    codes = {task: getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()}
    return {task for task, code in codes.items() if code is not None and code.co_filename.startswith(folder)}


async def _send(daemon: Daemon, build: Build, index: int, data: bytes) -> None:
    """Sends an archive to the build's session."""
    channel: Any = await daemon.until_session(build.request.Session)
    call = channel.stream_stream(
        services.FILESEND_DIFF_COPY, request_serializer=filesync_pb2.BytesMessage.SerializeToString
    )(metadata=(("buildkit-attachable-exporter-id", str(index)),))
    await call.write(filesync_pb2.BytesMessage(data=data))
    await call.done_writing()
    assert grpc.StatusCode.OK is await call.code()


def _failing_after(daemon: Daemon, data: bytes) -> Callable[[Build], Awaitable[None]]:
    """An export that sends an archive, and then fails to push."""

    async def export(build: Build) -> None:
        await _send(daemon, build, 0, data)
        status = rpcstatus_pb2.Status(code=2, message="failed to push r.example/a:1: 500 Internal Server Error")
        build.returned.result().error.CopyFrom(status)

    return export
