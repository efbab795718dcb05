"""Whatever a daemon says of a failure, of itself or of a result: an error of ours or a sane value."""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api import events, failures
from buildkit_builder.buildkit.api.control import Worker
from buildkit_builder.buildkit.api.failures import VertexDescription
from buildkit_builder.buildkit.api.results import result_from_wire
from buildkit_builder.buildkit.wire import control_pb2, gateway_pb2, rpcstatus_pb2, worker_pb2
from buildkit_builder.errors import BuildKitError, ImageError

KINDS = ("errdefs.Vertex+json", "errdefs.Source+json", "gatewayapi.ExitMessage+json", "other")
WORDS = (
    "failed to push", "reg.corp/a:1", "unexpected status", ": 500 ", "exit code: ", 'process "', "\x1b[2J", "lookup ",
    " on ", "requested ", "feature ", "docker-image://", ": not found", "context canceled", "\u202e", "²", "9" * 5000,
)  # fmt: skip

texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=8).map("".join))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["digest", "Code", "info", "filename", "ranges", "start", "line"]), inner)
    ),
    max_leaves=8,
)
details = st.tuples(
    st.sampled_from(KINDS), st.binary(max_size=20) | values.map(lambda value: json.dumps(value).encode())
)


def error_of(code: grpc.StatusCode, message: str, trailer: bytes | None) -> grpc.aio.AioRpcError:
    """An error as grpcio makes it of what a daemon sends."""
    metadata: Any = grpc.aio.Metadata(*([(failures.DETAILS_TRAILER, trailer)] if trailer is not None else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=message, debug_error_string=None)


def status(message: str, found: list[tuple[str, bytes]]) -> bytes:
    answer = rpcstatus_pb2.Status(code=2, message=message.encode("utf-8", "replace").decode())
    for kind, value in found:
        answer.details.add(type_url=f"github.com/moby/buildkit/{kind}", value=value)
    return answer.SerializeToString()


def described(digest: str) -> VertexDescription:
    return VertexDescription(name="a step\x1b[1m", command=None, log_tail=("\x1b[2Jone", "x" * 9000))


@given(
    st.sampled_from(grpc.StatusCode), texts, st.none() | st.binary(max_size=30) | st.lists(details, max_size=4), texts
)
def test_failures(code: grpc.StatusCode, message: str, sent: bytes | list[tuple[str, bytes]] | None, log: str) -> None:
    """Any trailer, any words and any log give one error of ours, of bounded length, that no terminal obeys."""
    trailer = status(message, sent) if isinstance(sent, list) else sent
    error = failures.translate(error_of(code, message, trailer), describe=described, doing="building it", logs=[log])

    assert isinstance(error, BuildKitError)
    assert len(str(error)) < 60_000
    assert {"Cc"}.isdisjoint(unicodedata.category(character) for character in str(error).replace("\n", ""))


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"digest":' * 50_000, b"1" * 100_000])
def test_details_that_are_too_deep(nested: bytes) -> None:
    """JSON that Python gives up on is as good as none."""
    found = failures.decode(error_of(grpc.StatusCode.UNKNOWN, "x", status("x", [(kind, nested) for kind in KINDS])))

    assert ((), None, ()) == (found.vertexes, found.exit_code, found.sources)


@pytest.mark.parametrize("word", [*WORDS[:-1], "a", "a/", "a:", " ", "\n", "https://a/", "?", "\x1b"])
def test_long_messages_are_read_at_once(word: str) -> None:
    """Prose is read by patterns that no repetition makes slow: megabytes of it are cut before."""
    message = word * (2_000_000 // len(word))
    error = failures.translate(
        error_of(grpc.StatusCode.UNKNOWN, message, status(message[:1000], [])),
        describe=lambda _: None, doing="building it", logs=[message[:100_000]],
    )  # fmt: skip

    assert len(str(error)) < 60_000


def test_a_secret_that_is_torn_apart_is_still_taken_out() -> None:
    """What is taken out of a message must not put a value together again."""

    def redact(text: str) -> str:
        return text.replace("hunter2", "***")

    torn = error_of(grpc.StatusCode.UNKNOWN, "said hun\x1b[1mter2 and hunt\0er2", None)
    said = str(failures.translate(torn, describe=lambda _: None, doing="building it", redact=redact))

    assert "hunter2" not in said
    assert 2 == said.count("***")


def test_an_error_of_ours_holds_nothing_that_a_terminal_obeys() -> None:
    """Whoever makes it, and of whatever words."""
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", str(BuildKitError("a\x1b]0;title\x07b\u202ec\x9b1m")))


@given(
    st.sampled_from(
        [
            (control_pb2.StatusResponse, events.from_wire),
            (worker_pb2.WorkerRecord, Worker.from_wire),
            (gateway_pb2.Result, result_from_wire),
        ]
    ),
    st.binary(max_size=200),
)
def test_messages(kind: tuple[Any, Callable[[Any], object]], data: bytes) -> None:
    """Bytes that happen to be a message of the protocol become a value, or an error of ours."""
    message, read = kind
    with contextlib.suppress(DecodeError, BuildKitError):
        assert read(message.FromString(data)) is not None


@given(st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_image_configs(data: bytes) -> None:
    """A config that is none is an error of ours."""
    with contextlib.suppress(ImageError):
        assert llb.ImageConfig.parse(data) is not None


def test_an_image_config_that_is_too_deep() -> None:
    """So is one that Python gives up on."""
    with pytest.raises(ImageError, match="not JSON"):
        llb.ImageConfig.parse(b"[" * 100_000)
