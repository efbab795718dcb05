"""A side of a relay for tests."""

from __future__ import annotations

from buildkit_builder.buildkit.connect.relay import Side


class Kept(Side):
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def send(self, data: bytes) -> None:
        self.data += data
