"""This package, Flyte's own builder and a Dockerfile written by hand, in turns, on one daemon."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import cases
import fresh
import others
import sending
from by_hand import ByHand
from contest import Contest
from engine import Engine
from registry import registry
from table import NOTES, costs_table, machine, others_table, seconds_table

CASES: dict[str, Callable[[Contest], Awaitable[None]]] = {
    "single": cases.single,
    "platforms": cases.platforms,
    "gathered": cases.gathered,
    "command": others.command,
    "fresh": fresh.fresh,
    "sending": sending.sending,
    "large": others.large,
    "memory": others.memory,
    "imports": others.imports,
}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    listed = "\n".join(f"  {name:10} {(case.__doc__ or '').splitlines()[0]}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog=f"cases:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runs", type=int, default=5, choices=range(1, cases.MOST_RUNS + 1), metavar="N", help="builds of each (5)"
    )
    parser.add_argument("--case", action="append", choices=CASES, metavar="CASE", help="all of them when not given")
    parser.add_argument(
        "--warm-downloads", action="store_true",
        help="let a cold build find its packages in the cache mounts, as where other images had them",
    )  # fmt: skip
    parser.add_argument(
        "--push-only", action="store_true",
        help="have buildx tell the engine to neither keep nor unpack what it pushes, as ours does",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run to a file as well")
    return parser.parse_args()


async def main() -> None:
    """Runs the chosen cases and prints the tables."""
    chosen = arguments()
    os.environ.setdefault("FLYTE_BUILDKIT_PROGRESS", "quiet")
    own = asyncio.current_task()
    assert own is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        # Whoever ends the bench does not want to keep what it has put into the engine.
        asyncio.get_running_loop().add_signal_handler(number, own.cancel)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        work = Path(folder)
        for name in ("images", "work"):
            (work / name).mkdir()
        with registry(Path(os.environ["BUILDKIT_BUILDER_REGISTRY_BIN"]), work / "registry") as served:
            contest = Contest(
                runs=chosen.runs,
                warm_downloads=chosen.warm_downloads,
                engine=Engine(served.address, work / "images"),
                registry=served,
                hand=ByHand(work / "by-hand", push_only=chosen.push_only),
                work=work / "work",
            )
            contest.engine.prepare()
            try:
                for name in chosen.case or CASES:
                    await CASES[name](contest)
            finally:
                # Also when it is ended early: what was measured was measured.
                tell(contest, chosen.json)
                contest.engine.close()


def tell(contest: Contest, file: Path | None) -> None:
    """Prints what was measured, and writes it to a file."""
    what = machine(contest.runs)
    parts = [what]
    if contest.rows:
        parts += [seconds_table(contest.rows), others_table(contest.rows), costs_table(contest.rows), NOTES]
    print("\n\n".join(filter(None, [*parts, *contest.notes])))
    if file is not None:
        rows = [row.to_json() for row in contest.rows]
        whole = {"machine": what, "platform": platform.platform(), "rows": rows, "notes": contest.notes}
        file.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        sys.exit("ended")
