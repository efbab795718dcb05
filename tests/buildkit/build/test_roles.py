"""What a build knows of its vertices, and how progress and errors come by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.events import ProgressGroup, StatusUpdate, VertexEvent
from buildkit_builder.buildkit.api.gateway import ResolvedImage
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build.cache_news import CacheNews
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.buildkit.build.roles import Roles, uncached
from buildkit_builder.buildkit.wire import services
from buildkit_builder.errors import BuildKitError, StepFailedError
from buildkit_builder.image.lookup import resolve_image
from tests.buildkit.build.test_run import PLATFORM, Bench, Calls, bench, request
from tests.fakes.buildkit import exit_message, vertex

__all__ = ["bench"]

BASE = llb.image("debian:12")
ATTEMPT = llb.Role(attempt=True)
QUIET = llb.Role(quiet=True)


def _graph(state: llb.State) -> llb.Definition:
    return llb.marshal(state, platform=PLATFORM)


def _step(name: str | None, role: llb.Role = llb.Role(), **options: Any) -> llb.Definition:  # noqa: B008
    return _graph(BASE.run(["sh", "-c", "make"], name=name, role=role, **options).root)


def _told(roles: Roles, digest: str | None, name: str = "what the daemon says", **more: Any) -> VertexEvent:
    event = VertexEvent(digest=digest or "", name=name, started=1.0, **more)
    [told] = roles.told(StatusUpdate(vertexes=(event,))).vertexes
    return told


def test_a_vertex_is_looked_up_by_its_digest() -> None:
    """It has the role and the name that this build gave it; what the daemon calls it is somebody else's matter."""
    roles, graph = Roles(), _step("make", ATTEMPT)
    roles.learn(graph)

    told = _told(roles, graph.head, group=ProgressGroup(id="g", name="another build's", weak=True))

    assert (ATTEMPT, "make", None) == (told.role, told.name, told.group)
    assert _told(roles, "sha256:other", "make").role is None


def test_each_build_has_its_own() -> None:
    """A digest that one build tries ahead, and another needs, is an attempt for the one and a step for the other."""
    one, two = Roles(), Roles()
    tried, needed = _step("make (wheels)", ATTEMPT), _step("make")
    one.learn(tried)
    two.learn(needed)

    assert tried.head == needed.head
    assert ("make (wheels)", ATTEMPT) == (_told(one, tried.head).name, _told(one, tried.head).role)
    assert ("make", llb.Role()) == (_told(two, tried.head).name, _told(two, tried.head).role)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_graphs_of_a_build_the_louder_counts(order: int) -> None:
    """What was tried first, and is then needed, is needed; a name that is to be seen wins."""
    roles = Roles()
    for graph in (_step("helper", llb.Role(quiet=True, attempt=True)), _step("make", ATTEMPT))[::order]:
        roles.learn(graph)

    told = _told(roles, _step(None).head)
    assert (ATTEMPT, "make") == (told.role, told.name)


def test_a_vertex_that_runs_again_has_another_digest() -> None:
    """A daemon that runs for one build what another build has, calls it otherwise."""
    roles, graph = Roles(), _step("make", ATTEMPT, ignore_cache=True)
    roles.learn(graph)

    told = _told(roles, uncached(graph.head or ""))
    assert (ATTEMPT, "make") == (told.role, told.name)


def test_what_a_frontend_of_the_daemon_made_of_our_steps_keeps_their_roles() -> None:
    """It goes on from our graph, and what comes back has our vertices among its own."""
    roles, ours = Roles(), _step("make", QUIET)
    roles.learn(ours)
    theirs = llb.Definition.from_wire(
        _graph(llb.from_definition(ours).run(["x"], name="[2/2] RUN x").root).to_wire()
    )  # fmt: skip
    roles.learn(theirs)
    roles.learn(_graph(llb.from_definition(theirs)))

    assert QUIET == _told(roles, ours.head).role
    assert _told(roles, theirs.head).role is None


class Looking:
    """As much of a build as a look-up asks for."""

    def __init__(self) -> None:
        self.roles = Roles()
        self.mirrors = Mirrors()
        self.names: list[str] = []
        self.registries = self.gateway = self.lookups = self

    def add(self, *references: str) -> None: ...

    async def get(self, key: Any, ask: Any) -> Any:
        return await ask()

    async def resolve_image(self, reference: str, platform: Any, *, mode: str, log_name: str) -> ResolvedImage:
        self.names.append(log_name)
        return ResolvedImage(ref=reference, digest="", config=b"")


async def test_a_look_up_that_may_find_nothing_is_quiet() -> None:
    """Of look-ups the daemon chooses the digest: they are known by what this build had them called, and no longer."""
    looking: Any = Looking()
    await resolve_image(looking, "reg.example.com/a:1", PLATFORM, "pull", optional=True)
    await resolve_image(looking, "reg.example.com/a:1", PLATFORM, "pull")
    quiet, usual = looking.names

    assert llb.Role(quiet=True, attempt=True) == _told(looking.roles, "sha256:l", quiet).role
    assert _told(looking.roles, "sha256:l", usual).role is None
    assert _told(Roles(), "sha256:l", quiet).role is None
    step = _graph(BASE.run(["x"], name=quiet).root)
    looking.roles.learn(step)
    assert llb.Role() == _told(looking.roles, step.head, quiet).role


def test_a_step_called_like_a_cache_is_no_cache() -> None:
    """Its failure is not taken out of what is shown, nor told as that of a cache."""
    news, roles = CacheNews(), Roles()
    name = "importing cache manifest from reg.example.com/cache"
    graph = _step(name)
    roles.learn(graph)

    failed = VertexEvent(digest=graph.head or "", name=name, started=1.0, completed=2.0, error="exit code: 1")
    [step] = news.softened(roles.told(StatusUpdate(vertexes=(failed,)))).vertexes
    [cache] = news.softened(roles.told(StatusUpdate(vertexes=(replace(failed, digest="sha256:c"),)))).vertexes

    assert ("exit code: 1", "") == (step.error, cache.error)
    assert 1 == len(news.lines)


def _fails(graph: llb.Definition) -> Calls:
    async def build(bridge: Bridge) -> Result:
        await bridge.gateway.ping()
        bridge.remember(graph)
        try:
            return await bridge.gateway.solve(graph, evaluate=True)
        except grpc.aio.AioRpcError as error:
            raise bridge.explain(error, doing="building an image") from error

    return Calls(build)


async def _failure(bench: Bench, graph: llb.Definition, said: str) -> BuildKitError:
    details = [vertex(graph.head or ""), exit_message(3)]
    bench.daemon.refuse(services.LLBBRIDGE_SOLVE, said, details=details)
    with pytest.raises(BuildKitError) as caught:
        await bench.build(request(frontend=_fails(graph)))
    return caught.value


PROCESS = 'process "/bin/sh -c . /dev/buildkit-builder-install" did not complete successfully: exit code: 3'


@pytest.mark.parametrize(
    "name",
    [
        "with_commands make (wheels)",
        "[quiet] make",
        f"sha256:{'a' * 64}",
        "[internal] load build context",
        "exporting to image",
        "naïve 漢字",
    ],
)
async def test_an_error_names_a_step_as_progress_does(bench: Bench, name: str) -> None:
    """Whatever the user called it."""
    error = await _failure(bench, _step(name), PROCESS)

    assert isinstance(error, StepFailedError)
    assert name == error.step
    assert f"The step `{name}` failed: command `make` ended with exit code 3." in str(error)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines", "two lines"),
        ("\x1b[2J\x1b[31mred\x1b[0m", "red"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("\x1b]0;title\x07make", "make"),
    ],
)
async def test_nothing_in_a_name_is_obeyed_in_an_error(bench: Bench, name: str, shown: str) -> None:
    """It is one line of what can be seen."""
    error = await _failure(bench, _step(name), PROCESS)

    assert isinstance(error, StepFailedError)
    assert shown == error.step


async def test_a_very_long_name_is_cut_in_an_error(bench: Bench) -> None:
    """So that the rest can be found."""
    error = await _failure(bench, _step("x" * 100_000), PROCESS)

    assert len(str(error)) < 1_000
    assert "ended with exit code 3" in str(error)


@pytest.mark.parametrize("name", ["", None])
async def test_a_step_without_a_name_is_called_what_it_does(bench: Bench, name: str | None) -> None:
    """And never by its digest."""
    error = await _failure(bench, _step(name), PROCESS)

    assert "sha256:" not in str(error)
    assert "The step `make` failed" in str(error)


async def test_words_of_ours_are_not_shown_as_the_command(bench: Bench) -> None:
    """Of a step that runs a script of this package it is said which step it is, and how it ended."""
    error = await _failure(bench, _step("with_apt_packages git", llb.Role(script=True)), PROCESS)

    assert isinstance(error, StepFailedError)
    assert "The step `with_apt_packages git` failed: its command ended with exit code 3." == str(error)
    assert error.command is None


async def test_words_of_ours_are_not_shown_where_no_exit_code_is_known(bench: Bench) -> None:
    """The daemon's own words hold the command, too."""
    said = PROCESS.replace("exit code: 3", "wait: no such process")
    graph = _step("with_apt_packages git", llb.Role(script=True))
    bench.daemon.refuse(services.LLBBRIDGE_SOLVE, said, details=[vertex(graph.head or "")])
    with pytest.raises(StepFailedError) as caught:
        await bench.build(request(frontend=_fails(graph)))

    assert "/dev/buildkit-builder" not in str(caught.value)
    assert "wait: no such process" in str(caught.value)
