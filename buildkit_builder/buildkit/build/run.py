"""The conductor of a build: session, status, solve and frontend, under one ref.

`Control.Solve` is started with neither a definition nor a frontend; while it is open, the frontend makes the result
over `LLBBridge` and hands it back with `Return`, after which the daemon exports it and the solve ends. Protocol:
buildkit `client/build.go`, `client/solve.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from buildkit_builder.buildkit.api import advice, failures
from buildkit_builder.buildkit.api.control import Control, solve_request
from buildkit_builder.buildkit.api.gateway import Gateway, ResolvedImage
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build.cache_export import INLINE, CacheWriters
from buildkit_builder.buildkit.build.cache_news import CacheNews
from buildkit_builder.buildkit.build.delivery import Delivery
from buildkit_builder.buildkit.build.demands import require_capabilities, require_index
from buildkit_builder.buildkit.build.early_compression import LayerWatch
from buildkit_builder.buildkit.build.mirrors import Mirrors
from buildkit_builder.buildkit.build.request import BuildRequest, BuildResult, named_registries
from buildkit_builder.buildkit.build.result import gather
from buildkit_builder.buildkit.build.roles import Roles, uncached
from buildkit_builder.buildkit.build.shared_layers import Turn
from buildkit_builder.buildkit.build.single_flight import SingleFlight
from buildkit_builder.buildkit.connect.connection import Connection
from buildkit_builder.buildkit.llb import Definition, Platform
from buildkit_builder.buildkit.progress.display import Display
from buildkit_builder.buildkit.progress.trace import Trace
from buildkit_builder.buildkit.session.auth import Auth
from buildkit_builder.buildkit.session.session import Session
from buildkit_builder.buildkit.wire import control_pb2
from buildkit_builder.errors import BuildKitError, CredentialsError, DaemonLostError, SolveError

_PAINT_SECONDS = 0.1
# How long the daemon may take to end a solve whose frontend has failed, and to send the last of its status.
_GRACE_SECONDS = 5.0
_REFUSED_SECONDS = 0.5


async def build(
    connection: Connection,
    request: BuildRequest,
    display: Display,
    *,
    redact: Callable[[str], str] = str,
) -> BuildResult:
    """Runs one build to its end.

    Args:
        connection: To the daemon; may be shared by many builds.
        request: What to build.
        display: Is told what happens, and that it is over.
        redact: Takes secret values out of a text; every message passes through it.

    Raises:
        BuildKitError: The build failed; says where and why.
        asyncio.CancelledError: The task was cancelled; the daemon's work is stopped first.
    """
    error: BaseException | None = None
    try:
        with request.layers.used():
            return await _Build(connection, request, display, redact).run()
    except BaseException as caught:
        error = caught
        for service in request.attachables:
            if isinstance(service, Auth):
                service.forget()
        raise
    finally:
        display.done(error)


@dataclass
class _Build:
    connection: Connection
    request: BuildRequest
    display: Display
    redact: Callable[[str], str]
    ref: str = field(default_factory=lambda: secrets.token_hex(16))
    trace: Trace = field(default_factory=Trace)
    roles: Roles = field(default_factory=Roles)
    definitions: list[Definition] = field(default_factory=list)
    beside: list[asyncio.Future[None]] = field(default_factory=list)
    returning: bool = False
    returned: bool = False
    heard: bool = False
    turn: Turn | None = None
    news: CacheNews = field(default_factory=CacheNews)

    def __post_init__(self) -> None:
        self.registries = named_registries(self.request)

    async def run(self) -> BuildResult:
        control = Control(self.connection.channel)
        self.gateway = Gateway(self.connection.channel, self.ref)
        delivery = Delivery(self.request.exporters)
        for note in self.request.notes:
            self.display.log(note)
        try:
            session = Session((*self.request.attachables, *delivery.attachables))
            try:
                async with session.open(control), self._writing_caches(control, session.id):
                    self.own_session_id = session.id
                    self.watch = LayerWatch(self.request, control, session.id, self.aside)
                    async with self._watched(control):
                        refused = [auth.wait_refused() for auth in self.request.attachables if isinstance(auth, Auth)]
                        solving = self._solved(control)
                        response = await session.while_served(solving, doing=self._doing, unless=refused)
                    # By now the status has been heard to its end, so that it is known what was built.
                    writing = self.caches.write(self.trace, self.display, self.redact)
                    await session.while_served(writing, doing=self._doing)
            except grpc.aio.AioRpcError as error:
                # Told only now that the status has been heard to its end: a step's last words are part of it.
                raise session.failure or self._translated(error) from error
            except BuildKitError as error:
                # The session knows better than the daemon why a file could not be sent.
                raise session.failure or error from error
            delivery.complete()
            for service in (*self.request.attachables, self.request.files):
                for notice in getattr(service, "notices", ()):
                    self.display.log(notice)
        finally:
            # Not before the session is over: until then something may still be written.
            delivery.discard()
        return BuildResult(digest=response.get("containerimage.digest"), response=response)

    @property
    def session_id(self) -> str:
        """The session that serves local sources."""
        return self.request.files.id if self.request.files is not None else self.own_session_id

    @property
    def lookups(self) -> SingleFlight[ResolvedImage]:
        """Images that this build or one that runs beside it has looked up."""
        return self.request.lookups

    @property
    def mirrors(self) -> Mirrors:
        """What images are fetched from instead of their registries."""
        return self.request.mirrors

    def remember(self, definition: Definition) -> None:
        """Keeps a graph, so that a failure in it can be described."""
        self.definitions.append(definition)
        self.roles.learn(definition)

    def expect(self, image: Definition, platform: Platform) -> None:
        """Has layers of an image that are done packed while others are made."""
        self.watch.expect(image, platform)

    def aside(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Lets something go on beside the frontend, at most until the build is over."""
        going = asyncio.ensure_future(work)
        self.beside.append(going)
        return going

    @property
    def _doing(self) -> str:
        return f"building {self.request.title}"

    @contextlib.asynccontextmanager
    async def _writing_caches(self, control: Control, session: str) -> AsyncIterator[None]:
        """Has caches ready to be written, as long as the body runs."""
        self.caches = CacheWriters(
            control, lambda ref: Gateway(self.connection.channel, ref), session, self.request,
            can_have_store=not self.connection.daemon.is_before_0_11,
        )  # fmt: skip
        self.caches.open()
        try:
            yield
        finally:
            await self.caches.close()

    # --- the solve and its frontend ---

    async def _solved(self, control: Control) -> Mapping[str, str]:
        solve = asyncio.ensure_future(control.solve(self._request()))
        frontend = asyncio.ensure_future(self._frontend())
        try:
            await asyncio.wait((solve, frontend), return_when=asyncio.FIRST_COMPLETED)
            if not frontend.done():
                # The daemon ended the solve by itself: it refused the request, or it is gone.
                frontend.cancel()
                await asyncio.wait((frontend,))
            elif (failure := frontend.exception()) is not None:
                await self._give_up(solve)
                if not self.returned and solve.done() and not solve.cancelled() and (cause := solve.exception()):
                    raise cause
                raise failure
            response = await solve
            if not self.returning:
                raise SolveError("The daemon ended the build before it had been given anything to build.")
            return response
        finally:
            self.watch.stop()
            tasks: list[asyncio.Future[Any]] = [frontend, solve, *self.beside]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if self.turn is not None:
                self.turn.end()

    async def _frontend(self) -> None:
        """Makes the result and hands it over, or tells the daemon that there will be none: `Return` is called once."""
        try:
            await require_capabilities(self.request, self.gateway)
            result = await self.request.frontend.build(self)
            require_index(self.request, result)
            await self._take_turn(result)
        except asyncio.CancelledError:
            raise
        except grpc.aio.AioRpcError as error:
            await self._return_error(failures.status_of(error))
            raise
        except BaseException as error:
            await self._return_error(failures.status_for(self.redact(str(error))))
            raise
        await self.caches.take(result, self.gateway)
        self.returning = True
        await self.gateway.return_result(result)
        self.returned = True

    async def _take_turn(self, result: Result) -> None:
        """Lets another build push first what this one would push as well."""
        registry, layers = self.request.pushes_to, self.request.layers
        if registry is None or layers.builds < 2:
            return
        platforms = set(map(str, self.watch.platforms))
        refs = [result.ref, *(ref for platform, ref in result.refs.items() if platform in platforms)]
        await gather(*(self.gateway.evaluate(ref.id) for ref in refs if ref is not None))
        self.turn = await layers.begin_push(registry, await self.watch.made())

    async def _return_error(self, status: bytes) -> None:
        # As long as the caches hold the graph, the daemon does not end the build's status.
        await self.caches.close()
        self.returning = True
        # Where this fails the build is over already, and `Control.Solve` says why.
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.gateway.return_error(status)
            self.returned = True

    async def _give_up(self, solve: asyncio.Future[Mapping[str, str]]) -> None:
        """The frontend's own failure is what to tell; the solve only has to be over."""
        await asyncio.wait((solve,), timeout=_GRACE_SECONDS)
        solve.cancel()

    def _request(self) -> control_pb2.SolveRequest:
        request = self.request
        return solve_request(
            self.ref,
            session=self.own_session_id,
            attributes=request.frontend_attributes,
            exporters=[(exporter.type, exporter.attributes()) for exporter in request.exporters],
            # Only this one is a part of the image; the others are written when that is done.
            cache_exports=[export.entry.wire for export in request.cache_exports if export.entry.type == INLINE],
            cache_imports=[entry.wire for entry in request.cache_imports],
            entitlements=request.entitlements,
            internal=request.internal,
            policy=request.source_policy,
        )

    # --- status ---

    @contextlib.asynccontextmanager
    async def _watched(self, control: Control) -> AsyncIterator[None]:
        """Follows the status while the body runs, and to its end unless that takes too long."""
        follower = asyncio.ensure_future(self._follow(control))
        painter = asyncio.ensure_future(self._paint())
        grace = _GRACE_SECONDS
        try:
            yield
        except (asyncio.CancelledError, DaemonLostError):
            grace = 0
            raise
        except (grpc.aio.AioRpcError, BuildKitError):
            # A request that was refused is no build, and has no status however long one waits.
            grace = grace if self.heard else _REFUSED_SECONDS
            raise
        finally:
            await asyncio.wait((follower,), timeout=grace)
            for task in (follower, painter):
                task.cancel()
            await asyncio.wait((follower, painter))

    async def _follow(self, control: Control) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, BuildKitError):
            async for update in control.status(self.ref):
                self.heard = True
                self.watch.heard(update)
                shown = self.news.softened(self.roles.told(update))
                self.trace.apply(shown, time.time())
                self.display.update(shown)
                while self.news.lines:
                    self.display.log(self.redact(self.news.lines.pop(0)))

    async def _paint(self) -> None:
        while True:
            await asyncio.sleep(_PAINT_SECONDS)
            self.display.refresh()

    # --- failures ---

    def _translated(self, error: grpc.aio.AioRpcError) -> BuildKitError:
        return self.explain(error, doing=self._doing)

    def explain(
        self, error: grpc.aio.AioRpcError, *, doing: str, image: str | None = None, mirror: str | None = None
    ) -> BuildKitError:
        """What a failed call means to the user; where the daemon only repeats an error of the session, that error."""
        said = error.details() or ""
        for service in (*self.request.attachables, self.request.files):
            for own in getattr(service, "errors", ()):
                if str(own) in said:
                    return own if isinstance(own, BuildKitError) else BuildKitError(str(own))
        logs = [line for vertex in self.trace.failures[:3] for line in self.trace.log_tail(vertex.key, 50)]
        same = [vertex.key for vertex in self.trace.failures if vertex.error and vertex.error in said]
        meant = failures.translate(
            error, describe=self._describe, doing=doing, image=image, mirror=mirror, redact=self.redact, logs=logs,
            vertexes=same[:1],
        )  # fmt: skip
        if isinstance(meant, DaemonLostError) and self.connection.failure is not None:
            return failures.lost(str(self.connection.failure), doing=doing)
        if isinstance(meant, CredentialsError) and (hosts := self.registries.withheld):
            return CredentialsError(
                f"{meant} It was given no credentials for {', '.join(hosts[:3])}, of which the build names no image; "
                "where it is to have them, as for a mirror of its own, name them in `image.buildkit.credentials_for`."
            )
        return meant

    def _describe(self, digest: str) -> failures.VertexDescription | None:
        for definition in self.definitions:
            if digest in definition.digests:
                shown = digest if self.trace.vertex(digest) else uncached(digest)
                vertex, role = self.trace.vertex(shown), self.roles.role(digest)
                name = self.roles.name(digest) or (vertex.title if vertex else definition.title(digest))
                return failures.VertexDescription(
                    name=name,
                    command=definition.command(digest),
                    is_script=role is not None and role.script,
                    log_tail=tuple(self.trace.log_tail(shown, 50)),
                )
        # Of two steps that come to the same, in this build or in one beside it, the daemon runs one, and tells of that.
        vertex = self.trace.vertex(digest)
        if vertex is None or advice.exit_code_in(vertex.error) is None:
            return None
        return failures.VertexDescription(name=vertex.title, log_tail=tuple(self.trace.log_tail(digest, 50)))
