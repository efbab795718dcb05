"""`grpc.health.v1.Health`: without it the daemon takes a session for dead within seconds."""

from __future__ import annotations

from buildkit_builder.buildkit.session.server import Call, Server
from buildkit_builder.buildkit.wire import services

_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}


class Health:
    """Says that the session is alive (protocol: `grpc.health.v1.Health/Check`)."""

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds `Health/Check`."""
        server.add(services.HEALTH_CHECK, self._check)
        return (services.HEALTH_CHECK,)

    async def _check(self, call: Call) -> None:
        await call.read()
        await call.write(_SERVING)
