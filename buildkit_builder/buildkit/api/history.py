"""The builds that a daemon remembers.

Protocol: buildkit `api/services/control`, `solver/llbsolver/history`; since 0.11. A build that was asked to be internal
is not among them. A daemon forgets the oldest by itself, but none that is pinned.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import grpc
import grpc.aio

from buildkit_builder.buildkit.api import events, failures
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.timestamps import seconds
from buildkit_builder.buildkit.wire import control_pb2, services
from buildkit_builder.errors import BuildKitError, CapabilityError

if TYPE_CHECKING:
    from buildkit_builder.buildkit.connect.connection import Connection

Status = Literal["running", "completed", "failed", "cancelled"]

_CANCELLED = "context canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterRecord:
    """Where a build's result went.

    Attributes:
        kind: The exporter's type.
        attributes: What it was told.
    """

    kind: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """One build.

    Attributes:
        ref: Identifies it; the `Ref` of its solve request.
        status: How it ended, if it has.
        created: When it began, in seconds since 1970.
        completed: When it ended, or `None`.
        images: The names that it was given.
        frontend: What made its graph; empty where that was the client, as with this package.
        options: What the frontend was told.
        exporters: Where the result went.
        response: What the exporters said, for example `containerimage.digest`.
        error: What went wrong, or the empty string.
        steps: How many steps it had; 0 from daemons that do not count them.
        cached: How many of them were in the cache.
        done: How many of them were finished.
        warnings: How many warnings there were.
        pinned: The daemon does not forget it by itself.
    """

    ref: str
    status: Status
    created: float
    completed: float | None = None
    images: tuple[str, ...] = ()
    frontend: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    exporters: tuple[ExporterRecord, ...] = ()
    response: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    error: str = ""
    steps: int = 0
    cached: int = 0
    done: int = 0
    warnings: int = 0
    pinned: bool = False

    @classmethod
    def from_wire(cls, record: control_pb2.BuildHistoryRecord) -> BuildRecord:
        """Read a record."""
        exporters = tuple(ExporterRecord(kind=item.Type, attributes=dict(item.Attrs)) for item in record.Exporters)
        names = (name for item in exporters for name in item.attributes.get("name", "").split(","))
        return cls(
            ref=record.Ref,
            status=_status(record),
            created=seconds(record.CreatedAt),
            completed=seconds(record.CompletedAt) if record.HasField("CompletedAt") else None,
            images=tuple(dict.fromkeys(name for name in names if name)),
            frontend=record.Frontend,
            options=dict(record.FrontendAttrs),
            exporters=exporters,
            response=dict(record.ExporterResponse),
            error=record.error.message if record.HasField("error") else "",
            steps=record.numTotalSteps,
            cached=record.numCachedSteps,
            done=record.numCompletedSteps,
            warnings=record.numWarnings,
            pinned=record.pinned,
        )


def _status(record: control_pb2.BuildHistoryRecord) -> Status:
    if not record.HasField("CompletedAt"):
        return "running"
    if not record.HasField("error"):
        return "completed"
    cancelled: int = grpc.StatusCode.CANCELLED.value[0]
    return "cancelled" if record.error.code == cancelled or _CANCELLED in record.error.message else "failed"


async def builds(connection: Connection) -> tuple[BuildRecord, ...]:
    """The builds that a daemon remembers, the newest first.

    Raises:
        CapabilityError: It remembers none.
        BuildKitError: It refused or cannot be reached.
    """
    call = connection.channel.unary_stream(
        services.CONTROL_LISTEN_BUILD_HISTORY,
        request_serializer=control_pb2.BuildHistoryRequest.SerializeToString,
        response_deserializer=control_pb2.BuildHistoryEvent.FromString,
    )(control_pb2.BuildHistoryRequest(EarlyExit=True))
    found: dict[str, BuildRecord] = {}
    try:
        async for event in call:
            # A build that ends in the meantime comes twice: while it runs, and as it ended.
            found[event.record.Ref] = BuildRecord.from_wire(event.record)
            if event.type == control_pb2.DELETED:
                del found[event.record.Ref]
    except grpc.aio.AioRpcError as error:
        raise _translated(connection, error, "asking the daemon for its builds") from error
    return tuple(sorted(found.values(), key=lambda record: record.created, reverse=True))


async def progress(connection: Connection, ref: str) -> AsyncIterator[events.StatusUpdate]:
    """What a build said while it ran; one that runs is followed to its end.

    Raises:
        BuildKitError: The daemon does not know the build, refused, or cannot be reached.
    """
    try:
        async for update in Control(connection.channel).status(ref, patience=0):
            yield update
    except grpc.aio.AioRpcError as error:
        raise _translated(connection, error, f"asking for what the build {ref} said") from error


async def forget(connection: Connection, ref: str) -> None:
    """Remove a build from those that a daemon remembers; what it made stays.

    Raises:
        BuildKitError: The daemon refused or cannot be reached.
    """
    await _update(connection, control_pb2.UpdateBuildHistoryRequest(Ref=ref, Delete=True))


async def pin(connection: Connection, ref: str, pinned: bool) -> None:
    """Have a daemon keep its record of a build, or let it forget that when it has enough others.

    Raises:
        BuildKitError: The daemon refused or cannot be reached.
    """
    await _update(connection, control_pb2.UpdateBuildHistoryRequest(Ref=ref, Pinned=pinned))


async def _update(connection: Connection, request: control_pb2.UpdateBuildHistoryRequest) -> None:
    call: Any = connection.channel.unary_unary(
        services.CONTROL_UPDATE_BUILD_HISTORY,
        request_serializer=control_pb2.UpdateBuildHistoryRequest.SerializeToString,
        response_deserializer=control_pb2.UpdateBuildHistoryResponse.FromString,
    )
    try:
        await call(request)
    except grpc.aio.AioRpcError as error:
        raise _translated(connection, error, f"changing the daemon's record of the build {request.Ref}") from error


def _translated(connection: Connection, error: grpc.aio.AioRpcError, doing: str) -> BuildKitError:
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        return CapabilityError(
            f"The daemon at {connection.endpoint.address} does not remember builds. Update it: BuildKit 0.11 or newer, "
            "which is in Docker Engine 24.0 or newer, does."
        )
    return failures.translate(error, describe=lambda _: None, doing=doing)
