"""`SSH`: steps use this machine's SSH agent.

Protocol: buildkit `session/sshforward`; the agent's own is draft-miller-ssh-agent. A step may list the keys and sign
with them; whatever else it asks of the agent is refused, as BuildKit's own client does.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from pathlib import Path

from grpc import StatusCode

from buildkit_builder.buildkit.find import sockets
from buildkit_builder.buildkit.session.server import Call, RpcError, Server, unary
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.ssh_pb2 import BytesMessage, CheckAgentRequest, CheckAgentResponse

_DEFAULT_ID = "default"
_ID_KEY = "buildkit.ssh.id"
_LENGTH = struct.Struct(">I")
_ALLOWED = frozenset({11, 13})  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
_FAILURE = b"\x00\x00\x00\x01\x05"  # SSH_AGENT_FAILURE
_MESSAGE_LIMIT = 256 << 10  # bytes, as OpenSSH


class SshAgent:
    """The session's service that forwards SSH agents.

    Args:
        sockets: Id of the mount to the agent's socket on this machine; the id of a mount without one is `default`.
    """

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._sockets = dict(sockets)

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds `SSH/CheckAgent` and `SSH/ForwardAgent`."""
        server.add(services.SSH_CHECK_AGENT, unary(CheckAgentRequest.FromString, self._check))
        server.add(services.SSH_FORWARD_AGENT, self._forward)
        return services.SSH_CHECK_AGENT, services.SSH_FORWARD_AGENT

    def _socket(self, name: str) -> Path:
        socket = self._sockets.get(name or _DEFAULT_ID)
        if socket is None:
            raise RpcError(StatusCode.NOT_FOUND, f"There is no SSH agent {name or _DEFAULT_ID!r} in this build.")
        return socket

    async def _check(self, request: CheckAgentRequest, call: Call) -> CheckAgentResponse:
        self._socket(request.ID)
        return CheckAgentResponse()

    async def _forward(self, call: Call) -> None:
        socket = self._socket(next(iter(call.metadata.get(_ID_KEY, ())), ""))
        try:
            with sockets.plain(str(socket)) as path:
                reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise RpcError(
                StatusCode.UNAVAILABLE, f"The SSH agent at {socket} cannot be reached: {error.strerror or error}."
            ) from error
        try:
            await _relay(call, reader, writer)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise RpcError(StatusCode.UNAVAILABLE, f"The SSH agent at {socket} went away.") from error
        finally:
            writer.close()


async def _relay(call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on one request at a time, as the agent protocol has it."""
    buffer = bytearray()
    while (message := await call.read()) is not None:
        buffer += BytesMessage.FromString(message).data
        while len(buffer) >= _LENGTH.size:
            size = _LENGTH.unpack_from(buffer)[0]
            if not 0 < size <= _MESSAGE_LIMIT:
                raise RpcError(StatusCode.INVALID_ARGUMENT, "This is not a request to an SSH agent.")
            if len(buffer) < _LENGTH.size + size:
                break
            request = bytes(buffer[: _LENGTH.size + size])
            del buffer[: _LENGTH.size + size]
            answer = _FAILURE
            if request[_LENGTH.size] in _ALLOWED:
                writer.write(request)
                await writer.drain()
                head = await reader.readexactly(_LENGTH.size)
                answer = head + await reader.readexactly(_LENGTH.unpack(head)[0])
            await call.write(BytesMessage(data=answer).SerializeToString())
