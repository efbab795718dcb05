"""A tree that the daemon sends, written to a folder.

Protocol: tonistiigi/fsutil `{receive,diskwriter}`. The daemon lists all entries, we ask for the content of each file.
What it lists is not trusted: nothing is written outside the folder, nor through a link.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from pathlib import Path

from grpc import StatusCode

from buildkit_builder.buildkit.session import walk
from buildkit_builder.buildkit.session.server import Call, RpcError
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet, Stat
from buildkit_builder.errors import BuildKitError

_ENTRIES_LIMIT = 2_000_000  # so that a list without end does not fill the memory

_KINDS = {
    walk.MODE_NAMED_PIPE: stat.S_IFIFO,
    walk.MODE_DEVICE: stat.S_IFBLK,
    walk.MODE_DEVICE | walk.MODE_CHAR_DEVICE: stat.S_IFCHR,
}


class Receiver:
    """One tree on its way into a folder.

    Args:
        call: The stream it comes by.
        root: The folder. It is made if need be; entries of the same names are replaced, but never a folder by
            something else.
    """

    def __init__(self, call: Call, root: Path) -> None:
        self._call = call
        self._root = os.path.realpath(root)
        self._stats: dict[int, Stat] = {}  # of files that are not complete
        self._open: dict[int, int] = {}  # their descriptors, once data has come
        self._seen: set[str] = set()
        self._made: dict[tuple[int, int], str] = {}  # by device and number, the path of what this transfer has made
        self._files: set[str] = set()  # regular ones, which hard links may name
        self._folders: dict[str, Stat | None] = {"": None}
        self._listed = 0
        self._all_listed = False
        self._complete = False
        self._finished = False

    async def run(self) -> None:
        """Receives until both sides have said that it is complete.

        Raises:
            BuildKitError: Something cannot be written.
            RpcError: The daemon sent what no tree holds, or gave up.
        """
        await self._call.in_thread(self._make_root)
        try:
            while not self._finished:
                batch = await self._call.read_batch()
                if not batch:
                    raise RpcError(StatusCode.CANCELLED, "The daemon ended the transfer before it was complete.")
                # To its end: its descriptors are closed then, whose numbers others may get.
                replies = await self._call.in_thread_to_its_end(self._handle, batch)
                if replies:
                    await self._call.write(*replies)
        finally:
            for descriptor in self._open.values():
                os.close(descriptor)

    def _make_root(self) -> None:
        try:
            os.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise _unwritable(self._root, error) from error

    def _handle(self, batch: list[bytes]) -> list[bytes]:
        replies: list[Packet] = []
        for packet in map(Packet.FromString, batch):
            if packet.type == Packet.PACKET_STAT:
                if not packet.HasField("stat"):
                    self._all_listed = True
                elif self._create(packet.stat):
                    self._stats[self._listed - 1] = packet.stat
                    replies.append(Packet(type=Packet.PACKET_REQ, ID=self._listed - 1))
            elif packet.type == Packet.PACKET_DATA:
                self._write(packet.ID, packet.data)
            elif packet.type == Packet.PACKET_ERR:
                raise RpcError(StatusCode.ABORTED, packet.data.decode("utf-8", "replace"))
            elif packet.type == Packet.PACKET_FIN:
                self._finished = True
                continue
            if self._all_listed and not self._stats and not self._complete:
                self._complete = True
                self._finish_folders()
                replies.append(Packet(type=Packet.PACKET_FIN))
        return [reply.SerializeToString() for reply in replies]

    def _create(self, entry: Stat) -> bool:
        """Makes an entry; returns whether its content is still to be asked for."""
        self._listed += 1
        if self._listed > _ENTRIES_LIMIT:
            raise BuildKitError(
                f"The daemon sends more than {_ENTRIES_LIMIT} files. Have the result written to an archive instead."
            )
        path = self._checked(entry)
        kind = entry.mode & walk.MODE_TYPE
        try:
            self._make_way(entry.path, path, is_folder=kind == walk.MODE_DIR)
            if kind == walk.MODE_DIR:
                if not os.path.isdir(path):
                    os.mkdir(path, 0o700)
                self._folders[entry.path] = entry
            elif kind == 0 and not entry.linkname:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
                self._files.add(entry.path)
            else:
                self._create_special(entry, path, kind)
            status = os.lstat(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._made.setdefault((status.st_dev, status.st_ino), entry.path)
        return kind == 0 and not entry.linkname

    def _make_way(self, name: str, path: str, *, is_folder: bool) -> None:
        """Removes what is in the way of a new entry, links included, unless it is of this result itself."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        if other := self._made.get((status.st_dev, status.st_ino)):
            other = next((seen for seen in self._made.values() if seen.casefold() == name.casefold()), other)
            raise BuildKitError(
                f"The result has both `{other}` and `{name}`, which are one name on the disk that it is written to: it "
                "does not tell some letters from others, such as lower case from upper case. Have the result written "
                "to an archive instead, or to another disk."
            )
        if stat.S_ISDIR(status.st_mode):
            if not is_folder:
                raise BuildKitError(f"{path} is a folder, and a file of the result has its name. Remove it first.")
            os.chmod(path, stat.S_IMODE(status.st_mode) | 0o700)
            return
        os.unlink(path)

    def _create_special(self, entry: Stat, path: str, kind: int) -> None:
        if kind == walk.MODE_SYMLINK:
            os.symlink(entry.linkname, path)
            os.utime(path, ns=(entry.modTime, entry.modTime), follow_symlinks=False)
        elif kind == 0:
            if entry.linkname not in self._files:
                raise RpcError(StatusCode.INVALID_ARGUMENT, f"{entry.path!r} is linked to what was not sent.")
            os.link(os.path.join(self._root, entry.linkname), path)
            self._files.add(entry.path)
        elif kind in _KINDS:
            os.mknod(path, _KINDS[kind] | 0o600, os.makedev(entry.devmajor, entry.devminor))
            _describe(path, entry)
        else:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{entry.path!r} is of an unknown kind.")

    def _checked(self, entry: Stat) -> str:
        path = entry.path
        parent = posixpath.dirname(path)
        clean = path and not path.startswith("/") and "\0" not in path and posixpath.normpath(path) == path
        if not clean or path.split("/", 1)[0] in (".", ".."):
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{path!r} is not a path inside a folder.")
        if parent not in self._folders:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{path!r} is in a folder that was not sent.")
        if path in self._seen:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{path!r} was sent twice.")
        self._seen.add(path)
        return os.path.join(self._root, path)

    def _write(self, number: int, data: bytes) -> None:
        entry = self._stats.get(number)
        if entry is None:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"Data came for entry {number}, which has none to come.")
        path = os.path.join(self._root, entry.path)
        try:
            if data:
                descriptor = self._open.get(number)
                if descriptor is None:
                    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                    self._open[number] = descriptor
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                return
            descriptor = self._open.pop(number, None)
            if descriptor is not None:
                os.close(descriptor)
            _describe(path, entry)
        except OSError as error:
            raise _unwritable(path, error) from error
        del self._stats[number]

    def _finish_folders(self) -> None:
        # Only now: a folder may be read-only, and writing into it changes its time.
        for path, entry in reversed(self._folders.items()):
            if entry is not None:
                _describe(os.path.join(self._root, path), entry)


def _describe(path: str, entry: Stat) -> None:
    for name, value in entry.xattrs.items():
        # Not every file system has them, and some names are for root alone.
        with contextlib.suppress(OSError, AttributeError):
            os.setxattr(path, name, value, follow_symlinks=False)
    mode = entry.mode & 0o777
    mode |= stat.S_ISUID if entry.mode & walk.MODE_SETUID else 0
    mode |= stat.S_ISGID if entry.mode & walk.MODE_SETGID else 0
    mode |= stat.S_ISVTX if entry.mode & walk.MODE_STICKY else 0
    os.chmod(path, mode)
    os.utime(path, ns=(entry.modTime, entry.modTime))


def _unwritable(path: str, error: OSError) -> BuildKitError:
    return BuildKitError(f"The result cannot be written to {path}: {error.strerror}.")
