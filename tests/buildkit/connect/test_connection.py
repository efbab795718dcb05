from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.connect.connection import Connection, Pool, connect
from buildkit_builder.buildkit.find.endpoint import TLS, Endpoint, Kind
from buildkit_builder.buildkit.wire import control_pb2, services
from buildkit_builder.errors import CapabilityError, EndpointError
from tests.fakes import certificates
from tests.fakes.buildkit import FakeBuildKit
from tests.fakes.docker_engine import FakeEngine


def buildkit(address: str, tls: TLS | None = None) -> Endpoint:
    return Endpoint(address=address, kind="buildkit", tls=tls, reason="a test says so")


def docker(address: str, tls: TLS | None = None) -> Endpoint:
    return Endpoint(address=address, kind="docker", tls=tls, reason="a test says so")


async def test_unix_buildkitd() -> None:
    """A buildkitd on a unix socket is dialled and says who it is."""
    async with FakeBuildKit(version="v9.9") as fake, await connect(buildkit(fake.address)) as connection:
        assert "v9.9" == connection.daemon.version
        assert "buildkit" == connection.endpoint.kind


async def test_tcp_buildkitd() -> None:
    """A buildkitd on a TCP port is dialled."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path, api="1.53", tcp=True) as front:
        async with await connect(buildkit(front.address)) as connection:
            assert "v0.25.2" == connection.daemon.version

    assert ["PRI * HTTP/2.0"] == front.requests


async def test_tls_buildkitd(tmp_path: Path) -> None:
    """A buildkitd with mutual TLS is dialled with ALPN h2, its certificate checked against another name if told so."""
    certs = certificates.make(tmp_path, name="other.name")
    tls = TLS(ca=str(certs.ca), cert=str(certs.client), key=str(certs.client_key), server_name="other.name")
    async with FakeBuildKit() as fake:
        async with FakeEngine(fake.path, api="1.53", tls=certs.server_context("h2")) as front:
            async with await connect(buildkit(front.address, tls)) as connection:
                assert "v0.25.2" == connection.daemon.version

            assert ["h2"] == front.protocols


async def test_engine_upgrade() -> None:
    """An engine before API 1.53 is upgraded."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path, api="1.52") as engine:
        async with await connect(docker(engine.address)) as connection:
            assert "v0.25.2" == connection.daemon.version
            assert "docker" == connection.endpoint.kind

    assert ["GET /_ping HTTP/1.1", "POST /grpc HTTP/1.1"] == engine.requests


async def test_engine_with_early_bytes() -> None:
    """HTTP/2 that arrives together with the answer to the upgrade is not lost."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path, early=True) as engine:
        async with await connect(docker(engine.address)) as connection:
            assert 1 == len(await Control(connection.channel).list_workers())


async def test_engine_with_direct_grpc() -> None:
    """An engine from API 1.53 on is dialled without the upgrade."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path, api="1.53") as engine:
        async with await connect(docker(engine.address)) as connection:
            assert "v0.25.2" == connection.daemon.version

    assert ["GET /_ping HTTP/1.1", "PRI * HTTP/2.0"] == engine.requests


async def test_engine_over_tls(tmp_path: Path) -> None:
    """An engine's TLS port is upgraded, with the client's certificate."""
    certs = certificates.make(tmp_path)
    tls = TLS(ca=str(certs.ca), cert=str(certs.client), key=str(certs.client_key))
    async with FakeBuildKit() as fake:
        async with FakeEngine(fake.path, tls=certs.server_context("http/1.1")) as engine:
            async with await connect(docker(engine.address, tls)) as connection:
                assert "v0.25.2" == connection.daemon.version

    assert "POST /grpc HTTP/1.1" in engine.requests


async def test_engine_whose_certificate_is_not_trusted(tmp_path: Path) -> None:
    """A certificate of another CA is refused, in TLS's own words."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    certs, others = certificates.make(tmp_path / "a"), certificates.make(tmp_path / "b")
    tls = TLS(ca=str(others.ca), cert=str(certs.client), key=str(certs.client_key))
    async with FakeBuildKit() as fake:
        async with FakeEngine(fake.path, tls=certs.server_context("http/1.1")) as engine:
            with pytest.raises(EndpointError, match="CERTIFICATE_VERIFY_FAILED"):
                await connect(docker(engine.address, tls))


async def test_engine_whose_certificate_is_not_checked(tmp_path: Path) -> None:
    """With verification off any certificate will do."""
    certs = certificates.make(tmp_path)
    tls = TLS(cert=str(certs.client), key=str(certs.client_key), verify=False)
    async with FakeBuildKit() as fake:
        async with FakeEngine(fake.path, tls=certs.server_context("http/1.1")) as engine:
            async with await connect(docker(engine.address, tls)) as connection:
                assert "v0.25.2" == connection.daemon.version


async def test_unix_socket_of_an_engine() -> None:
    """A unix socket that was taken for a buildkitd's and is an engine's is treated as an engine."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path) as engine:
        async with await connect(buildkit(engine.address)) as connection:
            assert "docker" == connection.endpoint.kind
            assert engine.address == connection.endpoint.address


async def test_engine_that_refuses_the_upgrade() -> None:
    """An engine without BuildKit is told as such, with its own words."""
    async with FakeEngine("/nowhere", refusal=(404, "page not found")) as engine:
        with pytest.raises(EndpointError) as caught:
            await connect(docker(engine.address))

    assert "answered 404 to the upgrade: page not found" in str(caught.value)
    assert "Podman" in str(caught.value)


async def test_engine_that_is_too_old() -> None:
    """An engine before Docker 20.10 is told as too old, with the version that is needed."""
    async with FakeEngine("/nowhere", api="1.40") as engine:
        with pytest.raises(CapabilityError, match=r"API 1\.40.*Docker Engine 20\.10"):
            await connect(docker(engine.address))


async def test_no_engine_there() -> None:
    """A buildkitd where an engine was expected is told as such."""
    async with FakeBuildKit() as fake:
        with pytest.raises(EndpointError, match="no Docker Engine"):
            await connect(docker(fake.address))


async def test_no_buildkit_there() -> None:
    """A gRPC server that is no BuildKit is told as such."""
    missing = (services.CONTROL_INFO, services.CONTROL_LIST_WORKERS)
    async with FakeBuildKit(unimplemented=missing) as fake:
        with pytest.raises(CapabilityError, match="no BuildKit"):
            await connect(buildkit(fake.address))


async def test_old_buildkit_without_info() -> None:
    """A BuildKit before 0.11 has no Info, and is taken for its workers."""
    async with FakeBuildKit(unimplemented=(services.CONTROL_INFO,)) as fake:
        async with await connect(buildkit(fake.address)) as connection:
            assert "" == connection.daemon.version
        assert 1 == len(fake.called(services.CONTROL_LIST_WORKERS))


async def test_nothing_listens(tmp_path: Path) -> None:
    """A socket that is not there is told with address, reason, the system's words and advice."""
    with pytest.raises(EndpointError) as caught:
        await connect(docker(f"unix://{tmp_path}/d.sock"))

    message = str(caught.value)
    assert f"unix://{tmp_path}/d.sock, chosen because a test says so: No such file or directory." in message
    assert "Start Docker" in message


async def test_refused_tcp_port() -> None:
    """A port where nothing listens is told in the system's words, for an engine as for a buildkitd."""
    async with FakeEngine("/nowhere", tcp=True) as engine:
        address = engine.address

    for endpoint in (docker(address), buildkit(address)):
        with pytest.raises(EndpointError, match=r"[Cc]onnect"):
            await connect(endpoint)


async def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket of another group is told with the group to join."""

    async def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio, "open_unix_connection", denied)

    with pytest.raises(EndpointError, match=r"Permission denied\. Join the group"):
        await connect(docker(f"unix://{tmp_path}/d.sock"))


async def test_silence_ends_at_the_timeout(tmp_path: Path) -> None:
    """Something that accepts and never answers is told after the timeout."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(hold, str(tmp_path / "s"))
    with pytest.raises(EndpointError, match=r"did not answer within 0\.2 s"):
        await connect(buildkit(f"unix://{tmp_path}/s"), timeout=0.2)
    server.close()


async def test_killed_daemon_ends_a_running_call() -> None:
    """A call in progress through the upgrade fails as soon as the daemon is gone, and is not repeated."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path) as engine:
        async with await connect(docker(engine.address)) as connection:
            request = control_pb2.SolveRequest(Ref="r")
            solving = asyncio.ensure_future(Control(connection.channel).solve(request))
            await fake.until_build("r")
            await engine.drop()

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(solving, 20)

        assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
        assert 1 == len(fake.called(services.CONTROL_SOLVE))


async def test_close_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `close` no task, thread, file descriptor or folder of a connection remains."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with FakeBuildKit() as fake, FakeEngine(fake.path) as engine:
        async with await connect(docker(engine.address)):
            pass  # the first channel of a process starts what gRPC keeps for good
        await _until(lambda: engine.open_connections == 0)
        descriptors, threads = len(os.listdir("/dev/fd")), threading.active_count()
        tasks = len(asyncio.all_tasks())

        for _ in range(5):
            connection = await connect(docker(engine.address))
            await connection.close()
            await connection.close()
        await _until(lambda: engine.open_connections == 0 and len(os.listdir("/dev/fd")) <= descriptors)

        assert threads == threading.active_count()
        assert [] == list(tmp_path.glob("bkb-*"))
        assert tasks == len(asyncio.all_tasks())


async def test_pool_shares_and_closes() -> None:
    """Builds at the same time get one connection; `close` closes it."""
    async with FakeBuildKit() as fake:
        endpoint = buildkit(fake.address)
        async with Pool() as pool:
            first, second = await asyncio.gather(pool.get(endpoint), pool.get(endpoint))

            assert first is second
            assert 1 == len(fake.called(services.CONTROL_INFO))

        assert grpc.ChannelConnectivity.SHUTDOWN == first.channel.get_state()


async def test_pool_forgets_failures() -> None:
    """A daemon that could not be reached is tried anew the next time."""
    async with FakeBuildKit() as fake, Pool() as pool:
        await fake.lose()
        with pytest.raises(EndpointError):
            await pool.get(buildkit(fake.address))
        await fake.start()

        assert "v0.25.2" == (await pool.get(buildkit(fake.address))).daemon.version


async def test_pool_replaces_a_lost_connection() -> None:
    """After the daemon went and came back a build gets a connection that works."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path) as engine, Pool() as pool:
        first = await pool.get(docker(engine.address))
        await engine.drop()
        await _until(lambda: first.channel.get_state() != grpc.ChannelConnectivity.READY)

        second = await pool.get(docker(engine.address))

        assert 1 == len(await Control(second.channel).list_workers())


async def test_cancelled_build_leaves_the_pool_to_others() -> None:
    """A build that is cancelled while connecting does not take the connection from the others."""
    async with FakeBuildKit() as fake, Pool() as pool:
        impatient = asyncio.ensure_future(pool.get(buildkit(fake.address)))
        patient = asyncio.ensure_future(pool.get(buildkit(fake.address)))
        await asyncio.sleep(0)
        impatient.cancel()

        assert "v0.25.2" == (await patient).daemon.version
        assert impatient.cancelled()


# --- sockets whose names are not plain ---

ODD = (
    "a%41", "100%", "a#b", "a?b", "a?b=c&d", "a,b", "a b", "Übung", "日本", "a;b:c@d", "~$&'()[]{}|\\\"", "a\nb",
    "long/" + "/".join(["x" * 60] * 4),
)  # fmt: skip


def odd_link(folder: Path, name: str, socket: str) -> str:
    """The address of a socket by another name: for whoever connects it is that of the socket."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(socket)
    return f"unix://{path}"


@pytest.mark.parametrize("name", ODD)
async def test_odd_socket_of_a_buildkitd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The path of a socket is taken as it is, be it that a URI could not be written so, or that it is very long."""
    with tempfile.TemporaryDirectory(prefix="odd-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        await _reached(tmp_path, name)

        assert [] == list(Path(folder).glob("bkb-*"))


async def _reached(folder: Path, name: str) -> None:
    async with FakeBuildKit() as fake:
        address = odd_link(folder, name, fake.path)
        async with await connect(buildkit(address)) as connection:
            assert ("v0.25.2", address) == (connection.daemon.version, connection.endpoint.address)
            await fake.lose()
            await _until(lambda: connection.channel.get_state() != grpc.ChannelConnectivity.READY)
            await fake.start()
            # What leads there stays as long as the connection, for the next one.
            assert await _answers(connection)


@pytest.mark.parametrize("name", ODD)
async def test_odd_socket_of_an_engine(tmp_path: Path, name: str) -> None:
    """So it is where an engine is pinged and upgraded there."""
    async with FakeBuildKit() as fake, FakeEngine(fake.path) as engine:
        address = odd_link(tmp_path, name, engine.address.removeprefix("unix://"))
        async with await connect(docker(address)) as connection:
            assert ("v0.25.2", "docker") == (connection.daemon.version, connection.endpoint.kind)


async def test_odd_socket_that_is_not_there(tmp_path: Path) -> None:
    """The error has the name that the user gave, in full."""
    for name in ODD:
        with pytest.raises(EndpointError) as caught:
            await connect(buildkit(f"unix://{tmp_path}/{name}"))
        assert f"unix://{tmp_path}/{name}," in str(caught.value)
        assert "No such file" in str(caught.value)


async def _answers(connection: Connection) -> bool:
    """Whether the daemon is found again, in time."""
    await _until(lambda: connection.channel.get_state(try_to_connect=True) == grpc.ChannelConnectivity.READY)
    return bool(await Control(connection.channel).list_workers())


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for what only the system can report; the suite's own time limit ends it."""
    while not condition():
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def alerting(context: ssl.SSLContext) -> Iterator[str]:
    """A port of a server that says in TLS's own words why it goes no further, as Go's does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("kind", ["buildkit", "docker"])
@pytest.mark.parametrize("alerts", [True, False])
async def test_a_client_certificate_that_is_wanted(tmp_path: Path, kind: Kind, alerts: bool) -> None:
    """Who has none is told of that, and nothing of sockets of ours."""
    certs = certificates.make(tmp_path)
    context = certs.server_context("h2")
    tls = TLS(ca=str(certs.ca))
    async with contextlib.AsyncExitStack() as stack:
        if alerts:
            address = stack.enter_context(alerting(context))
        else:
            fake = await stack.enter_async_context(FakeBuildKit())
            address = (await stack.enter_async_context(FakeEngine(fake.path, api="1.53", tls=context))).address
        with pytest.raises(EndpointError) as caught:
            await connect(Endpoint(address=address, kind=kind, tls=tls))

    assert "client certificate" in str(caught.value)
    assert [] == [word for word in ("bkb-", "unix:", "Start Docker") if word in str(caught.value)]


async def test_a_port_that_closes_at_once_names_no_socket_of_ours() -> None:
    """The address that was given is told, once."""
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(EndpointError, match="it closed the connection") as caught:
            await connect(buildkit(address))

    assert "bkb-" not in str(caught.value)
