"""Checks of the arguments that people write: a `TypeError` says what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from buildkit_builder.buildkit.front.mounts import Mount
from buildkit_builder.buildkit.front.recipe import Recipe


def text(given: object, name: str, hint: str = "") -> str:
    """Return a text, and refuse anything else and the empty text."""
    if not isinstance(given, str):
        raise TypeError(f"`{name}` is {given!r}, and has to be a text.{hint}")
    if not given:
        raise ValueError(f"`{name}` is empty.")
    return given


def words(given: object, name: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple, and refuse anything else."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        hint = " Write `.shell(…)` for a text." if name == "args" and isinstance(given, str) else ""
        raise TypeError(f"`{name}` is {given!r}, and has to be a list of texts.{hint}")
    found = tuple(given)
    for word in found:
        if not isinstance(word, str):
            raise TypeError(f"`{name}` has {word!r} in it, and takes texts alone.")
    return found


def pairs(given: object, more: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the names and values of a mapping and of keywords, and refuse values that are not text."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{given!r} is not a mapping of names to values.")
    found = []
    for name, value in (*(given or {}).items(), *more.items()):
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f'`{name}` is {value!r}, and has to be a text. Write `"{value}"`.')
        found.append((name, value))
    return found


def check_source(source: object) -> None:
    """Refuse what is not a state."""
    if not isinstance(source, Recipe):
        hint = f' Write `bk.local("{source}")`.' if isinstance(source, (str, Path)) else ""
        raise TypeError(f"`source` is {source!r}, and has to be a state.{hint}")


def check_mounts(mounts: object) -> None:
    """Refuse what is not a list of mounts."""
    if isinstance(mounts, Mount) or not isinstance(mounts, Iterable):
        raise TypeError(f"`mounts` is {mounts!r}, and has to be a list. Write `mounts=[…]`.")
    for mount in mounts:
        if not isinstance(mount, Mount):
            raise TypeError(f"`mounts` has {mount!r} in it, and takes what `bk.cache`, `bk.secret`, … return.")
