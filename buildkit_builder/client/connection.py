"""Channels to daemons: opened, checked, shared and closed here."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field, replace

import grpc
import grpc.aio

from buildkit_builder.client import docker_engine
from buildkit_builder.client.control import Control, DaemonInfo
from buildkit_builder.client.dialers import Route, Straight, Upgraded, UpgradeRefusedError
from buildkit_builder.client.docker_engine import EngineFacts
from buildkit_builder.client.endpoint import Endpoint
from buildkit_builder.client.relay import Dialer, Relay
from buildkit_builder.errors import BuildKitError, CapabilityError, EndpointError

_METADATA_MAX = 16 * 1024 * 1024

_OLDEST = "BuildKit 0.8 or later is needed, which is in Docker Engine 20.10 or later"

CHANNEL_OPTIONS = (
    # grpcio's 4 MiB is below what daemons send.
    ("grpc.max_receive_message_length", -1),
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
    _resources: contextlib.AsyncExitStack = field(repr=False)

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
        endpoint: From `endpoint.resolve`.
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


async def _connect(endpoint: Endpoint) -> Connection:
    try:
        route = Route.of(endpoint)
        facts = await _engine_facts(endpoint, route)
    except (OSError, ssl.SSLError) as error:
        raise _unreachable(endpoint, _words(error), error) from error
    if endpoint.kind == "docker" and facts is None:
        raise _unreachable(endpoint, "what answers there is no Docker Engine")
    if facts is not None:
        if facts.api < docker_engine.API_OLDEST:
            version = ".".join(str(number) for number in facts.api)
            raise CapabilityError(
                f"The Docker Engine at {endpoint.address} (API {version}) is too old to build with: {_OLDEST}."
            )
        endpoint = replace(endpoint, kind="docker")
    upgrade = facts is not None and not facts.direct_grpc
    stack = contextlib.AsyncExitStack()
    try:
        relay = None
        if route.path is None or upgrade:
            dialer: Dialer = Upgraded(route) if upgrade else Straight(route)
            relay = await stack.enter_async_context(Relay(dialer))
        target = relay.target if relay else f"unix:{route.path}"
        options = (*CHANNEL_OPTIONS, ("grpc.default_authority", route.authority))
        channel = grpc.aio.insecure_channel(target, options=options)
        stack.push_async_callback(channel.close, None)
        daemon = await _verify(endpoint, channel, relay)
    except BaseException:
        await stack.aclose()
        raise
    return Connection(endpoint=endpoint, channel=channel, daemon=daemon, _resources=stack)


async def _engine_facts(endpoint: Endpoint, route: Route) -> EngineFacts | None:
    """What a Docker Engine says, where one is expected or a unix socket may turn out to be one."""
    if endpoint.kind == "docker" or route.path is not None:
        return await docker_engine.ping(route)
    return None


async def _verify(endpoint: Endpoint, channel: grpc.aio.Channel, relay: Relay | None) -> DaemonInfo:
    control = Control(channel)
    try:
        info = await control.info()
        if not info.version:
            await control.list_workers()
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise CapabilityError(
                f"What answers at {endpoint.address} is no BuildKit that can be used: {_OLDEST}."
            ) from error
        cause = relay.failure if relay is not None else None
        raise _unreachable(endpoint, _words(cause or error), cause) from error
    return info


def _unreachable(endpoint: Endpoint, why: str, cause: Exception | None = None) -> EndpointError:
    return EndpointError(
        f"No BuildKit could be reached at {endpoint.address}, chosen because {endpoint.reason}: {why}. "
        f"{_advice(endpoint, cause)}"
    )


def _words(error: Exception) -> str:
    """What went wrong, in the system's own words."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.details() or error.code().name}".rstrip(".")
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}".rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.rstrip(".")
    return str(error).rstrip(".") or type(error).__name__


def _advice(endpoint: Endpoint, cause: Exception | None) -> str:
    setting = "set the `endpoint` setting to the address of a BuildKit that runs"
    if isinstance(cause, UpgradeRefusedError):
        return f"It may be an engine without BuildKit, such as Podman: {_OLDEST}. Use one, or {setting}."
    if isinstance(cause, PermissionError):
        return f"Join the group that owns the socket (`docker` in most places) and log in again, or {setting}."
    if isinstance(cause, ssl.SSLError):
        return "Check the CA, the client certificate and the server name of the TLS settings."
    if endpoint.kind == "docker":
        return f"Start Docker, or {setting}."
    if endpoint.address.startswith("tcp://") and endpoint.tls is None:
        return (
            "Start buildkitd there; give the TLS settings where it expects TLS, or write `docker+tcp://` for a "
            f"Docker Engine. Otherwise {setting}."
        )
    return f"Start buildkitd there, or {setting}."


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
