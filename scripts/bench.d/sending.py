"""Sources that are sent for the first time."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from contest import Contest, make_files, say
from measure import HAND, OURS, Sample, cpu_seconds, order

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, GraphFrontend, build
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find import discovery
from buildkit_builder.buildkit.find.endpoint import EndpointOptions
from buildkit_builder.buildkit.progress import open_screen
from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.flyte_plugin import private_engine

_LARGE = 1_000_000_000


async def sending(contest: Contest) -> None:
    """1 GB of sources sent to an engine that has none of them: how long the engine takes to read them."""
    for case, files in (("one file", 1), ("20,000 files", 20_000)):
        row = contest.row(f"1 GB of sources sent, {case}", {HAND: 2.0})
        folder = contest.work / "sent"
        make_files(folder, files, _LARGE)
        for run in range(contest.runs):
            say(f"{row.case}: run {run + 1} of {contest.runs}")
            for who in order((OURS, HAND), run):
                # An engine knows a folder by its path, and would only be sent what has changed.
                folder = folder.rename(folder.with_name(f"{contest.engine.name}-{run}-{who}"))
                row.samples.setdefault(who, []).append(await _sent(who, folder, contest.engine.base))
                contest.engine.forget_sources(_LARGE)
        shutil.rmtree(folder)


async def _sent(who: str, folder: Path, base: str) -> Sample:
    begun = cpu_seconds()
    seconds = await _sent_by_us(folder) if who == OURS else _sent_by_buildx(folder, base)
    say(f"  {who}: {seconds:.2f} s")
    return Sample(seconds=seconds, cpu=cpu_seconds() - begun, peak=None, pushed_bytes=0, pushed=0, reused=0)


async def _sent_by_us(folder: Path) -> float:
    said = io.StringIO()
    screen = open_screen("rawjson", said, environ=os.environ, clock=time.monotonic)
    own = private_engine.Own(os.environ)
    where = discovery.resolve(EndpointOptions(), environ=os.environ, home=Path.home(), own=own)
    async with await connect(where) as connection:
        source = llb.local("sent", shared_key=folder.name, unique=folder.name, display="sources")
        request = BuildRequest(
            title="sources",
            frontend=GraphFrontend(state=source, platform=llb.Platform(architecture="amd64")),
            exporters=(),
            attachables=(FileSync([LocalDirectory("sent", folder)]),),
        )
        await build(connection, request, screen.display())
    return _duration(said.getvalue().splitlines(), "sources")


def _sent_by_buildx(folder: Path, base: str) -> float:
    # Everything is read, and nothing of it is kept beside.
    lines = f"FROM {base}\nRUN --network=none --mount=type=bind,target=/sent true # {folder.name}\n"
    options = ["--builder=default", "--progress=rawjson", "--output=type=cacheonly", "--file=-"]
    command = ["docker", "buildx", "build", *options, str(folder)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    return _duration(done.stderr.splitlines(), "[internal] load build context")


def _duration(lines: Iterable[str], name: str) -> float:
    """Seconds that a vertex took, from a progress of JSON lines."""
    times: dict[str, float] = {}
    for line in lines:
        for vertex in json.loads(line).get("vertexes") or ():
            if vertex["name"] == name:
                times |= {key: _seconds(vertex[key]) for key in ("started", "completed") if vertex.get(key)}
    return times["completed"] - times["started"]


def _seconds(moment: Any) -> float:
    """Seconds since 1970, of a number or of what Go writes, which has more digits than Python reads."""
    if isinstance(moment, str):
        whole, _, fraction = moment.rstrip("Z").partition(".")
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
    return float(moment)
