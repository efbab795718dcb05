"""The daemon's control service: builds, their progress, workers and disk.

Protocol: buildkit `api/services/control`. Failures leave here as `grpc.aio.AioRpcError`; `failures.translate` says what
they mean, once it is known what was being done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio

from buildkit_builder.buildkit.api import events
from buildkit_builder.buildkit.api.timestamps import seconds
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.buildkit.wire import control_pb2, ops_pb2, services, sourcepolicy_pb2, worker_pb2

WORKER_LABEL = "org.mobyproject.buildkit.worker."
"""What the daemon's own worker labels begin with (protocol: buildkit `worker/label`)."""

_STATUS_PAUSE = 0.05

SessionCall = Any
"""`grpc.aio.StreamStreamCall[BytesMessage, BytesMessage]`, which cannot be written where Python runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonInfo:
    """Which BuildKit answers; all empty before 0.11, which does not say.

    Attributes:
        version: For example `v0.25.2`; engines add words of their own.
        revision: The commit it was built from.
        package: Its Go package.
    """

    version: str = ""
    revision: str = ""
    package: str = ""

    @property
    def is_before_0_11(self) -> bool:
        """Whether it is older than what says which it is."""
        return not self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker of the daemon.

    Attributes:
        id: Its id.
        labels: What it says of itself; its own keys begin with `WORKER_LABEL`.
        platforms: What it can run, its own platform first.
        version: Its BuildKit version, or the empty string.
    """

    id: str
    labels: Mapping[str, str]
    platforms: tuple[Platform, ...]
    version: str = ""

    @classmethod
    def from_wire(cls, record: worker_pb2.WorkerRecord) -> Worker:
        """Read a worker record."""
        return cls(
            id=record.ID,
            labels=dict(record.Labels),
            platforms=tuple(Platform.from_wire(platform) for platform in record.platforms),
            version=record.BuildkitVersion.version,
        )

    @property
    def snapshotter(self) -> str:
        """The snapshotter's name; empty on a Docker Engine without the containerd image store."""
        return self.labels.get(f"{WORKER_LABEL}snapshotter", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """Something the daemon keeps on its disk.

    Attributes:
        id: Its id.
        kind: `regular`, `internal`, `frontend`, `source.local`, `source.git.checkout` or `exec.cachemount`.
        size: Bytes.
        description: What made it.
        mutable: It can still change.
        in_use: A build holds it.
        shared: Its bytes are shared with an image.
        usage_count: How often it was used.
        created: Seconds since 1970, or `None`.
        last_used: Seconds since 1970, or `None`.
        parents: Ids of the records below it.
    """

    id: str
    kind: str
    size: int
    description: str = ""
    mutable: bool = False
    in_use: bool = False
    shared: bool = False
    usage_count: int = 0
    created: float | None = None
    last_used: float | None = None
    parents: tuple[str, ...] = ()


def solve_request(
    ref: str,
    *,
    session: str = "",
    definition: ops_pb2.Definition | None = None,
    attributes: Mapping[str, str] = MappingProxyType({}),
    exporters: Iterable[tuple[str, Mapping[str, str]]] = (),
    cache_exports: Iterable[tuple[str, Mapping[str, str]]] = (),
    cache_imports: Iterable[tuple[str, Mapping[str, str]]] = (),
    entitlements: Iterable[str] = (),
    internal: bool = False,
    policy: sourcepolicy_pb2.Policy | None = None,
) -> control_pb2.SolveRequest:
    """Make a solve request; every build of this package begins with one that is made here.

    All that BuildKit's own client sets is set, be it empty: daemons do not look whether it is there (protocol:
    buildkit `client/solve.go`; without `Cache`, 0.17 to 0.21 end, and with them every build that they run).

    Args:
        ref: Names the build; used once.
        session: The build's session.
        definition: The graph, where a frontend of the client does not make it later.
        attributes: Options that the daemon reads beside the frontend.
        exporters: What becomes of the result: types and attributes.
        cache_exports: Caches to write, each a type and its attributes.
        cache_imports: Caches to read from, each a type and its attributes.
        entitlements: What steps may do beyond the usual.
        internal: Keep it out of the daemon's history.
        policy: Rules that rewrite or deny sources.
    """
    request = control_pb2.SolveRequest(
        Ref=ref,
        Session=session,
        Definition=definition,
        FrontendAttrs=dict(attributes),
        Exporters=[control_pb2.Exporter(Type=kind, Attrs=dict(given)) for kind, given in exporters],
        Cache=control_pb2.CacheOptions(
            Exports=[control_pb2.CacheOptionsEntry(Type=kind, Attrs=dict(given)) for kind, given in cache_exports],
            Imports=[control_pb2.CacheOptionsEntry(Type=kind, Attrs=dict(given)) for kind, given in cache_imports],
        ),
        Entitlements=entitlements,
        Internal=internal,
        SourcePolicy=policy,
    )
    if request.Exporters:
        # Daemons before 0.13 read only these.
        request.ExporterDeprecated = request.Exporters[0].Type
        request.ExporterAttrsDeprecated.update(request.Exporters[0].Attrs)
    return request


class Control:
    """Typed calls of the control service on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def info(self) -> DaemonInfo:
        """Ask which BuildKit answers.

        Raises:
            grpc.aio.AioRpcError: It cannot be reached.
        """
        call = self._unary(services.CONTROL_INFO, control_pb2.InfoResponse)
        try:
            response: control_pb2.InfoResponse = await call(control_pb2.InfoRequest())
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            return DaemonInfo()
        version = response.buildkitVersion
        return DaemonInfo(version=version.version, revision=version.revision, package=version.package)

    async def list_workers(self) -> tuple[Worker, ...]:
        """List the daemon's workers, the default one first.

        Raises:
            grpc.aio.AioRpcError: The daemon cannot be reached, or is no BuildKit.
        """
        call = self._unary(services.CONTROL_LIST_WORKERS, control_pb2.ListWorkersResponse)
        response: control_pb2.ListWorkersResponse = await call(control_pb2.ListWorkersRequest())
        return tuple(Worker.from_wire(record) for record in response.record)

    async def solve(self, request: control_pb2.SolveRequest) -> Mapping[str, str]:
        """Run one build to its end.

        Cancelling the task cancels the build, but not the calls of its `Gateway` that are under way: a step that one
        of them waits for runs on until that call is cancelled as well.

        Args:
            request: From `solve_request`.

        Returns:
            What the exporters say, for example `containerimage.digest`.

        Raises:
            grpc.aio.AioRpcError: The build failed.
        """
        # Whoever has made it: without this a daemon may end.
        request.Cache.SetInParent()
        response: control_pb2.SolveResponse = await self._unary(services.CONTROL_SOLVE, control_pb2.SolveResponse)(
            request
        )
        return dict(response.ExporterResponse)

    async def status(self, ref: str, *, patience: float = 20.0) -> AsyncIterator[events.StatusUpdate]:
        """Follow a build until it is complete.

        The daemon itself waits some seconds for a build that it does not know yet; after that it is asked again.

        Args:
            ref: The `Ref` of the solve request.
            patience: Seconds after which a build that is still unknown is an error.

        Raises:
            grpc.aio.AioRpcError: The stream broke, or there is no such build.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience
        stream = self._channel.unary_stream(
            services.CONTROL_STATUS,
            request_serializer=control_pb2.StatusRequest.SerializeToString,
            response_deserializer=control_pb2.StatusResponse.FromString,
        )
        heard = False
        while True:
            call = stream(control_pb2.StatusRequest(Ref=ref))
            try:
                async for response in call:
                    heard = True
                    yield events.from_wire(response)
                return
            except grpc.aio.AioRpcError as error:
                if heard or not no_such_job(error) or loop.time() > give_up:
                    raise
            finally:
                call.cancel()
            await asyncio.sleep(_STATUS_PAUSE)

    def session(self, metadata: Sequence[tuple[str, str]]) -> SessionCall:
        """Open the byte stream of a session.

        Args:
            metadata: The session's headers; keys in lower case.

        Returns:
            The bidirectional call, of `control_pb2.BytesMessage` both ways. The caller ends it.
        """
        stream: Any = self._channel.stream_stream(
            services.CONTROL_SESSION,
            request_serializer=control_pb2.BytesMessage.SerializeToString,
            response_deserializer=control_pb2.BytesMessage.FromString,
        )
        return stream(metadata=tuple(metadata))

    async def disk_usage(self, *, filters: Sequence[str] = ()) -> tuple[UsageRecord, ...]:
        """List what the daemon keeps on its disk.

        Args:
            filters: containerd filters, for example `type==exec.cachemount`; any may match.

        Raises:
            grpc.aio.AioRpcError: The daemon refused or cannot be reached.
        """
        call = self._unary(services.CONTROL_DISK_USAGE, control_pb2.DiskUsageResponse)
        response: control_pb2.DiskUsageResponse = await call(control_pb2.DiskUsageRequest(filter=filters))
        return tuple(_usage(record) for record in response.record)

    async def prune(
        self,
        *,
        filters: Sequence[str] = (),
        everything: bool = False,
        keep_seconds: float = 0,
        reserved_bytes: int = 0,
        max_used_bytes: int = 0,
        min_free_bytes: int = 0,
    ) -> AsyncIterator[UsageRecord]:
        """Delete from the daemon's cache.

        Args:
            filters: containerd filters; any may match.
            everything: Also what is internal or shared.
            keep_seconds: Keep what was used this recently.
            reserved_bytes: Keep this much whatever its age.
            max_used_bytes: Stop once the cache is this small. Needs the capability `gc.freespacefilter`, as the next
                one does: a daemon without it does not know the limit, and deletes everything.
            min_free_bytes: Stop once this much of the disk is free.

        Yields:
            What was deleted, as soon as it is; of these the daemon says neither the kind nor whether they were shared.

        Raises:
            grpc.aio.AioRpcError: The daemon refused or cannot be reached.
        """
        request = control_pb2.PruneRequest(
            filter=filters,
            all=everything,
            keepDuration=int(keep_seconds * 1e9),
            reservedSpace=reserved_bytes,
            maxUsedSpace=max_used_bytes,
            minFreeSpace=min_free_bytes,
        )
        call = self._channel.unary_stream(
            services.CONTROL_PRUNE,
            request_serializer=control_pb2.PruneRequest.SerializeToString,
            response_deserializer=control_pb2.UsageRecord.FromString,
        )(request)
        async for record in call:
            yield _usage(record)

    def _unary(self, method: str, response: Any) -> Any:
        return self._channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )


def no_such_job(error: grpc.aio.AioRpcError) -> bool:
    """Whether the daemon does not know a build (yet); older ones say so in the message only."""
    return error.code() == grpc.StatusCode.NOT_FOUND or "no such job" in (error.details() or "")


def _usage(record: control_pb2.UsageRecord) -> UsageRecord:
    return UsageRecord(
        id=record.ID,
        kind=record.RecordType,
        size=record.Size,
        description=record.Description,
        mutable=record.Mutable,
        in_use=record.InUse,
        shared=record.Shared,
        usage_count=record.UsageCount,
        created=seconds(record.CreatedAt) if record.HasField("CreatedAt") else None,
        last_used=seconds(record.LastUsedAt) if record.HasField("LastUsedAt") else None,
        parents=tuple(record.Parents),
    )
