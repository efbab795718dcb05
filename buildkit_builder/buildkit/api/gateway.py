"""The frontend's side of a build: what may be asked of the daemon while its `Control.Solve` waits for a result.

Every call names its build in metadata. Protocol: buildkit `frontend/gateway`, `client/build.go`. Failures leave here as
`grpc.aio.AioRpcError`; `failures.translate` says what they mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import grpc
import grpc.aio

from buildkit_builder.buildkit.api.control import Worker, no_such_job
from buildkit_builder.buildkit.api.results import Ref, Result, result_from_wire, result_to_wire
from buildkit_builder.buildkit.llb import Capabilities, Platform
from buildkit_builder.buildkit.wire import (
    caps_pb2,
    control_pb2,
    gateway_pb2,
    ops_pb2,
    rpcstatus_pb2,
    services,
    sourcepolicy_pb2,
)
from buildkit_builder.errors import SolveError

if TYPE_CHECKING:
    from buildkit_builder.buildkit.llb import Definition
    from buildkit_builder.buildkit.wire import fsutil_pb2

BUILD_ID_HEADER = "buildkit-controlapi-buildid"

CAP_META_RESOLVER = "source.metaresolver"
CAP_EVALUATE = "gateway.evaluate"

ResolveMode = Literal["default", "pull", "local"]

_PING_PAUSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """What the daemon says it can do.

    Attributes:
        llb: Features of graphs.
        frontend: Features of the gateway.
        workers: Its workers, the default one first.
    """

    llb: Capabilities
    frontend: Capabilities
    workers: tuple[Worker, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedImage:
    """An image reference made certain.

    Attributes:
        ref: The reference, perhaps rewritten by a source policy.
        digest: Of what the reference names: the index, for a multi-platform image.
        config: The OCI image config (JSON) for the platform that was asked for.
    """

    ref: str
    digest: str
    config: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OciStore:
    """A content store that the session offers.

    Attributes:
        id: Its id in the session.
        session: The session's id.
    """

    id: str
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """A file inside a result.

    Attributes:
        path: Relative to the folder that was listed.
        mode: Go's file mode, not `st_mode`: folders have bit 31, symlinks bit 27.
        size: Bytes.
        uid: Owner.
        gid: Group.
        modified: Nanoseconds since 1970.
        link: A symlink's text, or the empty string.
    """

    path: str
    mode: int
    size: int = 0
    uid: int = 0
    gid: int = 0
    modified: int = 0
    link: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return bool(self.mode & 1 << 31)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return bool(self.mode & 1 << 27)


class Gateway:
    """The bridge of one build. `ping` first: the other calls fail until the daemon has registered the build.

    Args:
        channel: The channel that carries the build's `Control.Solve`.
        ref: The `Ref` of that solve request.
    """

    def __init__(self, channel: grpc.aio.Channel, ref: str) -> None:
        self._channel = channel
        # Exactly once: a repeated header counts as none.
        self._metadata = ((BUILD_ID_HEADER, ref),)
        self._frontend_caps: Mapping[str, bool] = {}
        self._solved: dict[str, gateway_pb2.SolveRequest] = {}

    async def ping(self, *, closed: asyncio.Future[Any] | None = None, patience: float = 30.0) -> Pong:
        """Wait until the daemon has registered the build, and learn what it can do.

        Args:
            closed: The `Control.Solve` that this gateway belongs to; once it is done there is nothing to wait for.
            patience: Seconds after which a build that is still not registered is an error.

        Raises:
            grpc.aio.AioRpcError: The daemon refused, or never registered the build.
            SolveError: `Control.Solve` ended first, without an error of its own; that one is raised otherwise.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience
        while True:
            try:
                return self._pong(await self._ping_once(closed))
            except grpc.aio.AioRpcError as error:
                if not no_such_job(error) or loop.time() > give_up:
                    raise
            await asyncio.sleep(_PING_PAUSE)

    async def resolve_image(
        self,
        ref: str,
        platform: Platform | None,
        *,
        mode: ResolveMode = "default",
        log_name: str = "",
        store: OciStore | None = None,
    ) -> ResolvedImage:
        """Find an image's digest and its config for one platform.

        Args:
            ref: Fully qualified, for example `docker.io/library/python:3.12`; with a digest for a store.
            platform: Which of the image's platforms; `None` for the daemon's own.
            mode: Whether the daemon may use an image that it has already.
            log_name: What progress shows for this.
            store: Where the image is, if in a content store of the session and not in a registry.

        Raises:
            grpc.aio.AioRpcError: There is no such image, or its registry refused.
        """
        wire_platform = platform.to_wire() if platform is not None else None
        if not self._frontend_caps.get(CAP_META_RESOLVER):
            old = gateway_pb2.ResolveImageConfigRequest(
                Ref=ref,
                Platform=wire_platform,
                ResolveMode=mode,
                LogName=log_name,
                ResolverType=1 if store else 0,
                SessionID=store.session if store else "",
                StoreID=store.id if store else "",
            )
            config: gateway_pb2.ResolveImageConfigResponse = await self._call(
                services.LLBBRIDGE_RESOLVE_IMAGE_CONFIG, gateway_pb2.ResolveImageConfigResponse, old
            )
            return ResolvedImage(ref=config.Ref or ref, digest=config.Digest, config=config.Config)
        scheme = "oci-layout" if store else "docker-image"
        source = ops_pb2.SourceOp(identifier=f"{scheme}://{ref}")
        if store:
            source.attrs.update({"oci.store": store.id, "oci.session": store.session})
        request = gateway_pb2.ResolveSourceMetaRequest(
            Source=source,
            Platform=wire_platform,
            LogName=log_name,
            ResolveMode=mode,
            Image=gateway_pb2.ResolveSourceImageRequest(),
        )
        meta: gateway_pb2.ResolveSourceMetaResponse = await self._call(
            services.LLBBRIDGE_RESOLVE_SOURCE_META, gateway_pb2.ResolveSourceMetaResponse, request
        )
        found = meta.Source.identifier.partition("://")[2] or ref
        return ResolvedImage(ref=found, digest=meta.Image.Digest, config=meta.Image.Config)

    async def solve(
        self,
        definition: Definition | None = None,
        *,
        frontend: str = "",
        frontend_opts: Mapping[str, str] | None = None,
        frontend_inputs: Mapping[str, Definition] | None = None,
        evaluate: bool = False,
        cache_imports: Iterable[tuple[str, Mapping[str, str]]] = (),
        source_policies: Sequence[sourcepolicy_pb2.Policy] = (),
    ) -> Result:
        """Hand the daemon a graph, or a frontend to make one; what it gives is not run until somebody needs it.

        Args:
            definition: The graph; `None` with a frontend.
            frontend: The daemon's name for a frontend, for example `dockerfile.v0`.
            frontend_opts: Its options.
            frontend_inputs: Graphs it may use by name.
            evaluate: Run it now.
            cache_imports: Cache sources, each a type and its attributes.
            source_policies: Rules that rewrite or deny sources.

        Raises:
            grpc.aio.AioRpcError: The graph was refused or, with `evaluate`, failed.
        """
        inputs = frontend_inputs or {}
        request = gateway_pb2.SolveRequest(
            Frontend=frontend,
            FrontendOpt=dict(frontend_opts or {}),
            FrontendInputs={name: graph.to_wire() for name, graph in inputs.items()},
            allowResultReturn=True,
            allowResultArrayRef=True,
            Evaluate=evaluate,
            CacheImports=[control_pb2.CacheOptionsEntry(Type=kind, Attrs=dict(attrs)) for kind, attrs in cache_imports],
            SourcePolicies=source_policies,
        )
        if definition is not None:
            request.Definition.CopyFrom(definition.to_wire())
        response: gateway_pb2.SolveResponse = await self._call(
            services.LLBBRIDGE_SOLVE, gateway_pb2.SolveResponse, request
        )
        result = result_from_wire(response.result) if response.HasField("result") else Result(ref=Ref(id=response.ref))
        self._keep(request, result)
        return result

    def _keep(self, request: gateway_pb2.SolveRequest, result: Result) -> None:
        """Keep what a result was made from, where running it takes a request of its own."""
        if self._frontend_caps.get(CAP_EVALUATE):
            return
        for ref in (result.ref, *result.refs.values()):
            graph = ref.graph.to_wire() if ref and ref.graph else request.Definition
            if ref and ref.id and getattr(graph, "def"):
                again = gateway_pb2.SolveRequest(
                    Definition=graph, allowResultReturn=True, allowResultArrayRef=True, Evaluate=True,
                    CacheImports=request.CacheImports, SourcePolicies=request.SourcePolicies,
                )  # fmt: skip
                self._solved[ref.id] = again

    async def evaluate(self, ref_id: str) -> None:
        """Run what a ref stands for; scratch needs no running.

        Raises:
            grpc.aio.AioRpcError: A step of it failed.
        """
        if not ref_id:
            return
        if self._frontend_caps.get(CAP_EVALUATE):
            request = gateway_pb2.EvaluateRequest(Ref=ref_id)
            await self._call(services.LLBBRIDGE_EVALUATE, gateway_pb2.EvaluateResponse, request)
        elif ref_id in self._solved:
            # Looking at a file would have it run as well, as Go's client does it; but before 0.11 a daemon ends where
            # the result has no file at all, as of an image without layers.
            await self._call(services.LLBBRIDGE_SOLVE, gateway_pb2.SolveResponse, self._solved[ref_id])
        else:
            await self.stat_file(ref_id, ".")

    async def read_file(self, ref_id: str, path: str, *, offset: int = 0, length: int = 0) -> bytes:
        """Read a file of a result.

        Args:
            ref_id: The result's id.
            path: Absolute, inside it.
            offset: First byte.
            length: How many bytes; 0 for all.

        Raises:
            grpc.aio.AioRpcError: There is no such file, or making the result failed.
        """
        request = gateway_pb2.ReadFileRequest(Ref=ref_id, FilePath=path)
        if offset or length:
            request.Range.CopyFrom(gateway_pb2.FileRange(Offset=offset, Length=length))
        response: gateway_pb2.ReadFileResponse = await self._call(
            services.LLBBRIDGE_READ_FILE, gateway_pb2.ReadFileResponse, request
        )
        return response.Data

    async def read_dir(self, ref_id: str, path: str, *, include: str = "") -> tuple[FileStat, ...]:
        """List a folder of a result.

        Args:
            ref_id: The result's id.
            path: Absolute, inside it.
            include: A pattern that names must match; empty for all.

        Raises:
            grpc.aio.AioRpcError: There is no such folder, or making the result failed.
        """
        request = gateway_pb2.ReadDirRequest(Ref=ref_id, DirPath=path, IncludePattern=include)
        response: gateway_pb2.ReadDirResponse = await self._call(
            services.LLBBRIDGE_READ_DIR, gateway_pb2.ReadDirResponse, request
        )
        return tuple(_stat(entry) for entry in response.entries)

    async def stat_file(self, ref_id: str, path: str) -> FileStat:
        """Look at one file of a result.

        Raises:
            grpc.aio.AioRpcError: There is no such file, or making the result failed.
        """
        request = gateway_pb2.StatFileRequest(Ref=ref_id, Path=path)
        response: gateway_pb2.StatFileResponse = await self._call(
            services.LLBBRIDGE_STAT_FILE, gateway_pb2.StatFileResponse, request
        )
        return _stat(response.stat)

    async def return_result(self, result: Result) -> None:
        """End the build with a result, which `Control.Solve` then exports.

        Raises:
            grpc.aio.AioRpcError: The build has ended already.
        """
        request = gateway_pb2.ReturnRequest(result=result_to_wire(result))
        await self._call(services.LLBBRIDGE_RETURN, gateway_pb2.ReturnResponse, request)

    async def return_error(self, status: bytes) -> None:
        """End the build with an error, which `Control.Solve` then raises.

        Args:
            status: A serialized `google.rpc.Status`: `failures.status_of` an error of the daemon, or
                `failures.status_for` a message of one's own.

        Raises:
            grpc.aio.AioRpcError: The build has ended already.
        """
        request = gateway_pb2.ReturnRequest(error=rpcstatus_pb2.Status.FromString(status))
        await self._call(services.LLBBRIDGE_RETURN, gateway_pb2.ReturnResponse, request)

    async def warn(self, digest: str, short: str, *, level: int = 1, detail: Sequence[str] = (), url: str = "") -> None:
        """Attach a warning to a vertex; daemons from 0.10 show it to everybody who follows the build.

        Raises:
            grpc.aio.AioRpcError: The daemon refused.
        """
        request = gateway_pb2.WarnRequest(
            digest=digest, level=level, short=short.encode(), detail=[line.encode() for line in detail], url=url
        )
        await self._call(services.LLBBRIDGE_WARN, gateway_pb2.WarnResponse, request)

    async def _ping_once(self, closed: asyncio.Future[Any] | None) -> gateway_pb2.PongResponse:
        call = asyncio.ensure_future(
            self._call(services.LLBBRIDGE_PING, gateway_pb2.PongResponse, gateway_pb2.PingRequest())
        )
        try:
            waited: set[asyncio.Future[Any]] = {call} if closed is None else {call, closed}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if closed is not None and closed.done() and not call.done():
                closed.result()
                raise SolveError("The daemon ended the build before it had asked for its graph.")
            response: gateway_pb2.PongResponse = await call
            return response
        finally:
            call.cancel()

    def _pong(self, response: gateway_pb2.PongResponse) -> Pong:
        self._frontend_caps = {cap.ID: cap.Enabled for cap in response.FrontendAPICaps}
        return Pong(
            llb=_capabilities(response.LLBCaps),
            frontend=_capabilities(response.FrontendAPICaps),
            workers=tuple(Worker.from_wire(record) for record in response.Workers),
        )

    async def _call(self, method: str, response: Any, request: Any) -> Any:
        call: Any = self._channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return await call(request, metadata=self._metadata)


def _capabilities(caps: Iterable[caps_pb2.APICap]) -> Capabilities:
    found = tuple(caps)
    return Capabilities(
        enabled={cap.ID: cap.Enabled for cap in found},
        reasons={cap.ID: cap.DisabledReasonMsg or cap.DisabledReason for cap in found if not cap.Enabled},
    )


def _stat(stat: fsutil_pb2.Stat) -> FileStat:
    return FileStat(
        path=stat.path,
        mode=stat.mode,
        size=stat.size,
        uid=stat.uid,
        gid=stat.gid,
        modified=stat.modTime,
        link=stat.linkname,
    )
