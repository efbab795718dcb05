"""Writing build caches, when the image is where it belongs.

A daemon that is asked to write a cache with the image does so however little was built, and fails the build where it
cannot. So each cache has a solve of its own beside the build's:

```
build   ──────── frontend ────────▶ Return ── export ──▶ done
cache   opened ─ ─ ─ the same graph, solved ─ ─ waits ─ ─ ─ ─▶ Return ── cache export ──▶ done
```

It asks for the same graph while the build still holds it, so that nothing is run or fetched for it and the daemon knows
of every step how it came about. When the image is out, and it is known whether any step ran, the cache is written, or
its solve ended without a result. (Asked for later, the graph would be found in the daemon's own cache, and a cache
written from that lacks how files that were copied are found again: seen with 0.25.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import grpc.aio

from buildkit_builder.buildkit.api import failures
from buildkit_builder.buildkit.api.control import Control, solve_request
from buildkit_builder.buildkit.api.gateway import Gateway
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build import cache_news
from buildkit_builder.buildkit.build.request import BuildRequest, CacheExport
from buildkit_builder.buildkit.build.result import end, gather, images_of, imports, result_of
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.buildkit.progress.display import Display
from buildkit_builder.buildkit.progress.trace import Trace
from buildkit_builder.buildkit.session import oci_layout
from buildkit_builder.buildkit.wire import control_pb2
from buildkit_builder.errors import BuildKitError, SolveError

INLINE = "inline"
_DESCRIPTOR = "cache.manifest"
_EXPORTING = "exporting "


def has_made_something(trace: Trace) -> bool:
    """Whether a build ran any step; vertexes without inputs (fetched, sent or looked up) do not count."""
    return any(vertex.state == "done" and vertex.inputs for vertex in trace.vertices)


class CacheWriters:
    """The caches that a build writes, `INLINE` ones aside: those are a part of the image.

    Args:
        control: Of the daemon that builds.
        gateway: Makes one for a build by its ref.
        session: The build's: it has the folders of local caches.
        request: The build.
        can_have_store: Whether the daemon, if it is a Docker Engine's, could have the containerd image store.
    """

    def __init__(
        self,
        control: Control,
        gateway: Callable[[str], Gateway],
        session: str,
        request: BuildRequest,
        *,
        can_have_store: bool = True,
    ) -> None:
        exports = [export for export in request.cache_exports if export.entry.type != INLINE]
        self._writers = [_Writer(control, gateway, session, request, export, can_have_store) for export in exports]

    def open(self) -> None:
        """Begins the solves, which wait."""
        for writer in self._writers:
            writer.open()

    async def take(self, result: Result, gateway: Gateway) -> None:
        """Has the graph of a result held for the caches too; what goes wrong with that is told when they are written.

        Args:
            result: What the build is about to return.
            gateway: The build's.

        Raises:
            grpc.aio.AioRpcError: A step failed.
        """
        if self._writers:
            # By the build itself, so that it is the one that the daemon tells how the steps fare.
            await gather(*(gateway.evaluate(ref.id) for ref in (result.ref, *result.refs.values()) if ref))
            await asyncio.gather(*(writer.take(result) for writer in self._writers))

    async def write(self, trace: Trace, display: Display, redact: Callable[[str], str]) -> None:
        """Writes what is to be written, all at once; what cannot be is said.

        Args:
            trace: What the build did.
            display: Is told what is written.
            redact: Takes secret values out of a text.

        Raises:
            SolveError: A cache that has to be written could not be.
        """
        made = has_made_something(trace)
        writers = [writer for writer in self._writers if made or not writer.export.only_if_made]
        await gather(*(writer.write(display, redact) for writer in writers))

    async def close(self) -> None:
        """Gives up what was not written."""
        await asyncio.gather(*(writer.close() for writer in self._writers))


@dataclass(eq=False)
class _Writer:
    control: Control
    gateway_of: Callable[[str], Gateway]
    session: str
    request: BuildRequest
    export: CacheExport
    can_have_store: bool
    ref: str = field(default_factory=lambda: secrets.token_hex(16))

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.gateway = self.gateway_of(self.ref)
        self.solve: asyncio.Future[Mapping[str, str]] = asyncio.ensure_future(self.control.solve(self._request()))
        self.result: asyncio.Future[Result] = loop.create_future()
        self.images: asyncio.Future[Result] = asyncio.ensure_future(self._solve_again())

    async def take(self, result: Result) -> None:
        self.result.set_result(result)
        # Where the solve was refused there is nothing to wait for.
        await asyncio.wait((self.images, self.solve), return_when=asyncio.FIRST_COMPLETED)

    async def write(self, display: Display, redact: Callable[[str], str]) -> None:
        following = asyncio.ensure_future(self._follow(display))
        try:
            await self._file(await self._written())
        except (grpc.aio.AioRpcError, BuildKitError) as error:
            said = (error.details() or error.code().name) if isinstance(error, grpc.aio.AioRpcError) else str(error)
            text = redact(cache_news.not_written(_name(self.export), said, can_have_store=self.can_have_store))
            if self.export.required:
                raise SolveError(text) from error
            display.log(text)
        finally:
            await end(following)

    async def close(self) -> None:
        if self.images.done() and not self.solve.done() and not self.images.cancelled():
            # Else the daemon would take the end of the call for a failure worth a line in its log.
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self.gateway.return_error(failures.status_for("no cache was to be written"))
        await end(self.images, self.solve)

    async def _written(self) -> Mapping[str, str]:
        await asyncio.wait((self.images, self.solve), return_when=asyncio.FIRST_COMPLETED)
        if self.solve.done():
            return await self.solve  # refused
        await self.gateway.return_result(await self.images)
        return await self.solve

    async def _file(self, response: Mapping[str, str]) -> None:
        """The index of a local cache is the client's to write."""
        export = self.export
        if export.folder is not None and _DESCRIPTOR in response:
            descriptor = json.loads(response[_DESCRIPTOR])
            await asyncio.to_thread(oci_layout.tag, export.folder, export.tag, descriptor, reset=export.reset)

    def _request(self) -> control_pb2.SolveRequest:
        return solve_request(
            self.ref,
            session=self.session,
            cache_exports=[self.export.entry.wire],
            entitlements=self.request.entitlements,
            # It is no build that anybody asked for.
            internal=True,
            policy=self.request.source_policy,
        )

    async def _solve_again(self) -> Result:
        await self.gateway.ping()
        images = images_of(await self.result, self.export.platforms)
        refs = await gather(*(self._ref_again(platform, ref) for platform, (ref, _) in images.items()))
        return result_of({platform: (ref, images[platform][1]) for platform, ref in zip(images, refs, strict=True)})

    async def _ref_again(self, platform: Platform, ref: Ref) -> Ref:
        if ref.graph is None:
            raise SolveError("the daemon does not say what it has built; a newer one does")
        cache_imports = imports(self.request.cache_imports, platform)
        return (await self.gateway.solve(ref.graph, evaluate=True, cache_imports=cache_imports)).ref or Ref()

    async def _follow(self, display: Display) -> None:
        """Shows how the cache is written; the steps were shown when they ran."""
        with contextlib.suppress(grpc.aio.AioRpcError, BuildKitError):
            async for update in self.control.status(self.ref):
                # What went wrong is told in a sentence, when it is over.
                vertexes = tuple(
                    replace(vertex, error="") for vertex in update.vertexes if vertex.name.startswith(_EXPORTING)
                )
                known = {vertex.digest for vertex in vertexes}
                statuses = tuple(status for status in update.statuses if status.vertex in known)
                display.update(replace(update, vertexes=vertexes, statuses=statuses, logs=(), warnings=()))
                display.refresh()


def _name(export: CacheExport) -> str:
    attributes = export.entry.attributes
    return next((attributes[key] for key in ("ref", "dest") if key in attributes), f"type {export.entry.type}")
