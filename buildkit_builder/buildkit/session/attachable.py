"""What a session can be given: services that the daemon may call."""

from __future__ import annotations

from typing import Protocol

from buildkit_builder.buildkit.session.server import Server


class Attachable(Protocol):
    """A service of a session, such as `FileSync` or `Secrets`."""

    def register(self, server: Server) -> tuple[str, ...]:
        """Adds the service's methods to a server.

        Args:
            server: Where to add them.

        Returns:
            Their paths, `/package.Service/Method` each; the session announces them to the daemon.
        """
