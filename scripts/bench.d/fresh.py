"""A machine that has built nothing yet, with a cache in the registry."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cases import ONE_PIP, typical
from contest import Contest
from engine import docker, forget_images
from measure import HAND, OURS, Sample, order
from subjects import Subject

from tests.integration.daemon import daemon

UNCACHED = "ours, without a cache"


async def fresh(contest: Contest) -> None:
    """An engine of its own, empty before each build: with a cache in the registry, and without.

    Its steps use the machine's network, since two engines with networks of their own would fight.
    """
    world = contest.worlds(names=(OURS,))[OURS]
    plain = replace(typical(contest, world), host_network=True)
    archive = contest.work / "images.tar"
    docker("save", f"--output={archive}", world.base, world.uv)
    contest.engine.forget(world)
    with daemon(Path(os.environ["BUILDKIT_BUILDER_DOCKERD"]), os.environ) as own, _variables(
        # The branch of the cache is what the surroundings say.
        DOCKER_HOST=own.address, GITLAB_CI="true", CI_COMMIT_BRANCH="main", CI_DEFAULT_BRANCH="main",
    ):  # fmt: skip
        own.load(archive)
        archive.unlink()

        async def build_fresh(who: str, subject: Subject) -> Sample:
            # buildx has the engine keep what it pushes, unpacked.
            forget_images(f"{world.registry}/*")
            docker("buildx", "prune", "--builder=default", "--force", "--all")
            if who == UNCACHED:
                return await contest.build(OURS, [replace(subject, name=f"{world.name}-uncached")])
            cached = replace(subject, name=f"{world.name}-{who}", cache=f"{world.registry}/cache")
            return await contest.build(who, [cached])

        for who in (OURS, HAND):
            await build_fresh(who, plain)
        unchanged = contest.row("empty engine, cache in the registry: unchanged", {UNCACHED: 0.25})
        added = contest.row("empty engine, cache in the registry: one pip package added", {})
        for run in range(contest.runs):
            more = replace(plain, pip=(*plain.pip, (ONE_PIP[run],)))
            for row, subject in ((unchanged, plain), (added, more)):
                for who in order((OURS, UNCACHED, HAND), run):
                    row.samples.setdefault(who, []).append(await build_fresh(who, subject))


@contextlib.contextmanager
def _variables(**values: str) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
