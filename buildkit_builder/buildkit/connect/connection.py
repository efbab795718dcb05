"""Channels to daemons: opened, checked, shared and closed here."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import grpc
import grpc.aio

from buildkit_builder.buildkit.api.control import Control, DaemonInfo
from buildkit_builder.buildkit.connect import docker_engine
from buildkit_builder.buildkit.connect.child import CommandError, Spawned
from buildkit_builder.buildkit.connect.container import ContainerError, InContainer
from buildkit_builder.buildkit.connect.dialers import Route, Straight, Upgraded, UpgradeRefusedError
from buildkit_builder.buildkit.connect.docker_engine import EngineFacts
from buildkit_builder.buildkit.connect.relay import Dialer, Relay
from buildkit_builder.buildkit.find.dial_commands import command_of, container_of
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.find.sockets import plain
from buildkit_builder.errors import BuildKitError, CapabilityError, EndpointError

_METADATA_MAX = 16 * 1024 * 1024

_DIALLED = re.compile(r"^failed to connect to all addresses; last error: [A-Z_]+: [a-z0-9]+:\S+: ")

_OLDEST = "BuildKit 0.8 or later is needed, which is in Docker Engine 20.10 or later"

CHANNEL_OPTIONS = (
    # grpcio's 4 MiB is below the 16 MiB that daemons send at most; without a limit one message could fill the memory.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    # Error details travel in trailers; over the limit the error itself would be lost.
    ("grpc.max_metadata_size", _METADATA_MAX),
    ("grpc.absolute_max_metadata_size", _METADATA_MAX),
    # A solve is never repeated behind the user's back.
    ("grpc.enable_retries", 0),
    # BuildKit's own client dials directly; a company's proxy cannot know the daemon.
    ("grpc.enable_http_proxy", 0),
    # One connection a channel, never one shared with a channel that was closed.
    ("grpc.use_local_subchannel_pool", 1),
    # A restarted daemon is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
"""Keepalive is left alone on purpose: the daemon drops clients that ping often. See `dialers` for silent losses."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connection:
    """An open channel to one daemon. Close it, or use it with `async with`.

    Attributes:
        endpoint: The daemon; its kind is what was found there, which may differ from what was expected.
        channel: For `Control`, `Gateway` and sessions alike.
        daemon: Which BuildKit answered.
    """

    endpoint: Endpoint
    channel: grpc.aio.Channel
    daemon: DaemonInfo
    _way: _Way = field(repr=False)
    _resources: contextlib.AsyncExitStack = field(repr=False)

    @property
    def failure(self) -> Exception | None:
        """Why it broke, or could not be renewed, as far as whatever carries it knows more than gRPC does."""
        return self._way.failure

    async def close(self) -> None:
        """Close the channel and whatever carried it. Calls still running are cancelled. May be called again."""
        await self._resources.aclose()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


async def connect(endpoint: Endpoint, *, timeout: float = 10.0) -> Connection:
    """Reach a daemon and see that it is a BuildKit.

    Args:
        endpoint: From `discovery.resolve`.
        timeout: Seconds until a daemon that does not answer is an error.

    Raises:
        EndpointError: It cannot be reached; the message says where, why there, and what to do.
        CapabilityError: It is too old.
    """
    try:
        return await asyncio.wait_for(_connect(endpoint), timeout)
    except asyncio.TimeoutError:
        # On Python 3.10 not yet the built-in TimeoutError.
        raise _unreachable(endpoint, f"it did not answer within {timeout:g} s") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How grpcio reaches a daemon: what it dials, what it calls the server, and what carries on from there."""

    endpoint: Endpoint
    target: str
    authority: str = "localhost"
    relay: Relay | None = None
    route: Route | None = None

    @property
    def failure(self) -> Exception | None:
        """Say why the connection cannot be used, as far as that is known."""
        return (self.route.failure if self.route else None) or (self.relay.failure if self.relay else None)


async def _connect(endpoint: Endpoint) -> Connection:
    stack = contextlib.AsyncExitStack()
    try:
        way = await _find_way(endpoint, stack)
        options = (*CHANNEL_OPTIONS, ("grpc.default_authority", way.authority))
        channel = grpc.aio.insecure_channel(way.target, options=options)
        stack.push_async_callback(channel.close, None)
        daemon = await _verify(way, channel)
    except BaseException:
        await stack.aclose()
        raise
    return Connection(endpoint=way.endpoint, channel=channel, daemon=daemon, _way=way, _resources=stack)


async def _find_way(endpoint: Endpoint, stack: contextlib.AsyncExitStack) -> _Way:
    dialer = await _dialer_of(endpoint, stack)
    if dialer is not None:
        relay = await stack.enter_async_context(Relay(dialer))
        return _Way(endpoint=endpoint, target=relay.target, relay=relay)
    route = await stack.enter_async_context(route_to(endpoint))
    upgrade = False
    # A unix socket may turn out to be an engine's.
    if endpoint.kind == "docker" or route.path is not None:
        facts = await _facts(endpoint, route)
        if facts is not None:
            endpoint = replace(endpoint, kind="docker")
            upgrade = not facts.direct_grpc
    # grpcio has a way of its own to write a socket without a path.
    if route.path is not None and not upgrade and not route.path.startswith("\0"):
        return _Way(endpoint=endpoint, target=f"unix:{route.path}", authority=route.authority, route=route)
    relay = await stack.enter_async_context(Relay(Upgraded(route) if upgrade else Straight(route)))
    return _Way(endpoint=endpoint, target=relay.target, authority=route.authority, relay=relay, route=route)


async def _dialer_of(endpoint: Endpoint, stack: contextlib.AsyncExitStack) -> Dialer | None:
    """How a buildkitd is dialled behind a program or in a container, where it is."""
    if endpoint.engine is not None:
        route = await stack.enter_async_context(route_to(endpoint.engine))
        return InContainer(route, container_of(endpoint.address).name)
    command = command_of(endpoint) if endpoint.kind == "buildkit" else None
    return Spawned(command) if command else None


@contextlib.asynccontextmanager
async def route_to(endpoint: Endpoint) -> AsyncIterator[Route]:
    """The way to what an endpoint's address names, while it is needed.

    Raises:
        EndpointError: The address makes no sense.
    """
    command = command_of(endpoint)
    if command is None:
        route = Route.of(endpoint)
        if route.path is None:
            yield route
        else:
            with plain(route.path) as path:
                yield replace(route, path=path)
        return
    async with Relay(Spawned(command)) as relay:
        yield Route(path=relay.path, relay=relay)


async def _facts(endpoint: Endpoint, route: Route) -> EngineFacts | None:
    """What a Docker Engine says of itself, or `None` for a buildkitd."""
    try:
        facts = await docker_engine.ping(route)
    except OSError as error:
        cause = route.failure or error
        raise _unreachable(endpoint, _words(cause), cause) from error
    if facts is None and endpoint.kind == "docker":
        why = _words(route.failure) if route.failure else "what answers there is no Docker Engine"
        raise _unreachable(endpoint, why, route.failure)
    if facts is not None and facts.api < docker_engine.API_OLDEST:
        version = ".".join(str(number) for number in facts.api)
        raise CapabilityError(
            f"The Docker Engine at {endpoint.address} (API {version}) is too old to build with: {_OLDEST}."
        )
    return facts


async def _verify(way: _Way, channel: grpc.aio.Channel) -> DaemonInfo:
    control = Control(channel)
    try:
        info = await control.info()
        if not info.version:
            await control.list_workers()
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise CapabilityError(
                f"What answers at {way.endpoint.address} is no BuildKit that can be used: {_OLDEST}."
            ) from error
        raise _unreachable(way.endpoint, _words(way.failure or error), way.failure) from error
    return info


def _unreachable(endpoint: Endpoint, why: str, cause: Exception | None = None) -> EndpointError:
    return EndpointError(
        f"No BuildKit could be reached at {endpoint.address}, chosen because {endpoint.reason}: "
        f"{why}{'' if why.endswith(('?', '!')) else '.'} {_advice(endpoint, cause)}"
    )


def _words(error: Exception) -> str:
    """What went wrong, in the system's own words."""
    if isinstance(error, grpc.aio.AioRpcError):
        # What grpcio has dialled may be a socket of ours, which tells the user nothing.
        said = _DIALLED.sub("", error.details() or error.code().name)
        return "it closed the connection" if said == "Socket closed" else said.rstrip(".")
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}".rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.rstrip(".")
    return str(error).rstrip(".") or type(error).__name__


def _advice(endpoint: Endpoint, cause: Exception | None) -> str:
    setting = "set the `endpoint` setting to the address of a BuildKit that runs"
    if isinstance(cause, CommandError):
        program = cause.command.argv[0]
        return f"Install `{program}`, or {setting}." if cause.missing else cause.command.advice
    if endpoint.engine is not None:
        return _advice_on_container(endpoint, cause)
    if isinstance(cause, UpgradeRefusedError):
        return f"It may be an engine without BuildKit, such as Podman: {_OLDEST}. Use one, or {setting}."
    if isinstance(cause, PermissionError):
        return f"Join the group that owns the socket (`docker` in most places) and log in again, or {setting}."
    if isinstance(cause, ssl.SSLError):
        return "Check the CA, the client certificate and the server name of the TLS settings."
    if endpoint.tls is not None:
        return (
            "See that it runs there, and that it accepts the client certificate (`tls.cert` and `tls.key`): who has "
            "none, or one that it does not know, is cut off without a word."
        )
    if endpoint.kind == "docker":
        return f"Start Docker, or {setting}."
    if endpoint.scheme == "tcp":
        return (
            "Start buildkitd there; give the TLS settings where it expects TLS, or write `docker+tcp://` for a "
            f"Docker Engine. Otherwise {setting}."
        )
    return f"Start buildkitd there, or {setting}."


def _advice_on_container(endpoint: Endpoint, cause: Exception | None) -> str:
    engine = endpoint.engine.address if endpoint.engine else ""
    name = container_of(endpoint.address).name
    if not isinstance(cause, ContainerError):
        return f"Its engine is the one at {engine}: see that it runs."
    builder = name.removeprefix("buildx_buildkit_").rstrip("0123456789")
    if cause.status == HTTPStatus.NOT_FOUND:
        make = f"`docker buildx inspect --bootstrap {builder}`" if builder != name else "`docker run`"
        return f"The engine at {engine} has no such container; {make} makes it."
    if cause.status == HTTPStatus.CONFLICT:
        return f"`docker start {name}` on the engine at {engine} starts it."
    return f"See `docker logs {name}` on the engine at {engine}; its image needs `buildctl`, as moby/buildkit has it."


class Pool:
    """One connection per daemon and event loop, shared by all builds. Close it on the loop that used it."""

    def __init__(self, *, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._opening: dict[tuple[Endpoint, asyncio.AbstractEventLoop], asyncio.Task[Connection]] = {}

    async def get(self, endpoint: Endpoint) -> Connection:
        """The connection to a daemon, opened where there is none that works.

        Raises:
            EndpointError: As `connect`.
            CapabilityError: As `connect`.
        """
        loop = asyncio.get_running_loop()
        self._forget_closed_loops()
        key = (endpoint, loop)
        opening = self._opening.get(key)
        if opening is not None and _broken(opening):
            del self._opening[key]
            await _close(opening)
            opening = self._opening.get(key)
        if opening is None:
            opening = loop.create_task(connect(endpoint, timeout=self._timeout))
            self._opening[key] = opening
        # Shielded: one build that is cancelled must not take the others' connection with it.
        return await asyncio.shield(opening)

    async def close(self) -> None:
        """Close every connection of the running loop."""
        loop = asyncio.get_running_loop()
        mine = [key for key in self._opening if key[1] is loop]
        for opening in [self._opening.pop(key) for key in mine]:
            await _close(opening)

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _forget_closed_loops(self) -> None:
        for key in [key for key in self._opening if key[1].is_closed()]:
            del self._opening[key]


def _broken(opening: asyncio.Task[Connection]) -> bool:
    if not opening.done():
        return False
    if opening.cancelled() or opening.exception() is not None:
        return True
    lost = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
    return opening.result().channel.get_state() in lost


async def _close(opening: asyncio.Task[Connection]) -> None:
    opening.cancel()
    try:
        connection = await opening
    except (BuildKitError, asyncio.CancelledError):
        return
    await connection.close()
