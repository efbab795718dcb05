"""The session's bytes inside `Control.Session` messages.

Protocol: buildkit `session/grpchijack`: the `data` of all messages, joined, is one stream of bytes on which the daemon
speaks HTTP/2 as a client.
"""

from __future__ import annotations

from typing import Any

from buildkit_builder.buildkit.wire import control_pb2

SessionCall = Any  # grpc.aio.StreamStreamCall[control_pb2.BytesMessage, control_pb2.BytesMessage]


class Tunnel:
    """A `ByteStream` over one call of `Control.Session`.

    Both directions hold back their sender: a message is read only when asked for, and a write ends only when the
    transport has taken it.

    Args:
        call: The open call.

    Attributes:
        received: How many messages have come.
    """

    def __init__(self, call: SessionCall) -> None:
        self.received = 0
        self._call = call

    async def receive(self) -> bytes:
        """Returns the next bytes; nothing when the daemon has ended the stream."""
        while True:
            message = await self._call.read()
            if not isinstance(message, control_pb2.BytesMessage):
                return b""  # grpc.aio.EOF
            self.received += 1
            if message.data:
                return bytes(message.data)

    async def send(self, data: bytes) -> None:
        """Sends bytes; there must be some.

        An empty message would be read as old bytes by daemons since 0.17, whose codec does not clear messages.
        """
        assert data
        await self._call.write(control_pb2.BytesMessage(data=data))

    def close(self) -> None:
        """Ends the call."""
        self._call.cancel()
