"""`buildkit-builder doctor`: which BuildKit is used and why, and what it can do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from buildkit_builder.cli.failing import told

if TYPE_CHECKING:
    from buildkit_builder.buildkit.find.discovery import Discovery, Look
    from buildkit_builder.buildkit.find.endpoint import Endpoint
    from buildkit_builder.cli.examination import Report
    from buildkit_builder.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was looked at, what was found, and what is wrong.

    Attributes:
        looked: The places looked at, in order; the last is the one that was taken.
        daemons: The daemons that answered.
        problems: Why others, or all, did not.
    """

    looked: tuple[Look, ...]
    daemons: tuple[Report, ...]
    problems: tuple[str, ...]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Say which BuildKit is used and why, what it can do, and what to do where it cannot."""
    from buildkit_builder import config
    from buildkit_builder.flyte_plugin import image_build
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    with told():
        settings, environ = flyte_settings.load(), config.environment()
        found = image_build.search(settings, environ)
    diagnosis = asyncio.run(diagnose(found, settings, environ))
    click.echo(json.dumps(asdict(diagnosis), indent=2) if as_json else render(diagnosis))
    if diagnosis.problems:
        raise click.exceptions.Exit(1)


async def diagnose(found: Discovery, settings: Settings, environ: Mapping[str, str]) -> Diagnosis:
    """Ask the daemons of a search what they can do.

    Args:
        found: The search.
        settings: The settings.
        environ: The environment, in which programs may be installed that could be started.
    """
    results = [(node.endpoint, await _examine(node.endpoint, settings.connect_timeout)) for node in found.nodes]
    problems = [f"{result}{_remedy(at, environ)}" for at, result in results if isinstance(result, str)]
    return Diagnosis(
        looked=found.looked,
        daemons=tuple(result for _, result in results if not isinstance(result, str)),
        problems=(*problems, found.missing) if found.missing else tuple(problems),
    )


async def _examine(endpoint: Endpoint, timeout: float) -> Report | str:
    from buildkit_builder.buildkit.connect.connection import connect
    from buildkit_builder.cli import examination
    from buildkit_builder.errors import BuildKitError

    try:
        async with await connect(endpoint, timeout=timeout) as connection:
            return await examination.examine(connection)
    except BuildKitError as error:
        return str(error)


def _remedy(endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """Where nobody answers on this machine, but something is installed that only has to be started, how."""
    from buildkit_builder.flyte_plugin import private_engine

    installed = private_engine.installed(environ)
    if endpoint.scheme != "unix" or not installed or private_engine.running(environ):
        return ""
    return f" Or have `buildkit-builder engine up` start `{installed}`, which is installed, for you."


def render(diagnosis: Diagnosis) -> str:
    """The diagnosis for a person, without a line end at its end."""
    from buildkit_builder.cli import examination

    width = max((len(look.place) for look in diagnosis.looked), default=0)
    looked = [f"  {look.place:<{width}}  {look.found}" for look in diagnosis.looked]
    return "\n\n".join(
        (
            "\n".join(["Looked at, in order:", *looked]),
            *(examination.render(report) for report in diagnosis.daemons),
            *diagnosis.problems,
        )
    )
