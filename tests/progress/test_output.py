from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.progress.output import Output, cleaned, printable


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


def test_secret_is_found_when_controls_tear_it_apart() -> None:
    """A secret that is printed with colours inside is taken out too, and one that holds a tab as well."""

    def redact(text: str) -> str:
        return text.replace("hunter2", "***").replace("tab\tbed", "***")

    assert cleaned("pass hun\x1b[1mter2!", redact) == "pass ***!"
    assert cleaned("pass tab\tbed!", redact) == "pass ***!"


def test_stream_with_little_encoding_gets_question_marks() -> None:
    """An ASCII stream takes any text."""
    raw = io.BytesIO()
    output = Output(io.TextIOWrapper(raw, encoding="ascii"))

    output.write("naïve …\n")

    assert raw.getvalue() == b"na?ve ?\n"
    assert output.can_write("...")
    assert not output.can_write("…")


def test_closed_stream_is_not_an_error() -> None:
    """A build goes on when nobody reads what it prints any more."""
    stream = io.StringIO()
    output = Output(stream)
    stream.close()

    output.write("lost")

    assert not output.is_terminal()
    assert output.size() == (80, 24)
