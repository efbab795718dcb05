"""What a Docker Engine says of itself before gRPC begins."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from buildkit_builder.buildkit.connect.dialers import Answer, Route, ssl_context
from buildkit_builder.buildkit.llb import ImageReference

_ANSWER_MAX = 64 * 1024

API_DIRECT_GRPC = (1, 53)
"""From this API version (Docker 29.2) the engine takes gRPC on its own socket (moby `api/docs/CHANGELOG.md`)."""

API_OLDEST = (1, 41)
"""Docker 20.10, the first with BuildKit 0.8."""


class PushRefusedError(Exception):
    """An engine could not push; the words are its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine's answer to `GET /_ping`.

    Attributes:
        api: Its API version, for example `(1, 51)`; `(0, 0)` where it did not say.
        server: Its `Server` header, for example `Docker/28.5.2 (linux)`.
    """

    api: tuple[int, int]
    server: str

    @property
    def direct_grpc(self) -> bool:
        """Whether gRPC may be spoken without the upgrade."""
        return self.api >= API_DIRECT_GRPC


async def ping(route: Route) -> EngineFacts | None:
    """Ask whether a Docker Engine listens there.

    Returns:
        What it says, or `None` where something listens that is no Docker Engine.

    Raises:
        OSError: Nothing listens, or it may not be reached.
    """
    async with _connection(route) as (reader, writer):
        try:
            # A buildkitd drops a connection that begins with anything but HTTP/2, so this costs one round trip there.
            writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            await writer.drain()
            head = await _read_head(reader)
        except ConnectionError:
            return None
    answer = Answer.parse(head)
    if answer.status != 200 or "api-version" not in answer.headers:
        return None
    return EngineFacts(api=_version(answer.headers["api-version"]), server=answer.headers.get("server", ""))


async def call(route: Route, method: str, path: str, body: object = None) -> tuple[int, str]:
    """One request of the Docker Engine API, with JSON as its body.

    Returns:
        The status, and the body: JSON where the request went well, else the engine's words.

    Raises:
        OSError: The engine cannot be reached, or gave no HTTP answer.
    """
    sent = b"" if body is None else json.dumps(body).encode()
    # HTTP/1.0, so that the answer is not chunked and ends with the connection.
    head = (
        f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(sent)}\r\n\r\n"
    )
    async with _connection(route) as (reader, writer):
        writer.write(head.encode() + sent)
        await writer.drain()
        said = await reader.read()
    answer_head, blank, said = said.partition(b"\r\n\r\n")
    answer = Answer.parse(answer_head)
    if not blank or not answer.status:
        raise ConnectionResetError("it closed the connection without an HTTP answer")
    return answer.status, said.decode(errors="replace") if answer.status < 300 else answer.said(said)


async def push(route: Route, reference: ImageReference, credentials: Mapping[str, str]) -> str | None:
    """Have the engine push an image of its store: what an engine without the containerd store cannot do while it
    builds. Protocol: Docker Engine API, `POST /images/{name}/push`.

    Args:
        route: To the engine.
        reference: The image, with a tag.
        credentials: `username` and `password`, or `identitytoken`; empty for none.

    Returns:
        The digest of what was pushed, where the engine says it.

    Raises:
        OSError: The engine went away.
        PushRefusedError: The registry refused; holds the engine's words.
    """
    try:
        async with _connection(route) as (reader, writer):
            return await _push(reader, writer, reference, credentials)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the engine closed the connection") from error


async def _push(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    reference: ImageReference,
    credentials: Mapping[str, str],
) -> str | None:
    auth = base64.urlsafe_b64encode(json.dumps(dict(credentials)).encode()).decode()
    # HTTP/1.0, so that the answer is not chunked and ends with the connection.
    writer.write(
        f"POST /images/{quote(reference.repository, safe='/:')}/push?tag={quote(reference.tag)} HTTP/1.0\r\n"
        f"Host: docker\r\nX-Registry-Auth: {auth}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    if Answer.parse(head.removesuffix(b"\r\n\r\n")).status != 200:
        raise PushRefusedError((await reader.read(_ANSWER_MAX)).decode(errors="replace"))
    digest = None
    async for line in reader:
        message = json.loads(line)
        if "error" in message:
            raise PushRefusedError(str(message["error"]))
        digest = message.get("aux", {}).get("Digest", digest)
    return digest


@contextlib.asynccontextmanager
async def _connection(route: Route) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await _open(route)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        # How it ended is told by whoever read; asyncio complains where nobody asks the connection as well.
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _open(route: Route) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if route.path is not None:
        return await asyncio.open_unix_connection(route.path)
    context = ssl_context(route.tls, "http/1.1") if route.tls else None
    name = route.authority if context else None
    return await asyncio.open_connection(route.host, route.port, ssl=context, server_hostname=name)


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _ANSWER_MAX:
        data = await reader.read(4096)
        if not data:
            break
        head += data
    return head.partition(b"\r\n\r\n")[0]


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
