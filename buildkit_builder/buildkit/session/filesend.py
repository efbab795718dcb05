"""`FileSend`: results of a build that the daemon sends to this machine.

Protocol: buildkit `session/filesync` (`FileSend`) and `exporter/{tar,oci,local}`. One method has two formats: archives
come as plain bytes, the `local` exporter's folders as fsutil packets; the target of the exporter says which.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from grpc import StatusCode

from buildkit_builder.buildkit.session.receive import Receiver
from buildkit_builder.buildkit.session.server import Call, RpcError, Server
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.filesync_pb2 import BytesMessage
from buildkit_builder.errors import BuildKitError

_EXPORTER_KEY = "buildkit-attachable-exporter-id"


@dataclass(frozen=True, slots=True)
class TarFile:
    """Where an archive goes (exporters `tar`, `oci` and `docker`).

    Attributes:
        destination: A path, which appears when the archive is complete, or replaces the file that is there; a device
            or a pipe is written to as it is. Or a binary stream, which is not closed.
    """

    destination: Path | BinaryIO


@dataclass(frozen=True, slots=True)
class Directory:
    """Where a tree goes (exporter `local`).

    Attributes:
        path: The folder; it is made if need be, and what is in it stays, but for files of the same names.
    """

    path: Path


Target = TarFile | Directory


class FileReceiver:
    """The session's service that takes results.

    Args:
        targets: Where the result of each exporter goes, by its index in `SolveRequest.Exporters`.
    """

    def __init__(self, targets: Mapping[int, Target]) -> None:
        self._targets = {str(index): target for index, target in targets.items()}

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds `FileSend/DiffCopy`."""
        server.add(services.FILESEND_DIFF_COPY, self._diff_copy)
        return (services.FILESEND_DIFF_COPY,)

    async def _diff_copy(self, call: Call) -> None:
        index = next(iter(call.metadata.get(_EXPORTER_KEY, ())), "0")
        target = self._targets.get(index)
        if target is None:
            raise RpcError(StatusCode.NOT_FOUND, f"Nothing is to be received of exporter {index}.")
        if isinstance(target, Directory):
            await Receiver(call, target.path).run()
        elif isinstance(target.destination, Path):
            await _receive_file(call, target.destination)
        else:
            await _receive_stream(call, target.destination, "the stream given")


async def _receive_file(call: Call, path: Path) -> None:
    with _writing(path):
        in_place = await call.in_thread(_is_written_in_place, path)
    part = path if in_place else path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with contextlib.ExitStack() as opened:
            with _writing(path):
                # A pipe opens when somebody reads from it, which may be never.
                run = call.in_thread if in_place else call.in_thread_to_its_end
                stream = await run(_open, opened, part, "wb" if in_place else "xb")
            await _receive_stream(call, stream, str(path))
        if not in_place:
            with _writing(path):
                await call.in_thread(part.replace, path)
    finally:
        if not in_place:
            part.unlink(missing_ok=True)


def _is_written_in_place(path: Path) -> bool:
    """Tells whether a path is a device or a pipe, which must not be replaced."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise BuildKitError(f"The result cannot be written to {path}, which is a folder.")
    return not stat.S_ISREG(mode)


async def _receive_stream(call: Call, stream: BinaryIO, name: str) -> None:
    while batch := await call.read_batch():
        with _writing(name):
            await call.in_thread(_write, stream, batch)
    with _writing(name):
        await call.in_thread(stream.flush)


def _open(opened: contextlib.ExitStack, path: Path, mode: Literal["wb", "xb"]) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Before anybody has it: the call may be cancelled by now, and would leave it open.
    return opened.enter_context(path.open(mode))


def _write(stream: BinaryIO, messages: list[bytes]) -> None:
    for message in messages:
        # A pipe or a socket may take less than it is given.
        view = memoryview(BytesMessage.FromString(message).data)
        while view:
            view = view[stream.write(view) :]


@contextlib.contextmanager
def _writing(name: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BuildKitError(f"The result cannot be written to {name}: {error.strerror or error}.") from error
