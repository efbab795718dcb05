"""Digests of local files that Flyte's tag does not cover: contexts of Dockerfiles, projects that others depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from buildkit_builder.session.filesync import LocalDirectory

# Reading more than this takes longer than is cheap for the question whether an image is there.
BYTES_MAX = 256 << 20
_CHUNK = 1 << 20


def digest_of(directories: Iterable[LocalDirectory], exclude: tuple[str, ...] = ()) -> str:
    """A digest of what a daemon would be sent: names, modes, links and contents, and no times.

    Returns:
        Sixteen hexadecimal digits; nothing where there are no directories, or more than `BYTES_MAX` to read.

    Raises:
        SourceError: A file cannot be read, or has a name that cannot be sent.
    """
    whole = hashlib.sha256()
    room = BYTES_MAX
    looked = False
    for directory in directories:
        looked = True
        for entry in directory.entries(exclude=exclude):
            whole.update(repr((entry.path, entry.mode, entry.link, entry.size)).encode())
            room -= entry.size
            if room < 0:
                return ""
            if entry.has_content:
                with open(entry.source, "rb") as file:
                    while chunk := file.read(_CHUNK):
                        whole.update(chunk)
    return whole.hexdigest()[:16] if looked else ""
