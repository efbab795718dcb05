"""Digests of local files, so that an image can be told from what other files would make.

They say the same on every machine: names, modes, links and contents, and no times. A file that nobody may read counts
as such: it cannot be in an image either.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.errors import BuildKitError
from buildkit_builder.image.file_digests import FileDigests
from buildkit_builder.image.identity import UNKNOWN

# Reading more than this takes longer than is cheap for the question whether an image is there.
BYTES_MAX = 256 << 20
# The same of files whose contents an image's tag is made of; to open one takes as long as to read some of it.
TAGGED_BYTES_MAX = 32 << 20
_OPENING = 8 << 10
WITHOUT_CONTENTS = "names-"
"""How a digest begins for which contents were not read."""
# By an image's name, which Flyte makes of its files once, how those were when this process first saw it.
_named: dict[str, str] = {}


def digest_of(name: str, directories: Iterable[LocalDirectory], exclude: tuple[str, ...] = ()) -> str:
    """A digest of files that an image's tag says nothing of.

    Args:
        name: Of the image: what is in files that were not touched since is remembered for it.
        directories: What would be sent.
        exclude: Patterns of what is left out.

    Returns:
        Sixteen hexadecimal digits; nothing where there are no directories; `UNKNOWN` where it cannot be told, for too
        much to read, or a folder that cannot be read.
    """
    try:
        names, files, size = _listed(directories, exclude, BYTES_MAX)
        if size > BYTES_MAX:
            return UNKNOWN
        return _with_contents(name, names, files) if size >= 0 else ""
    except (BuildKitError, OSError, ValueError):
        return UNKNOWN


def digest_of_tagged(reference: str, directories: Iterable[LocalDirectory]) -> str:
    """A digest of files whose contents an image's tag is made of.

    A tag may have been made before a file was changed, so that contents are read nevertheless; where that would take
    long, only whether this process has seen them change under that tag.

    Args:
        reference: The image's name, with the tag.
        directories: What would be sent.

    Returns:
        As `digest_of`; after `WITHOUT_CONTENTS` where those are left to the tag.
    """
    try:
        names, files, size = _listed(directories, (), None)
        if size + len(files) * _OPENING <= TAGGED_BYTES_MAX:
            return _with_contents(f"sources of {reference.rpartition(':')[0]}", names, files) if size >= 0 else ""
        state = _state_of(files)
    except (BuildKitError, OSError, ValueError):
        return UNKNOWN
    if _named.setdefault(reference, state) != state:
        return UNKNOWN
    return f"{WITHOUT_CONTENTS}{names.hexdigest()[:16]}"


def _listed(
    directories: Iterable[LocalDirectory], exclude: tuple[str, ...], most: int | None
) -> tuple[hashlib._Hash, list[str], int]:
    """All but contents: a digest, the files, and how large they are; -1 for no directory, and not far beyond `most`."""
    names, files, size = hashlib.sha256(), list[str](), -1
    for directory in directories:
        size = max(size, 0)
        names.update(b"directory")  # so that two of them cannot run together into one
        for entry in directory.entries(exclude=exclude):
            names.update(repr((entry.path, entry.mode, entry.link, entry.size)).encode())
            if entry.has_content:
                files.append(entry.source)
            size += entry.size
            if most is not None and size > most:
                return names, files, size
    return names, files, size


def _with_contents(name: str, names: hashlib._Hash, files: Iterable[str]) -> str:
    whole, digests = names.copy(), FileDigests(name)
    for path in files:
        whole.update(_content(path, digests).encode())
    digests.remember()
    return whole.hexdigest()[:16]


def _content(path: str, digests: FileDigests) -> str:
    try:
        return digests.of(path)
    except PermissionError:
        return "unreadable"


def _state_of(files: Iterable[str]) -> str:
    """What this machine's file systems say of files: between two that are the same, none of them was written to."""
    whole = hashlib.sha256()
    for path in files:
        found = os.stat(path)
        whole.update(f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} ".encode())
    return whole.hexdigest()
