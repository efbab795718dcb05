"""What a build is asked to do, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import grpc.aio

from buildkit_builder.buildkit.api.gateway import Gateway, ResolvedImage
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build.exporters import Exporter, Push
from buildkit_builder.buildkit.build.local_reads import FilesSession
from buildkit_builder.buildkit.build.mirrors import NO_MIRRORS, Mirrors
from buildkit_builder.buildkit.build.roles import Roles
from buildkit_builder.buildkit.build.shared_layers import SharedLayers
from buildkit_builder.buildkit.build.single_flight import SingleFlight
from buildkit_builder.buildkit.llb import Definition, ImageReference, Platform
from buildkit_builder.buildkit.session.attachable import Attachable
from buildkit_builder.buildkit.session.auth import Auth
from buildkit_builder.buildkit.session.registries import Registries
from buildkit_builder.buildkit.wire import sourcepolicy_pb2
from buildkit_builder.errors import BuildKitError


class Frontend(Protocol):
    """Makes the result of a build by asking the daemon, while the build is under way."""

    async def build(self, bridge: Bridge) -> Result:
        """Solves whatever it takes and answers with the references that are to be exported."""
        ...


class Bridge(Protocol):
    """What a frontend may use of the build that it runs in."""

    gateway: Gateway

    @property
    def session_id(self) -> str:
        """The session that serves local sources."""
        ...

    @property
    def lookups(self) -> SingleFlight[ResolvedImage]:
        """Images that this build or one that runs beside it has looked up."""
        ...

    @property
    def roles(self) -> Roles:
        """What the build knows of its vertices."""
        ...

    @property
    def registries(self) -> Registries:
        """Those whose credentials the daemon may have: to be told of every image before it is asked for."""
        ...

    @property
    def mirrors(self) -> Mirrors:
        """What images are fetched from instead of the registries that their names begin with."""
        ...

    def remember(self, definition: Definition) -> None:
        """Keeps a graph that is about to be solved, so that a failure in it can be told in the user's words."""
        ...

    def expect(self, image: Definition, platform: Platform) -> None:
        """Tells the graph of an image before it is solved, so that what is done of it may be packed."""
        ...

    def aside(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Lets something go on beside the frontend, at most until the build is over; its failure is nobody's."""
        ...

    def explain(
        self, error: grpc.aio.AioRpcError, *, doing: str, image: str | None = None, mirror: str | None = None
    ) -> BuildKitError:
        """What a call of the gateway that failed means to the user.

        Args:
            error: Of the call.
            doing: What was being done, as in "while looking up the base image".
            image: The image that it was done to.
            mirror: Its name at the mirror that was asked, if one was.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A cache to import from or export to: `registry` with a `ref`, and the like.

    Attributes:
        type: Its kind.
        attributes: As the daemon is told them; some are credentials.
        platform: The only platform that it is of, or `None` for all.
    """

    type: str
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    platform: Platform | None = None

    @property
    def wire(self) -> tuple[str, Mapping[str, str]]:
        """Its type and its attributes, as requests take them."""
        return self.type, self.attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheExport:
    """A cache to write, when the image has been exported.

    Attributes:
        entry: The cache.
        platforms: Of the build's platforms, those whose steps go there.
        only_if_made: Leave it as it is where this build has run no step.
        required: Whether the build fails where it cannot be written; else that is only said.
        folder: Of a local cache, where the daemon writes it through the session.
        tag: What a local cache is found by in that folder.
        reset: Remove from that folder what no tag leads to any more.
    """

    entry: CacheEntry
    platforms: tuple[Platform, ...] = ()
    only_if_made: bool = False
    required: bool = False
    folder: Path | None = None
    tag: str = "latest"
    reset: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build.

    Attributes:
        title: What progress calls it: the image's name.
        frontend: Makes the result.
        exporters: What becomes of the result; nothing when empty.
        attachables: What the daemon may ask of us while it builds.
        frontend_attributes: Options that the daemon reads beside the frontend (`build-arg:SOURCE_DATE_EPOCH`, …).
        cache_imports: Where steps may be found that were run elsewhere.
        cache_exports: Where this build's steps are left for others.
        notes: What the user is told as the build begins.
        mirrors: What images are fetched from instead of the registries that their names begin with.
        source_policy: Rules by which the daemon rewrites the sources that it names itself.
        entitlements: What steps may do beyond the usual: `network.host`, `security.insecure`.
        internal: Kept out of the daemon's history.
        files: Serves the local sources in place of the build's own session, where builds share them.
        layers: Shared with builds that run beside this one on the same daemon.
        lookups: Shared with builds that run beside this one on the same daemon, with the same credentials and mirrors.
    """

    title: str
    frontend: Frontend
    exporters: tuple[Exporter, ...] = ()
    attachables: tuple[Attachable, ...] = ()
    frontend_attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cache_imports: tuple[CacheEntry, ...] = ()
    cache_exports: tuple[CacheExport, ...] = ()
    notes: tuple[str, ...] = ()
    mirrors: Mirrors = NO_MIRRORS
    source_policy: sourcepolicy_pb2.Policy | None = None
    entitlements: tuple[str, ...] = ()
    internal: bool = False
    files: FilesSession | None = None
    layers: SharedLayers = field(default_factory=SharedLayers, repr=False, compare=False)
    lookups: SingleFlight[ResolvedImage] = field(default_factory=SingleFlight, repr=False, compare=False)

    @property
    def pushes_to(self) -> str | None:
        """The registry that an exporter pushes to."""
        pushes = (push for push in self.exporters if isinstance(push, Push))
        return next((ImageReference.parse(push.reference).domain for push in pushes), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What came of a build.

    Attributes:
        digest: Of the manifest or index; `None` where nothing was exported as an image.
        response: The exporters' own answers.
    """

    digest: str | None
    response: Mapping[str, str]


def named_registries(request: BuildRequest) -> Registries:
    """Those whose credentials the daemon may have: of what is pushed, of caches, and of mirrors."""
    registries = next(
        (service.registries for service in request.attachables if isinstance(service, Auth)), Registries()
    )
    told = [dict(request.frontend_attributes), *(exporter.attributes() for exporter in request.exporters)]
    caches = (*request.cache_imports, *(export.entry for export in request.cache_exports))
    told += [dict(cache.attributes) for cache in caches]
    for attributes in told:
        # Whatever is the name of an image is the whole of these, or stands in the others.
        registries.add(*(attributes[key] for key in ("name", "ref") if key in attributes))
        registries.add_text(*attributes.values())
    registries.add_text(*(mirror for _, mirror in request.mirrors.registries))
    return registries
