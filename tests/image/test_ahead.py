"""Installations that are tried ahead: what happens when one has to wait, and what is remembered of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build.single_flight import SingleFlight
from buildkit_builder.buildkit.wire import gateway_pb2, services
from buildkit_builder.errors import StepFailedError
from buildkit_builder.image.frontend import ImageFrontend
from buildkit_builder.image.lower import Environment
from buildkit_builder.image.memory import Memory
from buildkit_builder.image.plan import plan
from buildkit_builder.image.plan.steering import FOLLOWS
from buildkit_builder.image.plan.wheels import AHEAD
from buildkit_builder.image.spec import AptLayer, ImageSpec, PipLayer
from tests.fakes.buildkit import Refusal, exit_message, vertex
from tests.image.test_frontend import ARM64, Bench, Daemon, running

SPEC = ImageSpec(
    reference="reg.example.com/mine:1", push=True, base="debian:12", platforms=("linux/arm64",), python_version=(3, 12),
    layers=(AptLayer(packages=("git",)), PipLayer(packages=("numpy",))), creates_user=False, uv_image="ghcr.io/uv:1",
)  # fmt: skip

PLATFORMS = (("linux", "arm64"),)
ALL = dict.fromkeys(llb.FIRST_RELEASE, True)


CHECK = "check that with_pip_packages numpy may be ahead"


def commands(graph: llb.Definition) -> list[str]:
    """The vertices that run something, and so may fail; their layers are called after them."""
    return [digest for digest in graph.digests if graph.command(digest) is not None]


class Strict(Daemon):
    """A daemon on which whatever is installed ahead has to be built, or a step of a given name fails.

    It names the vertex that it ran, which may be that of another graph where both come to the same; an old daemon names
    none.
    """

    failing: str | tuple[str, ...] = AHEAD
    names: tuple[str, ...] | None = None

    async def _llbbridge_solve(self, request: gateway_pb2.SolveRequest, context: Any) -> Any:
        graph = llb.Definition.from_wire(request.Definition)
        failing = [digest for digest in commands(graph) if graph.names.get(digest, "").endswith(self.failing)]
        whole = [digest for digest, name in graph.names.items() if name == "with_pip_packages numpy"]
        if request.Evaluate and failing and not (self.failing == AHEAD and whole):
            named = failing[:1] if self.names is None else self.names
            details = [*map(vertex, named), *([exit_message(FOLLOWS)] if named else [])]
            await Refusal("did not complete successfully: exit code: 75", details=details).raise_in(context)
        return await super()._llbbridge_solve(request, context)


@pytest.fixture
async def strict() -> AsyncIterator[Bench]:
    """A build on such a daemon."""
    async with running(Strict(platforms=PLATFORMS, llb_caps=ALL)) as bench:
        yield bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A build on a daemon that does whatever it is told."""
    async with running(Daemon(platforms=PLATFORMS, llb_caps=ALL)) as bench:
        yield bench


async def build(bench: Bench, attempts: Memory, seen: Memory | None = None) -> list[list[str]]:
    """Builds the image.

    Returns:
        The names of the steps of each graph that was solved to be evaluated, but for checks, which run beside.
    """
    before = len(bench.fake.called(services.LLBBRIDGE_SOLVE))
    frontend = ImageFrontend(
        plan=plan(SPEC), platforms=(ARM64,), environment=Environment(side_by_side=True),
        attempts=attempts, seen=seen or Memory(),
    )  # fmt: skip
    await frontend.build(bench)
    solved = bench.fake.called(services.LLBBRIDGE_SOLVE)[before:]
    graphs = [list(llb.Definition.from_wire(call.Definition).names.values()) for call in solved]
    return [names for names in graphs if CHECK not in names]


async def test_an_installation_that_cannot_be_ahead_is_built_in_its_place(strict: Bench, tmp_path: Path) -> None:
    """The graph that comes last has the installation itself, after the packages; nothing fails."""
    *first, last = await build(strict, Memory(tmp_path))

    assert any("with_pip_packages numpy (wheels)" in names for names in first)
    assert {"with_apt_packages git", "with_pip_packages numpy (wheels)", "with_pip_packages numpy"} <= set(last)


STRANGER = "sha256:" + "5" * 64


@pytest.mark.parametrize("names", [(STRANGER,), (STRANGER, "sha256:" + "6" * 64), ()])
async def test_a_vertex_of_another_graph_ends_no_build(strict: Bench, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Of steps that come to the same the daemon runs one, of a graph that was given up or of another build."""
    strict.fake.names = names  # type: ignore[attr-defined]
    *_, last = await build(strict, Memory(tmp_path))

    assert "with_pip_packages numpy" in last
    assert [] == list(tmp_path.iterdir())


async def test_a_vertex_of_a_graph_that_was_given_up_is_told_by_its_step(strict: Bench, tmp_path: Path) -> None:
    """The base was remembered as something else: what was tried upon that has to wait, and it is known what it was."""
    seen = Memory(tmp_path / "seen")
    await build(strict, Memory(tmp_path / "first"), seen=seen)
    first = strict.fake.called(services.LLBBRIDGE_SOLVE)
    graphs = [llb.Definition.from_wire(call.Definition) for call in first]
    dropped = [digest for graph in graphs for digest in commands(graph) if graph.names.get(digest, "").endswith(AHEAD)]
    _, config = strict.fake.images["docker.io/library/debian:12"]
    strict.fake.images["docker.io/library/debian:12"] = (f"sha256:{'b' * 64}", config)
    strict.fake.names = (dropped[0],)  # type: ignore[attr-defined]
    strict.lookups = SingleFlight()
    *_, last = await build(strict, Memory(tmp_path / "second"), seen=seen)

    assert "with_pip_packages numpy" in last


async def test_the_image_itself_may_fail_of_a_step_of_another_build(strict: Bench, tmp_path: Path) -> None:
    """It is built in the written order then, where it fails if it is to."""
    strict.fake.failing = "with_apt_packages git"  # type: ignore[attr-defined]
    strict.fake.names = (STRANGER,)  # type: ignore[attr-defined]
    *_, last = await build(strict, Memory(tmp_path))

    assert "with_pip_packages numpy" in last


async def test_the_next_build_begins_with_what_was_right(strict: Bench, tmp_path: Path) -> None:
    """It is remembered by the vertex, which says all that mattered."""
    await build(strict, Memory(tmp_path))
    [only] = [names for names in await build(strict, Memory(tmp_path)) if "with_apt_packages git" in names]

    assert "with_pip_packages numpy" in only


async def test_what_would_have_been_steered_is_not_ahead_at_all(strict: Bench, tmp_path: Path) -> None:
    """Not even what has wheels; the next build knows."""
    strict.fake.failing = CHECK  # type: ignore[attr-defined]
    graphs = [await build(strict, Memory(tmp_path)) for _ in range(2)]
    [again] = [names for names in graphs[1] if "with_apt_packages git" in names]

    for last in (graphs[0][-1], again):
        assert "with_pip_packages numpy" in last
        assert "with_pip_packages numpy (wheels)" not in last


async def test_what_fails_of_an_installation_that_was_steered_is_built_again(strict: Bench, tmp_path: Path) -> None:
    """A step after it may fail only since it was ahead."""
    strict.fake.failing = ("with_pip_packages numpy (wheels)", CHECK)  # type: ignore[attr-defined]
    strict.fake.names = ()  # type: ignore[attr-defined]
    *_, last = await build(strict, Memory(tmp_path))

    assert "with_pip_packages numpy" in last
    assert "with_pip_packages numpy (wheels)" not in last


async def test_what_does_not_rest_on_an_attempt_is_begun_beside_it(
    bench: Bench,
    tmp_path: Path,
) -> None:
    """Until it is known how the attempt ends; afterwards one graph is enough."""
    apart: list[Any] = []
    bench.aside = apart.append  # type: ignore[assignment]
    await build(bench, Memory(tmp_path))
    first = len(apart)
    await build(bench, Memory(tmp_path))
    again = len(apart) - first
    for work in apart:
        work.close()

    # One of them looks up the image of uv, whatever is known of attempts.
    assert (2, 1) == (first, again)


async def test_a_failure_of_anything_else_is_the_builds(strict: Bench, tmp_path: Path) -> None:
    """Nothing is tried again."""
    strict.fake.failing = "with_apt_packages git"  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="exit code: 75") as caught:
        await build(strict, Memory(tmp_path))

    assert not isinstance(caught.value, StepFailedError)
    assert [] == list(tmp_path.iterdir())
