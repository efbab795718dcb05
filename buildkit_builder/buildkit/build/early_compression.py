"""Packing begins before a build is over: a layer that is done is compressed while other steps still run.

The daemon packs a tree when it exports it, and keeps the blob with the tree; whoever exports it again, or waits for it
to be packed, gets the same. So a solve of its own, which exports what a step has made to nowhere, does the work ahead
(protocol: buildkit `cache/blobs.go`, `solver/llbsolver/solver.go`). What of it is not done when the last step ends goes
on as a part of the export itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

import grpc.aio

from buildkit_builder.buildkit.api.control import Control, solve_request
from buildkit_builder.buildkit.api.events import StatusUpdate, VertexEvent
from buildkit_builder.buildkit.build.exporters import DockerArchive, OciArchive, Push
from buildkit_builder.buildkit.build.request import BuildRequest
from buildkit_builder.buildkit.llb import Definition, Platform, from_definition, marshal
from buildkit_builder.buildkit.llb.layer_outputs import Output, lineage

# A step that took less has made too little for its packing to matter.
_WORTH_SECONDS = 1.0
# Within which the daemon has told that a step is done.
_TOLD_SECONDS = 1.0
# What of an exporter's attributes has a part in how a layer is packed.
_PACKING = ("compression", "compression-level", "oci-mediatypes")
_NOWHERE = {"push": "false", "store": "false", "unpack": "false"}


class LayerWatch:
    """Watches the layers of one build, and has those packed whose steps are done while others are not.

    Args:
        request: The build.
        control: Of the daemon.
        session: The build's.
        aside: Lets something go on at most until the build is over.
    """

    def __init__(
        self,
        request: BuildRequest,
        control: Control,
        session: str,
        aside: Callable[[Coroutine[Any, Any, None]], asyncio.Future[None]],
    ) -> None:
        self._request = request
        self._control = control
        self._session = session
        self._aside = aside
        self._attributes = _attributes(request)
        self._images: dict[Platform, Definition] = {}
        self._ended: set[str] = set()
        self._made: set[str] = set()
        self._news = asyncio.Event()

    @property
    def platforms(self) -> frozenset[Platform]:
        """Those of what will be exported."""
        return frozenset(self._images)

    async def made(self) -> frozenset[Output]:
        """The layers that are new, when all of the image is there: those of steps that have been run."""
        layers = frozenset(output for image in self._images.values() for output in lineage(image))
        # The daemon tells a little later than it does.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._hear_of({digest for digest, _ in layers}), _TOLD_SECONDS)
        return frozenset(output for output in layers if output[0] in self._made)

    async def _hear_of(self, steps: set[str]) -> None:
        while not steps <= self._ended:
            self._news.clear()
            await self._news.wait()

    def expect(self, image: Definition, platform: Platform) -> None:
        """Is told what will be exported for a platform, as far as that is known yet."""
        self._images[platform] = image

    def heard(self, update: StatusUpdate) -> None:
        """Is told what the daemon says of the build."""
        ended = [vertex for vertex in update.vertexes if vertex.completed is not None]
        self._ended.update(vertex.digest for vertex in ended)
        self._made.update(vertex.digest for vertex in ended if not vertex.cached and not vertex.error)
        self._news.set()
        for vertex in ended if self._attributes is not None else ():
            if _is_worth_it(vertex):
                self._pack(vertex.digest)

    def stop(self) -> None:
        """Begins nothing more."""
        self._attributes = None

    def _pack(self, digest: str) -> None:
        for image in self._images.values():
            outputs = lineage(image) if digest in image.digests else frozenset()
            if any(other not in self._ended for other, _ in outputs):
                for output in sorted(output for output in outputs if output[0] == digest):
                    self._begin(image, output)

    def _begin(self, image: Definition, output: Output) -> None:
        # Builds that run side by side have steps in common.
        packed = self._request.layers.packed
        if output not in packed:
            packed.add(output)
            # Its vertices say for themselves which platform they are of.
            self._aside(self._solve(marshal(from_definition(image, output), platform=Platform())))

    async def _solve(self, layers: Definition) -> None:
        request = self._request
        message = solve_request(
            secrets.token_hex(16),
            session=self._session,
            definition=layers.to_wire(),
            exporters=[(Push.type, self._attributes or {})],
            entitlements=request.entitlements,
            internal=True,
            policy=request.source_policy,
        )
        # What stands in its way will stand in the export's, too.
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._control.solve(message)


def _attributes(request: BuildRequest) -> dict[str, str] | None:
    """How the layers are packed that are exported; `None` where none are, or in several ways, or the base's as well."""
    exporters = request.exporters
    if len(exporters) != 1 or not isinstance(exporters[0], (Push, OciArchive, DockerArchive)):
        return None
    exporter = exporters[0]
    if exporter.compression.force:
        return None
    attributes = exporter.attributes()
    return {**{name: attributes[name] for name in _PACKING if name in attributes}, **_NOWHERE}


def _is_worth_it(vertex: VertexEvent) -> bool:
    if vertex.cached or vertex.error or vertex.started is None or vertex.completed is None:
        return False
    return vertex.completed - vertex.started >= _WORTH_SECONDS
