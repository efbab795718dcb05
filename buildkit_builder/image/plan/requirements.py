"""Command lines and requirements of `uv`, read far enough to tell what an installation depends on.

Whatever is not known here is no error: it is something of which it cannot be told what it reads. Protocol: uv
`reference/cli`, PEP 508, and pip's requirements file format.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from buildkit_builder.image.plan.variables import is_remote

# They decide which distributions are taken; `uv pip compile` knows them too.
_CHOOSING = frozenset(["--no-index", "--no-sources", "--pre", "--refresh", "--system-certs", "--upgrade", "-U"])
_CHOOSING_VALUED = frozenset(
    [
        "--allow-insecure-host", "--default-index", "--exclude-newer", "--exclude-newer-package",
        "--extra-index-url", "--find-links", "--index", "--index-strategy", "--index-url", "--only-binary",
        "--prerelease", "--prerelease-package", "--refresh-package", "--resolution", "--torch-backend",
        "--trusted-host", "--upgrade-package", "-P", "-f", "-i",
    ]
)  # fmt: skip
_INSTALLING = frozenset(
    [
        "--break-system-packages", "--compile", "--compile-bytecode", "--force-reinstall", "--native-tls", "--no-build",
        "--no-compile", "--no-compile-bytecode", "--no-deps", "--no-progress", "--no-verify-hashes", "--quiet",
        "--reinstall", "--require-hashes", "--strict", "--verify-hashes", "-q",
    ]
)  # fmt: skip
_INSTALLING_VALUED = frozenset(["--reinstall-package"])
_SYNCING = frozenset(
    [
        "--active", "--all-extras", "--all-groups", "--dev", "--frozen", "--inexact", "--locked", "--no-default-groups",
        "--no-dev", "--no-editable", "--no-install-local", "--no-install-project", "--no-install-workspace",
        "--only-dev",
    ]
)  # fmt: skip
_SYNCING_VALUED = frozenset(
    ["--extra", "--group", "--no-extra", "--no-group", "--no-install-package", "--only-group"]
)  # fmt: skip
_PLACES = frozenset(["--default-index", "--extra-index-url", "--find-links", "--index", "--index-url", "-f", "-i"])
# What may stand in the lines of a requirements file that are options.
_LINES = frozenset(["--no-index", "--pre", "--require-hashes"])
_LINES_VALUED = frozenset(["--extra-index-url", "--find-links", "--index-url", "--only-binary", "-f", "-i"])

_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"`\\$]|\$\{?[A-Za-z_]\w*\}?)*\"")
_PLAIN = re.compile(r"(?:[\w \-=./:@%+,\[\]^]|(?<=[\w.\]])[~!]|\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\})*", re.ASCII)
_NAME = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?\s*(?:\[[\w\s,.-]*\])?"
_NAMED = re.compile(rf"{_NAME}\s*(?:\(?\s*[<>=!~][^@/]*)?(?:;.*)?", re.ASCII | re.DOTALL)
_WHEEL_URL = re.compile(rf"(?:{_NAME}\s*@\s*)?https?://[^\s;?#]+\.whl(?:[?#]\S*)?(?:\s+;.*)?", re.ASCII)
_ARCHIVES = (".bz2", ".gz", ".tar", ".tgz", ".whl", ".xz", ".zip")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """A command line's arguments, in so far as they do not stand for themselves.

    Attributes:
        choosing: Whether there is nothing but options that decide which distributions are taken.
        places: Variables that stand for a whole place; they may lead into the image.
        objection: Why it cannot be told what the arguments depend on, or `None`.
    """

    choosing: bool = True
    places: tuple[str, ...] = ()
    objection: str | None = None


def read_arguments(text: str, *, syncs: bool = False) -> Arguments:
    """Reads arguments as they stand in a shell command.

    Args:
        text: Shell text, of which quotes and plain variables are understood.
        syncs: Whether they are for `uv sync`, and not for `uv pip install`.
    """
    if not _PLAIN.fullmatch(_QUOTED.sub("", text)):
        return Arguments(objection=f"`{text}` is more to a shell than words")
    plain = _CHOOSING | _INSTALLING | (_SYNCING if syncs else frozenset())
    valued = _CHOOSING_VALUED | _INSTALLING_VALUED | (_SYNCING_VALUED if syncs else frozenset())
    choosing, places = True, []
    for option, value in _options(shlex.split(text), valued):
        if option in plain and value is None:
            choosing = choosing and option in _CHOOSING
        elif option in valued and value is not None:
            choosing = choosing and option in _CHOOSING_VALUED
            if option in _PLACES and (variable := _variable(value)):
                places.append(variable)
            elif option in _PLACES and not is_remote(value):
                return Arguments(objection=f"`{option} {value}` may be a place in the image")
        elif option or syncs:
            return Arguments(objection=f"the option `{option or value}` is not known")
        else:
            choosing = False
            if found := objection_to(value or ""):
                return Arguments(objection=found)
    return Arguments(choosing=choosing, places=tuple(places))


def objection_to(requirement: str) -> str | None:
    """Why it cannot be told what a requirement depends on besides an index, or `None`."""
    text = requirement.strip()
    if text.lower().endswith(_ARCHIVES) and "://" not in text:
        return f"`{text}` is a file"
    if _NAMED.fullmatch(text) or _WHEEL_URL.fullmatch(text):
        return None
    return f"`{text}` is neither a package of an index nor a wheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementsFile:
    """What a requirements file says besides its requirements.

    Attributes:
        options: The lines of options, which hold for all of it.
        hashes: Whether it names hashes.
        places: Variables that stand for a whole place; they may lead into the image.
        objection: Why it cannot be told what it depends on, or `None`.
    """

    options: tuple[str, ...] = ()
    hashes: bool = False
    places: tuple[str, ...] = ()
    objection: str | None = None


def read_requirements(content: bytes) -> RequirementsFile:
    """Reads a requirements file."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return RequirementsFile(objection="the requirements file is not in UTF-8")
    options: list[str] = []
    places: list[str] = []
    hashes = False
    for line in _logical_lines(text):
        requirement, *rest = re.split(r"\s+(?=--)", line)
        if line.startswith("-"):
            if found := _objection_to_line(line):
                return RequirementsFile(objection=found)
            options.append(line)
            places += _variables(line)
            hashes = hashes or "--require-hashes" in line
            continue
        if any(not word.startswith("--hash") for word in rest):
            return RequirementsFile(objection=f"the options of `{line}` are not known")
        if found := objection_to(requirement):
            return RequirementsFile(objection=found)
        hashes = hashes or bool(rest)
    return RequirementsFile(options=tuple(options), hashes=hashes, places=tuple(places))


def _logical_lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", "", text).splitlines():
        if found := _COMMENT.sub("", line).strip():
            yield found


def _objection_to_line(line: str) -> str | None:
    for option, value in _options(line.split(), _LINES_VALUED):
        if option in _PLACES and value is not None and not (_variable(value) or is_remote(value)):
            return f"`{line}` may be a place in the image"
        if not option or option not in (_LINES if value is None else _LINES_VALUED):
            return f"the option `{line}` of the requirements file is not known"
    return None


def _variables(line: str) -> list[str]:
    values = [value for option, value in _options(line.split(), _LINES_VALUED) if option in _PLACES]
    return [variable for variable in map(_variable, filter(None, values)) if variable]


def _options(words: Iterable[str], valued: frozenset[str]) -> Iterator[tuple[str, str | None]]:
    """Options with their values; what is no option is the value of an empty one."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            yield "", word
        elif word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            yield name, value
        else:
            yield word, next(rest, None) if word in valued else None


def _variable(place: str) -> str | None:
    """The variable that a place begins with, after the name of an index."""
    found = re.match(r"(?:[\w-]+=)?\$\{?([A-Za-z_]\w*)", place, re.ASCII)
    return found[1] if found else None
