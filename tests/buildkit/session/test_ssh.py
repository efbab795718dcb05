from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.session.ssh import SshAgent
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.ssh_pb2 import BytesMessage, CheckAgentRequest, CheckAgentResponse
from tests.buildkit.session.harness import attach, ending


class Agent:
    """An agent that answers each request with its own kind plus one and its content, and notes what it was asked."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.asked: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = struct.unpack(">I", await reader.readexactly(4))[0]
                request = await reader.readexactly(size)
                self.asked.append(request[0])
                if request[1:] == b"die":
                    break
                writer.write(struct.pack(">I", size) + bytes([request[0] + 1]) + request[1:])
        except asyncio.IncompleteReadError:
            pass
        writer.close()


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    """A listening agent."""
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder) / "agent")
        server = await asyncio.start_unix_server(agent.serve, agent.socket)
        yield agent
        server.close()


def message(kind: int, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content) + 1) + bytes([kind]) + content


async def test_requests_reach_the_agent(agent: Agent) -> None:
    """Listing keys and signing go through, however the bytes are cut."""
    async with attach(Session([SshAgent({"default": agent.socket})])) as daemon:
        call = daemon.stream(services.SSH_FORWARD_AGENT)
        for byte in message(11):
            await call.write(BytesMessage(data=bytes([byte])).SerializeToString())

        assert message(12) == BytesMessage.FromString(await call.read()).data
        await call.write(BytesMessage(data=message(13, b"x" * 1000) + message(11)).SerializeToString())
        assert message(14, b"x" * 1000) == BytesMessage.FromString(await call.read()).data
        assert message(12) == BytesMessage.FromString(await call.read()).data
        await call.done_writing()
        assert await ending(call) is grpc.StatusCode.OK
    assert [11, 13, 11] == agent.asked


@pytest.mark.parametrize("kind", [17, 18, 19, 22, 23, 25, 27])
async def test_changes_to_the_agent_are_refused(agent: Agent, kind: int) -> None:
    """A step can neither add, remove nor lock keys; the agent never hears of it."""
    async with attach(Session([SshAgent({"default": agent.socket})])) as daemon:
        call = daemon.stream(services.SSH_FORWARD_AGENT)
        await call.write(BytesMessage(data=message(kind, b"key")).SerializeToString())

        assert message(5) == BytesMessage.FromString(await call.read()).data
        call.cancel()
    assert [] == agent.asked


async def test_agents_have_ids(agent: Agent) -> None:
    """An id chooses the agent; none means `default`; unknown ones are NOT_FOUND."""
    async with attach(Session([SshAgent({"work": agent.socket})])) as daemon:
        await daemon.unary(services.SSH_CHECK_AGENT, CheckAgentRequest(ID="work"), CheckAgentResponse)
        with pytest.raises(grpc.aio.AioRpcError, match="no SSH agent 'default'"):
            await daemon.unary(services.SSH_CHECK_AGENT, CheckAgentRequest(), CheckAgentResponse)
        call = daemon.stream(services.SSH_FORWARD_AGENT, [("buildkit.ssh.id", "work")])
        await call.write(BytesMessage(data=message(11)).SerializeToString())

        assert message(12) == BytesMessage.FromString(await call.read()).data
        other = daemon.stream(services.SSH_FORWARD_AGENT, [("buildkit.ssh.id", "other")])
        assert await ending(other) is grpc.StatusCode.NOT_FOUND


async def test_agents_that_are_not_there(agent: Agent) -> None:
    """A socket nobody listens on, and an agent that dies, are told to the step."""
    agents = {"default": agent.socket, "gone": agent.socket.with_name("gone")}
    async with attach(Session([SshAgent(agents)])) as daemon:
        gone = daemon.stream(services.SSH_FORWARD_AGENT, [("buildkit.ssh.id", "gone")])

        assert await ending(gone) is grpc.StatusCode.UNAVAILABLE
        dying = daemon.stream(services.SSH_FORWARD_AGENT)
        await dying.write(BytesMessage(data=message(11, b"die")).SerializeToString())
        assert await ending(dying) is grpc.StatusCode.UNAVAILABLE


async def test_what_is_no_request_is_refused(agent: Agent) -> None:
    """A length that no agent would accept ends the connection."""
    async with attach(Session([SshAgent({"default": agent.socket})])) as daemon:
        call = daemon.stream(services.SSH_FORWARD_AGENT)
        await call.write(BytesMessage(data=b"\xff\xff\xff\xff").SerializeToString())

        assert await ending(call) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["a b%#", "/".join(["x" * 60] * 4)])
async def test_agents_with_odd_sockets(agent: Agent, tmp_path: Path, name: str) -> None:
    """A socket whose path is very long is reached by a shorter one."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(agent.socket)
    async with attach(Session([SshAgent({"default": path})])) as daemon:
        call = daemon.stream(services.SSH_FORWARD_AGENT)
        await call.write(BytesMessage(data=message(11)).SerializeToString())
        answer = BytesMessage.FromString(await call.read()).data
        await call.done_writing()

    assert message(12) == answer
