"""Files of this machine that an image names."""

from __future__ import annotations

from pathlib import Path

from buildkit_builder.buildkit.session.patterns import Matcher, PatternError, parse_dockerignore
from buildkit_builder.errors import ImageError, MissingSourceError


def local_file(path: Path, layer: str) -> Path:
    """The absolute path of a file that a layer names.

    Raises:
        MissingSourceError: There is no such file; says which layer names it.
    """
    try:
        is_file, exists = path.is_file(), path.exists()
    except OSError as error:
        raise MissingSourceError(f"{layer}: `{path.absolute()}` cannot be looked at: {error.strerror}.") from error
    if not exists:
        raise MissingSourceError(f"{layer}: the file `{path.absolute()}` does not exist.")
    if not is_file:
        raise MissingSourceError(f"{layer}: `{path.absolute()}` is not a file.")
    return path.absolute()


def local_folder(path: Path, layer: str) -> Path:
    """The absolute path of a folder that a layer names.

    Raises:
        MissingSourceError: There is no such folder; says which layer names it.
    """
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise MissingSourceError(f"{layer}: `{path.absolute()}` {what}.")
    return path.absolute()


def read_text(file: Path, layer: str, *, errors: str = "surrogateescape") -> str:
    """What a file says that a layer names, with whatever is not UTF-8 in it, or without.

    Raises:
        MissingSourceError: It cannot be read.
    """
    try:
        return file.read_bytes().decode(errors=errors)
    except OSError as error:
        raise MissingSourceError(f"{layer}: the file `{file}` cannot be read: {error.strerror}.") from error


def read_patterns(file: Path, layer: str) -> tuple[str, ...]:
    """The patterns of a `.dockerignore` file.

    Raises:
        MissingSourceError: It cannot be read.
        ImageError: One of them is malformed.
    """
    patterns = tuple(parse_dockerignore(read_text(file, layer)))
    try:
        Matcher(patterns)
    except PatternError as error:
        raise ImageError(f"{layer}: `{file}` makes no sense: {error}.") from error
    return patterns
