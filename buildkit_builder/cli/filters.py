"""Which records of a daemon's cache are meant.

Protocol: the filters are containerd's (`pkg/filters`), of the fields that buildkit's `cache/manager.go` knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import click

HELP = (
    "Only records that this is true of, for example `type=exec.cachemount`, `description~=pip`, `type!=regular`, "
    "`id=…` (its beginning), `shared` or `private`. May be given several times: then all must be true."
)

_FILTER = re.compile(r"(\w+)(?:(!=|~=|==?)(.*))?", re.DOTALL)
_TEXTS = ("id", "parents", "description", "type")
_FLAGS = ("inuse", "mutable", "immutable", "shared", "private")
KINDS = ("regular", "internal", "frontend", "source.local", "source.git.checkout", "exec.cachemount")


def parse(_ctx: click.Context, _param: click.Parameter, filters: Sequence[str]) -> tuple[str, ...]:
    """One filter of a daemon's, of which all parts must be true; none where nothing was asked for."""
    return (",".join(_part(text) for text in filters),) if filters else ()


def _part(text: str) -> str:
    found = _FILTER.fullmatch(text.strip())
    key, operator, value = found.groups("") if found else (text, "", "")
    if not operator and key in _FLAGS:
        return key
    if operator and key in _TEXTS:
        if key == "type" and operator != "~=" and value not in KINDS:
            raise click.BadParameter(f"`{value}` is no type; there are {', '.join(KINDS)}")
        if key == "id" and operator in ("=", "=="):
            return f"id~={json.dumps('^' + re.escape(value))}"
        return f"{key}{'==' if operator == '=' else operator}{json.dumps(value)}"
    if key in ("until", "unused"):
        raise click.BadParameter("how long something must be unused is said with --keep-duration")
    raise click.BadParameter(
        f"`{text}` is not understood: it is one of {', '.join(_TEXTS)} with =, != or ~= (a regular expression) and a "
        f"value, or one of {', '.join(_FLAGS)} alone"
    )
