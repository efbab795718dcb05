"""One image on several nodes: what each is told, and how they are shown."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, BuildResult
from buildkit_builder.buildkit.build import build as solve_build
from buildkit_builder.buildkit.connect.connection import Connection
from buildkit_builder.buildkit.find.nodes import Share
from buildkit_builder.buildkit.progress.display import Display
from buildkit_builder.errors import ImageError, SolveError
from buildkit_builder.flyte_plugin.image_build.build_inputs import read_by_daemon
from buildkit_builder.flyte_plugin.image_build.ordered_image import Order, auth
from buildkit_builder.flyte_plugin.image_build.sharing import Common
from buildkit_builder.image.across_nodes import JoinFrontend
from buildkit_builder.image.destination import push_joined, push_part
from buildkit_builder.image.unforeseen import only_ours


@dataclass(slots=True)
class Several:
    """Implements `image.nodes.Work`: the image has a section of the progress, and each node that builds for it one."""

    order: Order
    common: Common
    _display: Display | None = None
    _said: set[str] = field(default_factory=set)

    @classmethod
    @contextlib.asynccontextmanager
    async def begin(cls, order: Order, common: Common) -> AsyncIterator[Several]:
        """Shows the image from now on, to its end."""
        several = cls(order, common)
        several._own_display()
        error: BaseException | None = None
        try:
            yield several
        except BaseException as caught:
            error = caught
            raise
        finally:
            if several._display is not None:
                several._display.done(error)

    @property
    def platforms(self) -> tuple[llb.Platform, ...]:
        """What the image is wanted for."""
        return self.order.platforms

    async def whole(self, connection: Connection) -> BuildResult:
        """Builds it on one node as if there were no other."""
        return await self.order.build_on(connection, self.common, self._take_display())

    async def part(self, share: Share, connection: Connection) -> str:
        """Builds it for some platforms on a node, and pushes that by its digest."""
        order = self.order
        reference = order.spec.reference
        if not order.spec.push:
            raise ImageError(
                f"The image {reference} names no registry, and what several nodes build can only meet in one. Set "
                "`image.registry` in the config, or name in `image.buildkit.platforms` what one node builds alone."
            )
        with only_ours(f"building {reference} on {share.node.name}", order.redact):
            return await self._part(share, connection)

    async def _part(self, share: Share, connection: Connection) -> str:
        order = self.order
        reference = order.spec.reference
        platforms = ", ".join(map(str, share.platforms))
        exporter = await push_part(order.spec, order.settings, connection, share.node.name)
        async with order.request(connection, self.common, share.platforms, exporter) as request:
            # What is attested is what gets the tag.
            plain = {key: value for key, value in request.frontend_attributes.items() if not key.startswith("attest:")}
            part = replace(request, frontend_attributes=plain)
            display = self.common.screen.display(f"{reference} {platforms} on {share.node.name}", order.redact)
            result = await solve_build(connection, part, display, redact=order.redact)
        if result.digest is None:
            raise SolveError(f"The daemon did not say what it had pushed for {platforms}.")
        return result.digest

    async def join(self, connection: Connection, parts: Mapping[llb.Platform, str]) -> BuildResult:
        """Puts what was pushed under the tag."""
        order = self.order
        frontend = JoinFrontend(reference=order.spec.reference, parts=parts, identity=order.identity)
        request = BuildRequest(
            title=order.spec.reference,
            frontend=frontend,
            exporters=(push_joined(order.spec, order.settings),),
            attachables=(auth(order.credentials, order.settings),),
            frontend_attributes=read_by_daemon(order.platforms, order.settings),
            source_policy=order.source_policy,
            internal=order.internal,
        )
        with only_ours(f"putting {order.spec.reference} together", order.redact):
            return await solve_build(connection, request, self._take_display(), redact=order.redact)

    def say(self, text: str) -> None:
        """Tells the user once, above the progress."""
        if text not in self._said:
            self._said.add(text)
            self._own_display().log(text)

    def _own_display(self) -> Display:
        """The section of the image itself."""
        if self._display is None:
            self._display = self.common.screen.display(self.order.spec.reference, self.order.redact)
        return self._display

    def _take_display(self) -> Display:
        """The same, for a build, at the end of which the section is closed."""
        display, self._display = self._own_display(), None
        return display
