"""The daemon's end of a relayed connection where that is a program: its standard input and output.

Both are one socket, so a connection to a program is read, written, held and ended like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass

from buildkit_builder.buildkit.connect.relay import Side
from buildkit_builder.buildkit.find.dial_commands import Command

_WORDS_MAX = 4096
_LINES_MAX = 3
_GRACE = 2.0
"""Seconds in which a program should end once its connection has."""


class CommandError(Exception):
    """A program could not be started, or ended.

    Attributes:
        command: Its command line, and what to do where it fails.
        missing: Whether there is no such program.
    """

    def __init__(self, command: Command, what: str, *, missing: bool = False) -> None:
        super().__init__(f"`{command}` {what}")
        self.command = command
        self.missing = missing


class Words(asyncio.Protocol):
    """The last lines that a program has said on its standard error."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said = bytearray()

    def data_received(self, data: bytes) -> None:
        """Keep it (asyncio.Protocol)."""
        self._said += data
        del self._said[:-_WORDS_MAX]

    def connection_lost(self, exc: Exception | None) -> None:
        """There will be no more (asyncio.Protocol)."""
        if not self.over.done():
            self.over.set_result(None)

    def __str__(self) -> str:
        lines = self._said.decode(errors="replace").split("\n")
        return " ".join(" ".join(line.split()) for line in [line for line in lines if line.strip()][-_LINES_MAX:])


class Child:
    """A running program, whose standard error is kept."""

    def __init__(
        self, command: Command, process: asyncio.subprocess.Process, words: Words, pipe: asyncio.ReadTransport
    ) -> None:
        self._command = command
        self._process = process
        self._words = words
        self._pipe = pipe

    @classmethod
    async def start(cls, command: Command, line: socket.socket) -> Child:
        """Start a program.

        Args:
            command: The program.
            line: What it gets as its standard input and output; the caller closes it.

        Raises:
            CommandError: It could not be started.
        """
        reading, writing = os.pipe()
        try:
            pipe, words = await asyncio.get_running_loop().connect_read_pipe(Words, os.fdopen(reading, "rb", 0))
            try:
                # A session of its own, as Docker does it: an interrupt at the terminal must not cut the connection
                # over which the daemon is to be told of it.
                process = await asyncio.create_subprocess_exec(
                    *command.argv, stdin=line.fileno(), stdout=line.fileno(), stderr=writing, start_new_session=True
                )
            except BaseException:
                pipe.close()
                raise
        except FileNotFoundError as error:
            raise CommandError(command, "could not be run: there is no such program", missing=True) from error
        except OSError as error:
            raise CommandError(command, f"could not be run: {error.strerror}") from error
        finally:
            os.close(writing)
        return cls(command, process, words, pipe)

    @property
    def code(self) -> int | None:
        """Its exit code, below zero where a signal ended it; `None` while it runs."""
        return self._process.returncode

    async def end(self) -> CommandError:
        """Wait for its end, make it end where it does not, and say how it did."""
        try:
            for stop in (None, self._process.terminate, self._process.kill):
                with contextlib.suppress(asyncio.TimeoutError, ProcessLookupError):
                    if stop is not None:
                        stop()
                    await asyncio.wait_for(asyncio.shield(self._process.wait()), _GRACE)
                    break
            # Whatever it started may hold its standard error open, as ssh's master does.
            await asyncio.wait([self._words.over], timeout=0.2)
        finally:
            self._pipe.close()
        how = (
            f"was ended by signal {-self.code}" if self.code and self.code < 0 else f"ended with exit code {self.code}"
        )
        return CommandError(self._command, f"{how}: {self._words}" if str(self._words) else how)


class ChildSide(Side):
    """The daemon's end; it is closed when the program is gone, and knows by then how it ended."""

    def __init__(self, child: Child) -> None:
        super().__init__()
        self._child = child
        self._ending: asyncio.Task[None] | None = None

    def eof_received(self) -> bool:
        """The program has ended, or is about to (asyncio.Protocol)."""
        self._end(unasked=True)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """As `eof_received`, or it was closed here (asyncio.Protocol)."""
        self._end(unasked=exc is not None)

    def _end(self, *, unasked: bool) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._after(unasked))

    async def _after(self, unasked: bool) -> None:
        how = await self._child.end()
        # A program that ends well after it was of use has done what it was asked to.
        if unasked and (self._child.code or not self.heard):
            self.failure = how
        self.abort()
        super().connection_lost(None)


@dataclass(frozen=True, slots=True)
class Spawned:
    """Dials by starting a program."""

    command: Command

    async def dial(self) -> Side:
        """Start it, with a connection for its standard input and output."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                child = await Child.start(self.command, theirs)
        except BaseException:
            ours.close()
            raise
        side = ChildSide(child)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: side, sock=ours)
        except BaseException:
            ours.close()
            await child.end()
            raise
        return side
