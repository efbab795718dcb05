"""Flyte's own builder and ours, on the same engine, pushing the same image to the same name one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from string import Template

import pytest
from flyte import Image
from flyte._internal.imagebuild import docker_builder
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.integration.registry import PulledImage, forget, pull
from tests.parity.compare import Difference, compare, report
from tests.parity.differences import BETTER, Ignored


@dataclass(kw_only=True)
class Tally:
    """What the suite has seen so far."""

    equal: set[str] = field(default_factory=set)
    better: dict[str, set[str]] = field(default_factory=dict)
    used: set[Ignored] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of an image: as it was pushed, or the error, with all that was printed on the way."""

    image: PulledImage | None
    error: str = ""

    @property
    def pulled(self) -> PulledImage:
        """The image; there must be one."""
        assert self.image is not None, self.error
        return self.image


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image of both builders."""

    ours: Built
    theirs: Built

    def differences(self) -> list[Difference]:
        """All in which they differ."""
        return compare(self.theirs.pulled, self.ours.pulled)


def strip_syntax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the line that names a frontend image, which cannot be pulled here, from Flyte's Dockerfile."""
    first, rest = docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE.template.split("\n", 1)
    assert first.startswith("# syntax=")
    monkeypatch.setattr(docker_builder, "DOCKER_FILE_UV_BASE_TEMPLATE", Template(rest))


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Builds with both and compares; a test's fixture.

    Attributes:
        case: The test's id.
        output: What was printed since it was last called.
    """

    case: str
    tally: Tally
    output: Callable[[], str]

    async def both(self, image: Image) -> Pair:
        """Builds an image with both at the same time: with Flyte's own builder under a name of its own."""
        self.output()
        ours, theirs = await asyncio.gather(
            self._built(BuildKitImageBuilder(), image),
            self._built(docker_builder.DockerImageBuilder(), image.clone(name=f"{image.name}-theirs")),
        )
        # Ours is told to be quiet, and says in its error all there is to say.
        if theirs.image is None:
            theirs = replace(theirs, error=f"{self.output()}\n{theirs.error}")
        return Pair(ours=ours, theirs=theirs)

    async def _built(self, builder: BuildKitImageBuilder | docker_builder.DockerImageBuilder, image: Image) -> Built:
        forget(image.uri)  # what an earlier run has pushed is not what this one pushes
        try:
            result = await builder.build_image(image, force=True)
        except (ImageBuildError, OSError, ValueError, AssertionError) as error:
            return Built(image=None, error=f"{type(error).__name__}: {error}")
        assert result.uri is not None
        return Built(image=await asyncio.to_thread(pull, result.uri))

    async def same(self, image: Image) -> PulledImage:
        """Builds with both, with ours side by side and in sequence; they must not differ in anything that the table
        does not allow. Returns ours.
        """
        __tracebackhide__ = True
        pair = await self.both(image)
        self._compare(pair)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FLYTE_BUILDKIT_PARALLEL", "false")
            ours = await self._built(BuildKitImageBuilder(), image)
        self._compare(replace(pair, ours=ours), " in sequence")
        self.tally.equal.add(self.case)
        assert pair.ours.image is not None
        return pair.ours.image

    def _compare(self, pair: Pair, how: str = "") -> None:
        __tracebackhide__ = True
        assert pair.ours.image is not None, f"ours failed{how}:\n{pair.ours.error}"
        assert pair.theirs.image is not None, f"Flyte's own builder failed:\n{pair.theirs.error}"
        differences = pair.differences()
        self.tally.used |= {difference.row for difference in differences if difference.row is not None}
        unexplained = [difference for difference in differences if difference.row is None]
        if unexplained:
            pytest.fail(
                f"- is Flyte's own builder, + is ours{how}; {len(unexplained)} differences:\n{report(unexplained)}",
                pytrace=False,
            )

    async def both_fail(self, image: Image) -> Pair:
        """Builds with both, which is to fail with both, as what the image asks for cannot be had."""
        pair = await self.both(image)
        assert pair.ours.image is None, "ours was built"
        assert pair.theirs.image is None, "theirs was built"
        self.tally.equal.add(self.case)
        return pair

    async def better(self, row: str, image: Image) -> Pair:
        """Builds with both where ours differs on purpose, as a row of `BETTER` says."""
        assert row in {known.name for known in BETTER}, f"`{row}` is no row of tests/parity/differences.py"
        pair = await self.both(image)
        self.tally.better.setdefault(row, set()).add(self.case)
        return pair
