"""Turns unexpected errors into errors of this package, so that callers have one kind to catch.

An image counts as there, and a build as done, only where that was found out. So whatever else goes wrong on the way
has to come out as an error: Flyte takes what it does not know for "it exists".
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from buildkit_builder.errors import BuildKitError

# What a machine or an account has too little of, where no file is named; also no folder for temporary files (ENOENT).
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.ENOENT)


@contextmanager
def only_ours(doing: str, redact: Callable[[str], str] = str) -> Iterator[None]:
    """Lets nothing but a `BuildKitError` out; what ends a process or a task (`BaseException`) is left alone.

    Args:
        doing: What was being done, as in "while building the image".
        redact: Takes the values of secrets out of a text.
    """
    try:
        yield
    except BuildKitError:
        raise
    except Exception as error:
        raise as_ours(error, doing=doing, redact=redact) from error


def as_ours(error: Exception, *, doing: str = "", redact: Callable[[str], str] = str) -> BuildKitError:
    """What an error means to the user: which file, what was said, what to do.

    Args:
        error: Any error.
        doing: What was being done, as in "while building the image"; empty where whoever tells it says so.
        redact: Takes the values of secrets out of a text.
    """
    if isinstance(error, BuildKitError):
        return error
    while_doing = f" while {doing}" if doing else ""
    grpc = sys.modules.get("grpc.aio")
    if grpc is not None and isinstance(error, grpc.AioRpcError):
        from buildkit_builder.buildkit.api import failures

        return failures.translate(error, describe=lambda _: None, doing=doing or "asking BuildKit", redact=redact)
    if isinstance(error, OSError) and error.filename is not None:
        file = error.filename if isinstance(error.filename, int) else os.fsdecode(error.filename)
        return BuildKitError(redact(f"`{file}` cannot be used{while_doing}: {error.strerror}."))
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE and error.strerror:
        return BuildKitError(redact(f"{error.strerror.removesuffix('.')}{while_doing}."))
    if isinstance(error, MemoryError):
        return BuildKitError(f"There is not enough memory{while_doing}.")
    return BuildKitError(
        redact(
            f"{_said(error)}{while_doing}. Nobody foresaw this: it is a fault of buildkit-builder, please report it. "
            "`image.builder: docker` builds with Flyte's own builder meanwhile."
        )
    )


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()).removesuffix(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
