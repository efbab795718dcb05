from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from buildkit_builder.buildkit.connect.dialers import (
    Answer,
    Route,
    Straight,
    Upgraded,
    UpgradeRefusedError,
    ssl_context,
)
from buildkit_builder.buildkit.find.endpoint import TLS, Endpoint
from buildkit_builder.errors import EndpointError
from tests.fakes import certificates


async def answering(path: Path, *pieces: bytes) -> asyncio.Server:
    """A server that reads a request and sends these pieces, each in a packet of its own, then ends."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(handle, str(path))


@pytest.mark.parametrize(
    ("pieces", "status", "said"),
    [
        (
            (b"HTTP/1.1 400 Bad\r\nContent-Length: 18\r\n\r\n", b'{"message":"bad!"}', b"never read"),
            400,
            "bad!",
        ),
        ((b"HTTP/1.1 404 No\r\n\r\n", b"page\nnot found"), 404, "page not found"),
        (
            (b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n", b'12\r\n{"message":"oops"}\r\n0\r\n\r\n'),
            500,
            "oops",
        ),
        (
            (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",),
            101,
            "it switched to another protocol than h2c",
        ),
        ((b"HTTP/1.1 20", b"0 OK\r\n\r\n"), 200, ""),
    ],
)
async def test_refused_upgrade(tmp_path: Path, pieces: tuple[bytes, ...], status: int, said: str) -> None:
    """Whatever is not the upgrade is an error with the engine's status and words, in however many packets it comes."""
    server = await answering(tmp_path / "s", *pieces)
    with pytest.raises(UpgradeRefusedError) as caught:
        await Upgraded(Route(path=str(tmp_path / "s"))).dial()
    server.close()

    assert (status, said) == (caught.value.status, caught.value.said)


async def test_upgrade_without_an_answer(tmp_path: Path) -> None:
    """An engine that closes instead of answering is a broken connection."""
    server = await answering(tmp_path / "s")
    with pytest.raises(ConnectionError, match="without an HTTP answer"):
        await Upgraded(Route(path=str(tmp_path / "s"))).dial()
    server.close()


def test_answer_that_is_no_http() -> None:
    """What is no HTTP answer has status 0, which no rule accepts."""
    assert 0 == Answer.parse(b"\x00\x00\x12\x04").status
    assert 0 == Answer.parse(b"HTTP/1.1 abc").status


def test_route_of_an_endpoint() -> None:
    """A route knows the socket, or host, port and the name that HTTP/2 and TLS use."""
    unix = Route.of(Endpoint(address="unix:///run/x.sock", kind="docker"))
    tls = TLS(verify=False, server_name="other")
    tcp = Route.of(Endpoint(address="tcp://Host:1", kind="buildkit"))
    named = Route.of(Endpoint(address="tcp://Host:1", kind="buildkit", tls=tls))

    assert ("/run/x.sock", "localhost") == (unix.path, unix.authority)
    assert ("Host", 1, "Host") == (tcp.host, tcp.port, tcp.authority)
    assert "other" == named.authority
    with pytest.raises(EndpointError):
        Route.of(Endpoint(address="tcp://Host", kind="buildkit"))


async def test_silent_loss_is_watched_for() -> None:
    """A TCP connection has the kernel look after its peer, within 20 s all told."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    side = await Straight(Route(host=host, port=port)).dial()
    assert side.transport is not None
    sock = side.transport.get_extra_info("socket")

    def option(name: str) -> int:
        value: int = sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
        return value

    alive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    seconds = option("TCP_KEEPIDLE") + option("TCP_KEEPINTVL") * option("TCP_KEEPCNT")
    unanswered = option("TCP_USER_TIMEOUT")
    side.abort()
    await side.closed
    server.close()

    assert 1 == alive
    assert seconds <= 20
    assert 0 < unanswered <= 20_000


def test_certificates_are_checked_unless_told_otherwise(tmp_path: Path) -> None:
    """TLS checks certificate and name, except where verification is off; nothing before TLS 1.2 is spoken."""
    certs = certificates.make(tmp_path)

    strict = ssl_context(TLS(ca=str(certs.ca)), "h2")
    lax = ssl_context(TLS(verify=False), "h2")

    assert (ssl.CERT_REQUIRED, True) == (strict.verify_mode, strict.check_hostname)
    assert (ssl.CERT_NONE, False) == (lax.verify_mode, lax.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == strict.minimum_version
