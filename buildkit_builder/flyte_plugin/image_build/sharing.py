"""What builds at the same time share: a connection per daemon, and one view of the progress."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass, field

from buildkit_builder import config
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.control import Control
from buildkit_builder.buildkit.api.gateway import ResolvedImage
from buildkit_builder.buildkit.build.local_reads import SharedFiles
from buildkit_builder.buildkit.build.shared_layers import SharedLayers
from buildkit_builder.buildkit.build.single_flight import SingleFlight
from buildkit_builder.buildkit.connect.connection import Connection, Pool
from buildkit_builder.buildkit.find.discovery import Discovery, Look, discover
from buildkit_builder.buildkit.find.endpoint import Endpoint, EndpointOptions
from buildkit_builder.buildkit.find.nodes import Node
from buildkit_builder.buildkit.progress.display import Screen, open_screen
from buildkit_builder.config import NodeSettings, Settings, TLSSettings
from buildkit_builder.errors import EndpointError
from buildkit_builder.flyte_plugin import private_engine


@dataclass
class Common:
    """What builds of one event loop share as long as they overlap.

    Attributes:
        pool: One connection per daemon.
        screen: One view of the progress.
        running: Of each build that uses it, what is done when that is over.
    """

    pool: Pool
    screen: Screen
    running: set[asyncio.Future[None]] = field(default_factory=set)
    _lookups: dict[Hashable, SingleFlight[ResolvedImage]] = field(default_factory=dict)
    _layers: dict[Connection, SharedLayers] = field(default_factory=dict)
    _files: dict[Connection, SharedFiles] = field(default_factory=dict)

    def lookups(self, key: Hashable) -> SingleFlight[ResolvedImage]:
        """The images looked up by builds that would all be told the same.

        Args:
            key: What an answer depends on beside the image: the daemon, the credentials, the mirrors.
        """
        return self._lookups.setdefault(key, SingleFlight())

    def layers(self, connection: Connection) -> SharedLayers:
        """The layers of the builds on a daemon."""
        return self._layers.setdefault(connection, SharedLayers())

    def files(self, connection: Connection) -> SharedFiles:
        """What serves local files to the builds on a daemon."""
        return self._files.setdefault(connection, SharedFiles(Control(connection.channel)))


_running: dict[asyncio.AbstractEventLoop, Common] = {}


@contextlib.asynccontextmanager
async def shared(settings: Settings, environ: Mapping[str, str], *, considerate: bool = False) -> AsyncIterator[Common]:
    """What builds share, while this one does; closed after the last.

    Args:
        settings: The settings.
        environ: The environment.
        considerate: Let an error out only when the others that run by then are over. Whoever gathers builds, as Flyte
            does, would end them with the first error, and with them the images that have nothing wrong with them.
    """
    loop = asyncio.get_running_loop()
    common = _running.get(loop)
    if common is None:
        screen = open_screen(settings.progress, sys.stderr, environ=environ, clock=time.monotonic)
        common = _running[loop] = Common(Pool(timeout=settings.connect_timeout), screen)
    over = loop.create_future()
    common.running.add(over)
    try:
        yield common
    except Exception:
        # Over it is for those that wait for this one, so that two failures do not wait for each other.
        over.set_result(None)
        others = [other for other in common.running if not other.done()]
        if considerate and others:
            await asyncio.wait(others)
        raise
    finally:
        if not over.done():
            over.set_result(None)
        common.running.discard(over)
        if not common.running:
            del _running[loop]
            await common.pool.close()


def find_nodes(settings: Settings, environ: Mapping[str, str]) -> tuple[Node, ...]:
    """The daemons that the settings and the environment lead to: mostly one.

    Raises:
        EndpointError: None was found, or an address makes no sense.
    """
    return search(settings, environ).found()


def search(settings: Settings, environ: Mapping[str, str]) -> Discovery:
    """Where the daemons were looked for, and which were found.

    Raises:
        EndpointError: An address makes no sense.
    """
    if settings.nodes:
        nodes = tuple(_node(given, settings, environ) for given in settings.nodes)
        listed = ", ".join(node.endpoint.address for node in nodes)
        return Discovery(nodes=nodes, looked=(Look(place="the `endpoint` setting", found=listed),))
    builder = settings.buildx.builder
    return _discover(settings.endpoint, settings.tls, environ, builder if builder != "default" else None)


def find_endpoint(settings: Settings, environ: Mapping[str, str]) -> Endpoint:
    """The daemon that the settings and the environment lead to; of several nodes, the first.

    Raises:
        EndpointError: None was found, or an address makes no sense.
    """
    return find_nodes(settings, environ)[0].endpoint


def _node(given: NodeSettings, settings: Settings, environ: Mapping[str, str]) -> Node:
    # What is said of all nodes is meant for those that can have it.
    shared = settings.tls if "tcp://" in given.address else TLSSettings()
    found = _discover(given.address, given.tls or shared, environ).found()
    if len(found) > 1:
        raise EndpointError(
            f"The node `{given.title}` of the `endpoint` setting is a builder of {len(found)} nodes itself. Give "
            f"`{given.address}` alone as the setting, or list its nodes by their own addresses."
        )
    return Node(
        name=given.title,
        endpoint=found[0].endpoint,
        platforms=llb.Platform.parse_each(given.platforms),
    )


def _discover(
    address: str | None, tls: TLSSettings, environ: Mapping[str, str], builder: str | None = None
) -> Discovery:
    options = EndpointOptions(
        address=address,
        tls_ca=str(tls.ca) if tls.ca else None,
        tls_cert=str(tls.cert) if tls.cert else None,
        tls_key=str(tls.key) if tls.key else None,
        tls_server_name=tls.server_name,
        builder=builder,
    )
    return discover(options, environ=environ, home=config.home(environ), own=private_engine.Own(environ))
