"""What a build came to, in one value and one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from buildkit_builder.buildkit.progress.phrasing import human_bytes
from buildkit_builder.buildkit.progress.trace import Trace
from buildkit_builder.buildkit.progress.vertex import Vertex


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """The end of a build in numbers.

    Attributes:
        ref: The image that was built.
        seconds: How long the build took, as the user waited.
        steps_run: Steps of the image that were executed; the daemon's own work is not counted.
        steps_cached: Steps whose result came from the cache.
        bytes_sent: Bytes of local files sent to the daemon, `None` where it did not say.
        bytes_pushed: Bytes pushed to the registry, `None` where that is not known.
    """

    ref: str
    seconds: float
    steps_run: int
    steps_cached: int
    bytes_sent: int | None = None
    bytes_pushed: int | None = None

    @property
    def text(self) -> str:
        """One line: `built <ref> in 3.2 s: 4 steps run, 7 cached, 12.3 MB pushed`."""
        parts = [f"{self.steps_run} step{'' if self.steps_run == 1 else 's'} run", f"{self.steps_cached} cached"]
        if self.bytes_sent:
            parts.append(f"{human_bytes(self.bytes_sent)} sent")
        if self.bytes_pushed is not None:
            parts.append(f"{human_bytes(self.bytes_pushed)} pushed")
        return f"built {self.ref} in {max(0.0, self.seconds):.1f} s: {', '.join(parts)}"


def summarize(trace: Trace, *, ref: str, seconds: float, bytes_pushed: int | None = None) -> BuildReport:
    """Count what a finished build did.

    Args:
        trace: The build's progress.
        ref: The image that was built.
        seconds: How long the build took.
        bytes_pushed: Bytes pushed, if the caller knows; the daemon's progress does not tell them.
    """
    cached = _cached(trace.vertices)
    steps = [vertex for vertex in trace.vertices if not vertex.is_internal]
    sent = [
        status.current
        for vertex in trace.vertices
        for status in vertex.statuses
        if status.id.startswith("transferring ")
    ]
    return BuildReport(
        ref=ref,
        seconds=seconds,
        steps_run=sum(vertex.state in ("done", "error") and vertex.key not in cached for vertex in steps),
        steps_cached=sum(vertex.key in cached for vertex in steps),
        bytes_sent=sum(sent) if sent else None,
        bytes_pushed=bytes_pushed,
    )


def _cached(vertices: Sequence[Vertex]) -> set[str]:
    """Keys of the vertices that came from the cache.

    Of a vertex of which only cached ones are in need, the daemon looks at the cache key and no more, but does not call
    it cached; a base image is often such a one.
    """
    cached = {vertex.key for vertex in vertices if vertex.state == "cached"}
    needing: dict[str, set[str]] = {}
    for vertex in vertices:
        for digest in vertex.inputs:
            needing.setdefault(digest, set()).add(vertex.key)
    # Whoever needs a vertex starts after it, so one way back through them reaches everything.
    for vertex in reversed(vertices):
        keys = set().union(*(needing.get(digest, ()) for digest in vertex.digests))
        if vertex.state == "done" and keys and cached.issuperset(keys):
            cached.add(vertex.key)
    return cached
