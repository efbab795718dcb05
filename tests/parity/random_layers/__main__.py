"""Compares random images from the command line: `python -m tests.parity.random_layers --seeds 100-200 --minutes 10`.

An engine must be up, and its variables set: `eval "$(scripts/engine env)"`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from buildkit_builder.flyte_plugin import reader
from buildkit_builder.image.spec import ImageSpec
from tests.conftest import Engine, _engine
from tests.parity.bases import Bases
from tests.parity.random_layers.layers import evaluated
from tests.parity.random_layers.sequences import LEFT, Comparison, drawn, seeds_of
from tests.parity.random_layers.world import World, opened
from tests.parity.twice import build_twice, in_order, in_parallel


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.random_layers", description=__doc__)
    parser.add_argument(
        "--seeds", type=seeds_of, default=itertools.count(), help="100-200,7; all from 0 when not given"
    )
    parser.add_argument("--minutes", type=float, default=10, help="begin no more sequences after these")
    parser.add_argument("--jobs", type=int, default=2, help="sequences at the same time")
    parser.add_argument("--show", action="store_true", help="only print the sequences of the seeds")
    parser.add_argument("--code", help="compare one image: an expression with `base` and `files` in it")
    parser.add_argument("--base", default="plain", help="the base of --code")
    parser.add_argument("--platform", default="linux/amd64", help="the platform of --code")
    options = parser.parse_args()
    if options.show:
        for seed in options.seeds:
            print(f"# seed {seed}\n{drawn(seed)}")
        return 0
    engine = _engine()
    docker = shutil.which("docker", path=engine.environ["PATH"])
    assert docker is not None
    bases = Bases(engine=engine, docker=docker, repository="random")
    with tempfile.TemporaryDirectory() as folder, opened(bases, Path(folder)) as world:
        if options.code:
            return asyncio.run(_one(world, engine, options))
        comparison = Comparison(world=world, address=engine.address)
        try:
            asyncio.run(_many(comparison, options))
        except KeyboardInterrupt:
            print("interrupted")
        print(comparison.summary())
        return 1 if comparison.found else 0


async def _one(world: World, engine: Engine, options: argparse.Namespace) -> int:
    image = evaluated(options.code, world, world.base(options.base, options.platform))
    spec = reader.read(image)
    assert isinstance(spec, ImageSpec)
    outcome = await build_twice(spec, engine.address, (in_parallel, in_order), ignored=LEFT)
    print(outcome.kind, outcome.step)
    print(outcome.text)
    return 1 if outcome.is_fault else 0


async def _many(comparison: Comparison, options: argparse.Namespace) -> None:
    until = time.monotonic() + options.minutes * 60

    def in_time(seeds: Iterable[int]) -> Iterator[int]:
        for number, seed in enumerate(seeds):
            if time.monotonic() > until:
                print(f"the time is up before seed {seed}")
                return
            if number % 25 == 24:
                print(f"# before seed {seed}: {dict(comparison.seen)}", flush=True)
            yield seed

    async for finding in comparison.run(in_time(options.seeds), jobs=options.jobs):
        print(finding, end="\n\n", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
