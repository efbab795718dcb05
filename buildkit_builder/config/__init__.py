"""What the user set, and the environment; nothing else of the package reads either."""

from __future__ import annotations

from buildkit_builder.buildkit.annotation import Annotation
from buildkit_builder.buildkit.environment import (
    cache_home,
    docker_config_file,
    environment,
    home,
    is_ci,
    is_dumb_terminal,
    runtime_home,
    state_home,
)
from buildkit_builder.config.buildx import BuildxSettings, ExtraArguments, Network, SecretArgument, SshArgument
from buildkit_builder.config.cache import CacheOption
from buildkit_builder.config.endpoint_setting import NodeSettings, TLSSettings
from buildkit_builder.config.git_branches import Lineage
from buildkit_builder.config.settings import SECTION, Compression, ProgressMode, Settings, variable

__all__ = [
    "SECTION",
    "Annotation",
    "BuildxSettings",
    "CacheOption",
    "Compression",
    "ExtraArguments",
    "Lineage",
    "Network",
    "NodeSettings",
    "ProgressMode",
    "SecretArgument",
    "Settings",
    "SshArgument",
    "TLSSettings",
    "cache_home",
    "docker_config_file",
    "environment",
    "home",
    "is_ci",
    "is_dumb_terminal",
    "runtime_home",
    "state_home",
    "variable",
]
