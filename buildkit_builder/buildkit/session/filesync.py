"""`FileSync`: the daemon reads folders of this machine, straight from where they are.

Protocol: buildkit `session/filesync`, tonistiigi/fsutil `send`. We list all entries, the daemon asks for the content of
those that differ from what it has, by their number in the listing; both go on at the same time.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_plus

from grpc import StatusCode

from buildkit_builder.buildkit import go_words
from buildkit_builder.buildkit.session.chunks import Chunks
from buildkit_builder.buildkit.session.follow import follow_links
from buildkit_builder.buildkit.session.patterns import PatternError
from buildkit_builder.buildkit.session.server import Call, RpcError, Server
from buildkit_builder.buildkit.session.times import ToldTimes
from buildkit_builder.buildkit.session.walk import (
    MODE_DEVICE,
    MODE_TYPE,
    Entry,
    Keep,
    Selection,
    Symlinks,
    shown,
    walk,
    walk_files,
    xattrs_of,
)
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.fsutil_pb2 import Packet, Stat
from buildkit_builder.errors import BuildKitError, SourceChangedError, SourceError

_LISTING_BATCH = 256  # entries that one thread hop lists
_CHUNK = 256 << 10  # bytes of content in one packet; daemons accept messages of 4 MiB and more
_READ_BATCH = 1 << 20  # bytes that one thread hop reads
_REQUEST_BATCH = 64  # files that one reader takes on at once
_READERS = 3
_PATTERNS_LIMIT = 10_000
_PATTERN_LIMIT = 4096  # characters, as a path has at most
_END_OF_LISTING = b""  # a STAT packet without a stat is a message of no bytes


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A folder, or a set of files, that the daemon may read under a name.

    Attributes:
        name: What `llb.local(name)` calls it.
        root: The folder; it may be a symlink to one. Not used when `files` is a mapping.
        exclude: Patterns of `.dockerignore` form; what they match is not listed.
        files: Serves these alone: a mapping of paths as the daemon shall see them to files or folders anywhere on
            this machine, or an iterable of paths below `root`.
        keep: Decides per path before `exclude` does; see `walk.Selection`.
        descend: Whether to look into a folder that `keep` leaves out; see `walk.Selection`.
        symlinks: `"keep"`, or `"copy-files"` to send linked files as files and no other link.
        hard_links: Whether files with several names are sent once, as hard links. Off, because a daemon that has the
            folder already leaves a file `.tmp.…` in its copy for each hard link that it is sent again, which gets
            into the image (seen with BuildKit 0.25: the rename over another name of the same file does nothing).
        empty_dirs: Whether folders in which nothing is listed are listed.
        folder_mode: The permissions that folders are listed with, or `None` for their own.
    """

    name: str
    root: Path
    exclude: Sequence[str] = ()
    files: Mapping[str, Path] | Iterable[str] | None = None
    keep: Keep | None = None
    descend: Callable[[str], bool] | None = None
    symlinks: Symlinks = "keep"
    hard_links: bool = False
    empty_dirs: bool = True
    folder_mode: int | None = None

    def entries(
        self, *, include: Sequence[str] = (), exclude: Sequence[str] = (), follow: Sequence[str] = ()
    ) -> Iterator[Entry]:
        """Lists what the daemon is told.

        Args:
            include: Patterns of which one must match; none means everything.
            exclude: Patterns of what is not wanted.
            follow: Paths wanted together with the symlinks on the way to them.

        Yields:
            Entries in protocol order.

        Raises:
            SourceError: The tree cannot be read, or a name is not UTF-8.
            PatternError: A pattern is malformed.
        """
        selection = Selection(
            exclude=self.exclude,
            keep=self.keep,
            descend=self.descend,
            symlinks=self.symlinks,
            hard_links=self.hard_links,
            empty_dirs=self.empty_dirs,
            folder_mode=self.folder_mode,
            asked_include=include,
            asked_exclude=exclude,
        )
        if self.files is not None:
            return walk_files(self._sources(self.files), replace(selection, asked_include=[*include, *follow]))
        if not self.root.is_dir():
            raise SourceError(f"{shown(str(self.root))} is not a folder, so it cannot be sent.")
        root = os.path.realpath(self.root)
        if follow:
            followed = follow_links(root, follow)
            selection = replace(selection, asked_include=() if followed is None else [*include, *followed])
        return walk(root, selection)

    def _sources(self, files: Mapping[str, Path] | Iterable[str]) -> dict[str, str]:
        if isinstance(files, Mapping):
            return {path: os.fspath(source) for path, source in files.items()}
        return {path: os.path.join(self.root, path) for path in files}


class FileSync:
    """The session's service from which the daemon reads local sources.

    Args:
        directories: What may be read; any other name is refused with NOT_FOUND.

    Attributes:
        begun: The names of those that the daemon has begun to read.
        errors: Why files could not be sent, in order.
        notices: What the user should know of files that were sent.
    """

    def __init__(self, directories: Iterable[LocalDirectory]) -> None:
        self.begun: set[str] = set()
        self.errors: list[BuildKitError] = []
        self.notices: list[str] = []
        self._directories: dict[str, LocalDirectory] = {}
        self.add(directories)

    def add(self, directories: Iterable[LocalDirectory]) -> None:
        """Lets the daemon read these as well."""
        self._directories.update({directory.name: directory for directory in directories})

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds `FileSync/DiffCopy`."""
        server.add(services.FILESYNC_DIFF_COPY, self._diff_copy)
        return (services.FILESYNC_DIFF_COPY,)

    async def _diff_copy(self, call: Call) -> None:
        name = next(iter(_option(call, "dir-name")), "")
        directory = self._directories.get(name)
        if directory is None:
            raise RpcError(StatusCode.NOT_FOUND, f"There is no local directory {name!r} in this build.")
        self.begun.add(name)
        try:
            entries = partial(
                directory.entries,
                include=_patterns(call, "include-patterns"),
                exclude=_patterns(call, "exclude-patterns"),
                follow=_patterns(call, "followpaths"),
            )
            await _Sender(call, await call.in_thread(entries), self._notice).run()
        except PatternError as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"In the local directory {name!r}, {error}.") from error
        except BuildKitError as error:
            if str(error) not in map(str, self.errors):
                self.errors.append(error)
            await call.write(Packet(type=Packet.PACKET_ERR, data=str(error).encode()).SerializeToString())
            raise

    def _notice(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)


def _option(call: Call, key: str) -> list[str]:
    """The values of what the daemon asks for; those that are not all ASCII are escaped, and marked as such."""
    values = list(call.metadata.get(key, ()))
    if next(iter(call.metadata.get(f"{key}-encoded", ())), "") in go_words.TRUE:
        return [unquote_plus(value) for value in values]
    return values


def _patterns(call: Call, key: str) -> list[str]:
    values = _option(call, key)
    # Each is tried on every file, so that more of them would keep this machine busy for as long as the daemon likes.
    # A `.dockerignore` of an encoding with empty bytes makes patterns of them, which match nothing.
    unfit = [value for value in values if len(value) > _PATTERN_LIMIT or ("\0" in value and key == "followpaths")]
    if len(values) > _PATTERNS_LIMIT or unfit:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"The {key} are too many, or not what a path can be.")
    return values


class _Content(NamedTuple):
    """A file as it was when it was listed."""

    source: str
    size: int
    mtime: int
    inode: int


class _Sender:
    """One listing, and the answers to the requests that it raises."""

    def __init__(self, call: Call, entries: Iterator[Entry], notice: Callable[[str], None]) -> None:
        self._call = call
        self._notice = notice
        self._entries = entries
        self._contents: dict[int, _Content | None] = {}  # of the files that were not asked for yet
        self._listed = 0
        self._requests: asyncio.Queue[tuple[int, _Content | None]] = asyncio.Queue()

    async def run(self) -> None:
        """Sends until the daemon says that it has all it wants."""
        requests = asyncio.ensure_future(self._receive())
        senders = [asyncio.ensure_future(self._list()), *(asyncio.ensure_future(self._read()) for _ in range(_READERS))]
        pending = {requests, *senders}
        try:
            while not requests.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in (requests, *senders):
                task.cancel()
            await asyncio.gather(requests, *senders, return_exceptions=True)
        await self._call.write(Packet(type=Packet.PACKET_FIN).SerializeToString())

    async def _list(self) -> None:
        batches = self._batches()
        while (packets := await self._call.in_thread(next, batches, None)) is not None:
            if packets:
                await self._call.write(*packets)
        await self._call.write(_END_OF_LISTING)

    def _batches(self) -> Iterator[list[bytes]]:
        """Lists and makes packets, in steps that are short; one that makes none lists what has to wait."""
        times = ToldTimes(time.time_ns())
        waiting: list[Entry] = []
        while entries := list(islice(self._entries, _LISTING_BATCH)):
            if waiting or not times.are_known(entries):
                waiting += entries
                yield []
            else:
                yield self._stats(entries, times)
        times.note(waiting)
        for start in range(0, len(waiting), _LISTING_BATCH):
            yield self._stats(waiting[start : start + _LISTING_BATCH], times)

    def _stats(self, entries: list[Entry], times: ToldTimes) -> list[bytes]:
        packets: list[bytes] = []
        for entry in entries:
            if entry.has_content:
                self._contents[self._listed] = _Content(entry.source, entry.size, entry.mtime, entry.inode)
            elif not entry.mode & MODE_TYPE and not entry.link:
                self._contents[self._listed] = None
            self._listed += 1
            packets.append(Packet(stat=_stat(entry, times.of(entry))).SerializeToString())
        return packets

    async def _receive(self) -> None:
        while batch := await self._call.read_batch():
            for packet in map(Packet.FromString, batch):
                if packet.type == Packet.PACKET_REQ:
                    if packet.ID not in self._contents:
                        raise RpcError(StatusCode.INVALID_ARGUMENT, f"Entry {packet.ID} has no content to send.")
                    # Once, so that no daemon can ask without end.
                    self._requests.put_nowait((packet.ID, self._contents.pop(packet.ID)))
                elif packet.type == Packet.PACKET_FIN:
                    return
                elif packet.type == Packet.PACKET_ERR:
                    raise RpcError(StatusCode.ABORTED, packet.data.decode("utf-8", "replace"))
        raise RpcError(StatusCode.CANCELLED, "The daemon ended the transfer before it was complete.")

    async def _read(self) -> None:
        while True:
            requests = [await self._requests.get()]
            while len(requests) < _REQUEST_BATCH and not self._requests.empty():
                requests.append(self._requests.get_nowait())
            with closing(Chunks(_data(requests, self._notice))) as packets:
                while batch := await self._call.in_thread(packets.take, _READ_BATCH):
                    await self._call.write(*batch)


def _data(requests: list[tuple[int, _Content | None]], notice: Callable[[str], None]) -> Generator[bytes, None, None]:
    for number, content in requests:
        if content is not None:
            with closing(_chunks(content, notice)) as chunks:
                for chunk in chunks:
                    yield Packet(type=Packet.PACKET_DATA, ID=number, data=chunk).SerializeToString()
        yield Packet(type=Packet.PACKET_DATA, ID=number).SerializeToString()


def _stat(entry: Entry, mtime: int) -> Stat:
    said = Stat(path=entry.path, mode=entry.mode, size=entry.size, modTime=mtime, linkname=entry.link)
    if entry.mode & MODE_DEVICE:
        said.devmajor, said.devminor = os.major(entry.device), os.minor(entry.device)
    xattrs = xattrs_of(entry)
    if xattrs:
        said.xattrs.update(xattrs)
    return said


def _chunks(content: _Content, notice: Callable[[str], None]) -> Generator[bytes, None, None]:
    """Reads what was listed of a file that must not have changed since, but for what was added to its end."""
    try:
        # A file swapped for a link or a pipe since it was listed must neither be followed nor waited for.
        descriptor = os.open(content.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SourceChangedError(f"The file {content.source} vanished while it was being sent.") from None
    except PermissionError as error:
        raise SourceError(f"The file {content.source} cannot be read: {error.strerror}.") from error
    except OSError as error:
        raise SourceChangedError(f"The file {content.source} changed while it was being sent: {error}.") from error
    try:
        _check(descriptor, content)
        left = content.size
        while left:
            chunk = os.read(descriptor, min(_CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            yield chunk
        grew = _check(descriptor, content)
        if left:
            raise _changed(content)
        if grew:
            notice(f"{content.source} grew while it was being sent: the image has what was there before.")
    except OSError as error:
        raise SourceError(f"The file {content.source} cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)


def _check(descriptor: int, content: _Content) -> bool:
    """Returns whether the file has grown, as logs do, and is the same otherwise."""
    status = os.fstat(descriptor)
    if status.st_size == content.size and status.st_mtime_ns == content.mtime:
        return False
    if status.st_size <= content.size or status.st_ino != content.inode or not stat.S_ISREG(status.st_mode):
        raise _changed(content)
    return True


def _changed(content: _Content) -> SourceChangedError:
    return SourceChangedError(
        f"The file {content.source} changed while it was being sent. Build again when nothing writes to it."
    )
