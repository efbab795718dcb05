"""One image, from spec and settings to where it belongs: what Flyte's front door and the background process share."""

from __future__ import annotations

from buildkit_builder.buildkit.session.redaction import redactor
from buildkit_builder.flyte_plugin.image_build.build import build, is_told_by_label, look_up
from buildkit_builder.flyte_plugin.image_build.dry_run import print_plan
from buildkit_builder.flyte_plugin.image_build.job import Spec
from buildkit_builder.flyte_plugin.image_build.outline import outline
from buildkit_builder.flyte_plugin.image_build.secret_values import secret_values
from buildkit_builder.flyte_plugin.image_build.sharing import find_endpoint, find_nodes, search

__all__ = [
    "Spec",
    "build",
    "find_endpoint",
    "find_nodes",
    "is_told_by_label",
    "look_up",
    "outline",
    "print_plan",
    "redactor",
    "search",
    "secret_values",
]
