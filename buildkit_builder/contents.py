"""Digests of local files that Flyte's tag does not cover: contexts of Dockerfiles, projects that others depend on.

A context may hold much that no image ever copies, and all of it counts, as nobody knows what a base or an argument may
make a Dockerfile copy. So what a file's content was is remembered for as long as nobody has touched the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable

from buildkit_builder import config
from buildkit_builder.errors import BuildKitError
from buildkit_builder.session.filesync import LocalDirectory
from buildkit_builder.session.times import is_settled
from buildkit_builder.session.walk import Entry
from buildkit_builder.solve.memory import Memory

# Reading more than this takes longer than is cheap for the question whether an image is there.
BYTES_MAX = 256 << 20
_CHUNK = 1 << 20
_FIELDS = 5  # of what is remembered of a file


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
        digests = FileDigests(directory)
        for entry in directory.entries(exclude=exclude):
            whole.update(repr((entry.path, entry.mode, entry.link, entry.size)).encode())
            room -= entry.size
            if room < 0:
                return ""
            if entry.has_content:
                whole.update(digests.of(entry).encode())
        digests.remember()
    return whole.hexdigest()[:16] if looked else ""


class FileDigests:
    """The digests of a directory's files, most of which are as they were the last time.

    Args:
        directory: Of which nothing has been listed yet.
    """

    def __init__(self, directory: LocalDirectory) -> None:
        self._memory = Memory(config.state_home(config.environment()) / "buildkit-builder" / "digests")
        self._name = ascii((directory.name, str(directory.root.absolute())))
        self._begun = time.time_ns()
        self._known: dict[str, list[object]] = {}
        self._seen: dict[str, list[object]] = {}
        with contextlib.suppress(ValueError):
            remembered = json.loads(self._memory.recall(self._name) or "{}")
            if isinstance(remembered, dict):
                self._known = remembered

    def of(self, entry: Entry) -> str:
        """The digest of a file's content.

        Raises:
            OSError: It cannot be read.
        """
        # No program can set when an inode was last changed, so that no change of the content is hidden.
        as_is = [entry.inode, entry.size, entry.mtime, entry.changed]
        known = self._known.get(entry.source)
        if isinstance(known, list) and len(known) == _FIELDS and known[:-1] == as_is:
            digest = str(known[-1])
        else:
            digest = _digest(entry.source)
        if is_settled(entry, self._begun):
            self._seen[entry.source] = [*as_is, digest]
        return digest

    def remember(self) -> None:
        """Keeps what has been found for the next time."""
        if self._seen != self._known:
            self._memory.note(self._name, json.dumps(self._seen))


def _digest(source: str) -> str:
    digest = hashlib.sha256()
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
