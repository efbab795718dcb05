"""Results that the daemon sends to this machine: kept aside until the build has succeeded, and then put in place.

A build whose push fails after its archive was written leaves no archive, and one that is cancelled no half of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit_builder.buildkit.build.exporters import DockerArchive, Exporter, Files, OciArchive, TarArchive
from buildkit_builder.buildkit.session.attachable import Attachable
from buildkit_builder.buildkit.session.filesend import Directory, FileReceiver, TarFile, Target
from buildkit_builder.errors import BuildKitError, ConfigError

_RESULT = "result"


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One result: where it is kept aside, and where it belongs. They are the same for a device or a pipe."""

    aside: Path
    path: Path


class Delivery:
    """What becomes of the results that a build's exporters send.

    Args:
        exporters: Of the build, in the order of the request.

    Raises:
        ConfigError: Two of them write to the same place.
        BuildKitError: A place cannot be written to.
    """

    def __init__(self, exporters: Sequence[Exporter]) -> None:
        self._parcels: list[_Parcel] = []
        self._targets: dict[int, Target] = {}
        try:
            for index, exporter in enumerate(exporters):
                if isinstance(exporter, OciArchive | DockerArchive | TarArchive | Files):
                    self._expect(index, exporter.path, is_folder=isinstance(exporter, Files))
        except BaseException:
            self.discard()
            raise

    @property
    def attachables(self) -> tuple[Attachable, ...]:
        """What the session has to offer for it."""
        return (FileReceiver(self._targets),) if self._targets else ()

    def complete(self) -> None:
        """Puts every result in its place, now that all of them are there.

        Raises:
            BuildKitError: One cannot be put there.
        """
        for parcel in self._parcels:
            try:
                if parcel.aside == parcel.path or not parcel.aside.exists():
                    continue
                if _is_folder(parcel.path):
                    _put_all(parcel.aside, parcel.path)
                else:
                    _put(parcel.aside, parcel.path)
            except OSError as error:
                raise _unwritable(parcel.path, error) from error

    def discard(self) -> None:
        """Removes what was kept aside and did not get to its place."""
        for parcel in self._parcels:
            if parcel.aside != parcel.path:
                with contextlib.suppress(OSError):
                    _make_removable(parcel.aside)
                shutil.rmtree(parcel.aside.parent, ignore_errors=True)

    def _expect(self, index: int, path: Path, *, is_folder: bool) -> None:
        try:
            special = _is_special(path)
            path = path.absolute() if special else path.resolve()
            if path in (parcel.path for parcel in self._parcels):
                raise ConfigError(f"Two exporters of one build write to {path}; give each a place of its own.")
            aside = path if special and not is_folder else _beside(path, is_folder=is_folder)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._parcels.append(_Parcel(aside, path))
        self._targets[index] = Directory(aside) if is_folder else TarFile(aside)


def _is_special(path: Path) -> bool:
    """Tells whether a path is a device or a pipe, which must not be replaced."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _beside(path: Path, *, is_folder: bool) -> Path:
    """A place on the same file system, so that moving is renaming."""
    if path.exists() and path.is_dir() != is_folder:
        raise BuildKitError(f"The result cannot be written to {path}, which is {'no' if is_folder else 'a'} folder.")
    # A folder that is there may be the place that another file system is mounted at.
    folder = path if is_folder and path.exists() else path.parent
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{path.name[:50]}.", suffix=".part", dir=folder)) / _RESULT


def _put(source: Path, target: Path) -> None:
    """Moves a file or a folder; to a folder that is there already, what is in it is added."""
    if not _is_folder(source):
        if _is_folder(target):
            raise BuildKitError(f"{target} is a folder, and a file of the result has its name. Remove it first.")
        _replace(source, target)
        return
    status = source.stat()
    # What is renamed into another folder, or out of one, has to be writable.
    source.chmod(stat.S_IMODE(status.st_mode) | 0o700)
    if not _is_folder(target):
        target.unlink(missing_ok=True)
        if not _renamed(source, target):
            target.chmod(stat.S_IMODE(status.st_mode))
            return
        target.mkdir(0o700)
    _put_all(source, target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    target.chmod(stat.S_IMODE(status.st_mode))


def _replace(source: Path, target: Path) -> None:
    """Puts what is no folder in the place of another; it is copied where another file system begins."""
    obstacle = _renamed(source, target)
    if obstacle == errno.EBUSY:
        shutil.copyfile(source, target)  # a single file that is mounted can only be written into
    elif obstacle:
        with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=target.parent) as near:
            copied = shutil.copy2(source, Path(near) / _RESULT, follow_symlinks=False)
            os.replace(copied, target)


def _renamed(source: Path, target: Path) -> int:
    """Renames; returns 0, or the number of the error where another file system is mounted there."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EBUSY):
            raise
        return error.errno
    return 0


def _put_all(source: Path, target: Path) -> None:
    for entry in sorted(source.iterdir()):
        _put(entry, target / entry.name)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _make_removable(path: Path) -> None:
    if _is_folder(path):
        path.chmod(0o700)
        for entry in path.iterdir():
            _make_removable(entry)


def _unwritable(path: Path, error: OSError) -> BuildKitError:
    return BuildKitError(f"The result cannot be written to {path}: {error.strerror}.")
