"""Random images, each built in parallel and in order on the real engine, must be the same to the last file.

`BUILDKIT_BUILDER_THOROUGH=1` compares hundreds. What is found is printed as code, made as short as it can be; then
`python -m tests.parity.random_layers --seeds 7` does the same again, and `--code` tries an image by hand.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from flyte import Image

from tests.conftest import Engine
from tests.parity.builders import Tally
from tests.parity.conftest import TALLY
from tests.parity.random_layers.found import FOUND
from tests.parity.random_layers.layers import evaluated
from tests.parity.random_layers.recipes import AHEAD, ASIDE, RECIPES
from tests.parity.random_layers.sequences import Comparison, Finding, Layers, drawn
from tests.parity.random_layers.vocabulary import LAYERS
from tests.parity.random_layers.world import World
from tests.parity.twice import Outcome

THOROUGH = bool(os.environ.get("BUILDKIT_BUILDER_THOROUGH"))
KNOWN, FRESH = (300, 200) if THOROUGH else (12, 4)
FAILS = ".with_commands(['fails'])"
SAME, FAULT = Outcome(kind="same"), Outcome(kind="differs", text="a file")


def test_random_layers_come_out_alike(world: World, engine: Engine, request: pytest.FixtureRequest) -> None:
    """The same seeds each time, and some that nobody has seen before: every file, its mode, its owner, the config."""
    first = random.SystemRandom().randrange(10_000, 10_000_000)
    seeds = [*range(KNOWN), *range(first, first + FRESH)]
    comparison = Comparison(world=world, address=engine.address)

    async def compare() -> list[Finding]:
        return [finding async for finding in comparison.run(seeds)]

    found = asyncio.run(compare())
    request.config.stash.get(TALLY, Tally()).notes.append(comparison.summary())
    if found:
        pytest.fail("\n\n".join(map(str, found)), pytrace=False)


def test_what_was_found_once_comes_out_alike(world: World, engine: Engine) -> None:
    """Made short as it was, each with the fault that it was found for."""
    comparison = Comparison(world=world, address=engine.address)

    async def compare() -> list[str]:
        outcomes = await asyncio.gather(*map(comparison.outcome, FOUND))
        return [
            f"{layers}\n{outcome.text}" for layers, outcome in zip(FOUND, outcomes, strict=True) if outcome.is_fault
        ]

    found = asyncio.run(compare())
    if found:
        pytest.fail("\n\n".join(found), pytrace=False)


def test_layers_are_code_of_flyte(tmp_path: Path) -> None:
    """Every one, and none but says what it does: each makes another image of a base."""
    world = World.of_files(tmp_path)
    base = Image.from_base("base").clone(name="a", registry="r", extendable=True)
    every = {*LAYERS, *AHEAD, *ASIDE, *(code for recipe in RECIPES.values() for slot in recipe for code in slot)}

    made = {code: evaluated(f"base{code}", world, base) for code in every}

    assert all(len(image._layers) == len(base._layers) + 1 for image in made.values())


def test_a_seed_stands_for_a_sequence() -> None:
    """Today's and tomorrow's; others stand for others."""
    assert [drawn(seed) for seed in range(50)] == [drawn(seed) for seed in range(50)]
    assert len({drawn(seed) for seed in range(50)}) > 45


class Pretended(Comparison):
    """Says what comes of a sequence by what is in it."""

    async def _outcome(self, sequence: Layers) -> Outcome:
        if FAILS in sequence.layers:
            return Outcome(kind="both failed", step="with_commands fails")
        wanted = iter(sequence.layers)
        return FAULT if all(code in wanted for code in ("one", "two")) else SAME


def pretended(world: World) -> Pretended:
    """A comparison without an engine."""
    return Pretended(world=world, address="")


def test_what_is_found_is_made_short(tmp_path: Path) -> None:
    """No layer is left without which it would come out alike; the base is the usual one where it does not matter."""
    comparison = pretended(World.of_files(tmp_path))
    long = Layers(base="own", layers=("two", "a", "one", "b", "one", "c", "two", "d"))

    short = asyncio.run(comparison.shrunk(long))

    assert Layers(base="plain", layers=("one", "two")) == short
    assert replace(long, base="plain").has(short)
    assert not long.has(short)


def test_what_has_a_known_fault_in_it_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of what fails both ways, the layer at which it does is left out, so that the rest is compared."""
    sequences = {
        1: Layers(base="plain", layers=("x", "one", "two")),
        2: Layers(base="plain", layers=("one", "y", "two", "z")),
        3: Layers(base="plain", layers=("a", FAILS, "b")),
    }
    monkeypatch.setattr("tests.parity.random_layers.sequences.drawn", sequences.__getitem__)
    comparison = pretended(World.of_files(tmp_path))

    async def compare() -> list[Finding]:
        return [finding async for finding in comparison.run([1, 2, 3], jobs=1)]

    [finding] = asyncio.run(compare())

    assert ("one", "two") == finding.sequence.layers
    assert {"differs": 1, "known": 1, "both failed": 1, "same": 1} == comparison.seen
    assert Layers(base="plain", layers=("a", "b")) in comparison.outcomes
