from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.session.server import Call, Handler, RpcError, Server
from buildkit_builder.buildkit.session.tunnel import Tunnel
from buildkit_builder.errors import ImageError, SourceError
from tests.buildkit.session.harness import EOF, MemoryCall, bridged, raw

METHOD = "/test.Service/Method"


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[Any, Server]]:
    """Serves one method; yields its client and the server."""
    server = Server()
    server.add(METHOD, handler)
    call = MemoryCall()
    task = asyncio.ensure_future(server.serve(Tunnel(call)))
    async with bridged(call) as channel:
        yield raw(channel).stream_stream(METHOD), server
    task.cancel()
    await asyncio.wait((task,))


async def echo(call: Call) -> None:
    """Sends back what comes."""
    while (message := await call.read()) is not None:
        await call.write(message)


@pytest.mark.parametrize("size", [0, 1, 16_384, 1 << 20, 9 << 20])
async def test_messages_of_all_sizes(size: int) -> None:
    """Messages larger than any window come through whole in both directions."""
    message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with serving(echo) as (method, _):
        call = method()
        for _ in range(3):
            await call.write(message)

            assert message == await call.read()
        await call.done_writing()

        assert await call.read() is EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_many_messages_keep_their_order() -> None:
    """Twenty thousand small messages written in batches arrive one by one, in order."""

    async def count(call: Call) -> None:
        for start in range(0, 20_000, 100):
            await call.write(*(str(number).encode() for number in range(start, start + 100)))

    async with serving(count) as (method, _):
        received = [int(message) async for message in method()]

        assert list(range(20_000)) == received


async def test_many_calls_at_once() -> None:
    """Calls that run at the same time do not mix their messages."""
    async with serving(echo) as (method, _):

        async def one(number: int) -> bytes:
            call = method()
            await call.write(str(number).encode() * 5000)
            await call.done_writing()
            answer: bytes = await call.read()
            return answer

        answers = await asyncio.gather(*(one(number) for number in range(200)))

        assert [str(number).encode() * 5000 for number in range(200)] == answers


async def test_tasks_of_one_call_do_not_mix_messages() -> None:
    """Two tasks that write large messages to one stream take turns."""

    async def handler(call: Call) -> None:
        await asyncio.gather(*(call.write(bytes([number]) * 3_000_000) for number in range(5)))

    async with serving(handler) as (method, _):
        messages = [message async for message in method()]

        assert {bytes([number]) * 3_000_000 for number in range(5)} == set(messages)


async def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    """While the daemon takes nothing, only so much is written."""
    written = 0
    stalled = asyncio.Event()

    async def handler(call: Call) -> None:
        nonlocal written
        while True:
            await call.write(b"x" * 100_000)
            written += 1
            if written == 5:
                stalled.set()

    server = Server()
    server.add(METHOD, handler)
    call = MemoryCall()
    task = asyncio.ensure_future(server.serve(Tunnel(call)))
    async with bridged(call) as channel:
        running = raw(channel).stream_stream(METHOD)()
        await running.read()
        await stalled.wait()
        before = -1
        while before != written:
            before = written
            for _ in range(1000):
                await asyncio.sleep(0)

        assert written < 200
        running.cancel()
    task.cancel()
    await asyncio.wait((task,))


async def test_a_handler_that_does_not_read_stops_the_daemon() -> None:
    """While we take nothing, the daemon cannot send more than the stream's window."""
    release = asyncio.Event()
    total = 0

    async def handler(call: Call) -> None:
        nonlocal total
        await release.wait()
        while (message := await call.read()) is not None:
            total += len(message)

    async with serving(handler) as (method, _):
        call = method()
        sender = asyncio.ensure_future(_send(call, 100))
        done, _ = await asyncio.wait((sender,), timeout=0.3)

        assert not done
        release.set()
        await sender
        assert await call.code() is grpc.StatusCode.OK
        assert 100 * 1_000_000 == total


async def _send(call: Any, times: int) -> None:
    for _ in range(times):
        await call.write(b"x" * 1_000_000)
    await call.done_writing()


async def test_metadata_is_kept() -> None:
    """Repeated keys keep their values in order; 200 kB of metadata is no problem."""
    seen: dict[str, tuple[str, ...]] = {}

    async def handler(call: Call) -> None:
        seen.update(call.metadata)

    metadata = [("key", f"{number:0>100}") for number in range(2000)]
    async with serving(handler) as (method, _):
        call = method(metadata=metadata)

        assert await call.code() is grpc.StatusCode.OK
        assert tuple(value for _, value in metadata) == seen["key"]


async def test_unknown_methods_are_unimplemented() -> None:
    """The daemon reads UNIMPLEMENTED as a service that is not offered."""
    async with serving(echo) as (_, server):
        assert server.failure is None
    call_memory = MemoryCall()
    server = Server()
    task = asyncio.ensure_future(server.serve(Tunnel(call_memory)))
    async with bridged(call_memory) as channel:
        call = raw(channel).unary_unary("/test.Service/Other")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    task.cancel()
    await asyncio.wait((task,))

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (RpcError(grpc.StatusCode.NOT_FOUND, "50% off: größer"), grpc.StatusCode.NOT_FOUND, "50% off: größer"),
        (SourceError("It is gone."), grpc.StatusCode.UNKNOWN, "It is gone."),
        (
            ValueError("a secret"),
            grpc.StatusCode.INTERNAL,
            "buildkit_builder could not answer /test.Service/Method (ValueError).",
        ),
        (SourceError("ü" * 10_000), grpc.StatusCode.UNKNOWN, "ü" * 2048 + "…"),
    ],
)
async def test_errors_become_statuses(error: Exception, code: grpc.StatusCode, details: str) -> None:
    """Each kind of error reaches the daemon with its code, and with words that may be shown."""

    async def handler(call: Call) -> None:
        raise error

    async with serving(handler) as (method, _):
        call = method()

        assert code is await call.code()
        assert details == await call.details()


async def test_the_first_failure_is_kept() -> None:
    """Of several errors of ours the first is the cause, whatever comes after."""
    errors = [SourceError("first"), ImageError("second")]

    async def handler(call: Call) -> None:
        raise errors.pop(0)

    async with serving(handler) as (method, server):
        await method().code()
        await method().code()

        assert isinstance(server.failure, SourceError)


async def test_an_abandoned_call_is_cancelled() -> None:
    """When the daemon gives a call up, its handler ends."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(call: Call) -> None:
        started.set()
        try:
            await call.read()
        finally:
            ended.set()

    async with serving(handler) as (method, _):
        call = method()
        await call.write(b"")
        await started.wait()
        call.cancel()

        await asyncio.wait_for(ended.wait(), 10)


async def test_an_abandoned_call_waits_for_its_thread() -> None:
    """What a thread works on is not taken away from it: the handler ends after the function does."""
    started, go = asyncio.Event(), threading.Event()
    ended: list[str] = []
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(started.set)
        go.wait(10)
        ended.append("function")
        raise ValueError("nobody hears of this")

    async def handler(call: Call) -> None:
        try:
            await call.in_thread_to_its_end(work)
        finally:
            ended.append("handler")

    async with serving(handler) as (method, _):
        call = method()
        await call.write(b"")
        await started.wait()
        call.cancel()
        await asyncio.sleep(0.05)
        assert [] == ended
        go.set()
    assert ["function", "handler"] == ended


async def test_an_answer_may_end_before_the_request() -> None:
    """A handler that has seen enough ends the call, though the daemon has not finished."""

    async def handler(call: Call) -> None:
        await call.read()

    async with serving(handler) as (method, _):
        call = method()
        await call.write(b"x")

        assert await call.code() is grpc.StatusCode.OK
        again = method()
        await again.write(b"x")
        assert await again.code() is grpc.StatusCode.OK
