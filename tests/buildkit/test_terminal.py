from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.terminal import printable, printable_lines


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("red plain", "\x1b[1;31mred\x1b[0m plain"),
        ("moved", "\x1b[2J\x1b[10;10Hmoved"),
        ("title", "\x1b]0;evil\x07title"),
        ("link", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"),
        ("a       b", "a\tb"),
        ("bell", "be\x07ll\x08"),
        ("c1", "\x9b31mc1"),
        ("abc", "a\u202eb\u2066c"),
        ("cut", "cut\x1b["),
        ("two lines", "two\nlines"),
        ("naïve — 漢字 🎉", "naïve — 漢字 🎉"),
    ],
)
def test_nothing_is_left_that_a_terminal_would_obey(expected: str, text: str) -> None:
    """Colours, movements, titles, bells and turned text are taken out of a line; words stay."""
    assert expected == printable(text)


@given(text=st.text())
def test_printable_text_has_no_controls(text: str) -> None:
    """Whatever a step prints, no control character reaches the terminal."""
    assert not {"Cc", "Cs"} & {unicodedata.category(character) for character in printable(text)}


@given(text=st.text())
def test_lines_stay_lines(text: str) -> None:
    """Of text of several lines nothing but the ends of lines is left of the controls, and none is added."""
    lines = printable_lines(text)

    assert {"Cc", "Cs"}.isdisjoint(unicodedata.category(character) for character in lines.replace("\n", ""))
    assert lines.count("\n") <= text.count("\n")
