"""Images that must come out in parallel as they do in order, and checks of what is then true of them."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass

import pytest
from flyte import Image

from buildkit_builder.flyte_plugin import reader
from buildkit_builder.image.spec import ImageSpec
from tests.conftest import Engine
from tests.parity.random_layers.layers import SITE, evaluated
from tests.parity.random_layers.sequences import ignored_on
from tests.parity.random_layers.world import World
from tests.parity.twice import build_twice, in_order, in_parallel

__all__ = ["SITE", "Case", "Written", "holds", "mine", "owned", "version"]


def holds(path: str, text: str) -> str:
    """A check: that a file holds a text."""
    return f"grep -qxF {shlex.quote(text)} {path} || {{ ls -l {path}; cat {path}; exit 1; }}"


def owned(path: str, owner: str, mode: int) -> str:
    """A check: whose a path is, and its mode."""
    return (
        f'said=$(stat -c "%U:%G %a" {path}); [ "$said" = "{owner} {mode:o}" ] || {{ echo "{path} is $said"; exit 1; }}'
    )


def version(module: str, wanted: str, python: str = "$UV_PYTHON") -> str:
    """A check: which version of a package the environment has."""
    return f"{python} -c \"import {module} as m; assert m.VERSION == '{wanted}', m.VERSION\""


def mine(*modules: str) -> list[str]:
    """Checks: that packages are the user's own."""
    return [version(module.replace("-", "_"), "99.0") for module in modules]


@dataclass(frozen=True)
class Case:
    """An image, as code in the words of `tests.parity.random_layers`, and what is true of it."""

    layers: str
    checks: tuple[str, ...] = ()
    base: str = "plain"
    platform: str = "linux/amd64"


@dataclass(frozen=True, kw_only=True)
class Written:
    """Builds images both ways."""

    world: World
    engine: Engine

    def same(self, image: Image, *checks: str, platform: str = "linux/amd64") -> None:
        """Builds an image, which must succeed with both and come out alike; then checks hold."""
        __tracebackhide__ = True
        spec = reader.read(image)
        assert isinstance(spec, ImageSpec)
        ways = (in_parallel, in_order)
        outcome = asyncio.run(build_twice(spec, self.engine.address, ways, checks=checks, ignored=ignored_on(platform)))
        if outcome.kind != "same":
            pytest.fail(f"{outcome.kind}:\n{outcome.text}", pytrace=False)

    def holds_for(self, case: Case) -> None:
        """The same, of a case."""
        __tracebackhide__ = True
        base = self.world.base(case.base, case.platform)
        self.same(evaluated(f"base{case.layers}", self.world, base), *case.checks, platform=case.platform)
