"""How installations ended that were tried ahead, remembered from one build to the next.

What is remembered only decides which of two right graphs is tried first: one that is wrong costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["done", "waits"]

# An index may have a wheel by then that it did not have.
_FORGOTTEN_AFTER_SECONDS = 7 * 24 * 3600
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Attempts:
    """A memory in a folder, a small file for each attempt; any number of processes may use it at once.

    Attributes:
        folder: Made when there is something to remember; `None` to remember nothing.
    """

    folder: Path | None = None

    def recall(self, digest: str) -> Outcome | None:
        """How an attempt ended the last time.

        Args:
            digest: Of its vertex.
        """
        if self.folder is None:
            return None
        file = self._file(self.folder, digest)
        try:
            if time.time() - file.stat().st_mtime > _FORGOTTEN_AFTER_SECONDS:
                return None
            return "waits" if file.read_bytes() == b"waits" else "done"
        except OSError:
            return None

    def note(self, digest: str, outcome: Outcome) -> None:
        """Remembers how an attempt ended; where that cannot be written, the next build finds out by itself."""
        if self.folder is None or self.recall(digest) == outcome:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file(self.folder, digest).write_bytes(outcome.encode())
            self._make_room(self.folder)

    def _file(self, folder: Path, digest: str) -> Path:
        return folder / digest.replace(":", "-")

    def _make_room(self, folder: Path) -> None:
        files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[:-_MOST]:
            file.unlink(missing_ok=True)
