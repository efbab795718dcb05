"""A BuildKit in this process, for what a real one cannot be made to do on demand.

It serves Control and LLBBridge over a unix socket, keeps every call, and answers as a healthy daemon would. A test says
what is to be different: `refuse` and `answer` queue replies for the next calls of a method, `lose` ends the daemon in
mid-call, `Build.tell` sends progress. Sessions that attach become channels in `sessions`, so a test can call back.

```python
async with FakeBuildKit() as fake:
    fake.refuse(services.LLBBRIDGE_SOLVE, "exit code: 1", details=[vertex(digest), exit_message(1)])
```

Of a message that some BuildKit would end of, it ends as well (`panics`), and the test fails, whoever caught the loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from buildkit_builder.buildkit.wire import (
    caps_pb2,
    control_pb2,
    fsutil_pb2,
    gateway_pb2,
    ops_pb2,
    rpcstatus_pb2,
    services,
    worker_pb2,
)
from tests.fakes.panics import panics_of

BUILD_ID = "buildkit-controlapi-buildid"
SESSION_ID = "x-docker-expose-session-uuid"
SNAPSHOTTER = "org.mobyproject.buildkit.worker.snapshotter"

LLB_CAPS = (
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.excludepatterns",
    "source.local.followpaths",
    "source.local.sharedkeyhint",
    "source.git",
    "source.http",
    "source.policy",
    "exec.meta.base",
    "exec.meta.proxyenv",
    "exec.meta.network",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.mount.bind",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.secret",
    "exec.mount.tmpfs",
    "exec.secretenv",
    "file.base",
    "mergeop",
    "diffop",
)
GATEWAY_CAPS = ("gateway.evaluate", "gateway.solve.evaluate", "gateway.warnings", "source.metaresolver")

UNARY: Mapping[str, Any] = {
    services.CONTROL_INFO: control_pb2.InfoRequest,
    services.CONTROL_LIST_WORKERS: control_pb2.ListWorkersRequest,
    services.CONTROL_SOLVE: control_pb2.SolveRequest,
    services.CONTROL_DISK_USAGE: control_pb2.DiskUsageRequest,
    services.CONTROL_UPDATE_BUILD_HISTORY: control_pb2.UpdateBuildHistoryRequest,
    services.LLBBRIDGE_PING: gateway_pb2.PingRequest,
    services.LLBBRIDGE_RESOLVE_IMAGE_CONFIG: gateway_pb2.ResolveImageConfigRequest,
    services.LLBBRIDGE_RESOLVE_SOURCE_META: gateway_pb2.ResolveSourceMetaRequest,
    services.LLBBRIDGE_SOLVE: gateway_pb2.SolveRequest,
    services.LLBBRIDGE_READ_FILE: gateway_pb2.ReadFileRequest,
    services.LLBBRIDGE_READ_DIR: gateway_pb2.ReadDirRequest,
    services.LLBBRIDGE_STAT_FILE: gateway_pb2.StatFileRequest,
    services.LLBBRIDGE_EVALUATE: gateway_pb2.EvaluateRequest,
    services.LLBBRIDGE_RETURN: gateway_pb2.ReturnRequest,
    services.LLBBRIDGE_WARN: gateway_pb2.WarnRequest,
}
STREAMS: Mapping[str, Any] = {
    services.CONTROL_STATUS: control_pb2.StatusRequest,
    services.CONTROL_PRUNE: control_pb2.PruneRequest,
    services.CONTROL_LISTEN_BUILD_HISTORY: control_pb2.BuildHistoryRequest,
}

# What grpcio's stubs cannot say of servicer contexts and handlers.
Context = Any
Message = Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived."""

    method: str
    request: Message
    metadata: tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error to answer with; `details` are pairs of a type URL's end and its JSON."""

    message: str
    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    details: Sequence[tuple[str, Mapping[str, Any]]] = ()

    def status(self) -> rpcstatus_pb2.Status:
        number: int = self.code.value[0]
        status = rpcstatus_pb2.Status(code=number, message=self.message)
        for kind, value in self.details:
            found = status.details.add()
            found.type_url = f"github.com/moby/buildkit/{kind}"
            found.value = json.dumps(value).encode()
        return status

    async def raise_in(self, context: Context) -> None:
        await abort(context, self.status())


Reply = Message | Refusal | Callable[[Message], Awaitable[Message | Refusal]]


def vertex(digest: str) -> tuple[str, Mapping[str, Any]]:
    """The detail that names the vertex that failed."""
    return "errdefs.Vertex+json", {"digest": digest}


def exit_message(code: int) -> tuple[str, Mapping[str, Any]]:
    """The detail that holds a command's exit code."""
    return "gatewayapi.ExitMessage+json", {"Code": code}


def source(filename: str, line: int) -> tuple[str, Mapping[str, Any]]:
    """The detail that points into a frontend's file."""
    return "errdefs.Source+json", {
        "info": {"filename": filename, "data": ""},
        "ranges": [{"start": {"line": line}, "end": {"line": line}}],
    }


async def abort(context: Context, status: rpcstatus_pb2.Status) -> None:
    """End a call as BuildKit does: the code, and everything else in the trailer."""
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    await context.abort(code, status.message, (("grpc-status-details-bin", status.SerializeToString()),))


@dataclass(slots=True)
class Build:
    """One `Control.Solve` and what belongs to it."""

    ref: str
    request: control_pb2.SolveRequest
    returned: asyncio.Future[gateway_pb2.ReturnRequest]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False
    solved: dict[str, gateway_pb2.SolveRequest] = field(default_factory=dict)
    updates: asyncio.Queue[control_pb2.StatusResponse | None] = field(default_factory=asyncio.Queue)

    def tell(self, update: control_pb2.StatusResponse) -> None:
        """Send progress to whoever follows this build."""
        self.updates.put_nowait(update)


class FakeBuildKit:
    """The daemon. Enter it to serve.

    Attributes:
        path: Its socket.
        calls: Everything that was called, in order of arrival.
        builds: Builds by ref, ended ones included.
        sessions: Channels to attached sessions, by session id.
        session_metadata: The headers they came with, by session id.
        images: What resolving finds: digest and config by reference.
        files: What results hold: content by absolute path, whatever the ref.
        exporter_response: What a build that succeeds answers.
        prunes: What is on its disk.
        history: What it remembers of builds.
        panics: Of what it has ended; a test that wants it to empties this.
    """

    def __init__(
        self,
        *,
        version: str = "v0.25.2",
        llb_caps: Mapping[str, bool] | None = None,
        gateway_caps: Mapping[str, bool] | None = None,
        platforms: Sequence[tuple[str, str]] = (("linux", "amd64"),),
        labels: Mapping[str, str] | None = None,
        unimplemented: Sequence[str] = (),
    ) -> None:
        self.version = version
        self.llb_caps = dict.fromkeys(LLB_CAPS, True) if llb_caps is None else dict(llb_caps)
        self.gateway_caps = dict.fromkeys(GATEWAY_CAPS, True) if gateway_caps is None else dict(gateway_caps)
        self.platforms = tuple(platforms)
        self.labels = {SNAPSHOTTER: "overlayfs"} if labels is None else dict(labels)
        self.calls: list[Call] = []
        self.builds: dict[str, Build] = {}
        self.sessions: dict[str, grpc.aio.Channel] = {}
        self.session_metadata: dict[str, tuple[tuple[str, str | bytes], ...]] = {}
        self.images: dict[str, tuple[str, bytes]] = {}
        self.files: dict[str, bytes] = {}
        self.exporter_response: dict[str, str] = {"containerimage.digest": f"sha256:{'0' * 64}"}
        self.prunes: list[control_pb2.UsageRecord] = []
        self.history: list[control_pb2.BuildHistoryEvent] = []
        self.panics: list[str] = []
        self._unimplemented = frozenset(unimplemented)
        self._replies: dict[str, deque[Reply]] = defaultdict(deque)
        self._refs = itertools.count(1)
        self._changed = asyncio.Condition()
        self._folder = tempfile.mkdtemp(prefix="fake-")
        self.path = os.path.join(self._folder, "buildkitd.sock")
        self._server: grpc.aio.Server | None = None
        self._ending: asyncio.Future[None] | None = None
        self._session_ends: list[asyncio.Future[None]] = []

    @property
    def address(self) -> str:
        """Its address, as the `endpoint` setting would say it."""
        return f"unix://{self.path}"

    # What tests say

    def answer(self, method: str, *replies: Reply) -> None:
        """Queue replies for the next calls of a method; then it answers as usual again."""
        self._replies[method].extend(replies)

    def refuse(
        self,
        method: str,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        details: Sequence[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        """Queue an error for the next call of a method."""
        self.answer(method, Refusal(message, code, details))

    def called(self, method: str) -> list[Any]:
        """The requests of a method so far."""
        return [call.request for call in self.calls if call.method == method]

    async def until_called(self, method: str, times: int = 1) -> None:
        """Wait for calls of a method to arrive."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.called(method)) >= times)

    async def until_build(self, ref: str) -> Build:
        """Wait for a build to be registered."""
        async with self._changed:
            await self._changed.wait_for(lambda: ref in self.builds)
        return self.builds[ref]

    async def lose(self) -> None:
        """End at once, as a daemon that is killed."""
        server = self._server
        if server is None:
            return
        # A server whose end is cancelled halfway never ends, and who asks for it in mid-build is cancelled.
        self._ending = self._ending or asyncio.ensure_future(server.stop(None))
        await asyncio.shield(self._ending)
        if self._server is server:
            self._server = self._ending = None

    # Serving

    async def __aenter__(self) -> FakeBuildKit:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for channel in self.sessions.values():
            await channel.close(None)
        await self.lose()
        await asyncio.gather(*self._session_ends)
        shutil.rmtree(self._folder)
        assert not self.panics, f"a real daemon would have ended: {self.panics}"

    async def start(self) -> None:
        """Serve, also again after `lose`."""
        size = 16 * 1024 * 1024
        options = (
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_metadata_size", size),
            ("grpc.absolute_max_metadata_size", size),
        )
        server = grpc.aio.server(options=options)
        handlers: dict[str, dict[str, Any]] = defaultdict(dict)
        for method, request in UNARY.items():
            handlers[service_of(method)][name_of(method)] = grpc.unary_unary_rpc_method_handler(
                self._unary(method), request_deserializer=request.FromString, response_serializer=serialize
            )
        for method, request in STREAMS.items():
            handlers[service_of(method)][name_of(method)] = grpc.unary_stream_rpc_method_handler(
                self._stream(method), request_deserializer=request.FromString, response_serializer=serialize
            )
        handlers[services.CONTROL]["Session"] = grpc.stream_stream_rpc_method_handler(
            self._session, request_deserializer=control_pb2.BytesMessage.FromString, response_serializer=serialize
        )
        for method in self._unimplemented:
            del handlers[service_of(method)][name_of(method)]
        for service, found in handlers.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, found),))
        server.add_insecure_port(f"unix:{self.path}")
        await server.start()
        self._server = server

    def _unary(self, method: str) -> Callable[[Message, Context], Awaitable[Message]]:
        usual = getattr(self, f"_{service_of(method).rpartition('.')[2]}_{name_of(method)}".lower())

        async def handle(request: Message, context: Context) -> Message:
            await self._record(method, request, context)
            if method.startswith(f"/{services.LLBBRIDGE}/"):
                await self._build_of(context)
            if self._replies[method]:
                reply = self._replies[method].popleft()
                if callable(reply):
                    reply = await reply(request)
                if isinstance(reply, Refusal):
                    await reply.raise_in(context)
                return reply
            return await usual(request, context)

        return handle

    def _stream(self, method: str) -> Callable[[Message, Context], AsyncIterator[Message]]:
        usuals: dict[str, Callable[[Any, Context], AsyncIterator[Message]]] = {
            services.CONTROL_STATUS: self._status,
            services.CONTROL_PRUNE: self._prune,
            services.CONTROL_LISTEN_BUILD_HISTORY: self._listen_history,
        }
        usual = usuals[method]

        async def handle(request: Message, context: Context) -> AsyncIterator[Message]:
            await self._record(method, request, context)
            if self._replies[method]:
                reply = self._replies[method].popleft()
                if isinstance(reply, Refusal):
                    await reply.raise_in(context)
                yield reply
                return
            async for message in usual(request, context):
                yield message

        return handle

    async def _record(self, method: str, request: Message, context: Context) -> None:
        metadata = tuple((key, value) for key, value in context.invocation_metadata())
        async with self._changed:
            self.calls.append(Call(method, request, metadata))
            self._changed.notify_all()
        if panics := panics_of(method, request):
            self.panics += panics
            await self.lose()

    async def _build_of(self, context: Context) -> Build:
        ids = [value for key, value in context.invocation_metadata() if key == BUILD_ID]
        if len(ids) != 1:
            await context.abort(grpc.StatusCode.UNKNOWN, "no buildid found in context")
        build = self.builds.get(ids[0])
        if build is None or build.ended.is_set():
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no such job {ids[0]}")
        assert build is not None
        return build

    # Control

    async def _control_info(self, request: Message, context: Context) -> Message:
        version = worker_pb2.BuildkitVersion(package="github.com/moby/buildkit", version=self.version, revision="fake")
        return control_pb2.InfoResponse(buildkitVersion=version)

    async def _control_listworkers(self, request: Message, context: Context) -> Message:
        return control_pb2.ListWorkersResponse(record=[self._worker()])

    async def _control_diskusage(self, request: Message, context: Context) -> Message:
        return control_pb2.DiskUsageResponse(record=self.prunes)

    async def _control_updatebuildhistory(self, request: Message, context: Context) -> Message:
        return control_pb2.UpdateBuildHistoryResponse()

    async def _control_solve(self, request: control_pb2.SolveRequest, context: Context) -> Message:
        build = Build(request.Ref, request, asyncio.get_running_loop().create_future())
        async with self._changed:
            self.builds[request.Ref] = build
            self._changed.notify_all()
        try:
            if not request.HasField("Definition") and not request.Frontend:
                returned = await build.returned
                if returned.HasField("error"):
                    await abort(context, returned.error)
            return control_pb2.SolveResponse(ExporterResponse=self.exporter_response)
        except asyncio.CancelledError:
            build.cancelled = True
            raise
        finally:
            build.ended.set()
            build.updates.put_nowait(None)

    async def _status(self, request: control_pb2.StatusRequest, context: Context) -> AsyncIterator[Message]:
        build = self.builds.get(request.Ref)
        if build is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no such job {request.Ref}")
        assert build is not None
        while (update := await build.updates.get()) is not None:
            yield update

    async def _prune(self, request: control_pb2.PruneRequest, context: Context) -> AsyncIterator[Message]:
        for record in self.prunes:
            yield record

    async def _listen_history(self, request: Message, context: Context) -> AsyncIterator[Message]:
        for event in self.history:
            yield event

    async def _session(self, requests: AsyncIterator[control_pb2.BytesMessage], context: Context) -> Any:
        metadata = tuple((key, value) for key, value in context.invocation_metadata())
        name = str(dict(metadata)[SESSION_ID])
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        path = os.path.join(self._folder, f"session-{len(self._session_ends)}")
        self._session_ends.append(ended)
        accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = loop.create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if accepted.done():
                writer.transport.abort()
            else:
                accepted.set_result((reader, writer))

        server = await asyncio.start_unix_server(connected, path)
        inward: asyncio.Future[None] | None = None
        # A session may be gone again at any moment of this.
        try:
            channel = grpc.aio.insecure_channel(f"unix:{path}", options=(("grpc.max_receive_message_length", -1),))
            channel.get_state(try_to_connect=True)
            async with self._changed:
                self.session_metadata[name] = metadata
                self.sessions[name] = channel
                self._changed.notify_all()
            reader, writer = await asyncio.shield(accepted)
            # The channel connects again when this connection ends, to nobody.
            server.close()
            inward = asyncio.ensure_future(_pour(requests, writer))
            while data := await reader.read(32 * 1024):
                yield control_pb2.BytesMessage(data=data)
        finally:
            # In a task of its own: this generator may be ended in the middle of it as well.
            closing = asyncio.ensure_future(_close(server, accepted, inward))
            closing.add_done_callback(lambda _: ended.set_result(None))
            await asyncio.shield(closing)

    async def until_session(self, name: str) -> grpc.aio.Channel:
        """Wait for a session to attach."""
        async with self._changed:
            await self._changed.wait_for(lambda: name in self.sessions)
        return self.sessions[name]

    # LLBBridge

    async def _llbbridge_ping(self, request: Message, context: Context) -> Message:
        return gateway_pb2.PongResponse(
            FrontendAPICaps=[caps_pb2.APICap(ID=name, Enabled=on) for name, on in self.gateway_caps.items()],
            LLBCaps=[caps_pb2.APICap(ID=name, Enabled=on) for name, on in self.llb_caps.items()],
            Workers=[self._worker()],
        )

    async def _llbbridge_resolveimageconfig(self, request: Message, context: Context) -> Message:
        digest, config = await self._image(request.Ref, context)
        return gateway_pb2.ResolveImageConfigResponse(Digest=digest, Config=config, Ref=request.Ref)

    async def _llbbridge_resolvesourcemeta(self, request: Message, context: Context) -> Message:
        digest, config = await self._image(request.Source.identifier.partition("://")[2], context)
        image = gateway_pb2.ResolveSourceImageResponse(Digest=digest, Config=config)
        return gateway_pb2.ResolveSourceMetaResponse(Source=request.Source, Image=image)

    async def _image(self, ref: str, context: Context) -> tuple[str, bytes]:
        if ref not in self.images:
            message = f"failed to resolve source metadata for {ref}: {ref}: not found"
            await Refusal(message, grpc.StatusCode.NOT_FOUND).raise_in(context)
        return self.images[ref]

    async def _llbbridge_solve(self, request: gateway_pb2.SolveRequest, context: Context) -> Message:
        build = await self._build_of(context)
        if not getattr(request.Definition, "def") and not request.Frontend:
            return gateway_pb2.SolveResponse(result=gateway_pb2.Result(ref=gateway_pb2.Ref()))
        ref = f"ref-{next(self._refs)}"
        build.solved[ref] = request
        return gateway_pb2.SolveResponse(result=gateway_pb2.Result(ref=gateway_pb2.Ref(id=ref)))

    async def _llbbridge_readfile(self, request: gateway_pb2.ReadFileRequest, context: Context) -> Message:
        data = await self._file(request.FilePath, context)
        start, length = request.Range.Offset, request.Range.Length
        return gateway_pb2.ReadFileResponse(Data=data[start : start + length] if length else data[start:])

    async def _llbbridge_readdir(self, request: gateway_pb2.ReadDirRequest, context: Context) -> Message:
        folder = request.DirPath.rstrip("/") + "/"
        names = sorted(path.removeprefix(folder) for path in self.files if path.startswith(folder))
        entries = [fsutil_pb2.Stat(path=name, mode=0o644, size=len(self.files[folder + name])) for name in names]
        return gateway_pb2.ReadDirResponse(entries=entries)

    async def _llbbridge_statfile(self, request: gateway_pb2.StatFileRequest, context: Context) -> Message:
        if request.Path == ".":
            return gateway_pb2.StatFileResponse(stat=fsutil_pb2.Stat(path=".", mode=1 << 31 | 0o755))
        data = await self._file(request.Path, context)
        stat = fsutil_pb2.Stat(path=os.path.basename(request.Path), mode=0o644, size=len(data))
        return gateway_pb2.StatFileResponse(stat=stat)

    async def _file(self, path: str, context: Context) -> bytes:
        if path not in self.files:
            await Refusal(f"open {path}: no such file or directory").raise_in(context)
        return self.files[path]

    async def _llbbridge_evaluate(self, request: Message, context: Context) -> Message:
        return gateway_pb2.EvaluateResponse()

    async def _llbbridge_return(self, request: gateway_pb2.ReturnRequest, context: Context) -> Message:
        build = await self._build_of(context)
        if build.returned.done():
            await context.abort(grpc.StatusCode.UNKNOWN, "return already called")
        build.returned.set_result(request)
        return gateway_pb2.ReturnResponse()

    async def _llbbridge_warn(self, request: Message, context: Context) -> Message:
        return gateway_pb2.WarnResponse()

    def _worker(self) -> worker_pb2.WorkerRecord:
        platforms = [ops_pb2.Platform(OS=os_, Architecture=architecture) for os_, architecture in self.platforms]
        version = worker_pb2.BuildkitVersion(version=self.version)
        return worker_pb2.WorkerRecord(ID="worker", Labels=self.labels, platforms=platforms, BuildkitVersion=version)


async def _close(
    server: asyncio.Server,
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    inward: asyncio.Future[None] | None,
) -> None:
    if inward is not None:
        inward.cancel()
        await asyncio.gather(inward, return_exceptions=True)
    # The connection may be on its way, and would be left open.
    _, writer = await accepted
    server.close()
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _pour(messages: AsyncIterator[control_pb2.BytesMessage], writer: asyncio.StreamWriter) -> None:
    async for message in messages:
        writer.write(message.data)
        await writer.drain()
    writer.write_eof()


def service_of(method: str) -> str:
    """The service in a method's path."""
    return method.split("/")[1]


def name_of(method: str) -> str:
    """The method's own name in its path."""
    return method.split("/")[2]


def serialize(message: Message) -> bytes:
    """The bytes of a message."""
    data: bytes = message.SerializeToString()
    return data
