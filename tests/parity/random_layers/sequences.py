"""Sequences of layers: drawn from a seed, compared on the engine, and made as short as they can be."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from buildkit_builder.flyte_plugin import reader
from buildkit_builder.image.spec import ImageSpec
from tests.parity.differences import Ignored
from tests.parity.random_layers.layers import built
from tests.parity.random_layers.recipes import AHEAD, ASIDE, FITTING, RECIPES, fillings
from tests.parity.random_layers.vocabulary import LAYERS, THEMES
from tests.parity.random_layers.world import BASES, World
from tests.parity.twice import Outcome, build_twice, in_order, in_parallel

LONGEST = 10
# An emulated program of several threads may hang when it starts another one.
PATIENCE_SECONDS = 150
Platform = Literal["linux/amd64", "linux/arm64"]
ARM: Platform = "linux/arm64"
LEFT = (
    Ignored(
        pattern=r"(.*/)?uv/(archive|builds|interpreter|sdists|simple|wheels)-v\d+(/.*)?",
        what="path",
        reason="What uv caches where a variable leads it away from its mount: names are random there.",
    ),
)


FOREIGN = (
    *LEFT,
    Ignored(
        pattern=r"root/\.cache(/uv(/.*)?)?",
        what="path",
        reason="What uv leaves of a cache where it makes the environment: here that is not the image.",
    ),
)


def ignored_on(platform: str) -> tuple[Ignored, ...]:
    """What may differ between the two ways of building an image for a platform."""
    return FOREIGN if platform == ARM else LEFT


@dataclass(frozen=True, kw_only=True)
class Layers:
    """An image.

    Attributes:
        base: One of `BASES`.
        layers: Code, one call each.
    """

    base: str
    layers: tuple[str, ...]
    platform: Platform = "linux/amd64"

    def __str__(self) -> str:
        """As Python to be pasted."""
        platform = f', "{self.platform}"' if self.platform == ARM else ""
        return "\n".join(
            [
                f'base = world.base("{self.base}"{platform})',
                "image = (",
                "    base",
                *(f"    {layer}" for layer in self.layers),
                ")",
            ]
        )

    def has(self, other: Layers) -> bool:
        """Whether another one is what is left of this one when some layers are left out."""
        rest = iter(self.layers)
        return (self.base, self.platform) == (other.base, other.platform) and all(
            layer in rest for layer in other.layers
        )


def drawn(seed: int) -> Layers:
    """The sequence of a seed: what meets, with other things in between, on a base that matters for it."""
    choice = random.Random(seed)
    base = choice.choice(["plain", "plain", "links", "user", "own", *BASES])
    platform: Platform = ARM if choice.random() < 0.04 else "linux/amd64"
    layers: list[str] = []
    if choice.random() < 0.15:
        pool = THEMES[choice.choice(list(THEMES))]
        layers += [choice.choice(pool) for _ in range(choice.randint(2, 5))]
    for _ in range(choice.choice([1, 1, 2])):
        fitting = FITTING.get(base, ())
        name = choice.choice(fitting if fitting and choice.random() < 0.6 else list(RECIPES))
        places = [0, *sorted(choice.randint(0, len(layers)) for _ in RECIPES[name])]
        for before, (place, slot) in enumerate(zip(places[1:], RECIPES[name], strict=True)):
            if choice.random() < 0.92:
                layers.insert(min(place + before, len(layers)), choice.choice(slot))
    for _ in range(choice.choice([0, 1, 1, 2, 3])):
        more = choice.choice(ASIDE if choice.random() < 0.7 else LAYERS)
        layers.insert(choice.randint(0, len(layers)), more)
    if choice.random() < 0.15:
        choice.shuffle(layers)
    # Most often something is installed ahead as well: before the rest is through, or at the end.
    for _ in range(choice.choice([0, 1, 1, 2])):
        layers.insert(choice.choice([choice.randint(0, len(layers)), len(layers)]), choice.choice(AHEAD))
    for token, paths in fillings(base).items():
        layers = [code.replace(token, choice.choice(paths)) for code in layers]
    return Layers(base=base, layers=tuple(layers[-LONGEST if platform != ARM else -5 :]), platform=platform)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sequence that does not come out alike, as short as it can be.

    Attributes:
        seed: That it was found with.
    """

    seed: int
    sequence: Layers
    outcome: Outcome

    def __str__(self) -> str:
        """All that there is to know."""
        lines = [line[:400] for line in self.outcome.text.splitlines()]
        return "\n".join(
            [
                f"# seed {self.seed}: {self.outcome.kind} (left: in parallel, right: in order)",
                str(self.sequence),
                "# " + "\n# ".join(lines[-25:]),
            ]
        )


@dataclass(kw_only=True)
class Comparison:
    """Compares sequences, and counts.

    Attributes:
        address: Of the engine.
        found: So far.
        seen: What came of how many sequences; `known` of those that have a finding in them and were not built.
        failing: At which steps both ways failed.
        jobs: Of how many pairs are built at the same time.
        outcomes: By sequence, those that were made shorter as well.
    """

    world: World
    address: str
    found: list[Finding] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)
    outcomes: dict[Layers, Outcome] = field(default_factory=dict)
    jobs: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(3))

    async def outcome(self, sequence: Layers) -> Outcome:
        """What comes of a sequence."""
        if sequence not in self.outcomes:
            async with self.jobs:
                self.outcomes[sequence] = await self._outcome(sequence)
        return self.outcomes[sequence]

    async def _outcome(self, sequence: Layers) -> Outcome:
        # Making a base, and reading files, holds up the loop: not for long, and only once for each.
        image = built(self.world, sequence.base, sequence.layers, sequence.platform)
        spec = reader.read(image)
        assert isinstance(spec, ImageSpec)
        building = build_twice(
            spec,
            self.address,
            (in_parallel, in_order),
            ignored=ignored_on(sequence.platform),
            unless_alike=True,
        )
        try:
            return await asyncio.wait_for(building, PATIENCE_SECONDS)
        except asyncio.TimeoutError:
            return Outcome(kind="hung" if sequence.platform == ARM else "differs", text="it did not come to an end")

    async def explore(self, seed: int) -> Finding | None:
        """Compares the sequence of a seed, and, if both ways fail, what it is without the layer at which they do.

        Returns:
            What is found; `None` where it is nothing new.
        """
        sequence = drawn(seed)
        for _ in range(LONGEST):
            if any(sequence.has(finding.sequence) for finding in self.found):
                self.seen["known"] += 1
                return None
            outcome = await self.outcome(sequence)
            self.seen[outcome.kind] += 1
            if outcome.is_fault:
                return await self._found(seed, sequence)
            if outcome.kind in ("same", "one graph", "hung"):
                return None
            self.failing[f"{outcome.kind}: {outcome.step}"] += 1
            shorter = self.without_culprit(sequence, outcome.step)
            if shorter is None:
                return None
            sequence = shorter
        return None

    def without_culprit(self, sequence: Layers, step: str) -> Layers | None:
        """A sequence without the layer that a step is of, or its last one; `None` where nothing to compare is left."""
        layers = list(sequence.layers)
        if len(layers) <= 2:
            return None
        culprit = len(layers) - 1
        for number, code in enumerate(layers):
            first, _, rest = step.partition(" ")
            words = [word.strip(",") for word in rest.split()]
            if first in code and words and words[0].rstrip(":") in code:
                culprit = number
                break
        del layers[culprit]
        return replace(sequence, layers=tuple(layers))

    async def _found(self, seed: int, sequence: Layers) -> Finding | None:
        short = await self.shrunk(sequence)
        if any(short.has(finding.sequence) for finding in self.found):
            self.seen["found again"] += 1
            return None
        outcome = await self.outcome(short)
        finding = Finding(seed=seed, sequence=short, outcome=outcome)
        self.found.append(finding)
        return finding

    async def shrunk(self, sequence: Layers) -> Layers:
        """The shortest sequence of the same order that still does not come out alike, as far as one at a time can go;
        then the same on a simpler base.
        """
        at = 0
        while at < len(sequence.layers):
            layers = sequence.layers[:at] + sequence.layers[at + 1 :]
            shorter = replace(sequence, layers=layers)
            if (await self.outcome(shorter)).is_fault:
                # What comes before may be of no use without it.
                sequence, at = shorter, 0
            else:
                at += 1
        for simpler in (replace(sequence, platform="linux/amd64"), replace(sequence, base="plain")):
            if simpler != sequence and (await self.outcome(simpler)).is_fault:
                sequence = simpler
        return sequence

    async def run(self, seeds: Iterable[int], *, jobs: int = 2) -> AsyncIterator[Finding]:
        """Explores seeds, several at the same time."""
        rest = iter(seeds)
        going: set[asyncio.Task[Finding | None]] = set()
        try:
            while True:
                while len(going) < jobs and (seed := next(rest, None)) is not None:
                    going.add(asyncio.ensure_future(self.explore(seed)))
                if not going:
                    return
                done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (finding := task.result()) is not None:
                        yield finding
        finally:
            for task in going:
                task.cancel()
            if going:
                await asyncio.wait(going)

    def summary(self) -> str:
        """How many sequences were compared, and what came of them."""
        compared = sum(count for kind, count in self.seen.items() if kind not in ("known", "found again"))
        kinds = ", ".join(f"{kind}: {count}" for kind, count in self.seen.most_common())
        failing = "\n".join(f"  {count} {step[:150]}" for step, count in self.failing.most_common(12))
        pairs = f"{len(self.outcomes)} pairs of builds"
        return f"{failing}\n{compared} sequences compared ({kinds}); {len(self.found)} findings; {pairs}"


def seeds_of(text: str) -> Sequence[int]:
    """Seeds from `100-200`, `7`, or several of these with commas between them."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
