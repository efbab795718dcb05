"""The cases of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from contest import Contest, change
from engine import PLATFORMS
from measure import HAND, THEIRS
from subjects import MACHINE, Subject, World

APT = ("git", "curl", "build-essential")
PIP = ("numpy", "pandas", "scikit-learn")
# One for each run: what was installed once is not new any more.
ONE_APT = ("figlet", "tree", "less", "jq", "zip", "rsync", "patchutils", "nano", "bc", "dos2unix", "pv", "lsof")
ONE_PIP = (
    "httpx", "rich", "tqdm", "attrs", "jinja2", "pyyaml", "networkx", "sympy", "flask", "click", "docutils", "tornado",
)  # fmt: skip
MOST_RUNS = len(ONE_APT)


def typical(contest: Contest, world: World, platforms: Sequence[str] = (MACHINE,)) -> Subject:
    """The image of most cases."""
    return Subject(
        world=world, name=world.name, apt=(APT,), pip=(PIP,), source=contest.source(world), platforms=tuple(platforms)
    )


async def single(contest: Contest) -> None:
    """An image of apt packages, pip packages and sources: cold, unchanged, and with one thing changed."""
    row = contest.row("cold: apt, pip, source", {THEIRS: 0.65, HAND: 1.0})
    worlds = await contest.cold(row, lambda world: [typical(contest, world)])
    try:
        await contest.warm(
            contest.row("unchanged, forced", {THEIRS: 0.2, HAND: 0.4}),
            worlds,
            lambda world, _: [typical(contest, world)],
        )
        await contest.warm(
            contest.row("one apt package added", {THEIRS: 0.4, HAND: 1.0}),
            worlds,
            lambda world, run: [replace(typical(contest, world), apt=(APT, (ONE_APT[run],)))],
            check=True,
        )
        await contest.warm(
            contest.row("one pip package added", {THEIRS: 0.6, HAND: 1.0}),
            worlds,
            lambda world, run: [replace(typical(contest, world), pip=(PIP, (ONE_PIP[run],)))],
            check=True,
        )
        await contest.warm(
            contest.row("one pip package added to the layer", {}),
            worlds,
            lambda world, run: [replace(typical(contest, world), pip=((*PIP, ONE_PIP[run]),))],
        )
        await contest.warm(
            contest.row("one source file changed", {THEIRS: 0.4, HAND: 0.6}),
            worlds,
            lambda world, _: [_changed(typical(contest, world))],
        )
    finally:
        contest.engine.forget(*worlds.values())


def _changed(subject: Subject) -> Subject:
    assert subject.source is not None
    change(subject.source)
    return subject


async def platforms(contest: Contest) -> None:
    """The same image for two platforms, cold."""
    if set(contest.engine.platforms()) != set(PLATFORMS):
        contest.note(
            "Two platforms were left out: the engine lacks a base image for one of them, or an emulator. "
            "`BUILDKIT_BUILDER_ENGINE_PLATFORMS='amd64 arm64' scripts/engine up` brings both."
        )
        return
    row = contest.row("amd64 and arm64, cold", {THEIRS: 0.35, HAND: 0.4})
    worlds = await contest.cold(row, lambda world: [typical(contest, world, PLATFORMS)], PLATFORMS)
    contest.engine.forget(*worlds.values())


async def gathered(contest: Contest) -> None:
    """Eight images at once, which have the most in common: cold and unchanged."""
    row = contest.row("eight images gathered, cold", {THEIRS: 0.5, HAND: 1.0})
    worlds = await contest.cold(row, lambda world: _eight(contest, world))
    try:
        await contest.warm(
            contest.row("eight images gathered, unchanged", {THEIRS: 0.15, HAND: 0.5}),
            worlds,
            lambda world, _: _eight(contest, world),
        )
    finally:
        contest.engine.forget(*worlds.values())


def _eight(contest: Contest, world: World) -> list[Subject]:
    return [
        Subject(
            world=world,
            name=f"{world.name}-{number}",
            apt=(("git", "curl"),),
            pip=(("numpy",), (package,)),
            source=contest.source(world),
        )
        for number, package in enumerate(ONE_PIP[:8])
    ]
