"""Layers that builds side by side have in common, and one of them pushes first."""

from __future__ import annotations

import asyncio

import pytest

from buildkit_builder.buildkit.build.shared_layers import SharedLayers, Turn
from buildkit_builder.buildkit.llb.layer_outputs import Output

A, B, C = ((letter, 0) for letter in "abc")


@pytest.fixture
def layers() -> SharedLayers:
    """Of no build yet."""
    return SharedLayers()


async def beginning(layers: SharedLayers, *new: Output, registry: str = "r.example") -> asyncio.Task[Turn]:
    """A build that is about to push; it has begun if it need not wait."""
    task = asyncio.ensure_future(layers.begin_push(registry, frozenset(new)))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_a_layer_is_pushed_by_one_first(layers: SharedLayers) -> None:
    """The others wait for that, and then do not wait for each other."""
    first = await beginning(layers, A, B)
    second, third = await beginning(layers, B, C), await beginning(layers, A)
    assert [True, False, False] == [task.done() for task in (first, second, third)]

    (await first).end()
    (await third).end()
    (await second).end()


async def test_who_waits_holds_up_nobody(layers: SharedLayers) -> None:
    """What it is going to push is another's until then."""
    first, waiting = await beginning(layers, A), await beginning(layers, A, B)
    other = await beginning(layers, B)

    assert other.done()
    (await first).end()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    (await other).end()
    (await waiting).end()


@pytest.mark.parametrize(("new", "registry"), [((B,), "r.example"), ((A,), "other.example"), ((), "r.example")])
async def test_what_has_nothing_in_common(layers: SharedLayers, new: tuple[Output, ...], registry: str) -> None:
    """Other layers, another registry, or nothing new at all."""
    first = await beginning(layers, A)

    other = await beginning(layers, *new, registry=registry)

    assert other.done()
    (await first).end()
    (await other).end()


async def test_one_that_is_cancelled_while_it_waits(layers: SharedLayers) -> None:
    """Leaves nothing behind."""
    first, waiting = await beginning(layers, A), await beginning(layers, A, B)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert (await beginning(layers, B)).done()
    assert not first.cancelled()
    (await first).end()
    assert (await beginning(layers, A)).done()
