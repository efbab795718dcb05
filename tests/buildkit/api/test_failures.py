from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.api import failures
from buildkit_builder.buildkit.api.failures import VertexDescription, decode, status_for, status_of, translate
from buildkit_builder.buildkit.wire import rpcstatus_pb2
from buildkit_builder.errors import (
    BaseImageError,
    BuildCancelledError,
    BuildKitError,
    CapabilityError,
    CredentialsError,
    DaemonLostError,
    DiskFullError,
    ImageError,
    RegistryError,
    SolveError,
    StepFailedError,
)
from tests.fakes.buildkit import Refusal, exit_message, source, vertex

PROCESS = 'process "/bin/sh -c apt-get install -y nope" did not complete successfully: exit code: 100'


def rpc_error(
    message: str,
    *details: tuple[str, Mapping[str, Any]],
    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
    answered: bool = True,
) -> grpc.aio.AioRpcError:
    """An error as grpcio raises it; `answered` ones come with the daemon's trailer."""
    trailers = grpc.aio.Metadata()
    if answered:
        status = Refusal(message, code, details).status()
        trailers.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, message, None)


def meaning(
    error: grpc.aio.AioRpcError, *, doing: str = "building", image: str | None = None, **steps: VertexDescription
) -> BuildKitError:
    """Translate, where vertexes are known by the keyword's name."""
    return translate(error, describe=steps.get, doing=doing, image=image)


def test_decode_reads_every_detail() -> None:
    """Vertexes, exit code and places come out of the trailer in order and once; other details are passed over."""
    error = rpc_error(
        PROCESS,
        ("stack.Stack+json", {"frames": []}),
        vertex("sha256:a"),
        source("Dockerfile", 3),
        vertex("sha256:b"),
        vertex("sha256:a"),
        exit_message(100),
    )

    failure = decode(error)

    assert ("sha256:a", "sha256:b") == failure.vertexes
    assert 100 == failure.exit_code
    assert ("Dockerfile:3",) == failure.sources
    assert failure.answered


def test_decode_survives_strange_trailers() -> None:
    """Trailers that are no status, and details that are no JSON objects, are passed over."""
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    broken = grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, grpc.aio.Metadata(), trailers, "words", None)
    status = rpcstatus_pb2.Status(code=2, message="words")
    for value in (b"not json", b"[1]", b'{"digest": ""}'):
        status.details.add(type_url="github.com/moby/buildkit/errdefs.Vertex+json", value=value)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    odd = grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, grpc.aio.Metadata(), trailers, "words", None)

    assert not decode(broken).answered
    assert () == decode(odd).vertexes


def test_step_failed() -> None:
    """A command that fails is told with step, command, exit code, last lines, and what to do."""
    step = VertexDescription(
        name="[apt] nope", command="apt-get install -y nope", log_tail=("Reading…", "E: Unable to locate package nope")
    )

    error = meaning(rpc_error(PROCESS, vertex("a"), exit_message(100)), a=step)

    assert isinstance(error, StepFailedError)
    assert ("[apt] nope", "apt-get install -y nope", 100) == (error.step, error.command, error.exit_code)
    assert step.log_tail == error.log_tail
    text = str(error)
    assert "The step `[apt] nope` failed: command `apt-get install -y nope` ended with exit code 100." in text
    assert "  E: Unable to locate package nope" in text
    assert text.endswith("apt knows no such package: check its name, and that this release of the distribution has it.")


def test_step_failed_without_details() -> None:
    """A daemon before 0.12 says command and exit code in words only."""
    error = meaning(rpc_error(PROCESS, vertex("a")))

    assert isinstance(error, StepFailedError)
    assert ("/bin/sh -c apt-get install -y nope", 100) == (error.command, error.exit_code)


def test_innermost_known_vertex_is_the_step() -> None:
    """Of several vertexes the innermost that the builder knows is the step."""
    error = meaning(
        rpc_error(PROCESS, vertex("outer"), vertex("inner"), vertex("stranger"), exit_message(1)),
        outer=VertexDescription(name="outer"),
        inner=VertexDescription(name="inner", command="x"),
    )

    assert isinstance(error, StepFailedError)
    assert "inner" == error.step


def test_place_in_a_dockerfile() -> None:
    """A failing line of a Dockerfile is named."""
    assert "(Dockerfile:7)" in str(meaning(rpc_error(PROCESS, source("Dockerfile", 7), exit_message(1))))


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("E: Unable to locate package x", "apt knows no such package"),
        ("ERROR: No matching distribution found for x", "No such Python package"),
        ("  × No solution found when resolving dependencies:", "No such Python package"),
        ("Temporary failure resolving 'deb.debian.org'", "host name could not be resolved"),
        ("error: dns error: failed to lookup address information", "host name could not be resolved"),
        ("SSL: CERTIFICATE_VERIFY_FAILED certificate verify failed", "CA bundle"),
        ("invalid peer certificate: UnknownIssuer", "CA bundle"),
        ("curl: (7) Failed to connect: Connection refused", "network could not be reached"),
        ("exec /bin/sh: exec format error", "emulation"),
    ],
)
def test_hint_for_what_the_step_printed(line: str, hint: str) -> None:
    """What a step printed last decides what to do."""
    step = VertexDescription(name="s", command="c", log_tail=(line,))

    assert hint in str(meaning(rpc_error("failed", vertex("a"), exit_message(1)), a=step)).rpartition("\n")[2]


@pytest.mark.parametrize(("code", "hint"), [(137, "memory"), (127, "program is missing")])
def test_hint_for_an_exit_code(code: int, hint: str) -> None:
    """Some exit codes say what to do by themselves."""
    assert hint in str(meaning(rpc_error("failed", exit_message(code))))


@pytest.mark.parametrize("looked_for", ["", "failed to compute cache key: "])
def test_step_without_command_fails_with_the_daemons_words(looked_for: str) -> None:
    """A step that runs nothing fails with what the daemon said, less the daemon's own names of what it looked at."""
    message = f'{looked_for}failed to calculate checksum of ref a::b: "/nope": not found'

    error = meaning(rpc_error(message, vertex("a")), a=VertexDescription(name="copy /nope"))

    assert isinstance(error, StepFailedError)
    assert (None, None) == (error.command, error.exit_code)
    todo = "What is to be copied is not there: check its path, and whether an ignore file leaves it out."
    assert f'The step `copy /nope` failed: "/nope": not found. {todo}' == str(error)


def test_secrets_are_redacted_everywhere() -> None:
    """Message, step, command and every printed line pass through `redact`, also a secret that spans lines."""
    secret = "s3\ncret"
    step = VertexDescription(name="use s3\ncret", command="echo s3\ncret", log_tail=("s3", "cret", "after"))

    error = translate(
        rpc_error("said s3\ncret", vertex("a"), exit_message(1)),
        describe={"a": step}.get,
        doing="using s3\ncret",
        redact=lambda text: text.replace(secret, "***"),
    )

    assert isinstance(error, StepFailedError)
    assert ("use ***", "echo ***", ("***", "after")) == (error.step, error.command, error.log_tail)
    assert "s3" not in str(error)


@pytest.mark.parametrize(
    ("message", "log"),
    [("write /x: no space left on device", ()), ("exit code: 1", ("OSError: [Errno 28] No space left on device",))],
)
def test_disk_full(message: str, log: tuple[str, ...]) -> None:
    """A full disk is told as such, whether the daemon met it or a command."""
    step = VertexDescription(name="s", command="c", log_tail=log)

    error = meaning(rpc_error(message, vertex("a"), exit_message(1)), a=step)

    assert isinstance(error, DiskFullError)
    assert "prune" in str(error)


@pytest.mark.parametrize(
    ("message", "image"),
    [
        (
            (
                "failed to push reg.io/a/b:1: failed to authorize: failed to fetch oauth token: unexpected status from "
                "POST request to https://reg.io/token: 401 Unauthorized"
            ),
            "reg.io/a/b:1",
        ),
        (
            (
                "docker.io/library/nope:latest: failed to resolve source metadata for "
                "docker.io/library/nope:latest: pull "
                "access denied, repository does not exist or may require authorization: server message: "
                "insufficient_scope: authorization failed"
            ),
            "docker.io/library/nope:latest",
        ),
        (
            (
                "failed to push localhost:5000/x: unexpected status from HEAD request to http://localhost:5000/v2/x/blobs/"
                "sha256:1: 403 Forbidden"
            ),
            "localhost:5000/x",
        ),
        ("failed to push reg.io/x: denied: requested access to the resource is denied", "reg.io/x"),
        ("failed to push reg.io/x: no basic auth credentials", "reg.io/x"),
    ],
)
def test_credentials(message: str, image: str) -> None:
    """A registry that wants other credentials is told as such, with the image and `docker login`."""
    error = meaning(rpc_error(message))

    assert isinstance(error, CredentialsError)
    assert f"`{image}`" in str(error)
    assert "docker login" in str(error)


@pytest.mark.parametrize(
    "message",
    [
        (
            'failed to push localhost:1/x: failed to do request: Head "http://localhost:1/v2/x/blobs/sha256:1": '
            "dial tcp "
            "127.0.0.1:1: connect: connection refused"
        ),
        (
            'failed to authorize: failed to fetch anonymous token: Get "https://auth.reg.io/token": dial tcp: lookup '
            "auth.reg.io on 127.0.0.11:53: no such host"
        ),
        "failed to push reg.io/x: unexpected status from PUT request to https://reg.io/v2/x: 503 Service Unavailable",
        (
            "failed to resolve source metadata for reg.io/x:1: failed to do request: tls: failed to verify "
            "certificate: "
            "x509: certificate signed by unknown authority"
        ),
        "failed to push reg.io/x: name unknown: the repository with name 'x' does not exist in the registry",
        (
            "failed to copy: httpReadSeeker: failed open: unexpected status code https://reg.io/v2/x: 429 Too Many "
            "Requests"
        ),
    ],
)
def test_registry(message: str) -> None:
    """A registry that cannot be reached, or fails, is told as such and not as missing credentials."""
    error = meaning(rpc_error(message))

    assert isinstance(error, RegistryError)
    assert not isinstance(error, CredentialsError)
    assert message in str(error)


@pytest.mark.parametrize(
    ("message", "begins"),
    [
        (
            'failed to authorize: failed to fetch anonymous token: Get "https://auth.reg.io/token": no such host',
            "A registry could not be reached (while building): failed to authorize",
        ),
        (
            "failed to fetch: unexpected status from GET request to https://reg.io/v2/: 503 Service Unavailable",
            "A registry failed (while building): failed to fetch",
        ),
        (
            "failed to authorize: 401 Unauthorized",
            "A registry refused a request for want of credentials that it accepts (while building): failed",
        ),
        ("failed to push: name unknown", "A registry did not accept what was pushed (while building): failed"),
    ],
)
def test_a_registry_of_which_no_image_is_known(message: str, begins: str) -> None:
    """It is told in a sentence that names nothing where nothing is known."""
    assert str(meaning(rpc_error(message))).startswith(begins)


@pytest.mark.parametrize(
    ("message", "image"),
    [
        ("failed to resolve source metadata for reg.io/x:1: reg.io/x:1: not found", None),
        ("manifest unknown", "reg.io/x:1"),
        ("no match for platform in manifest sha256:1: not found", "reg.io/x:1"),
    ],
)
def test_base_image(message: str, image: str | None) -> None:
    """An image that is not there, or not for the platform, is told with its name."""
    error = meaning(rpc_error(message), image=image)

    assert isinstance(error, BaseImageError)
    assert "`reg.io/x:1`" in str(error)


def test_denied_file_is_not_credentials() -> None:
    """Permission errors of files are not taken for a registry's."""
    error = meaning(rpc_error("failed to open /etc/shadow: permission denied"))

    assert SolveError is type(error)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
    ],
)
def test_daemon_lost(code: grpc.StatusCode, message: str) -> None:
    """A connection that breaks is told as such, with what was being done."""
    error = meaning(rpc_error(message, code=code, answered=False), doing="pushing the image")

    assert isinstance(error, DaemonLostError)
    assert "while pushing the image" in str(error)


def test_unavailable_registry_is_not_a_lost_daemon() -> None:
    """What a living daemon reports as unavailable is not a lost connection."""
    message = "failed to push reg.io/x: dial tcp: connection refused"

    error = meaning(rpc_error(message, code=grpc.StatusCode.UNAVAILABLE))

    assert RegistryError is type(error)


@pytest.mark.parametrize(
    ("code", "message"),
    [(grpc.StatusCode.CANCELLED, "CANCELLED"), (grpc.StatusCode.UNKNOWN, "failed to solve: context canceled")],
)
def test_cancelled(code: grpc.StatusCode, message: str) -> None:
    """A cancelled build is told as such."""
    assert isinstance(meaning(rpc_error(message, code=code)), BuildCancelledError)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "unknown service moby.buildkit.v1.frontend.LLBBridge"),
        (grpc.StatusCode.UNKNOWN, "failed to load LLB: unknown API capability exec.new"),
        (grpc.StatusCode.UNKNOWN, "requested experimental feature mergeop  has been disabled on the build server"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5000000 vs. 4194304)"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (16777216 vs. 4194304)"),
    ],
)
def test_capability(code: grpc.StatusCode, message: str) -> None:
    """What the daemon cannot do is told as such."""
    error = meaning(rpc_error(message, code=code))

    assert isinstance(error, CapabilityError)
    assert message in str(error)


@pytest.mark.parametrize("limit", [4 << 20, 16 << 20])
@pytest.mark.parametrize("size", [(16 << 20) + 1, 17_000_123, 900_000_000])
def test_a_graph_that_no_daemon_takes(size: int, limit: int) -> None:
    """It is too large, and what to do about that; no newer daemon would help."""
    said = f"grpc: received message larger than max ({size} vs. {limit})"
    error = meaning(rpc_error(said, code=grpc.StatusCode.RESOURCE_EXHAUSTED))

    assert isinstance(error, ImageError)
    assert "too large" in str(error)
    assert "with_source_file" in str(error)
    assert "newer" not in str(error)


def test_status_of_keeps_code_and_details() -> None:
    """The status to return to the daemon is the one it sent."""
    error = rpc_error(PROCESS, vertex("a"), exit_message(100))

    status = rpcstatus_pb2.Status.FromString(status_of(error))

    assert (2, PROCESS, 2) == (status.code, status.message, len(status.details))


def test_status_of_an_error_without_trailer() -> None:
    """An error that gRPC made itself still has a status to return."""
    error = rpc_error("Socket closed", code=grpc.StatusCode.UNAVAILABLE, answered=False)

    status = rpcstatus_pb2.Status.FromString(status_of(error))

    assert (14, "Socket closed") == (status.code, status.message)


def test_status_for_a_message() -> None:
    """One's own message becomes a status of code UNKNOWN."""
    status = rpcstatus_pb2.Status.FromString(status_for("the lock does not fit"))

    assert (2, "the lock does not fit") == (status.code, status.message)
    assert "grpc-status-details-bin" == failures.DETAILS_TRAILER
