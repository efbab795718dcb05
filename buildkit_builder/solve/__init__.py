"""One build, from a request to an image in a registry, a file, or an engine's store."""

from __future__ import annotations

from buildkit_builder.solve.exporters import (
    DockerArchive,
    Exporter,
    Files,
    LoadIntoEngine,
    OciArchive,
    Push,
    TarArchive,
)
from buildkit_builder.solve.graph import GraphFrontend
from buildkit_builder.solve.request import BuildRequest, BuildResult
from buildkit_builder.solve.run import build

__all__ = [
    "BuildRequest",
    "BuildResult",
    "DockerArchive",
    "Exporter",
    "Files",
    "GraphFrontend",
    "LoadIntoEngine",
    "OciArchive",
    "Push",
    "TarArchive",
    "build",
]
