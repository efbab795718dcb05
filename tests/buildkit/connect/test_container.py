from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.connect.container import ContainerError, ExecSide, InContainer
from buildkit_builder.buildkit.connect.dialers import Route
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.errors import EndpointError
from tests.buildkit.connect.sides import Kept

SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[object, object, None]]


def frame(stream: int, data: bytes) -> bytes:
    """Output as an engine sends it."""
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class Engine:
    """An engine that answers the two requests by which a process is started in a container.

    Args:
        path: Its socket.
        output: What the process says, packet by packet; then it ends.
        created: The status and the body of the answer to the first request.
    """

    def __init__(self, path: Path, *output: bytes, created: tuple[int, object] = (201, {"Id": "e1"})) -> None:
        self.requests: list[str] = []
        self._path = path
        self._output = output
        self._created = created
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Engine:
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r")[0])
        body = (await reader.readexactly(length)).decode()
        self.requests.append(f"{head.partition(' HTTP')[0]} {body}")
        if "/start" in head:
            writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            for packet in self._output:
                writer.write(packet)
                await writer.drain()
        else:
            status, answer = self._created
            writer.write(f"HTTP/1.0 {status} X\r\nContent-Type: application/json\r\n\r\n{json.dumps(answer)}".encode())
        writer.close()


async def dialled(path: Path) -> tuple[bytes, str]:
    """What a process says before it ends, and how it ended."""
    side = await InContainer(Route(path=str(path)), "a b").dial()
    far = Kept()
    side.link(far)
    await side.closed
    return far.data, str(side.failure)


async def refused(path: Path) -> ContainerError:
    with pytest.raises(ContainerError) as caught:
        await InContainer(Route(path=str(path)), "x").dial()
    return caught.value


async def test_output_is_taken_out_of_its_frames(tmp_path: Path) -> None:
    """Frames may come in any packets; standard error is no part of the connection, and is told at its end."""
    whole = frame(1, SETTINGS + b"more") + frame(2, b"a complaint\n") + frame(1, b"") + frame(1, b"and more")
    async with Engine(tmp_path / "s", *(bytes([byte]) for byte in whole)) as engine:
        data, ending = await dialled(tmp_path / "s")

    assert SETTINGS + b"moreand more" == data
    assert "`buildctl dial-stdio` ended there: a complaint" == ending
    assert "POST /containers/a%20b/exec" == engine.requests[0].partition(" {")[0]
    assert ["buildctl", "dial-stdio"] == json.loads(engine.requests[0].partition("exec ")[2])["Cmd"]
    assert 'POST /exec/e1/start {"Detach": false, "Tty": false}' == engine.requests[1]


async def test_engine_that_cannot_start_it(tmp_path: Path) -> None:
    """What an engine says instead of the process is no connection, but why there is none."""
    async with Engine(tmp_path / "s", frame(1, b"OCI runtime exec failed: no such file\r\n")):
        assert "ended there: OCI runtime exec failed: no such file" in str(await refused(tmp_path / "s"))


async def test_process_that_fails(tmp_path: Path) -> None:
    """What a process says before it has begun to speak HTTP/2 is why it has not."""
    async with Engine(tmp_path / "s", frame(2, b"cannot dial\n")):
        assert "ended there: cannot dial" in str(await refused(tmp_path / "s"))


@pytest.mark.parametrize("status", [404, 409])
async def test_refused_exec(tmp_path: Path, status: int) -> None:
    """What an engine says against it is told, with its status."""
    async with Engine(tmp_path / "s", created=(status, {"message": "no, sorry"})):
        error = await refused(tmp_path / "s")

    assert (status, "no, sorry") == (error.status, str(error))


@pytest.mark.parametrize(
    ("name", "status", "advice"),
    [
        ("mine", 404, "`docker run` makes it"),
        ("buildx_buildkit_mine0", 404, "`docker buildx inspect --bootstrap mine` makes it"),
        ("mine", 409, "`docker start mine` on the engine at unix://"),
        ("mine", 500, "See `docker logs mine`"),
    ],
)
async def test_advice(tmp_path: Path, name: str, status: int, advice: str) -> None:
    """The error says what to do about the container."""
    engine = Endpoint(address=f"unix://{tmp_path}/s", kind="docker")
    endpoint = Endpoint(address=f"docker-container://{name}", kind="buildkit", engine=engine)
    async with Engine(tmp_path / "s", created=(status, {"message": "no"})):
        with pytest.raises(EndpointError, match="No BuildKit could be reached") as caught:
            await connect(endpoint)

    assert advice in str(caught.value)


async def test_engine_that_is_gone(tmp_path: Path) -> None:
    """Where the container's engine does not answer, that is told, and which engine it is."""
    engine = Endpoint(address=f"unix://{tmp_path}/none", kind="docker")
    with pytest.raises(EndpointError, match=rf"No such file or directory\. Its engine is the one at {engine.address}"):
        await connect(Endpoint(address="docker-container://x", kind="buildkit", engine=engine))


async def test_end_before_the_upgrade() -> None:
    """A connection that is lost before its process has begun is an error for whoever waits."""
    side = ExecSide("e")
    side.connection_lost(None)

    with pytest.raises(ContainerError):
        await side.begin()
    with pytest.raises(ConnectionError):
        await side.upgrade()
