"""A registry of the bench's own, whose access log tells what each build sent and what it found there."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tests.integration.servers import open_registry

_UP_SECONDS = 30
_BLOB = r"(?P<name>\S+?)/blobs"
_FOUND = re.compile(rf'"HEAD /v2/{_BLOB}/(?P<digest>sha256:\w+) HTTP/[\d.]+" 200 ')
_MOUNTED = re.compile(
    rf'"POST /v2/{_BLOB}/uploads/\?(?:\S*&)?mount=(?P<digest>sha256(?::|%3A)\w+)\S* HTTP/[\d.]+" 201 '
)
_SENT = re.compile(rf'"PUT /v2/{_BLOB}/uploads/\S*[?&]digest=(?P<digest>sha256(?::|%3A)\w+)\S* HTTP/[\d.]+" 201 ')


@dataclass(slots=True)
class Traffic:
    """What a build did to the registry.

    Attributes:
        pushed_bytes: Of blobs that were sent.
        pushed: How many those are.
        reused: Blobs that were there: in the repository, or in another one and only linked.
    """

    pushed_bytes: int = 0
    pushed: int = 0
    reused: int = 0


class Registry:
    """A running registry.

    Attributes:
        address: `host:port`.
    """

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self._log = log

    @contextlib.contextmanager
    def watched(self) -> Iterator[Traffic]:
        """Counts what is done while the context lasts."""
        traffic = Traffic()
        begin = self._mark()
        yield traffic
        end = self._mark()
        with self._log.open("rb") as log:
            log.seek(begin)
            text = log.read(end - begin).decode(errors="replace")
        sent = {(found["name"], unquote(found["digest"])) for found in _SENT.finditer(text)}
        there = {
            (found["name"], unquote(found["digest"])) for kind in (_FOUND, _MOUNTED) for found in kind.finditer(text)
        }
        traffic.pushed, traffic.reused = len(sent), len(there - sent)
        traffic.pushed_bytes = sum(self._size(name, digest) for name, digest in sent)

    def _mark(self) -> int:
        """The place in the log behind all that was asked before this."""
        mark = uuid.uuid4().hex
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{self.address}/v2/{mark}/tags/list", timeout=30)
        deadline = time.monotonic() + _UP_SECONDS
        while (place := self._log.read_bytes().find(f"/{mark}/tags/list HTTP".encode())) < 0:
            assert time.monotonic() < deadline, f"{self._log} does not tell of requests"
            time.sleep(0.005)
        return place

    def _size(self, name: str, digest: str) -> int:
        request = urllib.request.Request(f"http://{self.address}/v2/{name}/blobs/{digest}", method="HEAD")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.headers["Content-Length"])


@contextlib.contextmanager
def registry(program: Path, folder: Path) -> Iterator[Registry]:
    """Starts a registry and ends it.

    Args:
        program: `docker-registry`.
        folder: For all that it keeps; made.
    """
    with open_registry(program, folder) as address:
        yield Registry(address, folder / "log")
