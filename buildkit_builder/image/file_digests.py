"""Digests of files, most of which are as they were the last time and need not be read again.

A Dockerfile's context may hold much that no image ever copies, and all of it counts, as nobody knows what a base or an
argument may make a Dockerfile copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time

from buildkit_builder import config
from buildkit_builder.buildkit.session.times import is_settled
from buildkit_builder.image.memory import Memory

_CHUNK = 1 << 20
_FIELDS = 5  # of what is remembered of a file


class FileDigests:
    """The digests of some files.

    Args:
        name: Of the files: the next who gives it is told what was remembered.
    """

    def __init__(self, name: str) -> None:
        self._memory = Memory(config.state_home(config.environment()) / "buildkit-builder" / "digests")
        self._name = ascii(name)
        self._begun = time.time_ns()
        self._known: dict[str, list[object]] = {}
        self._seen: dict[str, list[object]] = {}
        with contextlib.suppress(ValueError):
            remembered = json.loads(self._memory.recall(self._name) or "{}")
            if isinstance(remembered, dict):
                self._known = remembered

    def of(self, path: str) -> str:
        """The digest of a file's content.

        Raises:
            OSError: It cannot be read.
        """
        status = os.stat(path)
        # No program can set when an inode was last changed, so that no change of the content is hidden.
        as_is = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = self._known.get(path)
        if isinstance(known, list) and len(known) == _FIELDS and known[:-1] == as_is:
            digest = str(known[-1])
        else:
            digest = _digest(path)
        if is_settled(status.st_ctime_ns, self._begun):
            self._seen[path] = [*as_is, digest]
        return digest

    def remember(self) -> None:
        """Keeps what has been found for the next time."""
        if self._seen != self._known:
            self._memory.note(self._name, json.dumps(self._seen))


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
