from __future__ import annotations

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.session.secrets import Secrets, SecretValue
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import services
from buildkit_builder.buildkit.wire.secrets_pb2 import GetSecretRequest, GetSecretResponse
from buildkit_builder.errors import ImageError, MissingSecretError
from tests.buildkit.session.harness import attach


def broken() -> bytes:
    raise ValueError("hunter2")


def missing() -> bytes:
    raise MissingSecretError("The variable X is not set.")


VALUES: dict[str, SecretValue] = {
    "plain": b"value",
    "empty": b"",
    "called": lambda: b"fresh",
    "limit": b"x" * 512_000,
    "large": b"x" * 512_001,
    "broken": broken,
    "missing": missing,
}


@pytest.mark.parametrize(
    ("name", "value"), [("plain", b"value"), ("empty", b""), ("called", b"fresh"), ("limit", b"x" * 512_000)]
)
async def test_declared_secrets_are_given(name: str, value: bytes) -> None:
    """A declared secret is answered with its bytes, computed or not."""
    async with attach(Session([Secrets(VALUES)])) as daemon:
        answer = await daemon.unary(services.SECRETS_GET_SECRET, GetSecretRequest(ID=name), GetSecretResponse)

        assert value == answer.data


async def test_undeclared_secrets_are_not_found() -> None:
    """An id that was not declared is NOT_FOUND, which optional mounts accept, and no failure."""
    session = Session([Secrets(VALUES)])
    async with attach(session) as daemon:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await daemon.unary(services.SECRETS_GET_SECRET, GetSecretRequest(ID="other"), GetSecretResponse)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert session.failure is None


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("large", ImageError, "has 512001 bytes; BuildKit takes at most 512000"),
        ("broken", MissingSecretError, "could not be read (ValueError)"),
        ("missing", MissingSecretError, "The variable X is not set."),
    ],
)
async def test_unusable_secrets(name: str, kind: type[Exception], words: str) -> None:
    """A secret that is too large or cannot be read is a failure that names it and never shows a value."""
    session = Session([Secrets(VALUES)])
    async with attach(session) as daemon:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await daemon.unary(services.SECRETS_GET_SECRET, GetSecretRequest(ID=name), GetSecretResponse)

    assert kind is type(session.failure)
    assert words in str(session.failure)
    assert str(session.failure) == caught.value.details()
    assert "hunter2" not in str(caught.value)
