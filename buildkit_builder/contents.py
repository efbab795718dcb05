"""Digests of local files, so that an image can be told from what other files would make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from buildkit_builder.errors import BuildKitError
from buildkit_builder.identity import UNKNOWN
from buildkit_builder.session.filesync import LocalDirectory
from buildkit_builder.session.walk import Entry

# Reading more than this takes longer than is cheap for the question whether an image is there.
BYTES_MAX = 256 << 20
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
        Sixteen hexadecimal digits; nothing where there are no directories; `UNKNOWN` where it cannot be told, for too
        much to read, or a folder that cannot be read.
    """
    try:
        found = [entry for directory in directories for entry in [None, *directory.entries(exclude=exclude)]]
        is_long = sum(entry.size for entry in found if entry is not None) > BYTES_MAX
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
    return whole.hexdigest()[:16] if found else ""


def _read(entry: Entry, into: hashlib._Hash) -> None:
    try:
        with open(entry.source, "rb") as file:
            while chunk := file.read(_CHUNK):
                into.update(chunk)
    except PermissionError:
        into.update(b"unreadable")
