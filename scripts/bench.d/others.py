"""Cases beside the table of the issue: whole commands, a large folder of sources, our memory, our imports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from cases import typical
from contest import Contest, change, make_files
from measure import OURS, THEIRS, order
from subjects import Subject, World

_LARGE = 1_000_000_000


async def command(contest: Contest) -> None:
    """Nothing changed, as a command: ours and Flyte's own as new Python processes, which import Flyte first."""
    row = contest.row("unchanged, as a command", {})
    worlds = contest.worlds()
    try:
        for who, world in worlds.items():
            await contest.build(who, [typical(contest, world)])
        for run in range(contest.runs):
            for who in order(list(worlds), run):
                sample = await contest.build_as_command(who, typical(contest, worlds[who]))
                row.samples.setdefault(who, []).append(sample)
    finally:
        contest.engine.forget(*worlds.values())


async def large(contest: Contest) -> None:
    """A source folder of 1 GB in 20,000 files, ours and Flyte's own: unchanged, and with one file changed.

    Flyte's own builder takes most of a minute each time, and each change leaves 3 GB: so it is a few runs only.
    """
    folder = contest.work / "large"
    make_files(folder, 20_000, _LARGE)
    worlds = contest.worlds(names=(OURS, THEIRS))

    def subjects(world: World, _: int) -> list[Subject]:
        return [Subject(world=world, name=world.name, source=folder)]

    def changed(world: World, run: int) -> list[Subject]:
        change(folder)
        return subjects(world, run)

    try:
        for who, world in worlds.items():
            await contest.build(who, subjects(world, 0))
        row = contest.row("1 GB in 20,000 files, unchanged", {THEIRS: 0.15})
        await contest.warm(row, worlds, subjects, runs={THEIRS: 2})
        row = contest.row("1 GB in 20,000 files, one changed", {THEIRS: 0.8})
        await contest.warm(row, worlds, changed, runs={OURS: 2, THEIRS: 1})
    finally:
        contest.engine.forget(*worlds.values())
        contest.engine.forget_sources(_LARGE)
        shutil.rmtree(folder)


_MEMORY = """
import asyncio, json, sys
from pathlib import Path
from flyte import Image
from buildkit_builder.flyte_plugin import image_build
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder

def status(key):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(key))
    return int(line.split()[1]) / 1024

def image(folder):
    base = Image.from_base(sys.argv[1]).clone(name=sys.argv[2], registry=sys.argv[3], extendable=True)
    return base.with_source_folder(Path(folder), dst="/data")

async def main():
    await BuildKitImageBuilder().build_image(image(sys.argv[4]))
    idle = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    subject = image(sys.argv[5])
    subject.uri
    await BuildKitImageBuilder().build_image(subject)
    print(json.dumps({"idle": idle, "peak": status("VmHWM")}))

asyncio.run(main())
"""


async def memory(contest: Contest) -> None:
    """Our process while it sends 1 GB that the daemon has not seen, against the same process idle."""
    small = contest.work / "small"
    make_files(small, 2, 2000)
    for case, files in (("one file", 1), ("20,000 files", 20_000)):
        folder = contest.work / f"memory-{files}"
        make_files(folder, files, _LARGE)
        world = contest.worlds(names=(OURS,))[OURS]
        arguments = [world.base, world.name, world.registry, str(small), str(folder)]
        try:
            done = subprocess.run(
                [sys.executable, "-c", _MEMORY, *arguments], stdout=subprocess.PIPE, text=True, check=True
            )
        finally:
            contest.engine.forget(world)
            contest.engine.forget_sources(_LARGE)
            shutil.rmtree(folder)
        figures = json.loads(done.stdout.splitlines()[-1])
        grown = figures["peak"] - figures["idle"]
        contest.note(f"memory while sending 1 GB, {case}: {grown:.0f} MB above {figures['idle']:.0f} MB idle (bar: 80)")


async def imports(contest: Contest) -> None:
    """What `import buildkit_builder` and the entry points add to `import flyte`."""

    def seconds(statement: str) -> float:
        code = f"import flyte, time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        return min(
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
            for _ in range(max(contest.runs, 5))
        )

    for statement in ("import buildkit_builder", "import buildkit_builder.flyte_plugin.activation as a; a.activate()"):
        contest.note(f"`{statement}` after `import flyte`: {seconds(statement) * 1000:.1f} ms (bar: 60)")
