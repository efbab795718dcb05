"""Which variables an installation by `uv` can read, and which of those lead it to places in the image.

Protocol: uv `reference/environment`, and what its HTTP client, the C library, the shell and the interpreter read.
"""

from __future__ import annotations

import re

_STARTS = (
    "AWS_", "BASH", "CLICOLOR", "CONDA_", "GIT_", "HTTP_", "LC_", "LD_", "MALLOC_", "PYTHON", "PYX_", "RUST_", "SSL_",
    "TORCH_", "UV_", "VIRTUAL_ENV", "VIRTUALENV", "XDG_", "_CONDA_", "_PYTHON_", "__PYVENV_",
)  # fmt: skip
_NAMES = frozenset(
    [
        "ALL_PROXY", "CI", "COLUMNS", "ENV", "FORCE_COLOR", "FTP_PROXY", "GLIBC_TUNABLES", "HF_TOKEN", "HOME",
        "HOSTALIASES", "HTTPS_PROXY", "HTTP_PROXY", "IFS", "LANG", "LANGUAGE", "LOCALDOMAIN", "LOCPATH",
        "NETRC", "NO_COLOR", "NO_PROXY", "PATH", "PWD", "PYC_INVALIDATION_MODE", "RES_OPTIONS", "SHELL",
        "SOURCE_DATE_EPOCH", "TEMP", "TERM", "TMP", "TMPDIR", "TZ", "USER",
    ]
)  # fmt: skip
_NAMED = re.compile(r"\$\{?([A-Za-z_]\w*)", re.ASCII)

# What they lead to is looked at (`plan.steering`), is where the environment is, or decides success and not the result.
_FOLLOWED = frozenset(
    [
        "HOME",
        "LD_LIBRARY_PATH",
        "NO_PROXY",
        "PATH",
        "PYTHONPATH",
        "SHELL",
        "TZ",
        "UV_PYTHON",
        "VIRTUALENV",
        "VIRTUAL_ENV",
    ]
)
_FOLLOWED_STARTS = ("LC_", "SSL_")
# A file, whatever its name looks like.
_PLACES = frozenset(
    [
        "BASH_ENV", "ENV", "LD_AUDIT", "LD_PRELOAD", "NETRC", "PYTHONHOME", "TEMP", "TMP", "TMPDIR",
        "UV_BUILD_CONSTRAINT", "UV_CACHE_DIR", "UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_CREDENTIALS_DIR",
        "UV_ENV_FILE", "UV_EXCLUDE",
        "UV_FIND_LINKS", "UV_INDEX", "UV_OVERRIDE", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_WORKING_DIR",
        "UV_WORKING_DIRECTORY",
    ]
)  # fmt: skip
# Of `uv`'s own variables, those whose value is a choice, a name or a date.
_CHOICES = re.compile(
    r"UV_(?:EXCLUDE_NEWER(?:_PACKAGE)?|FORK_STRATEGY|INDEX_\w+_(?:USERNAME|PASSWORD)|INDEX_STRATEGY|INSECURE_HOST|"
    r"LINK_MODE|NO_BINARY_PACKAGE|NO_BUILD_PACKAGE|PREVIEW_FEATURES|PRERELEASE|PYTHON_DOWNLOADS|PYTHON_PREFERENCE|"
    r"RESOLUTION|TORCH_BACKEND)",
    re.ASCII,
)
_SWITCH = re.compile(r"\d+(?:\.\d+)?|true|false|yes|no|on|off|", re.ASCII | re.IGNORECASE)


def named_in(*texts: str) -> frozenset[str]:
    """The variables that stand in texts as `$NAME` or `${NAME}`."""
    return frozenset(name for text in texts for name in _NAMED.findall(text))


def can_read(variable: str) -> bool:
    """Whether `uv`, the shell that runs it or the interpreter that it runs may read a variable of this name."""
    return variable.startswith(_STARTS) or variable.upper() in _NAMES


def leads_into_image(variable: str, value: str) -> bool:
    """Whether a variable that an installation reads may name a place in the image, which steps before it may write.

    In doubt it does: for a variable of `uv` that is not known, only a number, a switch or a URL is no place.
    """
    if variable.upper() in _FOLLOWED or variable.startswith(_FOLLOWED_STARTS):
        return False
    if variable in _PLACES:
        return bool(value) and not is_remote(value)
    if variable.startswith("UV_"):
        return not (_CHOICES.fullmatch(variable) or _SWITCH.fullmatch(value) or is_remote(value))
    return bool(value) and not is_remote(value) and (variable.startswith(("BASH", "XDG_")) or "/" in value)


def is_remote(value: str) -> bool:
    """Whether a text names nothing but web addresses, with or without the names of indexes before them."""
    words = value.split()
    return bool(words) and all(re.match(r"(?:[\w-]+=)?https?://", word, re.ASCII) for word in words)
