"""The process's environment: the one place of the package that reads `os.environ`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def environment() -> Mapping[str, str]:
    """The process's environment as it is now."""
    return dict(os.environ)


def home(environ: Mapping[str, str]) -> Path:
    """The user's home folder, `/` where nothing says which it is."""
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def docker_config_file(environ: Mapping[str, str]) -> Path:
    """Where Docker's command line keeps its config.json; the file may not exist."""
    folder = environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else home(environ) / ".docker") / "config.json"


def cache_home(environ: Mapping[str, str]) -> Path:
    """The folder for the user's caches, by the XDG base directory rules."""
    return _xdg(environ, "XDG_CACHE_HOME", ".cache")


def state_home(environ: Mapping[str, str]) -> Path:
    """The folder for the user's logs and state, by the XDG base directory rules."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state")


def runtime_home(environ: Mapping[str, str]) -> Path | None:
    """The folder for the user's sockets, by the XDG base directory rules; `None` where the system has none."""
    folder = Path(environ.get("XDG_RUNTIME_DIR") or "")
    return folder if folder.is_absolute() else None


def is_ci(environ: Mapping[str, str]) -> bool:
    """Whether a CI system says that it runs this process."""
    return environ.get("CI", "").lower() not in ("", "0", "false", "no", "off")


def is_dumb_terminal(environ: Mapping[str, str]) -> bool:
    """Whether the terminal says, or says nothing to the contrary, that it cannot move its cursor."""
    return environ.get("TERM", "") in ("", "dumb")


def _xdg(environ: Mapping[str, str], name: str, fallback: str) -> Path:
    folder = Path(environ.get(name) or "")
    return folder if folder.is_absolute() else home(environ) / fallback
