"""Which variables `uv` can read: what it cannot read does not decide what it installs.

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


def named_in(*texts: str) -> frozenset[str]:
    """The variables that stand in texts as `$NAME` or `${NAME}`."""
    return frozenset(name for text in texts for name in _NAMED.findall(text))


def can_read(variable: str) -> bool:
    """Whether `uv`, the shell that runs it or the interpreter that it runs may read a variable of this name."""
    return variable.startswith(_STARTS) or variable.upper() in _NAMES
