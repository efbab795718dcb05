from __future__ import annotations

import io
from typing import Any

import pytest

from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.buildkit.progress.stream import Stream, cleaned


def test_secret_is_found_when_controls_tear_it_apart() -> None:
    """A secret that is printed with colours inside is taken out too, and one that holds a tab as well."""

    def redact(text: str) -> str:
        return text.replace("hunter2", "***").replace("tab\tbed", "***")

    assert cleaned("pass hun\x1b[1mter2!", redact) == "pass ***!"
    assert cleaned("pass tab\tbed!", redact) == "pass ***!"


def test_stream_with_little_encoding_gets_question_marks() -> None:
    """An ASCII stream takes any text."""
    raw = io.BytesIO()
    output = Stream(io.TextIOWrapper(raw, encoding="ascii"))

    output.write("naïve …\n")

    assert raw.getvalue() == b"na?ve ?\n"
    assert output.can_write("...")
    assert not output.can_write("…")


def test_closed_stream_is_not_an_error() -> None:
    """A build goes on when nobody reads what it prints any more."""
    stream = io.StringIO()
    output = Stream(stream)
    stream.close()

    output.write("lost")

    assert not output.is_terminal()
    assert output.size() == (80, 24)


class _OnlyWritten:
    """What programs put in the place of standard error, to have it in their log."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


@pytest.mark.parametrize("mode", ["auto", "tty", "plain", "rawjson", "quiet"])
def test_stream_that_is_none_is_not_an_error(mode: str) -> None:
    """Python has `None` for standard error where that was closed when it began."""
    display = open_screen(mode, None, environ={}, clock=lambda: 0.0).display("an image")

    display.log("lost")
    display.refresh()
    display.done(None)


def test_stream_that_can_only_be_written_to_is_written_to() -> None:
    """It is no terminal, and has no size."""
    stream: Any = _OnlyWritten()
    output = Stream(stream)

    assert not output.is_terminal()
    assert output.size() == (80, 24)
    output.write("one\n")
    output.write("two\n")
    assert stream.text == "one\ntwo\n"
