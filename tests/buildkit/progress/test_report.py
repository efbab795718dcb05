from __future__ import annotations

from dataclasses import replace

from buildkit_builder.buildkit.api.events import StatusEvent
from buildkit_builder.buildkit.progress import BuildReport, Trace, summarize
from tests.buildkit.progress.support import update, vertex


def test_report_counts_steps_of_the_image() -> None:
    """The daemon's own work is not counted among the steps, and bytes that were sent are added up."""
    trace = Trace()
    trace.apply(
        update(
            vertex("a", 1.0, 1.0, name="docker-image://python", cached=True),
            vertex("b", 1.0, 2.0, name="with_pip_packages numpy"),
            vertex("c", 1.0, 2.0, name="exporting to image"),
            vertex("d", 1.0, 2.0, name="local://source"),
            vertex("e"),
            StatusEvent(id="transferring source:", vertex="d", current=1_500_000),
        ),
        10.0,
    )

    report = summarize(trace, ref="localhost:5000/app:v1", seconds=3.21, bytes_pushed=12_345_678)

    assert (
        BuildReport(
            ref="localhost:5000/app:v1",
            seconds=3.21,
            steps_run=2,
            steps_cached=1,
            bytes_sent=1_500_000,
            bytes_pushed=12_345_678,
        )
        == report
    )
    assert report.text == "built localhost:5000/app:v1 in 3.2 s: 2 steps run, 1 cached, 1.5 MB sent, 12.3 MB pushed"


def test_report_leaves_out_what_is_not_known() -> None:
    """Bytes that nobody told are not invented."""
    report = summarize(Trace(), ref="app", seconds=0.05)

    assert report.text == "built app in 0.1 s: 0 steps run, 0 cached"


def test_vertex_that_only_cached_ones_need_counts_as_cached() -> None:
    """The daemon only looks at a base image whose steps are all cached; that is no step that was run."""
    base, run, copy = vertex("base", 1.0, 1.1), vertex("run", 2.0, 2.0, cached=True), vertex("copy", 2.0, 2.1)
    trace, other = Trace(), Trace()

    trace.apply(update(base, replace(run, inputs=("base",))), 10.0)
    other.apply(update(base, replace(run, inputs=("base",)), replace(copy, inputs=("base",))), 10.0)

    cached, mixed = (summarize(found, ref="app", seconds=1) for found in (trace, other))
    assert (0, 2) == (cached.steps_run, cached.steps_cached)
    assert (2, 1) == (mixed.steps_run, mixed.steps_cached)
