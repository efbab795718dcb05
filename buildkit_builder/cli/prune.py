"""`buildkit-builder prune`: deletes from the caches of daemons."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from buildkit_builder.cli import amounts
from buildkit_builder.cli import filters as _filters
from buildkit_builder.cli.failing import told

if TYPE_CHECKING:
    from buildkit_builder.buildkit.api.control import UsageRecord
    from buildkit_builder.buildkit.connect.connection import Connection
    from buildkit_builder.buildkit.find.endpoint import Endpoint
    from buildkit_builder.config import Settings

_LIMITS_FEATURE = "gc.freespacefilter"


@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """What is to be deleted.

    Attributes:
        filters: What the records must be like.
        everything: Also what is internal or shared with an image.
        keep_seconds: Not what was used this recently.
        keep_bytes: This much stays, whatever its age.
        max_used_bytes: Only until the cache is this small; 0 for no limit.
        min_free_bytes: Only until this much of the disk is free; 0 for no limit.
    """

    filters: tuple[str, ...] = ()
    everything: bool = False
    keep_seconds: float = 0
    keep_bytes: int = 0
    max_used_bytes: int = 0
    min_free_bytes: int = 0

    @property
    def is_limited(self) -> bool:
        """Whether something may stay that the filters are true of."""
        return bool(self.keep_seconds or self.keep_bytes or self.max_used_bytes or self.min_free_bytes)


@click.command()
@click.option("--filter", "filters", multiple=True, callback=_filters.parse, metavar="FILTER", help=_filters.HELP)
@click.option("-a", "--all", "everything", is_flag=True, help="Also what is internal, or shared with images.")
@click.option(
    "--keep-duration",
    callback=amounts.duration,
    default="0s",
    metavar="TIME",
    help="Keep what was used within this time, as 24h.",
)
@click.option(
    "--keep-storage",
    callback=amounts.size,
    default="0",
    metavar="SIZE",
    help="Keep this much, as 10GB: what was used last.",
)
@click.option(
    "--max-used-space",
    callback=amounts.size,
    default="0",
    metavar="SIZE",
    help="Delete until the cache is no larger than this.",
)
@click.option(
    "--min-free-space",
    callback=amounts.size,
    default="0",
    metavar="SIZE",
    help="Delete until this much of the disk is free.",
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("-v", "--verbose", is_flag=True, help="Name every record that is deleted.")
@click.option("--json", "as_json", is_flag=True, help="For programs; needs --force.")
def prune(
    *,
    filters: tuple[str, ...],
    everything: bool,
    keep_duration: float,
    keep_storage: int,
    max_used_space: int,
    min_free_space: int,
    force: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Delete what no build uses from the caches of the daemons that builds go to. Images stay as they are."""
    from buildkit_builder.cli import daemons

    what = What(
        filters=filters,
        everything=everything,
        keep_seconds=keep_duration,
        keep_bytes=keep_storage,
        max_used_bytes=max_used_space,
        min_free_bytes=min_free_space,
    )
    with told():
        settings, endpoints = daemons.endpoints()
        if not force:
            if as_json or not sys.stdin.isatty():
                raise click.ClickException("Nothing is deleted: there is nobody to ask. Say --force if it is to be.")
            click.confirm(question(asyncio.run(_prunable(endpoints, settings, what)), what), abort=True, err=True)
        answers = asyncio.run(daemons.ask(endpoints, settings, lambda connection: delete(connection, what)))
    if as_json:
        click.echo(to_json(answers.given))
    else:
        for endpoint, records in answers.given.items():
            click.echo(f"{daemons.title(endpoint)}: {render(records, verbose, width=daemons.width())}")
    answers.check()


async def _prunable(endpoints: Sequence[Endpoint], settings: Settings, what: What) -> dict[Endpoint, int]:
    """By daemon, how much would go if there were no limits."""
    from buildkit_builder.cli import daemons
    from buildkit_builder.cli.usage import Usage, records_of

    answers = await daemons.ask(endpoints, settings, lambda connection: records_of(connection, what.filters))
    answers.check()
    usages = {endpoint: Usage.of(records) for endpoint, records in answers.given.items()}
    return {endpoint: usage.prunable_all if what.everything else usage.prunable for endpoint, usage in usages.items()}


def question(prunable: Mapping[Endpoint, int], what: What) -> str:
    """What a person is asked before anything is deleted.

    Args:
        prunable: By daemon, how much would go if there were no limits.
        what: What is to be deleted.
    """
    from buildkit_builder.buildkit.progress.phrasing import human_bytes
    from buildkit_builder.cli.daemons import title

    most = "at most " if what.is_limited else ""
    amounts = [f"{most}{human_bytes(size)} of the {title(endpoint)}" for endpoint, size in prunable.items()]
    return f"Delete {', and '.join(amounts)}?"


async def delete(connection: Connection, what: What) -> tuple[UsageRecord, ...]:
    """Deletes, and says what.

    Raises:
        CapabilityError: The daemon does not know a limit, and would delete more than was meant.
        BuildKitError: It refused or cannot be reached.
    """
    import grpc.aio

    from buildkit_builder.buildkit.api import failures
    from buildkit_builder.buildkit.api.control import Control
    from buildkit_builder.cli import examination
    from buildkit_builder.errors import CapabilityError

    if what.max_used_bytes or what.min_free_bytes:
        report = await examination.examine(connection)
        if _LIMITS_FEATURE not in report.llb:
            raise CapabilityError(
                f"The daemon at {report.address} knows neither --max-used-space nor --min-free-space, and would delete "
                "everything: nothing was deleted. Use --keep-storage, or update it: BuildKit 0.17 or newer, which is "
                "in Docker Engine 27.5 or newer, knows them."
            )
    try:
        deleted = Control(connection.channel).prune(
            filters=what.filters,
            everything=what.everything,
            keep_seconds=what.keep_seconds,
            reserved_bytes=what.keep_bytes,
            max_used_bytes=what.max_used_bytes,
            min_free_bytes=what.min_free_bytes,
        )
        return tuple([record async for record in deleted])
    except grpc.aio.AioRpcError as error:
        doing = f"pruning the cache of {connection.endpoint.address}"
        raise failures.translate(error, describe=lambda _: None, doing=doing) from error


def render(records: Sequence[UsageRecord], verbose: bool, *, width: int | None) -> str:
    """What was deleted, for a person, without a line end at its end."""
    from buildkit_builder.buildkit.progress.phrasing import human_bytes
    from buildkit_builder.cli.columns import columns

    freed = f"deleted {amounts.counted(len(records), 'record')}, {human_bytes(_size(records))}"
    if not verbose or not records:
        return freed
    rows = [(record.id[:12], human_bytes(max(0, record.size)), record.description) for record in records]
    return f"{freed}\n\n{columns(('ID', 'SIZE', 'MADE BY'), rows, right='SIZE', width=width)}"


def to_json(given: Mapping[Endpoint, Sequence[UsageRecord]]) -> str:
    """What was deleted, for a program: a list with an object for each daemon."""
    daemons = [
        {
            "address": endpoint.address,
            "freed": _size(records),
            "deleted": [asdict(record) for record in records],
        }
        for endpoint, records in given.items()
    ]
    return json.dumps(daemons, indent=2)


def _size(records: Sequence[UsageRecord]) -> int:
    return sum(max(0, record.size) for record in records)
