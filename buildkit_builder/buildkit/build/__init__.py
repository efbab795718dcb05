"""One build, from a request to an image in a registry, a file, or an engine's store."""

from __future__ import annotations

from buildkit_builder.buildkit.build.exporters import (
    DockerArchive,
    Exporter,
    Files,
    LoadIntoEngine,
    OciArchive,
    Push,
    TarArchive,
)
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.build.request import BuildRequest, BuildResult
from buildkit_builder.buildkit.build.run import build

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
