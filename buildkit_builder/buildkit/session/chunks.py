"""What is read in threads, a batch at a time, by a generator that holds a file open meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Generator


class Chunks:
    """Has a generator closed however a call ends: one that is cancelled leaves it behind, perhaps with a thread in it.

    Args:
        chunks: The generator.
    """

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._over = False

    def take(self, size: int) -> list[bytes]:
        """Takes chunks until they have `size` bytes together; none when there are no more. Blocks."""
        batch: list[bytes] = []
        taken = 0
        for chunk in self._chunks:
            batch.append(chunk)
            taken += len(chunk)
            if taken >= size:
                break
        if self._over:
            self._chunks.close()
        return batch

    def close(self) -> None:
        """Lets go of what the generator holds, at once or as soon as no thread is in it."""
        self._over = True
        with contextlib.suppress(ValueError):  # a thread is, and looks when it is done
            self._chunks.close()
