"""Digests of local files that Flyte's tag does not cover: contexts of Dockerfiles, projects that others depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from buildkit_builder.errors import BuildKitError
from buildkit_builder.file_digests import FileDigests
from buildkit_builder.session.filesync import LocalDirectory

# Reading more than this takes longer than is cheap for the question whether an image is there.
BYTES_MAX = 256 << 20


def digest_of(directories: Iterable[LocalDirectory], exclude: tuple[str, ...] = ()) -> str:
    """A digest of what a daemon would be sent: names, modes, links and contents, and no times.

    Returns:
        Sixteen hexadecimal digits; nothing where there are no directories, or where it cannot be told: for more than
        `BYTES_MAX` to read, a folder or file that cannot be read, a name that cannot be sent.
    """
    try:
        return _digest_of(directories, exclude)
    except (BuildKitError, OSError, ValueError):
        return ""


def _digest_of(directories: Iterable[LocalDirectory], exclude: tuple[str, ...]) -> str:
    whole = hashlib.sha256()
    room = BYTES_MAX
    looked = False
    for directory in directories:
        looked = True
        digests = FileDigests(f"{directory.name} {directory.root.absolute()}")
        for entry in directory.entries(exclude=exclude):
            whole.update(repr((entry.path, entry.mode, entry.link, entry.size)).encode())
            room -= entry.size
            if room < 0:
                return ""
            if entry.has_content:
                whole.update(digests.of(entry.source).encode())
        digests.remember()
    return whole.hexdigest()[:16] if looked else ""
