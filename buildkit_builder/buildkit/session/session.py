"""One build's session: what the daemon may ask of us while it builds.

```
daemon ──Control.Session──▶ Tunnel ──bytes──▶ http2.Connection ──calls──▶ Server ──▶ FileSync, Auth, Secrets, …
```

Nothing is opened on this machine for it: no socket, no folder, no listening port.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import grpc

from buildkit_builder.buildkit.api import failures
from buildkit_builder.buildkit.session.attachable import Attachable
from buildkit_builder.buildkit.session.health import Health
from buildkit_builder.buildkit.session.http2_stream import ProtocolError
from buildkit_builder.buildkit.session.server import Server
from buildkit_builder.buildkit.session.tunnel import Tunnel
from buildkit_builder.errors import BuildKitError, DaemonLostError

_ID_HEADER = "x-docker-expose-session-uuid"
_SHARED_KEY_HEADER = "x-docker-expose-session-sharedkey"
_METHOD_HEADER = "x-docker-expose-session-grpc-method"

# The daemon asks every five seconds whether we are well (protocol: buildkit `session/grpc.go`), so it is never silent
# for long. A network that is cut may be: what was sent into it is lost without a word, and gRPC itself must not ask.
_SILENCE_SECONDS = 60.0
_CHECKS = 4  # one alone could be due because this process had been stopped for a while

T = TypeVar("T")


class SessionOpener(Protocol):
    """Opens `Control.Session` (`client.control.Control` does)."""

    def session(self, metadata: Sequence[tuple[str, str]]) -> Any:
        """Starts the call; returns grpc.aio's bidirectional stream of `control_pb2.BytesMessage`."""


class Session:
    """What one build offers to the daemon.

    ```python
    session = Session([FileSync([...]), Auth(...), Secrets({...})])
    async with session.open(control):
        ...  # SolveRequest(Session=session.id, …)
    ```

    A session is used once. Health checks are always answered.

    Args:
        attachables: The services to offer.
        shared_key: Names the source of local directories across sessions, so that the daemon can reuse what it has of
            an earlier build; `""` for none.

    Attributes:
        id: A random id, for `SolveRequest.Session` and the `local.session` of sources.
    """

    def __init__(self, attachables: Sequence[Attachable], *, shared_key: str = "") -> None:
        self.id = secrets.token_hex(16)
        self._shared_key = shared_key
        self._server = Server()
        self._methods = [path for service in (Health(), *attachables) for path in service.register(self._server)]
        self._ended = asyncio.Event()
        self._lost: Exception | None = None
        self._tunnel: Tunnel | None = None

    @property
    def failure(self) -> BuildKitError | None:
        """The first error of ours that made a service fail, such as `SourceChangedError`.

        The daemon reports only its echo; this is the error to raise instead.
        """
        return self._server.failure

    @property
    def lost(self) -> Exception | None:
        """Why the session ended before it was closed, if it did: grpc's error, or the peer's breach of protocol."""
        return self._lost

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata that introduces the session (protocol: buildkit `session/grpchijack`)."""
        return (
            (_ID_HEADER, self.id),
            (_SHARED_KEY_HEADER, self._shared_key),
            *((_METHOD_HEADER, method) for method in self._methods),
        )

    @contextlib.asynccontextmanager
    async def open(self, control: SessionOpener) -> AsyncIterator[Session]:
        """Offers the session while the context lasts.

        Args:
            control: The daemon to offer it to.
        """
        self._tunnel = tunnel = Tunnel(control.session(self.metadata))
        serving = asyncio.ensure_future(self._serve(tunnel))
        try:
            yield self
        finally:
            serving.cancel()
            await asyncio.wait((serving,))
            tunnel.close()

    async def wait_ended(self) -> None:
        """Waits until the daemon has ended the session, or the connection broke."""
        await self._ended.wait()

    async def while_served(
        self, work: Coroutine[Any, Any, T], *, doing: str, unless: Iterable[Coroutine[Any, Any, BuildKitError]] = ()
    ) -> T:
        """Waits for work that needs the session, as long as the daemon can be served.

        Args:
            work: Ended where it cannot.
            doing: What that is, for the user.
            unless: What else makes the work hopeless: each ends with the error to raise, or not at all.

        Raises:
            DaemonLostError: The daemon has gone silent, or breaks the protocol, and has not said that it has ended.
        """
        working = asyncio.ensure_future(work)
        watches = [asyncio.ensure_future(watch) for watch in (self._wait_lost(doing), *unless)]
        try:
            await asyncio.wait((working, *watches), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise next(watch.result() for watch in watches if watch.done())
        finally:
            for task in (working, *watches):
                task.cancel()
            await asyncio.wait((working, *watches))

    async def _wait_lost(self, doing: str) -> DaemonLostError:
        # Not with `wait_for`, which on older Pythons may swallow that it is cancelled (python/cpython#81839).
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            heard, quiet = -1, 0
            while quiet < _CHECKS:
                await asyncio.wait((ended,), timeout=_SILENCE_SECONDS / _CHECKS)
                if ended.done():
                    if not isinstance(self._lost, ProtocolError):
                        # Whoever waits for the build hears of it, if it matters to that.
                        await asyncio.get_running_loop().create_future()
                    return failures.lost(f"it does not keep to the protocol ({self._lost})", doing=doing)
                received = self._tunnel.received if self._tunnel is not None else 0
                heard, quiet = received, quiet + 1 if received == heard else 0
            return failures.lost(f"nothing has been heard from it for {_SILENCE_SECONDS:g} s", doing=doing)
        finally:
            ended.cancel()

    async def _serve(self, tunnel: Tunnel) -> None:
        try:
            await self._server.serve(tunnel)
        except (grpc.RpcError, ProtocolError) as error:
            self._lost = error
        finally:
            self._ended.set()
