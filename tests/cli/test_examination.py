from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from buildkit_builder.buildkit.api.control import Worker
from buildkit_builder.buildkit.api.gateway import Pong
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint, Kind
from buildkit_builder.buildkit.llb import Capabilities, Platform
from buildkit_builder.buildkit.llb.capabilities import FIRST_RELEASE
from buildkit_builder.buildkit.wire import services
from buildkit_builder.cli import examination
from buildkit_builder.errors import BuildKitError, EndpointError
from tests.conftest import Engine
from tests.fakes.buildkit import FakeBuildKit

SNAPSHOTTER = "org.mobyproject.buildkit.worker.snapshotter"
OWN = Platform(architecture="amd64")
ARM = Platform(architecture="arm64")


def _capabilities(newest: tuple[int, int], **switched: bool) -> Capabilities:
    """All features that BuildKit had by a release."""
    known = {name: True for name, release in FIRST_RELEASE.items() if tuple(map(int, release.split("."))) <= newest}
    # Declared by BuildKit but never told.
    known.pop("file.copy.modestring", None)
    return Capabilities({**known, **switched}, {name: "off here" for name, on in switched.items() if not on})


def _report(
    *,
    kind: str = "docker",
    version: str = "v0.25.2",
    store: bool = True,
    platforms: tuple[Platform, ...] = (OWN,),
    llb: Capabilities | None = None,
) -> examination.Report:
    labels = {SNAPSHOTTER: "overlayfs"} if store else {}
    worker = Worker(id="w", labels=labels, platforms=platforms)
    pong = Pong(llb=llb or _capabilities((0, 25)), frontend=Capabilities({"solve.base": True}), workers=(worker,))
    return examination.report_of(
        address="unix:///run/docker.sock",
        kind=kind,
        reason="DOCKER_HOST names it",
        version=version,
        workers=(worker,),
        pong=pong,
    )


def _finding(report: examination.Report, name: str) -> examination.Finding:
    (found,) = [finding for finding in report.findings if finding.name == name]
    return found


def test_engine_with_the_containerd_store_can_everything() -> None:
    """Nothing is to be done about a recent engine with its containerd image store on."""
    report = _report(platforms=(OWN, ARM))

    assert {True, None} == {finding.ok for finding in report.findings}
    assert {""} == {finding.advice for finding in report.findings}


def test_engine_without_the_containerd_store() -> None:
    """Everything that needs the containerd image store is a no, with the line for daemon.json."""
    report = _report(store=False, llb=_capabilities((0, 25), mergeop=False, diffop=False))

    lacking = [finding for finding in report.findings if finding.ok is False]
    assert ["parallel steps", "registry cache", "several platforms", "push"] == [finding.name for finding in lacking]
    assert all('"features": {"containerd-snapshotter": true}' in finding.advice for finding in lacking)
    assert {"mergeop": "off here", "diffop": "off here"} == report.switched_off


def test_buildkitd_needs_no_label() -> None:
    """A buildkitd can all that an engine needs its containerd store for, whatever its labels say."""
    report = _report(kind="buildkit", store=False)

    assert {True, None} == {finding.ok for finding in report.findings}


@pytest.mark.parametrize(
    ("kind", "update"), [("docker", "Docker Engine 23.0 or newer"), ("buildkit", "BuildKit 0.10 or newer")]
)
def test_daemon_that_is_too_old(kind: str, update: str) -> None:
    """An old daemon is told by its features, with the version that has what is missing."""
    report = _report(kind=kind, version="v0.9.3", llb=_capabilities((0, 9)))

    age = _finding(report, "version")
    assert (False, "0.9") == (age.ok, report.release)
    assert "`exec.secretenv`" in age.detail
    assert update in age.advice
    assert "0.10 or newer" in _finding(report, "parallel steps").advice


@pytest.mark.parametrize("release", [(0, 10), (0, 11), (0, 13), (0, 16), (0, 32)])
def test_daemon_that_builds_everything_is_not_too_old(release: tuple[int, int]) -> None:
    """What no image needs of it is not said to be missing."""
    age = _finding(_report(llb=_capabilities(release)), "version")

    assert (True, "") == (age.ok, age.advice)


@pytest.mark.parametrize(("release", "can_have_one"), [((0, 8), False), ((0, 10), False), ((0, 11), True)])
def test_a_store_is_recommended_to_whom_can_have_it(release: tuple[int, int], can_have_one: bool) -> None:
    """An engine that has no containerd image store is not told to switch it on."""
    report = _report(store=False, llb=_capabilities(release))

    for name in ("registry cache", "several platforms", "push"):
        found = _finding(report, name)
        assert can_have_one == ("containerd-snapshotter" in found.advice)
        assert can_have_one == ("store is off" in found.detail)
        assert can_have_one != ("Docker Engine 24.0 or newer" in found.advice)


@pytest.mark.parametrize(
    ("expected", "version"),
    [
        ("BuildKit 0.25.2,", "v0.25.2"),
        ("BuildKit with the features of 0.25 (it calls itself v0.0.0+unknown),", "v0.0.0+unknown"),
        ("BuildKit with the features of 0.25,", ""),
    ],
)
def test_version_in_words(expected: str, version: str) -> None:
    """Where a daemon's version says nothing, its features do."""
    assert _finding(_report(version=version), "version").detail.startswith(expected)


@pytest.mark.parametrize(
    ("detail", "platforms"),
    [
        ("runs linux/amd64 only", (OWN, Platform(architecture="amd64", variant="v2"))),
        ("runs linux/amd64, linux/386 itself, and linux/arm64 by emulation", (OWN, Platform(architecture="386"), ARM)),
        ("runs linux/arm64 itself, and linux/amd64 by emulation", (ARM, OWN)),
    ],
)
def test_platforms_that_run_by_themselves_and_by_emulation(detail: str, platforms: tuple[Platform, ...]) -> None:
    """The first platform of a worker is its own; other processors are emulated."""
    found = _finding(_report(platforms=platforms), "platforms")

    assert (None, detail) == (found.ok, found.detail)
    assert ("qemu" in found.advice) == ("only" in detail)


def test_daemon_without_a_worker() -> None:
    """A daemon that has no worker cannot build at all."""
    pong = Pong(llb=Capabilities(), frontend=Capabilities())

    report = examination.report_of(address="a", kind="buildkit", reason="r", version="", workers=(), pong=pong)

    assert _finding(report, "platforms").ok is False
    assert report.release == ""
    assert _finding(report, "version").detail.startswith("BuildKit of an unknown release")


GOLDEN = """\
Docker Engine at unix:///run/docker.sock
  chosen because  DOCKER_HOST names it
  version         BuildKit 0.25.2
  platforms       linux/amd64, linux/arm64
  worker          snapshotter=overlayfs
  features        78 of graphs, 1 of the gateway

  yes   version            ok
  NO    push               it cannot
                           do this and that
  note  platforms          some"""


def test_report_for_a_person() -> None:
    """Facts first, then what follows, and below each `NO` what to do about it."""
    report = examination.Report(
        address="unix:///run/docker.sock",
        kind="docker",
        reason="DOCKER_HOST names it",
        version="v0.25.2",
        release="0.25",
        platforms=("linux/amd64", "linux/arm64"),
        labels={"snapshotter": "overlayfs"},
        llb=("x",) * 78,
        gateway=("y",),
        findings=(
            examination.Finding(name="version", ok=True, detail="ok"),
            examination.Finding(name="push", ok=False, detail="it cannot", advice="do this and that"),
            examination.Finding(name="platforms", ok=None, detail="some"),
        ),
    )

    assert examination.render(report) == GOLDEN


def test_report_is_not_wider_than_a_page() -> None:
    """Long facts and advice go on below their beginning."""
    report = _report(store=False, llb=_capabilities((0, 9)), version="v0.9.3")

    assert max(len(line) for line in examination.render(report).splitlines()) <= 100


def test_report_for_a_program() -> None:
    """The JSON has all that the report has."""
    report = _report(store=False, llb=_capabilities((0, 25), mergeop=False))

    found = json.loads(examination.to_json(report))

    assert {"mergeop": "off here"} == found["switched_off"]
    assert [finding.name for finding in report.findings] == [finding["name"] for finding in found["findings"]]
    assert {"address", "kind", "reason", "version", "release", "platforms", "labels", "llb", "gateway"} < set(found)


def test_rendering_loads_nothing_heavy() -> None:
    """The text of a report needs no gRPC."""
    code = "import sys; import buildkit_builder.cli.examination; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


async def test_examination_leaves_nothing_behind() -> None:
    """The daemon is asked by a build that is kept out of its history and ends without a result."""
    async with FakeBuildKit(platforms=(("linux", "arm64"),)) as daemon:
        async with await connect(Endpoint(address=daemon.address, kind="buildkit")) as connection:
            report = await examination.examine(connection)

        (build,) = daemon.builds.values()
        assert build.request.Internal
        assert not build.request.HasField("Definition")
        assert not build.cancelled
        assert build.returned.result().result.ref.id == ""
    assert ("linux/arm64",) == report.platforms
    assert report.version == "v0.25.2"


async def test_daemon_that_does_not_answer() -> None:
    """A daemon that stops answering is an error after a while, and the build is taken back."""

    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    async with FakeBuildKit() as daemon:
        daemon.answer(services.LLBBRIDGE_PING, never)
        async with await connect(Endpoint(address=daemon.address, kind="buildkit")) as connection:
            with pytest.raises(EndpointError, match=r"did not say what it can do within 0\.2 s"):
                await examination.examine(connection, timeout=0.2)
        (build,) = daemon.builds.values()
        await build.ended.wait()
        assert build.cancelled


async def test_daemon_that_refuses() -> None:
    """What the daemon says against being asked is passed on as an error of ours."""
    async with FakeBuildKit() as daemon:
        daemon.refuse(services.CONTROL_SOLVE, "not today")
        async with await connect(Endpoint(address=daemon.address, kind="buildkit")) as connection:
            with pytest.raises(BuildKitError, match="not today"):
                await examination.examine(connection)


async def test_real_daemon_is_healthy(engine: Engine) -> None:
    """The engine that the tests run against can all that the tests need."""
    kind: Kind = "docker" if engine.docker_host else "buildkit"
    async with await connect(Endpoint(address=engine.address, kind=kind)) as connection:
        report = await examination.examine(connection)

    assert [] == [finding for finding in report.findings if finding.ok is False]
    assert "linux/amd64" in report.platforms or "linux/arm64" in report.platforms
    assert "mergeop" in report.llb
    assert "solve.base" in report.gateway
