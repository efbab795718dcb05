"""Sizes and times, and text in columns."""

from __future__ import annotations

import click
import pytest

from buildkit_builder.cli import amounts
from buildkit_builder.cli.columns import columns

CONTEXT = click.Context(click.Command("x"))
OPTION = click.Option(["--x"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("512", 512), ("512B", 512), ("10GB", 10_000_000_000), ("10g", 10_000_000_000), (" 1.5 kB ", 1500),
        ("1KiB", 1024), ("2GiB", 2 << 30), ("0.5tib", 1 << 39),
    ],
)  # fmt: skip
def test_sizes(text: str, expected: int) -> None:
    """A thousand of one is the next, unless the unit has an i."""
    assert expected == amounts.size(CONTEXT, OPTION, text)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 GB 2", "1XB", "1,5GB", "1e3"])
def test_what_is_no_size(text: str) -> None:
    """The error says how one is written."""
    with pytest.raises(click.BadParameter, match="write it as 10GB"):
        amounts.size(CONTEXT, OPTION, text)


@pytest.mark.parametrize(
    ("text", "expected"), [("0s", 0), ("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("2W", 1_209_600), ("0.5h", 1800)]
)
def test_durations(text: str, expected: float) -> None:
    """Parts add up."""
    assert expected == amounts.duration(CONTEXT, OPTION, text)


@pytest.mark.parametrize("text", ["", "5", "h", "1h 30m", "-1h", "1y", "yesterday"])
def test_what_is_no_duration(text: str) -> None:
    """The error says how one is written."""
    with pytest.raises(click.BadParameter, match="write it as 7d"):
        amounts.duration(CONTEXT, OPTION, text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7199, "1 hour ago"), (200_000, "2 days ago")],
)
def test_how_long_ago(seconds: float, expected: str) -> None:
    """In the largest unit that is full; a clock that is behind makes nothing odd of it."""
    assert expected == amounts.ago(seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0.0s"), (3.21, "3.2s"), (60, "1m 00s"), (245.4, "4m 05s"), (3599.9, "1h 00m"), (7800, "2h 10m")],
)
def test_how_long_something_took(seconds: float, expected: str) -> None:
    """With tenths below a minute."""
    assert expected == amounts.lasting(seconds)


def test_columns_stand_below_each_other() -> None:
    """Each as wide as its widest text; numbers to the right, nothing behind the last column."""
    text = columns(("NAME", "SIZE", "WHY"), [("a", "1", "x"), ("longer", "1000", "")], right="SIZE")

    assert ["NAME    SIZE  WHY", "a          1  x", "longer  1000"] == text.splitlines()


def test_columns_of_a_narrow_terminal() -> None:
    """The last column is cut, but never below its name."""
    rows = [("a", "a long text that goes on")]

    assert ["NAME  WHY", "a     a long t…"] == columns(("NAME", "WHY"), rows, width=15).splitlines()
    assert ["NAME  WHY", "a     a …"] == columns(("NAME", "WHY"), rows, width=3).splitlines()


def test_columns_hold_nothing_that_a_terminal_would_obey() -> None:
    """Names and descriptions are a daemon's words."""
    assert ["NAME", "red line two"] == columns(("NAME",), [("\x1b[31mred\x1b[0m line\ntwo",)]).splitlines()
