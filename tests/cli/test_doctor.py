from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from buildkit_builder import config
from buildkit_builder.buildkit.find.discovery import Look
from buildkit_builder.cli.doctor import Diagnosis, diagnose, doctor, render
from buildkit_builder.cli.examination import Report
from buildkit_builder.config import NodeSettings, Settings
from buildkit_builder.errors import EndpointError
from buildkit_builder.flyte_plugin import image_build
from buildkit_builder.flyte_plugin.private_engine import PROGRAMS
from tests.fakes.buildkit import FakeBuildKit


@pytest.fixture
def nothing_runs(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine on which nothing answers and nothing is installed."""
    clean_environ.setenv("PATH", str(tmp_path))
    clean_environ.setattr("buildkit_builder.flyte_plugin.private_engine.SYSTEM_PATH", ())
    clean_environ.setattr("buildkit_builder.buildkit.find.discovery.sockets.default_sockets", lambda *_: iter(()))
    return clean_environ


def run(*words: str) -> Result:
    return CliRunner().invoke(doctor, words)


def test_nothing_found(nothing_runs: pytest.MonkeyPatch) -> None:
    """Where nothing is found, every place is shown all the same, with the error below, and the exit code is 1."""
    said = run()

    assert 1 == said.exit_code
    assert "Looked at, in order:\n  the `endpoint` setting" in said.output
    assert "No BuildKit was found" in said.output
    assert "Start Docker." in said.output


@pytest.mark.parametrize("program", [name for name, _ in PROGRAMS])
def test_installed_but_not_running(nothing_runs: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """What is installed and could be started is named, also where something else was expected to answer."""
    (tmp_path / program).touch(mode=0o755)

    found, dead = run(), CliRunner(env={"DOCKER_HOST": f"unix://{tmp_path}/dead.sock"}).invoke(doctor)

    assert f"`{tmp_path}/{program}` is installed: `buildkit-builder engine up` starts it" in found.output
    assert f"unix://{tmp_path}/dead.sock" in dead.output
    assert f"Or have `buildkit-builder engine up` start `{tmp_path}/{program}`" in dead.output


def test_for_programs(nothing_runs: pytest.MonkeyPatch) -> None:
    """The JSON has the places, the daemons and the problems."""
    nothing_runs.setenv("BUILDKIT_HOST", "unix:///none.sock")

    found = json.loads(run("--json").output)

    assert {"place": "BUILDKIT_HOST", "found": "`unix:///none.sock`"} == found["looked"][-1]
    assert [] == found["daemons"]
    assert "No such file or directory" in found["problems"][0]


async def test_one_node_of_several(nothing_runs: pytest.MonkeyPatch) -> None:
    """Of several nodes those that answer are examined, and the problems of the others are told."""
    async with FakeBuildKit() as daemon:
        nodes = (NodeSettings(address=daemon.address), NodeSettings(address="unix:///none.sock", name="far"))
        settings = Settings(nodes=nodes)
        found = image_build.search(settings, config.environment())
        diagnosis = await diagnose(found, settings, config.environment())

    assert [f"{daemon.address}, unix:///none.sock"] == [look.found for look in diagnosis.looked]
    assert [daemon.address] == [report.address for report in diagnosis.daemons]
    assert 1 == len(diagnosis.problems)
    assert "unix:///none.sock" in diagnosis.problems[0]


def test_text() -> None:
    """The places stand in a table, above the daemons and the problems."""
    report = Report(address="tcp://a:1", kind="buildkit", reason="it is")
    looks = Look(place="here", found="not set"), Look(place="over there", found="`x`")

    text = render(Diagnosis(looked=looks, daemons=(report,), problems=("It is broken.",)))

    first, daemon, problem = text.split("\n\n", 1)[0], "buildkitd at tcp://a:1\n", "It is broken."
    assert "Looked at, in order:\n  here        not set\n  over there  `x`" == first
    assert text.index(first) < text.index(daemon) < text.index(problem)


def test_node_that_is_several(nothing_runs: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A builder of several nodes is no node of a list, and the error says what to write instead."""
    stored = [{"Name": name, "Endpoint": f"tcp://{name}:1"} for name in "ab"]
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances/pair").write_text(json.dumps({"Name": "pair", "Driver": "remote", "Nodes": stored}))
    nothing_runs.setenv("BUILDX_CONFIG", str(tmp_path))
    nodes = (NodeSettings(address="buildx://pair"), NodeSettings(address="tcp://c:1"))

    with pytest.raises(EndpointError, match="`buildx://pair` alone"):
        image_build.search(Settings(nodes=nodes), config.environment())
