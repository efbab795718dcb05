"""What is remembered from one build to the next.

What is in an image never depends on it: what is remembered wrongly, or by an older version, costs time, or a line in a
daemon's history.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

WEEK_SECONDS = 7 * 24 * 3600.0
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory in a folder, a small file for each thing; any number of processes may use it at once.

    Attributes:
        folder: Made when there is something to remember; `None` to remember nothing.
        forgets_after: Seconds.
    """

    folder: Path | None = None
    forgets_after: float = WEEK_SECONDS

    def recall(self, key: str) -> str | None:
        """What was noted last, unless that is too long ago."""
        if self.folder is None:
            return None
        file = self._file(self.folder, key)
        try:
            if time.time() - file.stat().st_mtime > self.forgets_after:
                return None
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def note(self, key: str, text: str) -> None:
        """Remembers something; where it cannot be written, the next build finds out by itself."""
        if self.folder is None or self.recall(key) == text:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file(self.folder, key).write_text(text, encoding="utf-8")
            self._make_room(self.folder)

    def forget(self, key: str) -> None:
        """Takes back what was noted."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self._file(self.folder, key).unlink()

    def _file(self, folder: Path, key: str) -> Path:
        return folder / hashlib.sha256(key.encode()).hexdigest()

    def _make_room(self, folder: Path) -> None:
        files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[:-_MOST]:
            file.unlink(missing_ok=True)
