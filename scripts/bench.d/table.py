"""What was measured, as tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence

import flyte
from engine import docker
from measure import HAND, OURS, THEIRS, Row

NOTES = """\
A is Flyte's own builder on the same engine; C is the best Dockerfile that we can write by hand for the same image
(scripts/bench.d/by_hand.py), built by `docker buildx build --push`. Seconds of ours and of A are of the builder, from
its call to the pushed image, in a process that is up; seconds of C are of the whole `docker` process; where it says
"as a command", all are of whole processes. A ratio is the median of the ratios run by run. Cold: no step was ever run
and the repository is new; the base images are in the engine, and the base's layer is in the registry. Client CPU is
of the builder's process and of its children."""


def machine(runs: int) -> str:
    """On what all this was measured."""
    versions = [
        f"Python {platform.python_version()}",
        f"flyte {flyte.__version__}",
        f"Docker Engine {docker('version', '--format={{.Server.Version}}').strip()}",
        docker("buildx", "version").split()[1].join(("buildx ", "")),
    ]
    return f"{os.cpu_count()} cores, {platform.machine()}, {', '.join(versions)}; {runs} runs in turns"


def seconds_table(rows: Sequence[Row]) -> str:
    """Seconds, ratios, and whether these are what they should be."""
    lines = ["| Case | ours | A: Flyte's own | C: by hand | ours / A | ours / C |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row.case, *(_number(row.median(who), "{:.2f} s") for who in (OURS, THEIRS, HAND))]
        cells += [_ratio(row, THEIRS), _ratio(row, HAND)]
        lines.append(_line(cells))
    return "\n".join(lines)


def others_table(rows: Sequence[Row]) -> str:
    """What is compared with neither A nor C; empty where nothing is."""
    lines = [
        _line(
            [
                row.case,
                _number(row.median(OURS), "{:.2f} s"),
                f"{who}: {_number(row.median(who), '{:.2f} s')}",
                _ratio(row, who),
            ]
        )
        for row in rows
        for who in row.samples
        if who not in (OURS, THEIRS, HAND)
    ]
    return "\n".join(["| Case | ours | compared with | ratio |", "|---|---|---|---|", *lines]) if lines else ""


def costs_table(rows: Sequence[Row]) -> str:
    """What the builds sent, and what they cost on the client's side: ours / A / C."""
    lines = [
        "| Case | MB pushed | blobs pushed | blobs reused | client CPU | client memory: ours / C |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.case,
            _each(row, "pushed_bytes", "{:.1f}", 1e-6),
            _each(row, "pushed", "{:.0f}"),
            _each(row, "reused", "{:.0f}"),
            _each(row, "cpu", "{:.2f} s"),
            _each(row, "peak", "{:.0f} MB", who=(OURS, HAND)),
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def _ratio(row: Row, against: str) -> str:
    ratio, bar = row.ratio(against), row.bars.get(against)
    if ratio is None:
        return "-"
    judged = "" if bar is None else f" (≤ {bar:g} {'met' if ratio <= bar else 'missed'})"
    return f"{ratio:.2f}{judged}"


def _each(row: Row, what: str, form: str, scale: float = 1, who: Iterable[str] = (OURS, THEIRS, HAND)) -> str:
    return " / ".join(_number(row.median(one, what), form, scale) for one in who)


def _number(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else form.format(value * scale)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
