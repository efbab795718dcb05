"""What several builds ask for at the same time, and one of them is enough to find out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

# So that builds that overlap without end still learn of a tag that has moved.
_FRESH_SECONDS = 60.0


class SingleFlight(Generic[T]):
    """Answers that builds share, each asked for by the first that needs it.

    Args:
        clock: Seconds of a clock that only goes forward; answers are forgotten after a minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[Hashable, tuple[float, asyncio.Future[T]]] = {}

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """What another build has found, or is about to find; else what `ask` finds.

        A failure is never shared: it may come of the end of the build that asked.

        Args:
            key: What is asked for.
            ask: Finds it.

        Raises:
            Exception: As `ask`.
        """
        since, asked = self._asked.get(key, (0.0, None))
        if asked is not None and self._clock() - since < _FRESH_SECONDS:
            await asyncio.wait((asked,))
            return await ask() if asked.cancelled() else asked.result()
        asked = asyncio.get_running_loop().create_future()
        entry = self._asked[key] = (self._clock(), asked)
        try:
            found = await ask()
        except BaseException:
            asked.cancel()
            if self._asked.get(key) is entry:
                del self._asked[key]
            raise
        asked.set_result(found)
        return found
