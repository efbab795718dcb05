from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.progress.live_lines import Block, Line, Section, fit, whole


def _block(name: str, *, active: bool = False, cached: bool = False, logs: int = 0, parts: int = 0) -> Block:
    return Block(
        head=Line(left=name),
        active=active,
        cached=cached,
        logs=tuple(Line(left=f"{name} log {number}") for number in range(logs)),
        parts=tuple(Line(left=f"{name} part {number}") for number in range(parts)),
    )


def _section(*blocks: Block, title: str = "build") -> Section:
    return Section(header=Line(left=title), blocks=blocks)


def _texts(lines: list[Line]) -> list[str]:
    return [line.left for line in lines]


blocks = st.builds(
    lambda active, cached, logs, parts: _block("x", active=active, cached=cached, logs=logs, parts=parts),
    st.booleans(),
    st.booleans(),
    st.integers(0, 8),
    st.integers(0, 5),
)


@given(
    sections=st.lists(st.lists(blocks, max_size=12).map(lambda found: _section(*found)), max_size=6),
    rows=st.integers(-2, 40),
)
def test_view_never_has_more_rows_than_there_are(sections: list[Section], rows: int) -> None:
    """Whatever is built, the view fits, and no row is wasted while something is folded away."""
    lines = fit(sections, rows)

    assert len(lines) <= max(0, rows)
    if sections and rows > 0:
        assert lines[0].left.startswith("build") or rows == 1
    if sum(len(whole(section)) for section in sections) <= rows:
        assert len(sections) == _texts(lines).count("build")
        assert not [text for text in _texts(lines) if "finished" in text or "more" in text]


def test_finished_steps_are_folded_first() -> None:
    """When the view is too tall the oldest finished steps become one line, and running ones keep their log."""
    section = _section(
        _block("a", cached=True), _block("b"), _block("c", active=True, logs=2), _block("d"), _block("e", active=True)
    )

    assert _texts(fit([section], 7)) == [
        "build",
        " => 2 steps finished (1 cached)",
        "c",
        "c log 0",
        "c log 1",
        "d",
        "e",
    ]


def test_logs_shrink_when_folding_is_not_enough() -> None:
    """Of the log of running steps the last lines are kept longest."""
    section = _section(
        _block("a"), _block("b"), _block("c", active=True, logs=6, parts=3), _block("d", active=True, logs=6)
    )

    assert _texts(fit([section], 8)) == ["build", "a", "b", "c", "c part 0", "c log 5", "d", "d log 5"]
    assert _texts(fit([section], 6)) == ["build", " => 2 steps finished", "c", "c log 5", "d", "d log 5"]
    assert _texts(fit([section], 4)) == ["build", " => 2 steps finished", "c", "d"]


def test_too_many_running_steps() -> None:
    """Running steps for which there is no row are counted."""
    section = _section(*(_block(name, active=True, logs=1) for name in "abcde"))

    assert _texts(fit([section], 4)) == ["build", "a", "b", " => ... and 3 more steps"]


def test_many_builds_on_few_rows() -> None:
    """With two rows a build shows the step that runs, with one its header does; finished steps are in its count."""
    busy = _section(_block("a"), _block("b", active=True, logs=1), _block("c", active=True))
    calm = _section(_block("a"), _block("b", active=True))
    waiting = _section(title="waiting")

    assert _texts(fit([busy, calm], 4)) == ["build", "b (and 1 more step)", "build", "b"]
    assert _texts(fit([busy, waiting, calm], 3)) == ["buildb (and 1 more step)", "waiting", "buildb"]
    assert _texts(fit([busy, calm], 5)) == ["build", "b", "c", "build", "b"]


def test_builds_share_the_rows() -> None:
    """A build that needs few rows leaves the others to those that need more."""
    small = _section(_block("s", active=True), title="small")
    large = _section(*(_block(f"l{number}") for number in range(9)), title="large")

    lines = _texts(fit([large, small], 8))

    assert lines == ["large", " => 5 steps finished", "l5", "l6", "l7", "l8", "small", "s"]


def test_more_builds_than_rows() -> None:
    """Builds for which there is no row at all are counted."""
    assert _texts(fit([_section(title=name) for name in "abcd"], 3)) == ["a", "b", "... and 2 more builds"]
