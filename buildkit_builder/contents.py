"""Digests of local files, so that an image can be told from what other files would make."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from buildkit_builder.errors import BuildKitError
from buildkit_builder.identity import UNKNOWN
from buildkit_builder.session.filesync import LocalDirectory
from buildkit_builder.session.walk import Entry

# Reading more than this takes longer than is cheap for the question whether an image is there.
BYTES_MAX = 256 << 20
# The same of files whose contents an image's tag is made of.
TAGGED_BYTES_MAX = 32 << 20
WITHOUT_CONTENTS = "names-"
"""How a digest begins for which contents were not read."""
_CHUNK = 1 << 20


def digest_of(
    directories: Iterable[LocalDirectory], exclude: tuple[str, ...] = (), *, contents_are_in_tag: bool = False
) -> str:
    """A digest of what a daemon would be sent: names, modes, links and contents, and no times.

    It says the same on every machine. A file that nobody may read counts as such: it cannot be in an image either.

    Args:
        directories: What would be sent.
        exclude: Patterns of what is left out.
        contents_are_in_tag: The image's tag changes with the contents. They are read nevertheless, since a tag may have
            been made before a file was changed, but where that would take long the rest is enough.

    Returns:
        Sixteen hexadecimal digits, after `WITHOUT_CONTENTS` where those are left to the tag; nothing where there are no
        directories; `UNKNOWN` where it cannot be told, for too much to read, or a folder that cannot be read.
    """
    try:
        found = [entry for directory in directories for entry in [None, *directory.entries(exclude=exclude)]]
        most = TAGGED_BYTES_MAX if contents_are_in_tag else BYTES_MAX
        is_long = sum(entry.size for entry in found if entry is not None) > most
        if is_long and not contents_are_in_tag:
            return UNKNOWN
        whole = hashlib.sha256()
        for entry in found:
            if entry is None:
                whole.update(b"directory")  # so that two of them cannot run together into one
                continue
            whole.update(repr((entry.path, entry.mode, entry.link, entry.size)).encode())
            if entry.has_content and not is_long:
                _read(entry, whole)
    except (BuildKitError, OSError, ValueError):
        return UNKNOWN
    return f"{WITHOUT_CONTENTS if is_long else ''}{whole.hexdigest()[:16]}" if found else ""


def state_of(directories: Iterable[LocalDirectory]) -> str:
    """What this machine's file systems say of files: no two states are the same between which a file was written to.

    Raises:
        OSError: One is gone.
        SourceError: A folder cannot be read.
    """
    whole = hashlib.sha256()
    for entry in (entry for directory in directories for entry in directory.entries() if entry.has_content):
        found = os.stat(entry.source)
        whole.update(repr((entry.path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)).encode())
    return whole.hexdigest()


def _read(entry: Entry, into: hashlib._Hash) -> None:
    try:
        with open(entry.source, "rb") as file:
            while chunk := file.read(_CHUNK):
                into.update(chunk)
    except PermissionError:
        into.update(b"unreadable")
