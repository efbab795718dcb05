"""What is asked before anything is deleted, what the daemon is told, and what is said after."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result

from buildkit_builder.buildkit.api.control import UsageRecord
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.wire import control_pb2, services
from buildkit_builder.cli import prune as pruning
from buildkit_builder.cli.prune import What, question, render
from tests.cli.asking import command
from tests.fakes.buildkit import LLB_CAPS, FakeBuildKit

ENGINE = Endpoint(address="unix:///run/docker.sock", kind="docker")
POOL = Endpoint(address="tcp://pool:1234", kind="buildkit")
RECORDS = (
    UsageRecord(id="a-long-identifier", kind="", size=1500, description="run it"),
    UsageRecord(id="b", kind="", size=-1),
)


def test_the_question() -> None:
    """It names each daemon and how much would go; with limits it may be less."""
    assert "Delete 1.0 kB of the Docker Engine at unix:///run/docker.sock?" == question({ENGINE: 1000}, What())
    assert (
        "Delete at most 1.0 kB of the Docker Engine at unix:///run/docker.sock, and at most 2 B of the buildkitd at "
        "tcp://pool:1234?"
    ) == question({ENGINE: 1000, POOL: 2}, What(keep_bytes=5))


def test_what_was_deleted() -> None:
    """The sums, and the records where they are asked for."""
    assert "deleted 2 records, 1.5 kB" == render(RECORDS, False, width=None)
    assert ["a-long-ident  1.5 kB  run it", "b                0 B"] == render(RECORDS, True, width=None).splitlines()[
        -2:
    ]
    assert "deleted 0 records, 0 B" == render((), True, width=None)


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody to ask: in tests the standard input is no terminal."""

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(pruning, "sys", type("Sys", (), {"stdin": Terminal}))


async def pruned(
    monkeypatch: pytest.MonkeyPatch, *words: str, caps: tuple[str, ...] = LLB_CAPS, answer: str = ""
) -> tuple[Result, list[Any]]:
    """What the command ended with, and what the daemon was told."""
    async with FakeBuildKit(llb_caps=dict.fromkeys(caps, True)) as fake:
        fake.prunes = [control_pb2.UsageRecord(ID="a", RecordType="regular", Size=7)]
        ended = await command(fake, monkeypatch, "prune", *words, answer=answer)
    return ended, fake.called(services.CONTROL_PRUNE)


async def test_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option reaches the daemon."""
    ended, told = await pruned(
        monkeypatch, "--force", "--all", "--filter", "private", "--keep-duration", "2h", "--keep-storage", "1GB",
        "--max-used-space", "2GB", "--min-free-space", "3GB", "--json", caps=(*LLB_CAPS, "gc.freespacefilter"),
    )  # fmt: skip

    assert 0 == ended.exit_code, ended.output
    [daemon] = json.loads(ended.stdout)
    assert (7, ["a"]) == (daemon["freed"], [record["id"] for record in daemon["deleted"]])
    assert [
        control_pb2.PruneRequest(
            filter=["private"], all=True, keepDuration=7200 * 10**9, reservedSpace=10**9, maxUsedSpace=2 * 10**9,
            minFreeSpace=3 * 10**9,
        )
    ] == told  # fmt: skip


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    """Nothing is deleted without a person's word or `--force`."""
    ended, told = await pruned(monkeypatch, *words)

    assert (1, []) == (ended.exit_code, told)
    assert "Say --force" in ended.stderr


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(("answer", "code", "count"), [("y", 0, 1), ("n", 1, 0), ("", 1, 0)])
async def test_somebody_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, code: int, count: int) -> None:
    """No, and no answer, leave everything as it is."""
    ended, told = await pruned(monkeypatch, answer=f"{answer}\n")

    assert (code, count) == (ended.exit_code, len(told)), ended.output
    assert "Delete 7 B of the buildkitd at unix://" in ended.stderr
    assert ("deleted 1 record, 7 B" in ended.stdout) == (count == 1)


@pytest.mark.parametrize("limit", ["--max-used-space", "--min-free-space"])
async def test_a_daemon_that_does_not_know_a_limit(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """It would delete everything, so it is not asked."""
    ended, told = await pruned(monkeypatch, "--force", limit, "1GB")

    assert (1, []) == (ended.exit_code, told)
    assert "nothing was deleted. Use --keep-storage" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--keep-storage", "much"), "`much` is no size"),
        (("--keep-duration", "long"), "`long` is no time"),
        (("--filter", "x=y"), "`x=y` is not understood"),
    ],
)
async def test_options_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str) -> None:
    """Found before a daemon is looked for."""
    ended, told = await pruned(monkeypatch, "--force", *words)

    assert (2, []) == (ended.exit_code, told)
    assert said in ended.stderr
