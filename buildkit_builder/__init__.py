"""BuildKit as the `local` image builder of Flyte 2, and a BuildKit client for Python."""

from __future__ import annotations

__version__ = "0.1.0"
