"""Builds by all contestants in turns, cold and warm."""

from __future__ import annotations

import json
import random
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ours
import theirs
from by_hand import ByHand
from engine import Engine
from equal import check_equal
from measure import HAND, OURS, THEIRS, Build, Row, Sample, as_command, in_process, measured, order
from registry import Registry
from subjects import MACHINE, Subject, World, flyte_image

NAMES = (OURS, THEIRS, HAND)
_ONE = Path(__file__).with_name("one.py")
_PIECE = 16 << 20


@dataclass(kw_only=True)
class Contest:
    """What cases work with.

    Attributes:
        runs: How often each contestant builds.
        warm_downloads: Whether packages are in the cache mounts when a cold build begins.
        hand: The Dockerfile written by hand.
        work: For folders of sources.
        rows: What was measured.
        notes: What was measured and is no line of the table.
    """

    runs: int
    warm_downloads: bool
    engine: Engine
    registry: Registry
    hand: ByHand
    work: Path
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, case: str, bars: Mapping[str, float]) -> Row:
        """A new line of the table, with bars by contestant."""
        row = Row(case=case, bars=bars)
        self.rows.append(row)
        return row

    def note(self, text: str) -> None:
        """Something to be told below the tables."""
        self.notes.append(text)
        say(text)

    async def build(self, who: str, subjects: Sequence[Subject]) -> Sample:
        """Has a contestant build images of one world, all at once."""
        if who == OURS:
            return await self._measured(who, in_process(ours.prepare(subjects), alone=True))
        if who == THEIRS:
            return await self._measured(who, in_process(theirs.prepare(subjects), alone=False))
        return await self._measured(who, self.hand.prepare(subjects))

    async def build_as_command(self, who: str, subject: Subject) -> Sample:
        """Has a contestant build an image in a process of its own."""
        if who == HAND:
            return await self.build(who, [subject])
        command = [sys.executable, str(_ONE), who, json.dumps(subject.to_json())]
        return await self._measured(who, as_command(command))

    async def _measured(self, who: str, build: Build) -> Sample:
        sample = await measured(build, self.registry)
        say(f"  {who}: {sample.seconds:.2f} s, {sample.pushed_bytes / 1e6:.1f} MB pushed, {sample.reused} blobs reused")
        return sample

    def worlds(self, platforms: Sequence[str] = (MACHINE,), names: Sequence[str] = NAMES) -> dict[str, World]:
        """A new world for each contestant, to be forgotten by the caller.

        Its cache mounts are warm if there was another before, and that is what is measured.
        """
        run = self.engine.registry.rpartition("-")[2]
        return {
            who: self.engine.world(who, platforms, caches=f"{who}-{run}" if self.warm_downloads else "")
            for who in names
        }

    async def cold(
        self,
        row: Row,
        subjects: Callable[[World], Sequence[Subject]],
        platforms: Sequence[str] = (MACHINE,),
    ) -> dict[str, World]:
        """Measures builds that begin with nothing.

        Args:
            row: To note it in.
            subjects: What is built of a world.
            platforms: For which.

        Returns:
            The worlds of the last run, to go on in and to be forgotten by the caller.
        """
        worlds: dict[str, World] = {}
        try:
            for run in range(-self.warm_downloads, self.runs):
                self.engine.forget(*worlds.values())
                worlds = self.worlds(platforms)
                say(f"{row.case}: run {run + 1} of {self.runs}")
                for who in order(NAMES, run):
                    sample = await self.build(who, subjects(worlds[who]))
                    if run >= 0:
                        row.samples.setdefault(who, []).append(sample)
                if run == 0:
                    self._check({who: subjects(world)[0] for who, world in worlds.items()})
        except BaseException:
            self.engine.forget(*worlds.values())
            raise
        return worlds

    async def warm(
        self,
        row: Row,
        worlds: Mapping[str, World],
        subjects: Callable[[World, int], Sequence[Subject]],
        *,
        runs: Mapping[str, int] | None = None,
        check: bool = False,
    ) -> None:
        """Measures builds in worlds that were built in before.

        Args:
            row: To note it in.
            worlds: By contestant.
            subjects: What is built of a world, in a run; called right before the build.
            runs: Of contestants that build less often.
            check: Whether to compare what the contestants have made.
        """
        for run in range(self.runs):
            say(f"{row.case}: run {run + 1} of {self.runs}")
            built = {}
            for who in order(list(worlds), run):
                if run < (runs or {}).get(who, self.runs):
                    built[who] = subjects(worlds[who], run)
                    row.samples.setdefault(who, []).append(await self.build(who, built[who]))
            if check and run == 0:
                self._check({who: chosen[0] for who, chosen in built.items()})

    def _check(self, subjects: Mapping[str, Subject]) -> None:
        names = {who: pushed_as(who, subject) for who, subject in subjects.items()}
        check_equal(names, next(iter(subjects.values())))
        say("  the images are alike")

    def source(self, world: World, files: int = 100, total: int = 1_000_000) -> Path:
        """A world's folder of sources, one of which no other world has."""
        folder = self.work / world.name / "source"
        if not folder.exists():
            make_files(folder, files, total)
            change(folder)
        return folder


def pushed_as(who: str, subject: Subject) -> str:
    """What a contestant calls an image."""
    return f"{subject.repository}:latest" if who == HAND else flyte_image(subject).uri


def make_files(folder: Path, files: int, total: int) -> None:
    """Makes files that do not compress, 200 to a folder."""
    numbers = random.Random(1)
    for number in range(files):
        path = folder / f"part{number // 200:03d}" / f"file{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for begin in range(0, total // files, _PIECE):
                file.write(numbers.randbytes(min(_PIECE, total // files - begin)))


def change(folder: Path) -> None:
    """Changes one file of sources."""
    (folder / "changed.txt").write_text(uuid.uuid4().hex * 100)


def say(text: str) -> None:
    """Tells how far the bench is."""
    print(text, file=sys.stderr, flush=True)
