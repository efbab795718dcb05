"""The settings that hold for the Flyte that runs: which config file it read is Flyte's to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flyte
import flyte.config
from flyte._initialize import _get_init_config

from buildkit_builder.config import Settings, environment
from buildkit_builder.errors import ImageError

# `flyte -c FILE` hands Flyte a parsed config and not the path, so the command line's hook leaves it here.
_command_line: list[Path] = []


def remember_config(path: Path | None) -> None:
    """Notes the config file that the command line was given; `None` for none."""
    _command_line[:] = [path] if path is not None else []


def load() -> Settings:
    """Reads the settings of this build from Flyte's config file and the environment.

    Raises:
        ConfigError: A setting is wrong; names it.
    """
    return Settings.load(_config_file(), environment())


def image_of(value: Any) -> flyte.Image:
    """The image of an environment, as Flyte would have it built.

    Raises:
        ImageError: There is none to build.
    """
    if _get_init_config() is None:
        flyte.init_from_config(_config_file())
    image = getattr(value, "image", value)
    if image == "auto":
        image = flyte.Image.from_debian_base()
    if not isinstance(image, flyte.Image):
        raise ImageError(f"{value!r} has no image that could be built; name a variable with a flyte.TaskEnvironment.")
    return image


def _config_file() -> Path | None:
    initialized = _get_init_config()
    if initialized is not None and initialized.source_config_path is not None:
        return Path(initialized.source_config_path)
    if _command_line:
        return _command_line[0]
    return flyte.config.auto().source
