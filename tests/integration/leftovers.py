"""What a process holds: threads, open files, children, tasks, temporary files; compared before and after a fault."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_SECONDS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What this process holds at one moment.

    Attributes:
        threads: Names of its threads, but those of the loop's own pool, which stay for whoever comes next.
        files: What its descriptors are open on; sockets and the like only by their kind.
        children: Command lines of its children, those that have ended and were not waited for among them.
        tasks: Names of the coroutines that run.
        temporary: What is in its folder for temporary files.
    """

    threads: Counter[str]
    files: Counter[str]
    children: Counter[str]
    tasks: Counter[str]
    temporary: frozenset[str]

    @classmethod
    def now(cls, temporary: Path | None = None) -> Held:
        """Looks."""
        return cls(
            threads=Counter(thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")),
            files=Counter(_open_files()),
            children=Counter(_children()),
            tasks=Counter(_name(task) for task in _tasks()),
            temporary=frozenset(os.listdir(temporary)) if temporary is not None else frozenset(),
        )

    def more_than(self, before: Held) -> dict[str, list[str]]:
        """What is held now and was not before."""
        found = {
            "threads": [*(self.threads - before.threads)],
            "files": [*(self.files - before.files)],
            "children": [*(self.children - before.children)],
            "tasks": [*(self.tasks - before.tasks)],
            "temporary": [*(self.temporary - before.temporary)],
        }
        return {kind: things for kind, things in found.items() if things}


async def left_since(before: Held, temporary: Path | None = None) -> dict[str, list[str]]:
    """What is left since a moment, once what is on its way out has gone: sockets close in the background."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_SECONDS
    while (left := Held.now(temporary).more_than(before)) and loop.time() < deadline:
        await asyncio.sleep(0.05)
    return left


def _open_files() -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            # The number in `socket:[1234]` says nothing; that there is one more of them does.
            found.append(target.partition(":[")[0])
    return found


def _children() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == os.getpid():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode() or "ended")
    return found


def _tasks() -> set[asyncio.Task[object]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return set()


def _name(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", repr(coroutine))
