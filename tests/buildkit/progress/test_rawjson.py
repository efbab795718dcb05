from __future__ import annotations

import io
import json

from buildkit_builder.buildkit.api.events import ProgressGroup, StatusEvent, WarningEvent
from buildkit_builder.buildkit.progress.rawjson import RawJsonScreen
from tests.buildkit.progress.support import Clock, log, update, vertex


def test_lines_have_stable_keys() -> None:
    """Every status line has the same keys in the same order, whatever happened."""
    stream = io.StringIO()
    display = RawJsonScreen(stream, clock=Clock()).display("image")

    display.update(
        update(
            vertex("a", 1.0, name="naïve", group=ProgressGroup(id="g", name="n", weak=True)),
            StatusEvent(id="s", vertex="a", current=1, total=2, timestamp=1.5),
            StatusEvent(id="s", vertex="nobody"),
            log("a", "héllo\nhalf".encode(), 2.0),
            WarningEvent(vertex="a", level=1, short="look", detail=("more",), url="https://example.com"),
        )
    )
    display.update(update(log("a", b" line\n", 3.0)))
    display.update(update(log("a", b"nothing whole", 3.0)))
    display.log("a message")
    display.done(RuntimeError("it broke"))

    first, second, message, last, done = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert stream.getvalue().isascii()
    assert ["build", "event", "vertexes", "statuses", "logs", "warnings"] == list(first) == list(second)
    assert first["vertexes"] == [
        {
            "digest": "a",
            "inputs": [],
            "name": "naïve",
            "cached": False,
            "started": 1.0,
            "completed": None,
            "error": "",
            "role": None,
            "group": {"id": "g", "name": "n", "weak": True},
        }
    ]
    assert ["s"] == [status["id"] for status in first["statuses"]]
    assert ["half line"] == [line["text"] for line in second["logs"]]
    assert {"build": "image", "event": "message", "text": "a message"} == message
    assert ["nothing whole"] == [line["text"] for line in last["logs"]]
    assert {"build": "image", "event": "done", "error": "it broke"} == done


def test_bytes_that_are_no_text_are_base64() -> None:
    """A log line is text where it is UTF-8, else base64; the other key is null."""
    stream = io.StringIO()
    display = RawJsonScreen(stream, clock=Clock()).display()

    display.update(update(vertex("a", 1.0), log("a", b"text\n\xff\xfe\n")))
    display.done(None)

    logs = json.loads(stream.getvalue().splitlines()[0])["logs"]
    assert [("text", None), (None, "//4=")] == [(line["text"], line["data"]) for line in logs]
