"""The sockets at which daemons answer where nobody has said anything."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit_builder.buildkit.find.endpoint import Endpoint, Kind

DOCKER_SOCKET = "/var/run/docker.sock"

ABSENT = "there is none"

SUN_PATH_MAX = 100
"""Longest socket path that every system accepts (108 bytes with the final zero on Linux, 104 on macOS)."""

_PLAIN = re.compile(r"[A-Za-z0-9/._~+-]+")

Probe = Callable[[str], str]
"""What is wrong with a socket, in words that follow its path, or nothing where somebody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultSocket:
    """One of the places.

    Attributes:
        path: The socket.
        kind: What is expected there.
        what: Whose it is, in words that follow "it is".
    """

    path: str
    kind: Kind
    what: str

    def endpoint(self, reason: str) -> Endpoint:
        """The daemon there."""
        return Endpoint(address=f"unix://{self.path}", kind=self.kind, reason=reason)


def default_sockets(environ: Mapping[str, str], home: Path) -> Iterator[DefaultSocket]:
    """The places, in the order in which they are looked at."""
    yield DefaultSocket(path=DOCKER_SOCKET, kind="docker", what="Docker's default socket")
    yield DefaultSocket(path=str(home / ".docker/run/docker.sock"), kind="docker", what="Docker Desktop's socket")
    yield DefaultSocket(path="/run/buildkit/buildkitd.sock", kind="buildkit", what="buildkitd's default socket")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield DefaultSocket(path=f"{runtime}/docker.sock", kind="docker", what="the socket of a rootless Docker")
        path = f"{runtime}/buildkit/buildkitd.sock"
        yield DefaultSocket(path=path, kind="buildkit", what="the socket of a rootless buildkitd")


@contextlib.contextmanager
def plain(path: str) -> Iterator[str]:
    """A short path of plain letters to a socket, as long as it is needed: a link, where the socket's own is not one.

    Systems take about a hundred bytes, and grpcio reads a path as a part of an URI.

    Args:
        path: The socket's, or `@NAME` for one without a path.

    Yields:
        What to connect to; for a socket without a path what Python calls it.
    """
    if path.startswith("@"):
        yield f"\0{path[1:]}"
    elif _PLAIN.fullmatch(path) and len(path) <= SUN_PATH_MAX:
        yield path
    else:
        folder = private_folder()
        try:
            link = os.path.join(folder, "socket")
            os.symlink(path, link)
            yield link
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def private_folder() -> str:
    """Make a folder that only this user may enter, with a path short enough for sockets."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        folder = tempfile.mkdtemp(prefix="bkb-", dir=parent)
        if len(os.fsencode(folder)) < SUN_PATH_MAX and _PLAIN.fullmatch(folder):
            return folder
        os.rmdir(folder)
    raise OSError(f"the temporary folder {tempfile.gettempdir()} has too long a path for a socket")


def probe(path: str) -> str:
    """Knock at a unix socket; see `Probe`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock, plain(path) as short:
        knock.setblocking(False)
        try:
            knock.connect(short)
        except BlockingIOError:
            return ""  # somebody listens, and is busy
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        except ConnectionRefusedError:
            return "nobody listens there"
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return ""
