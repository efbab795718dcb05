"""What a gRPC error of the daemon means to the user.

BuildKit puts what it knows into the trailer `grpc-status-details-bin`: a `google.rpc.Status` whose details are JSON
inside `Any` (protocol: buildkit `util/grpcerrors`, `solver/errdefs`). `decode` reads that, `translate` makes one of our
errors of it: which step, what was being done, what was said, what to do next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api import advice
from buildkit_builder.buildkit.terminal import printable, printable_lines
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

DETAILS_TRAILER = "grpc-status-details-bin"

_PREFIX = "github.com/moby/buildkit/"
_UNKNOWN_EXIT = 255
_LOG_LINES = 20
# Characters of what a daemon says. More would help nobody, and reading prose takes a time that grows faster than it.
_MESSAGE_LIMIT = 10_000
_LINE_LIMIT = 2_000
_NAME_LIMIT = 400
_DETAILS_LIMIT = 100
# Bytes of a message that daemons take since 0.14; before it was a quarter (protocol: `MaxRecvMsgSize`).
_LARGEST = 16 << 20
# What follows in an address tells nobody anything, or is a signature.
_QUERY = re.compile(r"(?<=[\w/])\?[^\s\"'?]{20,}?(?=:?(?:[\s\"']|$))")
# How the daemon came to look for a file, by names of its own.
_LOOKED_FOR = re.compile(r"(?:failed to compute cache key: )?failed to calculate checksum of ref \S{1,200}: (?=\")")


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexDescription:
    """What the builder knows of a vertex that failed.

    Attributes:
        name: The step as progress shows it.
        command: What it ran, or `None` where it runs nothing.
        is_script: What it ran are words of ours, which are not shown.
        log_tail: The last lines it printed, oldest first.
    """

    name: str
    command: str | None = None
    is_script: bool = False
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A daemon's error, read.

    Attributes:
        code: The gRPC code.
        message: The daemon's words.
        answered: Whether a daemon wrote this, rather than gRPC for want of one.
        vertexes: Digests of the vertexes that failed, outermost first.
        exit_code: What the step's command ended with, or `None`.
        sources: Places in files that frontends read, as `file:line`.
    """

    code: grpc.StatusCode
    message: str
    answered: bool = False
    vertexes: tuple[str, ...] = ()
    exit_code: int | None = None
    sources: tuple[str, ...] = ()


def decode(error: grpc.aio.AioRpcError) -> Failure:
    """Read what the daemon says of an error."""
    status = _status(error)
    failure = Failure(code=error.code(), message=error.details() or error.code().name, answered=status is not None)
    if status is None:
        return failure
    vertexes: list[str] = []
    sources: list[str] = []
    exit_code = None
    for detail in status.details[:_DETAILS_LIMIT]:
        value = _json(detail.value)
        kind = detail.type_url.removeprefix(_PREFIX)
        if kind == "errdefs.Vertex+json" and value.get("digest") and value["digest"] not in vertexes:
            vertexes.append(str(value["digest"]))
        elif kind == "errdefs.Source+json":
            sources += [place for place in _places(value) if place not in sources]
        elif kind == "gatewayapi.ExitMessage+json" and exit_code is None:
            exit_code = _exit_code(value.get("Code", value.get("code")))
    return replace(failure, vertexes=tuple(vertexes), exit_code=exit_code, sources=tuple(sources))


def status_of(error: grpc.aio.AioRpcError) -> bytes:
    """The serialized `google.rpc.Status` of an error, details included, for `Gateway.return_error`."""
    status = _status(error)
    if status is None:
        return status_for(error.details() or error.code().name, code=error.code())
    return status.SerializeToString()


def status_for(message: str, *, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> bytes:
    """A serialized `google.rpc.Status` with a message of one's own."""
    number: int = code.value[0]
    return rpcstatus_pb2.Status(code=number, message=message).SerializeToString()


def translate(
    error: grpc.aio.AioRpcError,
    *,
    describe: Callable[[str], VertexDescription | None],
    doing: str,
    image: str | None = None,
    mirror: str | None = None,
    redact: Callable[[str], str] = lambda text: text,
    logs: Iterable[str] = (),
    vertexes: Sequence[str] = (),
) -> BuildKitError:
    """Say what an error of the daemon means.

    Args:
        error: From any call of `Control` or `Gateway`.
        describe: What is known of a vertex, by its digest; `None` for a stranger.
        doing: What was being done, as in "while resolving the base image".
        image: The reference being resolved, where that is what was being done.
        mirror: What was asked for in its place, where its registry has a mirror.
        redact: Takes the values of secrets out of a text; applied to everything that is kept.
        logs: Lines that came with what failed. A registry's status stands there and not in the error, if the
            registry had words of its own.
        vertexes: Those that are known to have failed so, where the daemon's error names none, as Docker Engine 20.10.

    Returns:
        The error to raise from `error`.
    """
    failure = decode(error)
    failure = replace(
        failure,
        message=_readable(failure.message, _MESSAGE_LIMIT, redact),
        vertexes=failure.vertexes or tuple(vertexes),
        sources=tuple(printable(_readable(place, _LINE_LIMIT, redact)) for place in failure.sources),
    )
    step = _failed_step(failure, describe, redact)
    if step is None and (status := advice.status_in(_readable("\n".join(logs), None, redact))):
        failure = replace(failure, message=f"{failure.message} ({status})")
    context = _Context(failure=failure, step=step, doing=redact(doing), image=image, mirror=mirror)
    return _first_that_fits(context)


def refused_push(message: str, reference: str) -> BuildKitError:
    """Say what an engine's words mean that could not push an image of its store."""
    said = _readable(message, _MESSAGE_LIMIT, lambda text: text)
    failure = Failure(code=grpc.StatusCode.UNKNOWN, message=f"failed to push {reference}: {said}", answered=True)
    return _first_that_fits(_Context(failure=failure, step=None, doing=f"pushing {reference}", image=reference))


def lost(why: str, *, doing: str) -> DaemonLostError:
    """Say what it means that a daemon is there no more.

    Args:
        why: What is known of it.
        doing: What was being done.
    """
    return DaemonLostError(
        f"The connection to BuildKit broke while {doing}: {why}. See that the daemon still runs (out of memory? "
        "restarted?) and that the network reaches it, then build again; the steps that had finished are in its cache."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    failure: Failure
    step: VertexDescription | None
    doing: str
    image: str | None
    mirror: str | None = None
    exit_code: int | None = field(init=False)

    def __post_init__(self) -> None:
        code = self.failure.exit_code
        if code is None or code == _UNKNOWN_EXIT:
            code = advice.exit_code_in(self.failure.message) or code
        object.__setattr__(self, "exit_code", code)

    @property
    def where(self) -> str:
        """The step and the place in a Dockerfile, as far as known."""
        name = f"step `{self.step.name}`, " if self.step else ""
        place = f" ({self.failure.sources[-1]})" if self.failure.sources else ""
        return f"{name}while {self.doing}{place}"

    def aside(self, image: str | None) -> str:
        """`where` in brackets; empty where it is but the image that the sentence names already."""
        told = image is not None and self.doing == f"building {image}" and not self.step and not self.failure.sources
        return "" if told else f" ({self.where})"

    @property
    def runs_command(self) -> bool:
        """Whether what failed is a command of the image, whose own words must not be taken for the daemon's."""
        return self.exit_code is not None or (self.step is not None and self.step.command is not None)


def _first_that_fits(context: _Context) -> BuildKitError:
    failure, message = context.failure, context.failure.message
    if _lost(failure):
        return lost(message, doing=context.doing)
    if context.exit_code is None and _cancelled(failure):
        return BuildCancelledError(f"The build was cancelled while {context.doing}.")
    if disk := _disk_full(context):
        return disk
    if context.runs_command:
        return _step_failed(context)
    if (large := advice.TOO_LARGE.search(message)) is not None:
        return _too_large(context, int(large["size"]), int(large["limit"]))
    if _incapable(failure):
        return CapabilityError(
            f"The daemon cannot do what the image needs ({context.where}): {message}. A newer BuildKit or Docker "
            "Engine may."
        )
    if registry := _registry(context):
        return registry
    if context.step is not None:
        return _step_failed(context)
    return SolveError(_sentence(f"The daemon reported a failure ({context.where}): {message}", advice.of(message)))


def _lost(failure: Failure) -> bool:
    if failure.answered:
        return False
    broken = failure.code == grpc.StatusCode.INTERNAL and advice.CONNECTION_BROKE.search(failure.message)
    return failure.code == grpc.StatusCode.UNAVAILABLE or bool(broken)


def _cancelled(failure: Failure) -> bool:
    return failure.code == grpc.StatusCode.CANCELLED or failure.message.rstrip().endswith("context canceled")


def _incapable(failure: Failure) -> bool:
    return failure.code == grpc.StatusCode.UNIMPLEMENTED or bool(advice.INCAPABLE.search(failure.message))


def _too_large(context: _Context, size: int, limit: int) -> BuildKitError:
    newer = size <= _LARGEST and limit < _LARGEST
    takes = f"BuildKit 0.14 or newer takes {_LARGEST >> 20} MiB. To build with this one, put" if newer else "Put"
    text = (
        f"The graph of the image is too large for the daemon ({context.where}): it has {size / 2**20:.1f} MiB, of "
        f"{limit >> 20} MiB that the daemon takes ({context.failure.message}). {takes} what is long in the image's "
        "definition (a command, the content of a file, a list of requirements, variables) into a file, and copy that "
        "with `with_source_file`: files are sent by themselves."
    )
    return CapabilityError(text) if newer else ImageError(text)


def _disk_full(context: _Context) -> DiskFullError | None:
    said = next((line for line in _said(context) if advice.DISK_FULL.search(line)), None)
    if said is None:
        return None
    return DiskFullError(
        f"The daemon has no room left on its disk ({context.where}): {said.strip()}. Free some, for example with "
        "`buildkit-builder prune` or `docker system prune`, or give the daemon a larger disk, then build again."
    )


def _said(context: _Context) -> tuple[str, ...]:
    return (context.failure.message, *(context.step.log_tail if context.step else ()))


def _registry(context: _Context) -> BuildKitError | None:
    """What a registry said, at whichever moment: its network first, since a failed login often is a failed network."""
    message = context.failure.message
    image = context.image or advice.image_in(message)
    mirrored = f" (at its mirror: `{context.mirror}`)" if context.mirror else ""
    about = f" the image `{image}`{mirrored}" if image else ""
    aside = context.aside(image)
    if advice.NO_PLATFORM.search(message):
        return BaseImageError(
            f"There is no image{f' `{image}`' if image else ''}{mirrored} for the platform asked for{aside}: {message}"
            ". Build for a platform the image has, or choose another base image."
        )
    if advice.REGISTRY_FAILED.search(message) and (image or advice.REGISTRY_WORDS.search(message)):
        return RegistryError(
            f"A registry failed{about and f' at{about}'}{aside}: {message}. That is the registry's own fault: "
            "see its log, or try again later."
        )
    if advice.UNREACHABLE.search(message) and (image or advice.REGISTRY_WORDS.search(message)):
        return RegistryError(
            _sentence(
                f"A registry could not be reached{about and f' for{about}'}{aside}: {message}",
                advice.of_registry(message),
            )
        )
    if advice.DENIED.search(message):
        return CredentialsError(
            f"A registry refused{about or ' a request'} for want of credentials that it accepts{aside}: {message}. Log "
            f"in with `{_login(context.mirror or image)}` as someone who may use it, and check the name: many "
            "registries say this of a repository that does not exist."
        )
    if advice.PUSHING.search(message):
        return RegistryError(
            _sentence(
                f"A registry did not accept{about or ' what was pushed'}{aside}: {message}", advice.of_registry(message)
            )
        )
    if advice.MISSING_IMAGE.search(message) and image:
        check = "Check its name and tag" + (", and that the mirror has it: nothing else is asked" if mirrored else "")
        return BaseImageError(f"There is no image `{image}`{mirrored}{aside}: {message}. {check}.")
    return None


def _login(image: str | None) -> str:
    try:
        registry = llb.ImageReference.parse(image or "").domain
    except ImageError:
        registry = "docker.io"
    return "docker login" if registry == "docker.io" else f"docker login {registry}"


def _step_failed(context: _Context) -> StepFailedError:
    failure, step = context.failure, context.step
    command = (step.command if step else None) or advice.command_in(failure.message)
    if step is not None and step.is_script:
        command = None
        failure = replace(failure, message=advice.without_command(failure.message))
    name = step.name if step else (command or context.doing)
    tail = step.log_tail[-_LOG_LINES:] if step else ()
    if context.exit_code is not None and context.exit_code != _UNKNOWN_EXIT:
        ended = f"ended with exit code {context.exit_code}"
        said = f"command `{command}` {ended}" if command else f"its command {ended}"
    else:
        said = failure.message
    place = f" ({failure.sources[-1]})" if failure.sources else ""
    message = f"The step `{name}` failed{place}: {said}."
    if tail:
        message += "\nIts last lines:\n" + "\n".join(f"  {line}" for line in tail)
    hint = advice.of("\n".join((failure.message, *tail)), exit_code=context.exit_code)
    if hint:
        message += f"\n{hint}" if tail else f" {hint}"
    return StepFailedError(message, step=name, command=command, exit_code=context.exit_code, log_tail=tail)


def _failed_step(
    failure: Failure, describe: Callable[[str], VertexDescription | None], redact: Callable[[str], str]
) -> VertexDescription | None:
    """The innermost vertex that the builder knows: wraps come outermost first."""
    for digest in reversed(failure.vertexes):
        found = describe(digest)
        if found is not None:
            # Redacted as one text, so that a secret of several lines is seen.
            lines = _readable("\n".join(found.log_tail), None, redact).split("\n") if found.log_tail else []
            tail = tuple(_cut(line, _LINE_LIMIT) for line in lines)
            command = redact(found.command) if found.command is not None else None
            name = _cut(" ".join(printable_lines(redact(found.name)).split()), _NAME_LIMIT)
            return replace(found, name=redact(name), command=command, log_tail=tail)
    return None


def _readable(text: str, limit: int | None, redact: Callable[[str], str]) -> str:
    """Words of others without secrets and without what a terminal would obey."""
    # Twice, as the value of a secret may hold what is taken out, or be torn apart by it.
    found = _LOOKED_FOR.sub("", _QUERY.sub("?…", redact(printable_lines(redact(text)))))
    return _cut(found, limit) if limit is not None else found


def _cut(text: str, limit: int) -> str:
    """A text that is not longer than the limit; of a longer one the end tells most."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 4]} […] {text[len(text) - limit // 2 :]}"


def _exit_code(code: object) -> int | None:
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) and code >= 0 else None


def _sentence(text: str, hint: str) -> str:
    return f"{text.rstrip('.')}. {hint}".rstrip()


def _status(error: grpc.aio.AioRpcError) -> rpcstatus_pb2.Status | None:
    # The stubs take metadata for one pair; it is an iterable of them.
    trailers: Any = error.trailing_metadata()
    for key, value in trailers or ():
        if key == DETAILS_TRAILER:
            try:
                return rpcstatus_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
            except DecodeError:
                return None
    return None


def _json(value: bytes) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _places(source: dict[str, Any]) -> list[str]:
    info = source.get("info")
    name = info.get("filename") if isinstance(info, dict) else None
    ranges = source.get("ranges")
    places = []
    for found in ranges if isinstance(ranges, list) else ():
        start = found.get("start") if isinstance(found, dict) else None
        if name and isinstance(start, dict) and "line" in start:
            places.append(f"{name}:{start['line']}")
    return places
