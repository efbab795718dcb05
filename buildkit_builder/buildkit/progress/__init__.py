"""How far a build is: a pure reducer over the daemon's events, and displays that paint it."""

from __future__ import annotations

from buildkit_builder.buildkit.progress.display import MODES, Display, Screen, choose, open_screen
from buildkit_builder.buildkit.progress.report import BuildReport, summarize
from buildkit_builder.buildkit.progress.trace import Trace

__all__ = ["MODES", "BuildReport", "Display", "Screen", "Trace", "choose", "open_screen", "summarize"]
