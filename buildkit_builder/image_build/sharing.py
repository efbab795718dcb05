"""What builds at the same time share: a connection per daemon, and one view of the progress."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from buildkit_builder import config
from buildkit_builder.client import endpoint as endpoints
from buildkit_builder.client.connection import Connection, Pool
from buildkit_builder.client.endpoint import Endpoint
from buildkit_builder.config import Settings
from buildkit_builder.progress.display import Screen, open_screen


@dataclass
class _Shared:
    """One connection per daemon and one view of the progress, for all builds of an event loop that overlap."""

    pool: Pool
    screen: Screen
    users: int = 0


_running: dict[asyncio.AbstractEventLoop, _Shared] = {}


@contextlib.asynccontextmanager
async def shared(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[tuple[Connection, Screen]]:
    """The connection and the screen, while a build uses them; closed after the last.

    Raises:
        EndpointError: No BuildKit can be reached.
    """
    loop = asyncio.get_running_loop()
    common = _running.get(loop)
    if common is None:
        screen = open_screen(settings.progress, sys.stderr, environ=environ, clock=time.monotonic)
        common = _running[loop] = _Shared(Pool(timeout=settings.connect_timeout), screen)
    common.users += 1
    try:
        yield await common.pool.get(find_endpoint(settings, environ)), common.screen
    finally:
        common.users -= 1
        if common.users == 0:
            del _running[loop]
            await common.pool.close()


def find_endpoint(settings: Settings, environ: Mapping[str, str]) -> Endpoint:
    """The daemon that the settings and the environment lead to.

    Raises:
        EndpointError: None was found, or an address makes no sense.
    """
    tls = settings.tls
    builder = settings.buildx.builder
    options = endpoints.EndpointOptions(
        address=settings.endpoint,
        tls_ca=str(tls.ca) if tls.ca else None,
        tls_cert=str(tls.cert) if tls.cert else None,
        tls_key=str(tls.key) if tls.key else None,
        tls_server_name=tls.server_name,
        docker_context=builder if builder != "default" else None,
    )
    return endpoints.resolve(options, environ=environ, home=config.home(environ))
