"""The front door: states as people write them, and the call that builds them. Import it from `buildkit_builder`."""

from __future__ import annotations

from buildkit_builder.buildkit.api.events import LogEvent, StatusEvent, StatusUpdate, VertexEvent, WarningEvent
from buildkit_builder.buildkit.build.exporters import Compression, Push
from buildkit_builder.buildkit.front.building import abuild, build
from buildkit_builder.buildkit.front.dockerfiles import Dockerfile, dockerfile
from buildkit_builder.buildkit.front.mounts import (
    Bind,
    Cache,
    Mount,
    Secret,
    Ssh,
    Tmpfs,
    bind,
    cache,
    secret,
    ssh,
    tmpfs,
)
from buildkit_builder.buildkit.front.result import FileInfo, Result
from buildkit_builder.buildkit.front.state import State, git, http, image, local, scratch
from buildkit_builder.errors import BuildKitError

__all__ = [
    "Bind",
    "BuildKitError",
    "Cache",
    "Compression",
    "Dockerfile",
    "FileInfo",
    "LogEvent",
    "Mount",
    "Push",
    "Result",
    "Secret",
    "Ssh",
    "State",
    "StatusEvent",
    "StatusUpdate",
    "Tmpfs",
    "VertexEvent",
    "WarningEvent",
    "abuild",
    "bind",
    "build",
    "cache",
    "dockerfile",
    "git",
    "http",
    "image",
    "local",
    "scratch",
    "secret",
    "ssh",
    "tmpfs",
]
