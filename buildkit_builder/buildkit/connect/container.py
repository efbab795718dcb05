"""The daemon's end of a relayed connection where that is a process in a container: `buildctl dial-stdio`.

The engine is asked to start it over the engine's own API, as buildx does, so no `docker` program runs here.
Protocol: Docker Engine API, `POST /containers/{id}/exec`, `POST /exec/{id}/start`; docker/buildx
`driver/docker-container/driver.go`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import quote

from buildkit_builder.buildkit.connect import docker_engine
from buildkit_builder.buildkit.connect.dialers import Route, UpgradeRefusedError, UpgradeSide
from buildkit_builder.buildkit.connect.relay import Side
from buildkit_builder.buildkit.find.dial_commands import DIAL

_HEADER = 8
_STDOUT, _STDERR = 1, 2
_WORDS_MAX = 4096

# The first frame of HTTP/2 is SETTINGS; this is its type, at this place (RFC 9113 §4.1).
_TYPE_AT, _SETTINGS = 3, 4


class ContainerError(Exception):
    """A process could not be started in a container, or ended.

    Attributes:
        status: The engine's HTTP status where it refused: 404 for no such container, 409 for one that does not run;
            else 0.
    """

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status


class ExecSide(UpgradeSide):
    """The daemon's end: the output of a process, which comes in frames of standard output and standard error."""

    def __init__(self, identity: str) -> None:
        body = json.dumps({"Detach": False, "Tty": False})
        request = (
            f"POST /exec/{identity}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
            f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        super().__init__(request.encode(), "tcp")
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frames = bytearray()
        self._first = bytearray()
        self._words = bytearray()

    async def begin(self) -> None:
        """Wait for HTTP/2, which a BuildKit begins without being asked.

        Raises:
            ContainerError: The process ended instead; holds what it said, or the engine said of it.
        """
        await self._begun

    def received(self, data: bytes) -> None:
        """Take frames apart, and pass on what is standard output."""
        self._frames += data
        while len(self._frames) >= _HEADER:
            end = _HEADER + int.from_bytes(self._frames[4:_HEADER], "big")
            if len(self._frames) < end:
                break
            stream, payload = self._frames[0], bytes(self._frames[_HEADER:end])
            del self._frames[:end]
            if stream == _STDOUT:
                self._output(payload)
            elif stream == _STDERR:
                self._words += payload
                del self._words[:-_WORDS_MAX]

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended (asyncio.Protocol)."""
        said = " ".join((self._words or self._first).decode(errors="replace").split())
        self.failure = ContainerError(f"`{' '.join(DIAL)}` ended there{f': {said}' if said else ''}")
        if not self._begun.done():
            self._begun.set_exception(self.failure)
            self._begun.exception()  # perhaps nobody waits for it
        super().connection_lost(exc)

    def eof_received(self) -> bool:
        """There is nothing left to say to a process that has ended (asyncio.Protocol)."""
        super().eof_received()
        return False

    def _output(self, payload: bytes) -> None:
        if self._begun.done():
            Side.data_received(self, payload)
            return
        self._first += payload
        if len(self._first) <= _TYPE_AT:
            return
        if self._first[_TYPE_AT] == _SETTINGS:
            self._begun.set_result(None)
            Side.data_received(self, bytes(self._first))
        # Anything else is why the engine could not start it: it says so as if the process did.


@dataclass(frozen=True, slots=True)
class InContainer:
    """Dials by starting `buildctl dial-stdio` in a container of an engine."""

    route: Route
    name: str

    async def dial(self) -> Side:
        """Start it, and wait until BuildKit speaks."""
        try:
            return await self._start()
        except OSError as error:
            raise self.route.failure or error from error

    async def _start(self) -> Side:
        wanted = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": False, "Cmd": list(DIAL)}
        status, said = await docker_engine.call(self.route, "POST", f"/containers/{quote(self.name)}/exec", wanted)
        if status != 201:
            raise ContainerError(said, status)
        side = ExecSide(json.loads(said)["Id"])
        try:
            await self.route.connect(side, alpn="http/1.1")
            await side.upgrade()
            await side.begin()
        except UpgradeRefusedError as error:
            side.abort()
            raise ContainerError(error.said, error.status) from error
        except BaseException:
            side.abort()
            raise
        return side
