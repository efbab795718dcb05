from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.api.events import ProgressGroup, StatusEvent, StatusUpdate, VertexEvent, WarningEvent
from buildkit_builder.buildkit.llb import Role
from buildkit_builder.buildkit.progress.loglines import LINE_LIMIT
from buildkit_builder.buildkit.progress.trace import Counts, Trace
from buildkit_builder.buildkit.progress.vertex import Interval, State, Vertex, merged
from tests.buildkit.progress.support import log, update, vertex

DIGESTS = st.sampled_from("abcd")
TIMES = st.integers(min_value=1, max_value=30).map(float)


@st.composite
def vertex_events(draw: st.DrawFn) -> VertexEvent:
    """Any event of one of four vertices, two of which are in a group."""
    digest = draw(DIGESTS)
    started = draw(st.none() | TIMES)
    completed = started + draw(st.integers(0, 5)) if started is not None and draw(st.booleans()) else None
    return vertex(
        digest,
        started,
        completed,
        cached=draw(st.booleans()),
        error=draw(st.sampled_from(["", "", "boom", "rpc: context canceled"])) if completed else "",
        group=ProgressGroup(id="g", name="the group", weak=digest == "d") if digest in "cd" else None,
    )


@st.composite
def status_events(draw: st.DrawFn) -> StatusEvent:
    """Any status of one of the vertices."""
    return StatusEvent(
        id=draw(st.sampled_from(["x", "y"])),
        vertex=draw(DIGESTS),
        current=draw(st.integers(0, 100)),
        total=100,
        timestamp=draw(st.none() | TIMES),
        completed=draw(st.none() | TIMES),
    )


def _trace(*updates: StatusUpdate, now: float = 100.0) -> Trace:
    trace = Trace()
    for item in updates:
        trace.apply(item, now)
    return trace


def _state(*events: VertexEvent) -> State:
    found = _trace(*(update(event) for event in events)).vertex(events[0].digest)
    assert found is not None
    return found.state


def _comparable(vertices: tuple[Vertex, ...]) -> set[object]:
    return {
        (item.key, item.name, item.state, item.error, item.intervals, frozenset(item.statuses), frozenset(item.digests))
        for item in vertices
    }


@given(events=st.lists(vertex_events(), max_size=20), order=st.randoms(use_true_random=False))
def test_order_of_events_does_not_matter(events: list[VertexEvent], order: object) -> None:
    """The same events give the same vertices in whatever order, and however often, they come."""
    shuffled = [*events, *events[:3]]
    order.shuffle(shuffled)  # type: ignore[attr-defined]

    expected = _trace(update(*events))
    actual = _trace(*(update(event) for event in shuffled))

    assert _comparable(expected.vertices) == _comparable(actual.vertices)
    assert expected.counts == actual.counts


@given(events=st.lists(vertex_events() | status_events(), max_size=25))
def test_invariants_hold_after_every_event(events: list[VertexEvent | StatusEvent]) -> None:
    """Counts agree with states, intervals are ordered and apart, groups hide their members, times are not negative."""
    trace = Trace()
    for event in events:
        changes = trace.apply(update(event), 50.0)
        shown = trace.vertices
        assert all(item.state != "waiting" and item.intervals for item in shown)
        assert not {"c", "d"} & {item.key for item in shown}
        assert sorted(shown, key=lambda item: item.started or 0) == list(shown)
        assert 0 <= trace.counts.cached <= trace.counts.finished <= trace.counts.total <= 3
        assert {item.key for item in changes.vertices} <= {item.key for item in shown}
        for item in shown:
            ends = [(run.started, run.completed) for run in item.intervals]
            assert all(end is not None and end < start for (_, end), (start, _) in pairwise(ends))
            assert item.seconds(trace.daemon_time(50.0)) >= 0
            assert (item.state == "running") <= (item.completed is None)


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_lines_do_not_depend_on_where_chunks_end(data: bytes, cuts: list[int]) -> None:
    """A log gives the same lines in one chunk and in many."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    whole, pieces = Trace(), Trace()
    for trace in (whole, pieces):
        trace.apply(update(vertex("a", 1.0)), 10.0)

    whole.apply(update(log("a", data)), 10.0)
    for start, end in pairwise(edges):
        pieces.apply(update(log("a", data[start:end])), 10.0)
    for trace in (whole, pieces):
        trace.finish(11.0, failed=False)

    assert whole.log_tail("a", 1000) == pieces.log_tail("a", 1000)


def test_carriage_return_begins_the_line_again() -> None:
    """Of a progress bar only the last state is kept, and a line that ends in CR LF is whole."""
    trace = _trace(update(vertex("a", 1.0), log("a", b"10%\r50%\r100%\nnext\r\n\r\nlast")))
    trace.finish(100.0, failed=False)

    assert ("100%", "next", "", "last") == trace.log_tail("a", 10)


def test_unfinished_rewritten_line_is_the_last_of_the_tail() -> None:
    """A progress bar that is still drawn is seen in its last whole state, never in half of one."""
    trace = _trace(update(vertex("a", 1.0), log("a", b"done\n10%\r50%\r6")))

    assert ("done", "50%") == trace.log_tail("a", 10)


def test_streams_are_not_mixed_within_a_line() -> None:
    """Chunks of standard output and standard error are joined separately."""
    trace = _trace(update(vertex("a", 1.0), log("a", b"out"), log("a", b"err\n", stream=2), log("a", b"put\n")))

    assert ("err", "output") == trace.log_tail("a", 10)


def test_overlong_line_is_cut() -> None:
    """A line without end does not fill the memory."""
    trace = _trace(update(vertex("a", 1.0)))
    for _ in range(5):
        trace.apply(update(log("a", b"x" * LINE_LIMIT)), 100.0)
    changes = trace.apply(update(log("a", b"\nshort\n")), 100.0)

    assert [b"x" * LINE_LIMIT + b" [...]", b"short"] == [line.data for line in changes.lines]


def test_tail_is_bounded() -> None:
    """Only the last lines are kept."""
    trace = Trace(tail_lines=3)
    trace.apply(update(vertex("a", 1.0), log("a", b"1\n2\n3\n4\n5\n")), 10.0)

    assert ("3", "4", "5") == trace.log_tail("a", 100)
    assert ("5",) == trace.log_tail("a", 1)
    assert () == trace.log_tail("a", 0)


def test_what_belongs_to_unknown_vertices_is_dropped() -> None:
    """Statuses, logs and warnings of vertices that were never announced change nothing."""
    trace = Trace()

    changes = trace.apply(
        update(
            StatusEvent(id="x", vertex="nobody"),
            log("nobody", b"line\n"),
            WarningEvent(vertex="nobody", level=1, short="look"),
        ),
        10.0,
    )

    assert ((), (), (), ()) == (changes.vertices, changes.statuses, changes.lines, changes.warnings)
    assert () == trace.log_tail("nobody", 5)


def test_vertex_that_has_not_started_is_counted_but_not_shown() -> None:
    """The denominator of the header knows steps that are still to come."""
    trace = _trace(update(vertex("a", 1.0, 2.0), vertex("b")))

    assert ["a"] == [item.key for item in trace.vertices]
    assert Counts(total=2, finished=1, cached=0) == trace.counts


def test_states() -> None:
    """What the latest run says decides: running, done, cached, failed, or stopped because of something else."""
    assert _state(vertex("a")) == "waiting"
    assert _state(vertex("a", 1.0)) == "running"
    assert _state(vertex("a", 1.0), vertex("a", 1.0, 2.0)) == "done"
    assert _state(vertex("a", 1.0), vertex("a", 1.0, 2.0, cached=True)) == "cached"
    assert _state(vertex("a", 1.0, 2.0, error="exit code: 1")) == "error"
    assert _state(vertex("a", 1.0, 2.0, error="solve: context canceled")) == "cancelled"
    assert _state(vertex("a", 1.0, 2.0, error="exit code: 1"), vertex("a", 3.0)) == "running"


def test_runs_of_one_vertex_add_up() -> None:
    """A cache probe and the run after it are two intervals whose durations are summed."""
    trace = _trace(
        update(vertex("a", 10.0), vertex("a", 10.0, 10.5)), update(vertex("a", 20.0), vertex("a", 20.0, 22.0))
    )

    (only,) = trace.vertices
    assert (Interval(started=10.0, completed=10.5), Interval(started=20.0, completed=22.0)) == only.intervals
    assert only.seconds(99.0) == 2.5


def test_overlapping_runs_are_counted_once() -> None:
    """Time is not counted twice where runs overlap."""
    runs = [
        Interval(started=5.0, completed=9.0),
        Interval(started=1.0, completed=3.0),
        Interval(started=2.0, completed=4.0),
        Interval(started=8.0),
    ]

    assert (Interval(started=1.0, completed=4.0), Interval(started=5.0)) == merged(runs)


def test_running_time_follows_our_clock_on_a_daemon_whose_clock_is_wrong() -> None:
    """The daemon's clock may be years away: a step that started at this moment has run for no time."""
    trace = Trace()
    trace.apply(update(vertex("a", 5_000_000.0)), 100.0)
    trace.apply(update(log("a", b"x\n", 5_000_001.0)), 103.0)

    (only,) = trace.vertices
    assert only.seconds(trace.daemon_time(104.0)) == 4.0


def test_group_is_one_vertex() -> None:
    """Members of a progress group are shown as one, with the time of all and cached only if all are."""
    group = ProgressGroup(id="g", name="copy and link")
    trace = _trace(
        update(
            vertex("a", 1.0, 2.0, cached=True, group=group),
            vertex("b", 4.0, 6.0, group=group),
            StatusEvent(id="s", vertex="b", current=7),
            log("a", b"hello\n"),
        )
    )

    (only,) = trace.vertices
    assert ("g", "copy and link", "done") == (only.key, only.name, only.state)
    assert ("a", "b") == only.digests
    assert only.seconds(99.0) == 3.0
    assert [7] == [status.current for status in only.statuses]
    assert ("hello",) == trace.log_tail("b", 5)


def test_group_is_hidden_until_a_member_that_is_not_weak_starts() -> None:
    """A weak member alone does not make its group appear."""
    weak, strong = ProgressGroup(id="g", name="n", weak=True), ProgressGroup(id="g", name="n")
    trace = _trace(update(vertex("a", 1.0, group=weak)))

    assert not trace.vertices
    trace.apply(update(vertex("b", 2.0, group=strong)), 100.0)
    assert ["g"] == [item.key for item in trace.vertices]


def test_group_fails_with_the_first_error() -> None:
    """Of several failed members the one that failed first speaks for the group."""
    group = ProgressGroup(id="g", name="n")
    trace = _trace(
        update(vertex("a", 1.0, 9.0, error="second", group=group), vertex("b", 1.0, 3.0, error="first", group=group))
    )

    assert ["first"] == [item.error for item in trace.failures]


def test_failed_build_cancels_what_was_left_open() -> None:
    """Steps that the daemon never closed are cancelled when the build failed; the cause stays the failure."""
    trace = _trace(update(vertex("a", 1.0), vertex("b", 1.0, 3.0, error="exit code: 2"), vertex("c")))

    changes = trace.finish(100.0, failed=True)

    assert ["cancelled"] == [item.state for item in changes.vertices]
    assert [("a", "cancelled"), ("b", "error")] == [(item.key, item.state) for item in trace.vertices]
    assert ["b"] == [item.key for item in trace.failures]


def test_build_that_succeeded_has_nothing_open() -> None:
    """A step whose end was not told is done when the build succeeded."""
    trace = _trace(update(vertex("a", 1.0)))

    trace.finish(100.0, failed=False)

    assert ["done"] == [item.state for item in trace.vertices]


def test_only_what_looks_different_is_a_change() -> None:
    """An event that is sent again changes nothing."""
    trace = Trace()

    assert len(trace.apply(update(vertex("a", 1.0)), 10.0).vertices) == 1
    assert () == trace.apply(update(vertex("a", 1.0)), 10.0).vertices


def test_last_line_without_end_comes_with_the_end_of_the_step() -> None:
    """What a step printed last is a line even without a line end."""
    trace = _trace(update(vertex("a", 1.0), log("a", b"no end")))

    changes = trace.apply(update(vertex("a", 1.0, 2.0)), 100.0)

    assert ["no end"] == [line.text for line in changes.lines]


def test_look_ups_that_may_find_nothing_are_not_shown() -> None:
    """What is asked for in passing is no step of the build, and its failing is no failure."""
    trace = Trace()
    role = Role(quiet=True, attempt=True)
    event = replace(vertex("a", 1.0, 2.0, name="look up x", error="not found"), role=role)

    changes = trace.apply(StatusUpdate(vertexes=(event,)), 0.0)

    assert ((), ()) == (changes.vertices, trace.failures)
