"""The daemon's points of time as plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp


def seconds(timestamp: Timestamp) -> float:
    """Seconds since 1970."""
    return timestamp.seconds + timestamp.nanos / 1e9
