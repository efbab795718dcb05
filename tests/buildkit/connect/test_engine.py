"""The client against a real BuildKit, over every way there is to reach one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api import events
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.failures import VertexDescription, status_of, translate
from buildkit_builder.buildkit.api.gateway import Gateway, Pong
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.discovery import resolve
from buildkit_builder.buildkit.find.endpoint import TLS, Endpoint, EndpointOptions
from buildkit_builder.buildkit.wire import control_pb2
from buildkit_builder.errors import BaseImageError, EndpointError, RegistryError, StepFailedError
from tests.conftest import Engine
from tests.fakes import certificates
from tests.fakes.docker_engine import pump

PYTHON = "docker.io/library/python:3.11-slim-bookworm"
UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Front:
    """A port or socket of ours whose connections go on to the engine's socket, upgraded or as they are.

    Args:
        socket: The engine's socket.
        upgrade: Ask for the upgrade first, so that what dials here meets HTTP/2 at once, as at a buildkitd.
        path: Listen on this socket; on a TCP port of this machine otherwise.
        tls: With TLS.
    """

    socket: str
    upgrade: bool
    path: str | None = None
    tls: ssl.SSLContext | None = None
    address: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Front:
        if self.path:
            self._server = await asyncio.start_unix_server(self._accept, self.path)
            self.address = f"unix://{self.path}"
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
            self.address = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before it begins closes nothing.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(self.socket)
        try:
            if self.upgrade:
                back_writer.write(UPGRADE)
                assert (await back_reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            pumps = [asyncio.ensure_future(pump(reader, back_writer)), asyncio.ensure_future(pump(back_reader, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in pumps:
                    task.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            back_writer.transport.abort()
            writer.transport.abort()


@dataclass(slots=True)
class Build:
    """One build whose frontend is the test."""

    gateway: Gateway
    pong: Pong
    solving: asyncio.Future[Mapping[str, str]]


@contextlib.asynccontextmanager
async def building(connection: Connection, request: control_pb2.SolveRequest | None = None) -> AsyncIterator[Build]:
    """Run `Control.Solve` with neither graph nor frontend beside the test, as client-side frontends do."""
    request = request or control_pb2.SolveRequest()
    request.Ref = uuid.uuid4().hex
    solving = asyncio.ensure_future(Control(connection.channel).solve(request))
    try:
        gateway = Gateway(connection.channel, request.Ref)
        yield Build(gateway, await gateway.ping(closed=solving), solving)
    finally:
        solving.cancel()
        await asyncio.gather(solving, return_exceptions=True)


def endpoint_of(engine: Engine) -> Endpoint:
    return Endpoint(address=engine.address, kind="docker" if engine.docker_host else "buildkit", reason="it is tested")


def socket_of(engine: Engine) -> str:
    return engine.address.removeprefix("unix://")


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    async with await connect(endpoint_of(engine)) as opened:
        yield opened


def trivial() -> llb.Definition:
    """A graph that needs no image."""
    return llb.marshal(llb.scratch().file(llb.mkfile("/hello", b"world", mode=0o640)), platform=llb.Platform())


async def read_trivial(connection: Connection) -> bytes:
    """Solve the trivial graph, and read its file."""
    async with building(connection) as build:
        result = await build.gateway.solve(trivial())
        assert result.ref is not None
        data = await build.gateway.read_file(result.ref.id, "/hello")
        await build.gateway.return_result(result)
        await build.solving
    return data


async def test_info_and_workers(connection: Connection) -> None:
    """A real daemon says what it is, and that it can build for Linux."""
    workers = await Control(connection.channel).list_workers()

    assert "buildkit" in connection.daemon.package
    assert "linux" in {platform.os for worker in workers for platform in worker.platforms}


async def test_solve_and_look(connection: Connection) -> None:
    """A client-side frontend pings, solves, reads, lists and looks at files, and returns its result."""
    async with building(connection) as build:
        assert build.pong.llb.supports("file.base")
        assert build.pong.frontend.supports("solve.base")

        result = await build.gateway.solve(trivial(), evaluate=True)
        assert result.ref is not None
        ref = result.ref.id
        stat = await build.gateway.stat_file(ref, "/hello")
        await build.gateway.evaluate(ref)

        assert b"orl" == await build.gateway.read_file(ref, "/hello", offset=1, length=3)
        assert ("hello",) == tuple(entry.path for entry in await build.gateway.read_dir(ref, "/"))
        assert (5, 0o640) == (stat.size, stat.mode & 0o777)
        await build.gateway.return_result(result)
        await build.solving


async def test_scratch_may_be_returned(connection: Connection) -> None:
    """The empty ref is a result."""
    async with building(connection) as build:
        await build.gateway.return_result(Result(ref=Ref()))
        await build.solving


async def test_status_of_a_build(connection: Connection) -> None:
    """Progress that is asked for before the build began arrives, names included, until the build has ended."""
    request = control_pb2.SolveRequest()
    name = f"make {uuid.uuid4().hex}"
    state = llb.scratch().file(llb.mkfile("/hello", name.encode()), name=name)
    async with building(connection, request) as build:

        async def follow() -> list[events.VertexEvent]:
            updates = Control(connection.channel).status(request.Ref)
            return [vertex async for update in updates for vertex in update.vertexes]

        following = asyncio.ensure_future(follow())
        result = await build.gateway.solve(llb.marshal(state, platform=llb.Platform()), evaluate=True)
        await build.gateway.return_result(result)
        await build.solving
        vertexes = await following

    last = {vertex.name: vertex for vertex in vertexes}[name]
    assert last.started is not None
    assert last.completed is not None
    assert last.started <= last.completed
    assert "" == last.error


async def test_resolve_image(connection: Connection) -> None:
    """A base image resolves to a digest and a config, which name the same image when pinned."""
    async with building(connection) as build:
        found = await build.gateway.resolve_image(PYTHON, llb.Platform())

    assert found.digest.startswith("sha256:")
    assert b'"linux"' in found.config
    assert PYTHON == found.ref


async def test_missing_image(connection: Connection, engine: Engine) -> None:
    """An image that its registry does not have is told with its name."""
    name = f"{engine.registry}/nope/{uuid.uuid4().hex}:1"
    async with building(connection) as build:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await build.gateway.resolve_image(name, llb.Platform())
    error = translate(caught.value, describe=lambda digest: None, doing="resolving the base image", image=name)

    assert isinstance(error, BaseImageError)
    assert f"`{name}`" in str(error)


async def test_registry_that_is_not_there(connection: Connection) -> None:
    """A registry where nothing listens is told as one that cannot be reached."""
    name = f"localhost:1/{uuid.uuid4().hex}:1"
    async with building(connection) as build:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await build.gateway.resolve_image(name, llb.Platform())
    error = translate(caught.value, describe=lambda digest: None, doing="resolving the base image", image=name)

    assert RegistryError is type(error)


async def test_failing_step(connection: Connection) -> None:
    """A command that fails is told with its exit code, and `Control.Solve` gives the same when it is returned."""
    step = ["sh", "-c", "echo before the end; exit 7"]
    state = llb.image(PYTHON).run(step, name="the last step", ignore_cache=True).root
    definition = llb.marshal(state, platform=llb.Platform())

    def describe(digest: str) -> VertexDescription | None:
        known = definition.names.get(digest)
        return VertexDescription(name=known, command="sh", log_tail=("before the end",)) if known else None

    async with building(connection) as build:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await build.gateway.solve(definition, evaluate=True)
        await build.gateway.return_error(status_of(caught.value))
        with pytest.raises(grpc.aio.AioRpcError) as outer:
            await build.solving

    for error in (caught.value, outer.value):
        told = translate(error, describe=describe, doing="building")
        assert isinstance(told, StepFailedError)
        assert ("the last step", 7) == (told.step, told.exit_code)


async def test_failing_push(connection: Connection) -> None:
    """A push to a registry where nothing listens fails `Control.Solve`, and is told with the image's name."""
    name = f"localhost:1/{uuid.uuid4().hex}:1"
    # Not kept: an engine would take it for the registry's from then on.
    attrs = {"name": name, "push": "true", "store": "false", "unpack": "false"}
    request = control_pb2.SolveRequest(ExporterDeprecated="image", ExporterAttrsDeprecated=attrs)
    request.Exporters.add(Type="image", Attrs=attrs)
    async with building(connection, request) as build:
        await build.gateway.return_result(await build.gateway.solve(trivial()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await build.solving
    error = translate(caught.value, describe=lambda digest: None, doing="pushing")

    assert RegistryError is type(error)
    assert f"`{name}`" in str(error)


async def test_cancelled_build_stops_its_step(connection: Connection) -> None:
    """A build whose calls are cancelled in mid-step stops that step, and the next one uses the same connection."""
    state = llb.image(PYTHON).run(["sleep", "600"], name="sleep long", ignore_cache=True).root
    request = control_pb2.SolveRequest()
    async with building(connection, request) as build:
        solving = asyncio.ensure_future(build.gateway.solve(llb.marshal(state, platform=llb.Platform()), evaluate=True))
        updates = Control(connection.channel).status(request.Ref)
        async for update in updates:
            if any(_runs(vertex) for vertex in update.vertexes):
                break
        # Cancelling `Control.Solve` alone would leave a call of the bridge waiting for its step.
        solving.cancel()
        build.solving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await solving
        ended = [vertex async for update in updates for vertex in update.vertexes if vertex.name == "sleep long"]

    assert ended[-1].completed is not None
    assert "cancel" in ended[-1].error
    assert b"world" == await read_trivial(connection)


@pytest.mark.parametrize("unix", [True, False])
async def test_plain_buildkitd(engine: Engine, tmp_path: Path, unix: bool) -> None:
    """What meets HTTP/2 at once, on a unix socket or a TCP port, is built with as a buildkitd."""
    front = Front(socket_of(engine), upgrade=bool(engine.docker_host), path=str(tmp_path / "b.sock") if unix else None)
    async with front, await connect(Endpoint(address=front.address, kind="buildkit")) as connection:
        assert "buildkit" == connection.endpoint.kind
        assert b"world" == await read_trivial(connection)


async def test_buildkitd_over_mutual_tls(engine: Engine, tmp_path: Path) -> None:
    """A buildkitd behind mutual TLS is built with, its name checked as told."""
    certs = certificates.make(tmp_path, name="buildkit.test")
    tls = TLS(ca=str(certs.ca), cert=str(certs.client), key=str(certs.client_key), server_name="buildkit.test")
    front = Front(socket_of(engine), upgrade=bool(engine.docker_host), tls=certs.server_context("h2"))
    async with front, await connect(Endpoint(address=front.address, kind="buildkit", tls=tls)) as connection:
        assert b"world" == await read_trivial(connection)


async def test_engine_over_mutual_tls(engine: Engine, tmp_path: Path) -> None:
    """An engine's TLS port is built with; without the client's certificate it is not."""
    certs = certificates.make(tmp_path)
    tls = TLS(ca=str(certs.ca), cert=str(certs.client), key=str(certs.client_key))
    kind = endpoint_of(engine).kind
    async with Front(socket_of(engine), upgrade=False, tls=certs.server_context("http/1.1")) as front:
        async with await connect(Endpoint(address=front.address, kind=kind, tls=tls)) as connection:
            assert b"world" == await read_trivial(connection)
        with pytest.raises(EndpointError):
            await connect(Endpoint(address=front.address, kind=kind, tls=TLS(ca=str(certs.ca))))


async def test_engine_on_a_socket_called_buildkit(engine: Engine) -> None:
    """A unix address that is meant for a buildkitd and leads to an engine works as well."""
    async with await connect(Endpoint(address=engine.address, kind="buildkit")) as connection:
        assert endpoint_of(engine).kind == connection.endpoint.kind
        assert b"world" == await read_trivial(connection)


@pytest.mark.parametrize("name", ["a%41 b#c?d,e=ü", "/".join(["x" * 60] * 4)])
async def test_engine_on_an_odd_socket(engine: Engine, tmp_path: Path, name: str) -> None:
    """The path of a socket may have anything in it, and be as long as a path may be."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(socket_of(engine))
    endpoint = resolve(
        EndpointOptions(), environ={"DOCKER_HOST": f" unix://{path}\n", "HOME": str(tmp_path)}, home=tmp_path
    )
    async with await connect(endpoint) as connection:
        assert b"world" == await read_trivial(connection)


@pytest.mark.parametrize("upgrade", [True, False])
async def test_engine_on_an_abstract_socket(engine: Engine, tmp_path: Path, upgrade: bool) -> None:
    """A socket of Linux's without a path is an engine's, or a buildkitd's."""
    name = f"bkb%test,{uuid.uuid4().hex}"
    variable = "BUILDKIT_HOST" if upgrade else "DOCKER_HOST"
    upgrade = upgrade and bool(engine.docker_host)
    async with Front(socket_of(engine), upgrade=upgrade, path=f"\0{name}"):
        endpoint = resolve(EndpointOptions(), environ={variable: f"unix://@{name}"}, home=tmp_path)
        async with await connect(endpoint) as connection:
            assert f"unix://@{name}" == connection.endpoint.address
            assert b"world" == await read_trivial(connection)


def _runs(vertex: events.VertexEvent) -> bool:
    return vertex.name == "sleep long" and vertex.started is not None and vertex.completed is None
