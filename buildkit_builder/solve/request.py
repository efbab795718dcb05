"""What a build is asked to do, and what came of it."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import grpc.aio

from buildkit_builder.client.gateway import Gateway
from buildkit_builder.client.results import Result
from buildkit_builder.errors import BuildKitError
from buildkit_builder.llb import Definition
from buildkit_builder.session.attachable import Attachable
from buildkit_builder.solve.exporters import Exporter
from buildkit_builder.wire import sourcepolicy_pb2


class Frontend(Protocol):
    """Makes the result of a build by asking the daemon, while the build is under way."""

    async def build(self, bridge: Bridge) -> Result:
        """Solves whatever it takes and answers with the references that are to be exported."""
        ...


class Bridge(Protocol):
    """What a frontend may use of the build that it runs in."""

    gateway: Gateway
    session_id: str

    def remember(self, definition: Definition) -> None:
        """Keeps a graph that is about to be solved, so that a failure in it can be told in the user's words."""
        ...

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Lets something go on beside the frontend, at most until the build is over; its failure is nobody's."""
        ...

    def explain(self, error: grpc.aio.AioRpcError, *, doing: str, image: str | None = None) -> BuildKitError:
        """What a call of the gateway that failed means to the user.

        Args:
            error: Of the call.
            doing: What was being done, as in "while looking up the base image".
            image: The image that it was done to.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A cache to import from or export to: `registry` with a `ref`, and the like."""

    type: str
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


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
        source_policy: Rules that rewrite sources.
        entitlements: What steps may do beyond the usual: `network.host`, `security.insecure`.
        internal: Kept out of the daemon's history.
    """

    title: str
    frontend: Frontend
    exporters: tuple[Exporter, ...] = ()
    attachables: tuple[Attachable, ...] = ()
    frontend_attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cache_imports: tuple[CacheEntry, ...] = ()
    cache_exports: tuple[CacheEntry, ...] = ()
    source_policy: sourcepolicy_pb2.Policy | None = None
    entitlements: tuple[str, ...] = ()
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What came of a build.

    Attributes:
        digest: Of the manifest or index; `None` where nothing was exported as an image.
        response: The exporters' own answers.
    """

    digest: str | None
    response: Mapping[str, str]
