"""Runs a command and writes what it cost to a file: `timed.py FILE COMMAND...`.

A program of its own, and small, since the kernel counts the memory that a process had before it became another program.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> int:
    """Writes seconds, seconds of processor time, and megabytes of memory, of the command and what it ran."""
    start = time.perf_counter()
    process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write(f"{seconds} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss / 1024}")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
