"""What an image says of itself and of how it was made: annotations, labels, attestations, and its time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from buildkit_builder.buildkit.annotation import Annotation
from buildkit_builder.config import kinds
from buildkit_builder.config.kinds import Kind, UnfitError

# A variable of the world outside, which other tools obey as well.
SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"
# Protocol: buildkit `solver/llbsolver/provenance`; SBOM scanners take what their image knows.
_PROVENANCE = ("mode", "version", "inline-only", "filename", "builder-id", "reproducible")
_MODES = ("min", "max")


def provenance(text: str) -> str:
    """What is to be said of how an image was made, as the daemon is told it.

    Args:
        text: `min`, `max`, or the attributes of buildx's `--provenance`, such as `mode=max,version=v1`.

    Raises:
        UnfitError: It is neither.
    """
    if text in _MODES:
        return f"mode={text}"
    fields = [part.partition("=") for part in text.split(",")]
    for name, equals, value in fields:
        if name not in _PROVENANCE or not equals or not value or (name == "mode" and value not in _MODES):
            raise UnfitError
    return text


def _provenance(value: object, _: Path) -> str | None:
    if isinstance(value, bool):
        return "mode=min" if value else None
    if not isinstance(value, str):
        raise UnfitError
    return provenance(value)


def scanner(text: str) -> str:
    """Which image lists what is in an image (its SBOM), as the daemon is told it.

    Args:
        text: The attributes of buildx's `--sbom`, such as `generator=IMAGE`.

    Raises:
        UnfitError: They name no image.
    """
    fields = [part.partition("=") for part in text.split(",")]
    if not all(name and value.strip() for name, _, value in fields) or "generator" not in [name for name, *_ in fields]:
        raise UnfitError
    return text


def _sbom(value: object, _: Path) -> str | None:
    """Empty for the daemon's own choice of a scanner."""
    if isinstance(value, bool):
        return "" if value else None
    if not isinstance(value, str) or not re.fullmatch(r"[^\s,=]+", value):
        raise UnfitError
    return f"generator={value}"


def _truth_or_text(text: str) -> object:
    word = text.strip().lower()
    return True if word in kinds.TRUE else False if word in kinds.FALSE else text.strip()


def _texts(value: object, _: Path) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise UnfitError
    for name, text in value.items():
        if isinstance(name, str) and (not name or "=" in name):
            raise UnfitError(f"{_TEXTS}; the name {kinds.shown(name)} is empty, or has a `=` in it")
        if not isinstance(name, str) or not isinstance(text, str):
            raise UnfitError(f"{_TEXTS}; {kinds.shown(name if isinstance(text, str) else text)} is not text")
        if not is_sendable(name) or not is_sendable(text):
            raise UnfitError(f"{_TEXTS}, in UTF-8 and without NUL characters")
    return tuple(value.items())


def is_sendable(text: str) -> bool:
    """Whether a daemon can be told a text: neither are all texts Unicode, nor can all be written where it ends up."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _annotations(value: object, home: Path) -> tuple[Annotation, ...]:
    found = tuple(Annotation.parse(name, text) for name, text in _texts(value, home))
    return tuple(annotation for annotation in found if annotation is not None)


def _epoch_of(text: str) -> object:
    return int(text) if re.fullmatch(r"\s*[0-9]{1,11}\s*", text, re.ASCII) else text


def _epoch(value: object, _: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 33:
        raise UnfitError
    return value


_TEXTS = "a map from names to texts"

LABELS = Kind(expected=_TEXTS, parse=_texts, split=kinds.split_map)
ANNOTATIONS = Kind(expected=_TEXTS, parse=_annotations, split=kinds.split_map)
PROVENANCE = Kind(
    expected="false, `min`, `max`, or attributes such as `mode=max,version=v1`", parse=_provenance, split=_truth_or_text
)
"""What the daemon is to be told; `None` for no provenance."""
SBOM = Kind(expected="true, false, or the name of a scanner's image", parse=_sbom, split=_truth_or_text)
"""What the daemon is to be told; `None` for no SBOM."""
EPOCH = Kind(expected="a number of seconds since 1970", parse=_epoch, split=_epoch_of)
