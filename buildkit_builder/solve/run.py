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

from buildkit_builder.client import failures
from buildkit_builder.client.connection import Connection
from buildkit_builder.client.control import Control
from buildkit_builder.client.gateway import Gateway, ResolvedImage
from buildkit_builder.client.results import Result
from buildkit_builder.errors import BuildKitError, CredentialsError, DaemonLostError, SolveError
from buildkit_builder.llb import Definition, Platform
from buildkit_builder.progress.display import Display
from buildkit_builder.progress.trace import Trace
from buildkit_builder.session.auth import Auth
from buildkit_builder.session.session import Session
from buildkit_builder.solve.cache_export import INLINE, CacheWriters
from buildkit_builder.solve.cache_news import CacheNews
from buildkit_builder.solve.delivery import Delivery
from buildkit_builder.solve.exporters import Exporter
from buildkit_builder.solve.layers import Turn
from buildkit_builder.solve.once import Once
from buildkit_builder.solve.packing import LayerWatch
from buildkit_builder.solve.request import BuildRequest, BuildResult, CacheEntry, named_registries
from buildkit_builder.solve.result import gather
from buildkit_builder.wire import control_pb2

_PAINT_SECONDS = 0.1
# How long the daemon may take to end a solve whose frontend has failed, and to send the last of its status.
_GRACE_SECONDS = 5.0
_REFUSED_SECONDS = 0.5
# How options of a build begin that daemons read themselves, and what daemons that do are capable of.
_READ_BY_DAEMON = {
    "attest:": ("exporter.image.attestations", "attest how an image was made"),
    "build-arg:SOURCE_DATE_EPOCH": ("exporter.sourcedateepoch", "set the time of an image"),
}


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
        finally:
            # Not before the session is over: until then something may still be written.
            delivery.discard()
        return BuildResult(digest=response.get("containerimage.digest"), response=response)

    @property
    def session_id(self) -> str:
        """The session that serves local sources."""
        return self.request.files.id if self.request.files is not None else self.own_session_id

    @property
    def lookups(self) -> Once[ResolvedImage]:
        """Images that this build or one that runs beside it has looked up."""
        return self.request.lookups

    def remember(self, definition: Definition) -> None:
        """Keeps a graph, so that a failure in it can be described."""
        self.definitions.append(definition)

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
        self.caches = CacheWriters(control, lambda ref: Gateway(self.connection.channel, ref), session, self.request)
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
            await self._require_capabilities()
            result = await self.request.frontend.build(self)
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

    async def _require_capabilities(self) -> None:
        """What a daemon lacks of the request it would ignore without a word.

        Raises:
            CapabilityError: The daemon lacks something; nothing was built yet.
        """
        request = self.request
        purposes = {
            **{name: "annotate an image" for exporter in request.exporters for name in exporter.capabilities},
            **({"exporter.multiple": "export one build in several ways"} if len(request.exporters) > 1 else {}),
            **({"source.policy": "use registry mirrors"} if request.source_policy is not None else {}),
            **{
                capability: purpose
                for key in request.frontend_attributes
                for prefix, (capability, purpose) in _READ_BY_DAEMON.items()
                if key.startswith(prefix)
            },
        }
        if purposes:
            pong = await self.gateway.ping()
            for name, purpose in purposes.items():
                pong.llb.require(name, purpose)

    async def _give_up(self, solve: asyncio.Future[Mapping[str, str]]) -> None:
        """The frontend's own failure is what to tell; the solve only has to be over."""
        await asyncio.wait((solve,), timeout=_GRACE_SECONDS)
        solve.cancel()

    def _request(self) -> control_pb2.SolveRequest:
        request = self.request
        message = control_pb2.SolveRequest(
            Ref=self.ref,
            Session=self.own_session_id,
            FrontendAttrs=dict(request.frontend_attributes),
            Entitlements=request.entitlements,
            Internal=request.internal,
            Exporters=[_exporter(exporter) for exporter in request.exporters],
            Cache=control_pb2.CacheOptions(
                # Only this one is a part of the image; the others are written when that is done.
                Exports=[_cache_entry(export.entry) for export in request.cache_exports if export.entry.type == INLINE],
                Imports=[_cache_entry(entry) for entry in request.cache_imports],
            ),
        )
        if message.Exporters:
            # Daemons before 0.13 read only these.
            message.ExporterDeprecated = message.Exporters[0].Type
            message.ExporterAttrsDeprecated.update(message.Exporters[0].Attrs)
        if request.source_policy is not None:
            message.SourcePolicy.CopyFrom(request.source_policy)
        return message

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
                shown = self.news.softened(update)
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

    def explain(self, error: grpc.aio.AioRpcError, *, doing: str, image: str | None = None) -> BuildKitError:
        """What a failed call means to the user; where the daemon only repeats an error of the session, that error."""
        said = error.details() or ""
        for service in (*self.request.attachables, self.request.files):
            for own in getattr(service, "errors", ()):
                if str(own) in said:
                    return own if isinstance(own, BuildKitError) else BuildKitError(str(own))
        logs = [line for vertex in self.trace.failures[:3] for line in self.trace.log_tail(vertex.key, 50)]
        meant = failures.translate(
            error, describe=self._describe, doing=doing, image=image, redact=self.redact, logs=logs
        )
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
                return failures.VertexDescription(
                    name=definition.names.get(digest, digest),
                    command=definition.command(digest),
                    log_tail=tuple(self.trace.log_tail(digest, 50)),
                )
        return None


def _exporter(exporter: Exporter) -> control_pb2.Exporter:
    return control_pb2.Exporter(Type=exporter.type, Attrs=exporter.attributes())


def _cache_entry(entry: CacheEntry) -> control_pb2.CacheOptionsEntry:
    return control_pb2.CacheOptionsEntry(Type=entry.type, Attrs=dict(entry.attributes))
