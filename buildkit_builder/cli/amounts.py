"""Sizes and times as people write and read them."""

from __future__ import annotations

import re

import click

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?)b?|b)?\s*", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:w|d|h|m|s))+", re.IGNORECASE)
_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_STEPS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def size(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    """The bytes of `10GB`, `1.5GiB`, or a number of bytes; an option's callback.

    Raises:
        click.BadParameter: It is no size.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"`{text}` is no size: write it as 10GB, 512MiB, or as a number of bytes")
    number, unit, binary = found.groups()
    factor = (1024 if binary else 1000) ** _POWERS[unit.lower()] if unit else 1
    return int(float(number) * factor)


def duration(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    """The seconds of `7d`, `24h`, `1h30m` or `90s`; an option's callback.

    Raises:
        click.BadParameter: It is no time.
    """
    if not _DURATION.fullmatch(text.strip()):
        raise click.BadParameter(f"`{text}` is no time: write it as 7d, 24h, 1h30m or 90s")
    parts = re.findall(r"([\d.]+)([a-z])", text, re.IGNORECASE)
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)


def counted(count: int, noun: str) -> str:
    """How many: `1 record`, `2 records`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def ago(seconds: float) -> str:
    """How long something is over: `3 days ago`."""
    for step, unit in _STEPS:
        if seconds >= step:
            return f"{counted(int(seconds // step), unit)} ago"
    return "just now"


def lasting(seconds: float) -> str:
    """How long something took: `3.2s`, `4m 05s`, `2h 10m`."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02}m"
