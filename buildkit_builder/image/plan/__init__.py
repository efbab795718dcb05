"""Turns an `ImageSpec` into steps, in the order in which they are to take effect."""

from __future__ import annotations

from buildkit_builder.image.plan.image import plan
from buildkit_builder.image.plan.steps import (
    CacheMount,
    Config,
    CopyImage,
    CopyLocal,
    DockerfileLines,
    InstallPackages,
    LocalSource,
    Plan,
    Run,
    SetEnv,
    SetLabels,
    SetShell,
    SetUser,
    SourceMount,
    Step,
    Workdir,
    WriteFile,
)

__all__ = [
    "CacheMount",
    "Config",
    "CopyImage",
    "CopyLocal",
    "DockerfileLines",
    "InstallPackages",
    "LocalSource",
    "Plan",
    "Run",
    "SetEnv",
    "SetLabels",
    "SetShell",
    "SetUser",
    "SourceMount",
    "Step",
    "Workdir",
    "WriteFile",
    "plan",
]
