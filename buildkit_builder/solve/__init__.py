"""One build, from a request to an image in a registry, a file, or an engine's store."""

from __future__ import annotations

from buildkit_builder.solve.exporters import Exporter, Files, LoadIntoEngine, OciArchive, Push
from buildkit_builder.solve.request import BuildRequest, BuildResult
from buildkit_builder.solve.run import build

__all__ = ["BuildRequest", "BuildResult", "Exporter", "Files", "LoadIntoEngine", "OciArchive", "Push", "build"]
