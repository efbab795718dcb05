"""`Content`: blobs in folders of this machine, for local caches and OCI layouts.

Protocol: containerd `services/content/v1`, as buildkit `session/content` uses it. A store is an OCI layout: its blobs
are at `blobs/sha256/HEX`. `index.json` and `oci-layout` are written by whoever runs the build, after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from buildkit_builder.buildkit.session.chunks import Chunks
from buildkit_builder.buildkit.session.server import Call, Handler, RpcError, Server, unary
from buildkit_builder.buildkit.wire import content_pb2, services
from buildkit_builder.errors import BuildKitError

_STORE_KEY = "buildkit-attachable-store-id"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_CHUNK = 1 << 20  # bytes of one answer to Read
_INFOS = 100  # of one answer to List


@dataclass(slots=True)
class _Ingest:
    """A blob that is being written."""

    ref: str
    path: Path
    total: int
    expected: str
    started: Timestamp
    offset: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def status(self) -> content_pb2.Status:
        return content_pb2.Status(
            ref=self.ref,
            offset=self.offset,
            total=self.total,
            expected=self.expected,
            started_at=self.started,
            updated_at=_now(),
        )


class ContentStores:
    """The session's service that reads and writes blobs.

    Args:
        stores: Id to the folder of the layout. The ids are fixed by their use: `local:DIR` for a local cache with `src`
            or `dest` DIR, `oci:NAME` for an `oci-layout://NAME` source, `export` for an untarred oci export.
        read_only: Ids of those that nothing may be written to, or removed from.
    """

    def __init__(self, stores: Mapping[str, Path], *, read_only: Collection[str] = ()) -> None:
        self._stores = dict(stores)
        self._read_only = frozenset(read_only)
        self._ingests: dict[tuple[str, str], _Ingest] = {}

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds all methods of `Content`."""
        handlers: dict[str, Handler] = {
            "Info": unary(content_pb2.InfoRequest.FromString, self._info),
            "Update": unary(content_pb2.UpdateRequest.FromString, self._update),
            "List": self._list,
            "Delete": unary(content_pb2.DeleteContentRequest.FromString, self._delete),
            "Read": self._read,
            "Status": unary(content_pb2.StatusRequest.FromString, self._status),
            "ListStatuses": unary(content_pb2.ListStatusesRequest.FromString, self._list_statuses),
            "Write": self._write,
            "Abort": unary(content_pb2.AbortRequest.FromString, self._abort),
        }
        paths = tuple(f"/{services.CONTENT}/{name}" for name in handlers)
        for path, handler in zip(paths, handlers.values(), strict=True):
            server.add(path, handler)
        return paths

    def _store(self, call: Call) -> tuple[str, Path]:
        name = next(iter(call.metadata.get(_STORE_KEY, ())), None)
        if name is None:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "The request names no content store.")
        if name not in self._stores:
            raise RpcError(StatusCode.NOT_FOUND, f"There is no content store {name!r} in this build.")
        return name, self._stores[name]

    def _writable(self, call: Call) -> tuple[str, Path]:
        name, root = self._store(call)
        if name in self._read_only:
            raise RpcError(StatusCode.PERMISSION_DENIED, f"The content store {name!r} is there to be read.")
        return name, root

    def _blob(self, call: Call, digest: str) -> Path:
        path = _blob_path(self._store(call)[1], digest)
        if not path.is_file():
            raise RpcError(StatusCode.NOT_FOUND, f"There is no blob {digest}.")
        return path

    async def _info(self, request: content_pb2.InfoRequest, call: Call) -> content_pb2.InfoResponse:
        return content_pb2.InfoResponse(info=_info_of(self._blob(call, request.digest)))

    async def _update(self, request: content_pb2.UpdateRequest, call: Call) -> content_pb2.UpdateResponse:
        # A layout has no place for labels; the daemon needs only to be told that they are set.
        info = _info_of(self._blob(call, request.info.digest))
        info.labels.update(request.info.labels)
        return content_pb2.UpdateResponse(info=info)

    async def _list(self, call: Call) -> None:
        await call.read()
        infos = await call.in_thread(_list_blobs, self._store(call)[1])
        for start in range(0, len(infos), _INFOS):
            response = content_pb2.ListContentResponse(info=infos[start : start + _INFOS])
            await call.write(response.SerializeToString())

    async def _delete(self, request: content_pb2.DeleteContentRequest, call: Call) -> Empty:
        self._writable(call)
        self._blob(call, request.digest).unlink()
        return Empty()

    async def _read(self, call: Call) -> None:
        request = content_pb2.ReadContentRequest.FromString(await call.read() or b"")
        path = self._blob(call, request.digest)
        size = path.stat().st_size
        if not 0 <= request.offset <= size:
            raise RpcError(StatusCode.OUT_OF_RANGE, f"{request.offset} is not an offset in {request.digest}.")
        end = min(size, request.offset + request.size) if request.size > 0 else size
        offset = request.offset
        with contextlib.closing(Chunks(_chunks(path, offset, end))) as chunks:
            while taken := await call.in_thread(chunks.take, 1):
                (chunk,) = taken
                response = content_pb2.ReadContentResponse(offset=offset, data=chunk)
                await call.write(response.SerializeToString())
                offset += len(chunk)

    async def _status(self, request: content_pb2.StatusRequest, call: Call) -> content_pb2.StatusResponse:
        return content_pb2.StatusResponse(status=self._ingest(call, request.ref).status())

    async def _list_statuses(
        self, request: content_pb2.ListStatusesRequest, call: Call
    ) -> content_pb2.ListStatusesResponse:
        store, _ = self._store(call)
        statuses = [ingest.status() for (name, _), ingest in self._ingests.items() if name == store]
        return content_pb2.ListStatusesResponse(statuses=statuses)

    async def _abort(self, request: content_pb2.AbortRequest, call: Call) -> Empty:
        ingest = self._ingest(call, request.ref)
        self._forget(self._store(call)[0], ingest)
        return Empty()

    def _ingest(self, call: Call, ref: str) -> _Ingest:
        ingest = self._ingests.get((self._store(call)[0], ref))
        if ingest is None:
            raise RpcError(StatusCode.NOT_FOUND, f"Nothing is being written as {ref!r}.")
        return ingest

    def _forget(self, store: str, ingest: _Ingest) -> None:
        if self._ingests.get((store, ingest.ref)) is ingest:
            del self._ingests[store, ingest.ref]
        with contextlib.suppress(FileNotFoundError):
            ingest.path.unlink()

    async def _write(self, call: Call) -> None:
        store, root = self._writable(call)
        ingest: _Ingest | None = None
        try:
            while (message := await call.read()) is not None:
                request = content_pb2.WriteContentRequest.FromString(message)
                if ingest is None:
                    ingest = self._begin(store, root, request)
                ingest.total = request.total or ingest.total
                ingest.expected = request.expected or ingest.expected
                try:
                    # To its end: what it writes is removed when the call is cancelled.
                    response = await call.in_thread_to_its_end(_advance, root, ingest, request)
                except OSError as error:
                    raise BuildKitError(f"A blob cannot be written to {root}: {error.strerror}.") from error
                await call.write(response.SerializeToString())
        finally:
            if ingest is not None:
                self._forget(store, ingest)

    def _begin(self, store: str, root: Path, request: content_pb2.WriteContentRequest) -> _Ingest:
        if not request.ref:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "The first message of a write names no ref.")
        if request.expected and _blob_path(root, request.expected).is_file():
            raise RpcError(StatusCode.ALREADY_EXISTS, f"The blob {request.expected} is there already.")
        if (store, request.ref) in self._ingests:
            raise RpcError(StatusCode.UNAVAILABLE, f"{request.ref!r} is being written already.")
        path = root / "ingest" / secrets.token_hex(8)
        ingest = _Ingest(request.ref, path, request.total, request.expected, _now())
        self._ingests[store, request.ref] = ingest
        return ingest


def _advance(root: Path, ingest: _Ingest, request: content_pb2.WriteContentRequest) -> content_pb2.WriteContentResponse:
    """Does what one message of a write asks for."""
    if request.action != content_pb2.STAT:
        if request.data:
            _append(ingest, request)
        if request.action == content_pb2.COMMIT:
            _commit(root, ingest)
    return content_pb2.WriteContentResponse(
        action=request.action,
        offset=ingest.offset,
        total=ingest.total,
        started_at=ingest.started,
        updated_at=_now(),
        digest=f"sha256:{ingest.digest.hexdigest()}" if ingest.offset else "",
    )


def _append(ingest: _Ingest, request: content_pb2.WriteContentRequest) -> None:
    if request.offset == 0 and ingest.offset:
        ingest.offset, ingest.digest = 0, hashlib.sha256()
    if request.offset != ingest.offset:
        raise RpcError(StatusCode.OUT_OF_RANGE, f"The write continues at {ingest.offset}, not at {request.offset}.")
    ingest.path.parent.mkdir(parents=True, exist_ok=True)
    with ingest.path.open("ab" if ingest.offset else "wb") as file:
        file.write(request.data)
    ingest.offset += len(request.data)
    ingest.digest.update(request.data)


def _commit(root: Path, ingest: _Ingest) -> None:
    digest = f"sha256:{ingest.digest.hexdigest()}"
    if ingest.expected and digest != ingest.expected:
        raise RpcError(StatusCode.FAILED_PRECONDITION, f"The blob is {digest}, not {ingest.expected}.")
    if ingest.total and ingest.offset != ingest.total:
        raise RpcError(StatusCode.FAILED_PRECONDITION, f"The blob has {ingest.offset} bytes, not {ingest.total}.")
    path = _blob_path(root, digest)
    if path.is_file():
        raise RpcError(StatusCode.ALREADY_EXISTS, f"The blob {digest} is there already.")
    path.parent.mkdir(parents=True, exist_ok=True)
    ingest.path.parent.mkdir(parents=True, exist_ok=True)
    ingest.path.touch()  # a blob of no bytes has had no write
    ingest.path.replace(path)
    with contextlib.suppress(OSError):
        ingest.path.parent.rmdir()  # another blob may still be on its way


def _blob_path(root: Path, digest: str) -> Path:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"{digest!r} is not a sha256 digest.")
    return root / "blobs" / "sha256" / match[1]


def _list_blobs(root: Path) -> list[content_pb2.Info]:
    folder = root / "blobs" / "sha256"
    return [_info_of(path) for path in sorted(folder.glob("*")) if _DIGEST.fullmatch(f"sha256:{path.name}")]


def _info_of(path: Path) -> content_pb2.Info:
    status = path.stat()
    changed = Timestamp()
    changed.FromNanoseconds(status.st_mtime_ns)
    return content_pb2.Info(digest=f"sha256:{path.name}", size=status.st_size, created_at=changed, updated_at=changed)


def _chunks(path: Path, offset: int, end: int) -> Generator[bytes, None, None]:
    with path.open("rb") as file:
        file.seek(offset)
        while offset < end:
            chunk = file.read(min(_CHUNK, end - offset))
            if not chunk:
                return
            offset += len(chunk)
            yield chunk


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
