"""What came of a build, and the files that were built."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import FileStat, Gateway
from buildkit_builder.buildkit.front.frontend import PlatformFrontend, ReadFrontend
from buildkit_builder.buildkit.front.order import Order
from buildkit_builder.buildkit.front.waiting import wait

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MODES = {31: stat.S_IFDIR, 27: stat.S_IFLNK, 25: stat.S_IFIFO, 24: stat.S_IFSOCK}
_FLAGS = {23: stat.S_ISUID, 22: stat.S_ISGID, 20: stat.S_ISVTX}
_DEVICE, _CHARACTER_DEVICE = 1 << 26, 1 << 21


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """A file of what was built.

    Attributes:
        name: Its name in the directory that was listed, or the last part of the path that was asked for.
        mode: Type and permissions, as in `os.stat_result.st_mode`.
        size: Bytes.
        uid: Number of the owner.
        gid: Number of the group.
        modified: When it was last changed.
        link: Where a symbolic link leads; empty for all else.
    """

    name: str
    mode: int
    size: int
    uid: int
    gid: int
    modified: datetime
    link: str = ""

    @property
    def is_dir(self) -> bool:
        """Tell whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Tell whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a build.

    Its files can be read as long as the daemon or the registry has them. What was pushed is read by its digest.
    Anything else is built again, which the daemon's cache makes quick; then a local directory that has changed
    meanwhile is read as it is now.

    Attributes:
        digest: Of the image or the index, or `None` where none was exported.
        platforms: What it was built for, such as `linux/amd64`.
        seconds: How long the build took, with connecting.
        reference: The name that it was pushed or loaded under, or `None`.
    """

    digest: str | None
    platforms: tuple[str, ...]
    seconds: float
    reference: str | None = None
    _order: Order = field(repr=False, compare=False)

    def read(self, path: str, *, platform: str | None = None) -> bytes:
        """Read a file. `aread` is the same for coroutines.

        Args:
            path: The file's path in what was built.
            platform: The platform to look at; the first one, if it is not given.

        Raises:
            BuildKitError: There is no such file.

        Example:
            >>> bk.build(bk.scratch().write("/hello", "hi"), progress="quiet").read("/hello")
            b'hi'
        """
        return wait(self.aread(path, platform=platform), "aread")

    def ls(self, path: str = "/", *, platform: str | None = None) -> tuple[FileInfo, ...]:
        """List a directory. `als` is the same for coroutines.

        Args:
            path: The directory's path in what was built.
            platform: The platform to look at; the first one, if it is not given.

        Raises:
            BuildKitError: There is no such directory.
        """
        return wait(self.als(path, platform=platform), "als")

    def stat(self, path: str, *, platform: str | None = None) -> FileInfo:
        """Look at a file without following a link. `astat` is the same for coroutines.

        Args:
            path: The file's path in what was built.
            platform: The platform to look at; the first one, if it is not given.

        Raises:
            BuildKitError: There is no such file.
        """
        return wait(self.astat(path, platform=platform), "astat")

    async def aread(self, path: str, *, platform: str | None = None) -> bytes:
        """Read a file, as `read`."""
        return await self._ask("reading", path, platform, lambda gateway, ref: gateway.read_file(ref, path))

    async def als(self, path: str = "/", *, platform: str | None = None) -> tuple[FileInfo, ...]:
        """List a directory, as `ls`."""
        found = await self._ask("listing", path, platform, lambda gateway, ref: gateway.read_dir(ref, path))
        return tuple(map(_info, found))

    async def astat(self, path: str, *, platform: str | None = None) -> FileInfo:
        """Look at a file, as `stat`."""
        return _info(await self._ask("looking at", path, platform, lambda gateway, ref: gateway.stat_file(ref, path)))

    async def _ask(self, doing: str, path: str, platform: str | None, ask: Callable[[Gateway, str], Awaitable[T]]) -> T:
        wanted = llb.Platform.parse(platform or self.platforms[0])
        if str(wanted) not in self.platforms:
            raise ValueError(f"The result is for {', '.join(self.platforms)}, and not for {wanted}.")
        # Of several platforms, the one that is asked is enough.
        order = replace(self._order, platforms=(wanted,))
        answers: list[T] = []

        def reading(made_by: PlatformFrontend) -> ReadFrontend[T]:
            return ReadFrontend(made_by=made_by, ask=ask, doing=f"{doing} {path}", answers=answers)

        await order.run(f"{doing} {path}", reading)
        return answers[0]


def _info(found: FileStat) -> FileInfo:
    """Describe a file in Python's words; the daemon uses Go's file modes."""
    kind = next((kind for bit, kind in _MODES.items() if found.mode & 1 << bit), stat.S_IFREG)
    if found.mode & _DEVICE:
        kind = stat.S_IFCHR if found.mode & _CHARACTER_DEVICE else stat.S_IFBLK
    flags = sum(flag for bit, flag in _FLAGS.items() if found.mode & 1 << bit)
    return FileInfo(
        name=found.path,
        mode=kind | flags | found.mode & 0o777,
        size=found.size,
        uid=found.uid,
        gid=found.gid,
        modified=_EPOCH + timedelta(microseconds=found.modified // 1000),
        link=found.link,
    )
