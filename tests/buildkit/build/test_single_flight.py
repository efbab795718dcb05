"""Answers that builds share."""

from __future__ import annotations

import asyncio

import pytest

from buildkit_builder.buildkit.build.single_flight import SingleFlight
from tests.buildkit.progress.support import Clock


class Asked:
    """Counts how often it is asked, and answers when it is told to."""

    def __init__(self) -> None:
        self.times = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.times += 1
        return await asyncio.shield(self.answer)


async def begun(*asking: asyncio.Task[str]) -> None:
    """Lets tasks run as far as they get."""
    for _ in asking:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_builds_at_once_ask_once() -> None:
    """Those that ask while the answer is on its way, and those that ask later, get it; another key is asked for."""
    once, asked = SingleFlight[str](), Asked()
    tasks = [asyncio.ensure_future(once.get("a", asked)) for _ in range(8)]
    await begun(*tasks)
    asked.answer.set_result("found")

    assert ["found"] * 8 == await asyncio.gather(*tasks)
    assert "found" == await once.get("a", asked)
    assert 1 == asked.times
    assert "found" == await once.get("b", asked)
    assert 2 == asked.times


async def test_a_failure_is_ones_own() -> None:
    """Those that waited for a build that failed ask for themselves, and so does whoever comes later."""
    once, failing, asked = SingleFlight[str](), Asked(), Asked()
    first = asyncio.ensure_future(once.get("a", failing))
    await begun(first)
    others = [asyncio.ensure_future(once.get("a", asked)) for _ in range(3)]
    await begun(*others)
    failing.answer.set_exception(LookupError("gone"))
    asked.answer.set_result("found")

    with pytest.raises(LookupError):
        await first
    assert ["found"] * 3 == await asyncio.gather(*others)
    assert "found" == await once.get("a", asked)
    assert 1 == failing.times


async def test_a_cancelled_build_holds_up_nobody() -> None:
    """When the one that asks is cancelled, those that wait go on by themselves; when one that waits is, nothing."""
    once, never, asked = SingleFlight[str](), Asked(), Asked()
    first = asyncio.ensure_future(once.get("a", never))
    await begun(first)
    second, third = (asyncio.ensure_future(once.get("a", asked)) for _ in range(2))
    await begun(second, third)
    asked.answer.set_result("found")
    third.cancel()
    first.cancel()

    assert "found" == await second
    with pytest.raises(asyncio.CancelledError):
        await third
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_answers_grow_old() -> None:
    """After a minute it is asked again, so that a tag that moved is seen by builds that overlap without end."""
    clock = Clock()
    once, asked = SingleFlight[str](clock), Asked()
    asked.answer.set_result("found")
    await once.get("a", asked)
    clock.forward(59)
    await once.get("a", asked)
    assert 1 == asked.times

    clock.forward(2)
    await once.get("a", asked)

    assert 2 == asked.times
