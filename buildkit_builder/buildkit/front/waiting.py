"""Calls that wait for a coroutine, for programs without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def wait(coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """Run a coroutine to its end.

    Args:
        coroutine: What to run.
        name: What to write instead where an event loop runs.

    Raises:
        RuntimeError: An event loop runs in this thread, and would stand still.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    coroutine.close()
    raise RuntimeError(f"An event loop runs in this thread, and would stand still. Write `await ….{name}(…)`.")
