"""What a daemon keeps, in numbers and in columns; and what of it is meant."""

from __future__ import annotations

import json

import click
import grpc
import pytest

from buildkit_builder.buildkit.api.control import UsageRecord
from buildkit_builder.buildkit.wire import control_pb2, services
from buildkit_builder.cli import filters
from buildkit_builder.cli.usage import Usage, render
from tests.cli.asking import command
from tests.fakes.buildkit import FakeBuildKit

NOW = 1_000_000.0
RECORDS = (
    UsageRecord(
        id="largest-of-them", kind="regular", size=5000, description="run it", last_used=NOW - 90, usage_count=3
    ),
    UsageRecord(id="held", kind="regular", size=400, in_use=True, mutable=True),
    UsageRecord(id="of-an-image", kind="regular", size=300, shared=True),
    UsageRecord(id="cache", kind="exec.cachemount", size=200, mutable=True),
    UsageRecord(id="its-own", kind="internal", size=100),
    UsageRecord(id="not-measured", kind="regular", size=-1),
)  # fmt: skip


def test_usage_adds_up() -> None:
    """What is in use is never pruned; what is shared or the daemon's own only with `--all`."""
    expected = Usage(
        records=6, size=6000, in_use=400, shared=300, prunable=5200, prunable_all=5600,
        kinds={"regular": (4, 5700), "exec.cachemount": (1, 200), "internal": (1, 100)},
    )  # fmt: skip

    assert expected == Usage.of(RECORDS)
    assert ["regular", "exec.cachemount", "internal"] == list(Usage.of(RECORDS).kinds)


def test_a_cache_for_a_person() -> None:
    """The sums, the kinds, and the first records."""
    lines = render(RECORDS, 2, now=NOW, width=None).splitlines()

    assert ["6.0 kB in 6 records", "prune frees 5.2 kB, and 5.6 kB with --all"] == lines[:2]
    assert "regular                4  5.7 kB" in lines
    assert [
        "ID              SIZE  TYPE     LAST USED     USED  STATE            MADE BY",
        "largest-of-t  5.0 kB  regular  1 minute ago    3x                   run it",
        "held           400 B  regular  never           0x  in use, mutable",
        "",
        "… and 4 smaller ones (--limit 0 lists all)",
    ] == lines[-5:]
    assert "?" == render(RECORDS, 0, now=NOW, width=None).splitlines()[-1].split()[1]
    assert "nothing" == render((), 20, now=NOW, width=None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ()),
        (("type=exec.cachemount",), ('type=="exec.cachemount"',)),
        (("shared", "description~=pip \"x\""), ('shared,description~="pip \\"x\\""',)),
        (("id=abc",), ('id~="^abc"',)),
        (("type!=regular", "id~=b"), ('type!="regular",id~="b"',)),
    ],
)  # fmt: skip
def test_filters(given: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """In the daemon's form, which wants one text where all parts are to be true."""
    assert expected == filters.parse(click.Context(click.Command("x")), click.Option(["--x"]), given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("colour=red", "`colour=red` is not understood"),
        ("shared=yes", "is not understood"),
        ("type", "is not understood"),
        ("type=layer", "`layer` is no type; there are regular,"),
        ("until=24h", "--keep-duration"),
    ],
)
def test_filters_that_make_no_sense(given: str, said: str) -> None:
    """A daemon would find nothing, and not say why."""
    with pytest.raises(click.BadParameter, match=said):
        filters.parse(click.Context(click.Command("x")), click.Option(["--x"]), (given,))


async def test_du(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemon, sums and records, the largest first; the filters go to the daemon."""
    async with FakeBuildKit() as fake:
        fake.prunes = [
            control_pb2.UsageRecord(ID="small", RecordType="regular", Size=1),
            control_pb2.UsageRecord(ID="large", RecordType="regular", Size=2),
        ]
        shown = await command(fake, monkeypatch, "du", "--filter", "private")
        listed = await command(fake, monkeypatch, "du", "--json")

    assert (0, 0) == (shown.exit_code, listed.exit_code), (shown.output, listed.output)
    assert shown.output.startswith(f"buildkitd at {fake.address}: 3 B in 2 records\n")
    assert ["private"] == list(fake.called(services.CONTROL_DISK_USAGE)[0].filter)
    [daemon] = json.loads(listed.stdout)
    assert (fake.address, 3, ["large", "small"]) == (
        daemon["address"], daemon["usage"]["size"], [record["id"] for record in daemon["records"]]
    )  # fmt: skip


async def test_du_of_a_daemon_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and an exit code."""
    async with FakeBuildKit() as fake:
        fake.refuse(services.CONTROL_DISK_USAGE, "disk on fire", code=grpc.StatusCode.INTERNAL)
        ended = await command(fake, monkeypatch, "du")

    assert 1 == ended.exit_code
    assert "disk on fire" in ended.stderr
    assert "Traceback" not in ended.output
