"""Progress in any order, with anything missing and with anything in it: shown, bounded, and obeyed by no terminal."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_builder.buildkit.api.events import (
    LogEvent,
    ProgressGroup,
    StatusEvent,
    StatusUpdate,
    VertexEvent,
    WarningEvent,
)
from buildkit_builder.buildkit.progress import limits
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.buildkit.progress.report import summarize
from buildkit_builder.buildkit.progress.trace import Trace

# What our own view moves and colours with.
_OURS = re.compile(r"\x1b\[(?:\d*A|J|2K|[\d;]*m)")

digests = st.sampled_from(["sha256:a", "sha256:b", "sha256:c", "", "x" * 300])
texts = st.one_of(
    st.sampled_from(
        ["", "step", "\x1b[2J\x1b]0;t\x07", "\x9b31m", "a\r\nb\x08", "\u202eback", "exporting layers", "[auth] "]
    ),
    st.text(max_size=12),
)
times = st.none() | st.sampled_from([0.0, 1.0, 2.5, -1.0, 9e18])
groups = st.none() | st.builds(ProgressGroup, id=st.sampled_from(["g", "h", ""]), name=texts, weak=st.booleans())
updates = st.builds(
    StatusUpdate,
    vertexes=st.lists(
        st.builds(
            VertexEvent, digest=digests, inputs=st.lists(digests, max_size=2).map(tuple), name=texts,
            cached=st.booleans(), started=times, completed=times, error=texts, group=groups,
        ), max_size=3,
    ).map(tuple),
    statuses=st.lists(
        st.builds(
            StatusEvent, id=texts, vertex=digests, name=texts, current=st.integers(-1, 1 << 63),
            total=st.integers(-1, 1 << 63), timestamp=times, started=times, completed=times,
        ), max_size=3,
    ).map(tuple),
    logs=st.lists(
        st.builds(
            LogEvent, vertex=digests, stream=st.integers(-1, 9), timestamp=times,
            data=st.binary(max_size=9) | texts.map(lambda text: text.encode("utf-8", "replace")),
        ), max_size=3,
    ).map(tuple),
    warnings=st.lists(
        st.builds(WarningEvent, vertex=digests, level=st.integers(0, 2), short=texts,
                  detail=st.lists(texts, max_size=2).map(tuple), url=texts), max_size=2,
    ).map(tuple),
)  # fmt: skip


@pytest.mark.parametrize("mode", ["tty", "plain", "rawjson", "quiet"])
def test_displays(mode: str) -> None:
    """A build is shown to its end; of a daemon's own controls nothing reaches the terminal."""

    @settings(max_examples=30)
    @given(st.lists(updates, max_size=6), texts, st.booleans())
    def shown(sent: list[StatusUpdate], title: str, failed: bool) -> None:
        stream, now = io.StringIO(), iter(range(1000))
        screen = open_screen(mode, stream, environ={"TERM": "xterm"}, clock=lambda: float(next(now)))
        display = screen.display(title)
        for update in sent:
            display.update(update)
            display.refresh()
        display.log(title)
        display.done(ValueError(title) if failed else None)
        output = stream.getvalue()
        if mode == "rawjson":
            assert all(isinstance(json.loads(line), dict) for line in output.splitlines())
        left = _OURS.sub("", output) if mode == "tty" else output
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", left)

    shown()


@settings(max_examples=50)
@given(st.lists(updates, max_size=8))
def test_traces(sent: list[StatusUpdate]) -> None:
    """Whatever comes, what is told of it is consistent."""
    trace = Trace()
    for number, update in enumerate(sent):
        trace.apply(update, float(number))
    trace.finish(9.0, failed=True)
    report = summarize(trace, ref="r", seconds=1)

    assert all(vertex.state != "running" for vertex in trace.vertices)
    assert trace.counts.finished <= trace.counts.total
    assert report.steps_run >= 0
    assert report.text.startswith("built r in 1.0 s")


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vertices, parts, runs, warnings and lines without end: the first of them are kept, and the last lines."""
    for name, value in {"TAIL_BYTES": 10_000, "VERTICES": 500, "LINES": 10_000}.items():
        monkeypatch.setattr(limits, name, value)
    trace = Trace()
    for number in range(limits.VERTICES + 100):
        digest = f"sha256:{number}"
        vertex = VertexEvent(digest=digest, name="n" * 5000, error="e" * 50_000, started=float(number))
        log = LogEvent(vertex=digest, stream=number, data=b"x" * 100 + b"\n")
        trace.apply(StatusUpdate(vertexes=(vertex,), logs=(log,)), float(number))
    for number in range(limits.RUNS + 100):
        trace.apply(
            StatusUpdate(vertexes=(VertexEvent(digest="sha256:0", name="n" * 5000, started=float(2 * number)),)), 1.0
        )
    many = tuple(WarningEvent(vertex="sha256:0", level=1, short="w" * 9000) for _ in range(limits.WARNINGS + 100))
    lines = trace.apply(
        StatusUpdate(warnings=many, logs=(LogEvent(vertex="sha256:0", stream=1, data=b"\n" * (1 << 22)),)), 1.0
    ).lines
    kept = [trace.log_tail(vertex.key, 200) for vertex in trace.vertices]

    assert limits.VERTICES == trace.counts.total
    assert limits.WARNINGS == len(trace.warnings)
    assert limits.LINES == len(lines)
    assert {1000} == {len(vertex.name) for vertex in trace.vertices}
    assert sum(len(line) for tail in kept for line in tail) <= 10_000
    assert max(len(vertex.intervals) for vertex in trace.vertices) <= limits.RUNS


@given(st.lists(st.sampled_from(["g", "h", "i", "j"]), max_size=60))
def test_groups_that_change_leave_nothing(ids: list[str]) -> None:
    """A vertex that moves from group to group is shown in the last of them alone."""
    trace = Trace()
    for number, group in enumerate(ids):
        event = VertexEvent(digest="a", started=float(number), group=ProgressGroup(id=group, name=group))
        trace.apply(StatusUpdate(vertexes=(event,)), float(number))

    assert ids[-1:] == [vertex.key for vertex in trace.vertices]
