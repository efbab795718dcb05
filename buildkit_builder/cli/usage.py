"""`buildkit-builder du`: what daemons keep on their disks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import click

from buildkit_builder.cli import filters as _filters
from buildkit_builder.cli.failing import told

if TYPE_CHECKING:
    from buildkit_builder.buildkit.api.control import UsageRecord
    from buildkit_builder.buildkit.connect.connection import Connection
    from buildkit_builder.buildkit.find.endpoint import Endpoint

# Prune leaves them unless it is told `--all`, as it does what is shared with an image.
_KEPT = ("internal", "frontend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A cache in numbers; all sizes in bytes.

    Attributes:
        records: How many there are.
        size: All of them.
        in_use: Those that builds hold.
        shared: Those whose bytes belong to an image as well.
        prunable: What `prune` would delete.
        prunable_all: What `prune --all` would delete.
        kinds: By kind, how many there are, and their size; the largest first.
    """

    records: int
    size: int
    in_use: int
    shared: int
    prunable: int
    prunable_all: int
    kinds: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[UsageRecord]) -> Usage:
        """Sums up."""

        def size(wanted: Callable[[UsageRecord], bool]) -> int:
            # A size that the daemon has not found out yet is below zero.
            return sum(max(0, record.size) for record in records if wanted(record))

        kinds: dict[str, tuple[int, int]] = {}
        for record in records:
            count, amount = kinds.get(record.kind, (0, 0))
            kinds[record.kind] = (count + 1, amount + max(0, record.size))
        return cls(
            records=len(records),
            size=size(lambda _: True),
            in_use=size(lambda record: record.in_use),
            shared=size(lambda record: record.shared),
            prunable=size(lambda record: not (record.in_use or record.shared or record.kind in _KEPT)),
            prunable_all=size(lambda record: not record.in_use),
            kinds=dict(sorted(kinds.items(), key=lambda item: item[1][1], reverse=True)),
        )


@click.command()
@click.option("--filter", "filters", multiple=True, callback=_filters.parse, metavar="FILTER", help=_filters.HELP)
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Records listed; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def du(filters: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Say what the daemons keep on their disks: how much of what, and the largest records."""
    from buildkit_builder.cli import daemons

    with told():
        settings, endpoints = daemons.endpoints()
    answers = asyncio.run(daemons.ask(endpoints, settings, lambda connection: records_of(connection, filters)))
    if as_json:
        click.echo(to_json(answers.given))
    else:
        shown = [
            f"{daemons.title(endpoint)}: {render(records, limit, now=time.time(), width=daemons.width())}"
            for endpoint, records in answers.given.items()
        ]
        click.echo("\n\n".join(shown))
    answers.check()


async def records_of(connection: Connection, filters: Sequence[str]) -> tuple[UsageRecord, ...]:
    """What a daemon keeps, the largest first.

    Raises:
        BuildKitError: It refused or cannot be reached.
    """
    import grpc.aio

    from buildkit_builder.buildkit.api import failures
    from buildkit_builder.buildkit.api.control import Control

    try:
        records = await Control(connection.channel).disk_usage(filters=filters)
    except grpc.aio.AioRpcError as error:
        doing = f"asking {connection.endpoint.address} for what it keeps"
        raise failures.translate(error, describe=lambda _: None, doing=doing) from error
    return tuple(sorted(records, key=lambda record: record.size, reverse=True))


def render(records: Sequence[UsageRecord], limit: int, *, now: float, width: int | None) -> str:
    """A cache for a person, without a line end at its end.

    Args:
        records: What it holds, in the order to be listed in.
        limit: How many are listed; 0 for all.
        now: Seconds since 1970.
        width: What a line may be long at most, or `None`.
    """
    from buildkit_builder.buildkit.progress.phrasing import human_bytes
    from buildkit_builder.cli.amounts import counted
    from buildkit_builder.cli.columns import columns

    usage = Usage.of(records)
    if not records:
        return "nothing"
    listed = records[:limit] if limit else records
    kinds = [(kind, str(count), human_bytes(size)) for kind, (count, size) in usage.kinds.items()]
    parts = [
        (
            f"{human_bytes(usage.size)} in {counted(usage.records, 'record')}\n"
            f"prune frees {human_bytes(usage.prunable)}, and {human_bytes(usage.prunable_all)} with --all"
        ),
        columns(("TYPE", "RECORDS", "SIZE"), kinds, right="RECORDS SIZE"),
        columns(
            ("ID", "SIZE", "TYPE", "LAST USED", "USED", "STATE", "MADE BY"),
            [_row(record, now) for record in listed],
            right="SIZE USED",
            width=width,
        ),
    ]
    if len(listed) < len(records):
        parts.append(f"… and {len(records) - len(listed)} smaller ones (--limit 0 lists all)")
    return "\n\n".join(parts)


def _row(record: UsageRecord, now: float) -> tuple[str, ...]:
    from buildkit_builder.buildkit.progress.phrasing import human_bytes
    from buildkit_builder.cli.amounts import ago

    states = {"in use": record.in_use, "shared": record.shared, "mutable": record.mutable}
    return (
        record.id[:12],
        human_bytes(record.size) if record.size >= 0 else "?",
        record.kind,
        ago(now - record.last_used) if record.last_used is not None else "never",
        f"{record.usage_count}x",
        ", ".join(name for name, holds in states.items() if holds),
        record.description,
    )


def to_json(given: Mapping[Endpoint, Sequence[UsageRecord]]) -> str:
    """The caches for a program: a list with an object for each daemon."""
    daemons = [
        {
            "address": endpoint.address,
            "usage": asdict(Usage.of(records)),
            "records": [asdict(record) for record in records],
        }
        for endpoint, records in given.items()
    ]
    return json.dumps(daemons, indent=2)
