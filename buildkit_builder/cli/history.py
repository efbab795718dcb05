"""`buildkit-builder history`: the builds that daemons remember."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import click

from buildkit_builder.cli.failing import told

if TYPE_CHECKING:
    from buildkit_builder.buildkit.api.events import StatusUpdate, VertexEvent
    from buildkit_builder.buildkit.api.history import BuildRecord
    from buildkit_builder.buildkit.connect.connection import Connection
    from buildkit_builder.buildkit.find.endpoint import Endpoint

STATUSES = ("running", "completed", "failed", "cancelled")
_DIGEST = "containerimage.digest"

_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_ref = click.argument("ref", default="")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A build, and the daemon that remembers it."""

    endpoint: Endpoint
    record: BuildRecord


@click.group()
def history() -> None:
    """Show what daemons remember of builds, and have them forget it.

    A REF is a build's, or the beginning of it; without one the newest build is meant. Builds that ask for secrets are
    never remembered.
    """


@history.command(name="ls")
@click.option("--status", type=click.Choice(STATUSES), help="Only builds that ended so, or still run.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Builds listed; 0 for all.")
@_as_json
def list_builds(status: str | None, limit: int, as_json: bool) -> None:
    """List builds, the newest first."""
    from buildkit_builder.buildkit.api import history
    from buildkit_builder.cli import daemons

    with told():
        settings, endpoints = daemons.endpoints()
    answers = asyncio.run(daemons.ask(endpoints, settings, history.builds))
    wanted = {
        endpoint: [record for record in records if status in (None, record.status)][: limit or None]
        for endpoint, records in answers.given.items()
    }
    if as_json:
        found = [Remembered(endpoint, record) for endpoint, records in wanted.items() for record in records]
        click.echo(json.dumps([as_dict(each) for each in found], indent=2))
    else:
        now, width = time.time(), daemons.width()
        tables = {endpoint: table(records, now=now, width=width) for endpoint, records in wanted.items()}
        several = len(tables) > 1
        click.echo("\n\n".join(f"{daemons.title(at)}\n{text}" if several else text for at, text in tables.items()))
    answers.check()


@history.command()
@_ref
@_as_json
def show(ref: str, as_json: bool) -> None:
    """Show all that is remembered of a build."""
    found = _found(ref)
    click.echo(json.dumps(as_dict(found), indent=2) if as_json else details(found, now=time.time()))


@history.command()
@_ref
@_as_json
def logs(ref: str, as_json: bool) -> None:
    """Show what a build printed, as `progress: plain` does; one that runs is followed to its end."""
    from buildkit_builder import config
    from buildkit_builder.buildkit.api import history
    from buildkit_builder.buildkit.progress import open_screen

    found = _found(ref)

    async def replay(connection: Connection) -> None:
        mode = "rawjson" if as_json else "plain"
        display = open_screen(mode, sys.stdout, environ=config.environment(), clock=time.monotonic).display()
        async for update in history.progress(connection, found.record.ref):
            display.update(in_hindsight(update) if found.record.status == "completed" else update)
        display.done(None)

    _tell(found, replay)


def in_hindsight(update: StatusUpdate) -> StatusUpdate:
    """What was told of a build that ended well: what failed in it was only tried, or done without."""
    from buildkit_builder.buildkit.llb import Role
    from buildkit_builder.buildkit.progress.phrasing import is_internal

    def judged(event: VertexEvent) -> VertexEvent:
        if not event.error:
            return event
        return replace(event, error="") if is_internal(event.name) else replace(event, role=Role(attempt=True))

    return replace(update, vertexes=tuple(map(judged, update.vertexes)))


@history.command()
@click.argument("refs", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All that have ended and are not pinned.")
def rm(refs: tuple[str, ...], everything: bool) -> None:
    """Have the daemons forget builds; what those made stays."""
    from buildkit_builder.buildkit.api import history
    from buildkit_builder.cli.amounts import counted

    if bool(refs) == everything:
        raise click.UsageError("Name the builds, or say --all.")
    known = _all()
    if everything:
        chosen = [each for each in known if each.record.status != "running" and not each.record.pinned]
    else:
        chosen = [chosen_of(known, ref) for ref in refs]
    for each in chosen:
        _tell(each, lambda connection, ref=each.record.ref: history.forget(connection, ref))  # type: ignore[misc]
    click.echo(f"forgot {counted(len(chosen), 'build')}")


@history.command()
@_ref
@click.option("--off", is_flag=True, help="Let it be forgotten.")
def pin(ref: str, off: bool) -> None:
    """Keep a build from being forgotten in favour of newer ones."""
    from buildkit_builder.buildkit.api import history

    found = _found(ref)
    _tell(found, lambda connection: history.pin(connection, found.record.ref, not off))
    click.echo(f"{found.record.ref} is {'no longer' if off else 'now'} pinned")


def _all() -> list[Remembered]:
    """What all daemons remember, the newest first; the command ends where one cannot be asked."""
    from buildkit_builder.buildkit.api import history
    from buildkit_builder.cli import daemons

    with told():
        settings, endpoints = daemons.endpoints()
    answers = asyncio.run(daemons.ask(endpoints, settings, history.builds))
    answers.check()
    known = [Remembered(endpoint, record) for endpoint, records in answers.given.items() for record in records]
    return sorted(known, key=lambda each: each.record.created, reverse=True)


def _found(ref: str) -> Remembered:
    return chosen_of(_all(), ref)


def _tell(found: Remembered, do: Callable[[Connection], Awaitable[None]]) -> None:
    """Does something at the daemon that remembers a build."""
    from buildkit_builder.cli import daemons

    with told():
        settings, _ = daemons.endpoints()
    asyncio.run(daemons.ask([found.endpoint], settings, do)).check()


def chosen_of(known: Sequence[Remembered], ref: str) -> Remembered:
    """The build that a person means.

    Args:
        known: All builds, the newest first.
        ref: The build's, or its beginning; empty for the newest.

    Raises:
        click.ClickException: There is none, or more than one.
    """
    if not known:
        raise click.ClickException("No build is remembered.")
    found = [each for each in known if each.record.ref.startswith(ref)][: None if ref else 1]
    exact = [each for each in found if each.record.ref == ref]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise click.ClickException(f"No build that is remembered begins with `{ref}`: see `history ls --limit 0`.")
    listed = ", ".join(each.record.ref for each in found[:5])
    raise click.ClickException(f"{len(found)} builds begin with `{ref}`: {listed}{', …' if len(found) > 5 else ''}.")


def table(records: Sequence[BuildRecord], *, now: float, width: int | None) -> str:
    """Builds for a person, a line each.

    Args:
        records: The builds, in the order to be listed in.
        now: Seconds since 1970.
        width: What a line may be long at most, or `None`.
    """
    from buildkit_builder.cli.amounts import ago
    from buildkit_builder.cli.columns import columns

    if not records:
        return "no builds"
    rows = [
        (
            record.ref[:12],
            _state(record),
            ago(now - record.created),
            _duration(record, now),
            _steps(record),
            ", ".join(record.images) or _origin(record),
        )
        for record in records
    ]
    return columns(("REF", "STATUS", "BEGUN", "TOOK", "STEPS", "IMAGE"), rows, right="TOOK", width=width)


def details(found: Remembered, *, now: float) -> str:
    """A build for a person, without a line end at its end."""
    from buildkit_builder.buildkit.terminal import printable, printable_lines
    from buildkit_builder.cli.amounts import ago
    from buildkit_builder.cli.daemons import title

    record = found.record
    facts = [
        ("ref", record.ref),
        ("daemon", title(found.endpoint)),
        ("status", _state(record)),
        (
            "begun",
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))} ({ago(now - record.created)})",
        ),
        ("took", _duration(record, now)),
        ("steps", _steps(record)),
        ("warnings", str(record.warnings or "")),
        *(("image", name) for name in record.images),
        ("digest", record.response.get(_DIGEST, "")),
        ("frontend", record.frontend),
        *((f"  {name}", value) for name, value in sorted(record.options.items())),
    ]
    for exporter in record.exporters:
        facts.append(("exporter", exporter.kind))
        facts += [(f"  {name}", value) for name, value in sorted(exporter.attributes.items()) if name != "name"]
    shown = [(printable(name), printable(value)) for name, value in facts if value]
    width = max(len(name) for name, _ in shown)
    lines = [f"{name:<{width}}  {value}" for name, value in shown]
    if record.error:
        lines += ["", printable_lines(record.error)]
    return "\n".join(lines)


def as_dict(found: Remembered) -> dict[str, object]:
    """A build for a program, with the address of its daemon."""
    return {"address": found.endpoint.address, **asdict(found.record)}


def _state(record: BuildRecord) -> str:
    return f"{record.status}, pinned" if record.pinned else record.status


def _origin(record: BuildRecord) -> str:
    """What tells a build without a name from others."""
    return record.options.get("filename") or record.options.get("context") or record.frontend


def _steps(record: BuildRecord) -> str:
    if not record.steps:
        return ""
    done = "" if record.done == record.steps else f"{record.done} of "
    return f"{done}{record.steps}, {record.cached} cached"


def _duration(record: BuildRecord, now: float) -> str:
    from buildkit_builder.cli.amounts import lasting

    return lasting((record.completed or now) - record.created)
