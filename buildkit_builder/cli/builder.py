"""`buildkit-builder builder`: builders of buildx, for engines whose own BuildKit cannot do what is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from buildkit_builder.cli.failing import told

if TYPE_CHECKING:
    from buildkit_builder.buildkit.find.nodes import Node
    from buildkit_builder.cli.examination import Report
    from buildkit_builder.config import Settings

_DEFAULT = "buildkit-builder"


@click.group()
def builder() -> None:
    """Make, list, look at and remove builders of buildx."""


@builder.command()
@click.argument("name", default=_DEFAULT)
@click.option("--context", help="The Docker context of the engine that runs it; the one in use when not given.")
@click.option("--image", help="The image of BuildKit; buildx's own choice when not given.")
@click.option(
    "--platform", "platforms", multiple=True, help="What it is meant to build for; all it can when not given."
)
@click.option("--driver-opt", "options", multiple=True, metavar="KEY=VALUE", help="As in `docker buildx create`.")
@click.option("--use", is_flag=True, help="Make it the builder in use, for `docker buildx` as well.")
@click.option("--anyway", is_flag=True, help="Even where the engine's own BuildKit can do everything.")
def create(
    *,
    name: str,
    context: str | None,
    image: str | None,
    platforms: tuple[str, ...],
    options: tuple[str, ...],
    use: bool,
    anyway: bool,
) -> None:
    """Make a builder in a container, where the engine's own BuildKit cannot do all that images may need.

    It says what the engine cannot do, and how the builder is used.
    """
    from buildkit_builder import config
    from buildkit_builder.buildkit.find import buildx_command
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    environ = config.environment()
    given = dict(_pair(option) for option in options)
    if image:
        given["image"] = image
    with told():
        settings = flyte_settings.load()
        lacking = asyncio.run(_lacking(settings, environ, context))
        if not lacking and not anyway:
            click.echo("The engine's own BuildKit can do all that images may need, so no builder is made (--anyway).")
            return
        for line in lacking:
            click.echo(f"The engine's own BuildKit will not do: {line}.")
        buildx_command.create(name, environ, context=context, platforms=platforms, options=given, use=use)
        version = asyncio.run(_examine(_nodes(name, environ), settings))[0].release
    how = "it is the builder in use" if use else f"the setting `endpoint: buildx://{name}` uses it"
    click.echo(f"The builder `{name}` runs (BuildKit with the features of {version}); {how}.")


@builder.command(name="ls")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_builders(as_json: bool) -> None:
    """List the builders that buildx knows, and which is in use."""
    from buildkit_builder import config
    from buildkit_builder.buildkit.find import sockets
    from buildkit_builder.buildkit.find.buildx_store import BuildxStore
    from buildkit_builder.buildkit.find.docker_endpoint import DockerEndpoints
    from buildkit_builder.buildkit.find.endpoint import EndpointOptions

    environ = config.environment()
    with told():
        docker = DockerEndpoints(EndpointOptions(), environ, config.home(environ), sockets.probe)
        store = BuildxStore.of(environ, docker.folder)
        current = store.current(docker.key())
        known = [stored for name in store.names() if (stored := store.builder(name))]
    if as_json:
        rows = [
            {
                "name": stored.name,
                "driver": stored.driver,
                "in_use": stored == current,
                "nodes": [
                    {"name": node.name, "endpoint": node.endpoint, "platforms": [str(item) for item in node.platforms]}
                    for node in stored.nodes
                ],
            }
            for stored in known
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not known:
        click.echo(f"No builder is stored in {store.folder}; builds go to the engine's own.")
    for stored in known:
        click.echo(f"{stored.name}{' (in use)' if stored == current else ''}: {stored.driver}")
        for node in stored.nodes:
            platforms = f" for {', '.join(map(str, node.platforms))}" if node.platforms else ""
            click.echo(f"  {node.name} at {node.endpoint}{platforms}")


@builder.command()
@click.argument("name", default=_DEFAULT)
@click.option("--bootstrap", is_flag=True, help="Start it before.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def inspect(name: str, bootstrap: bool, as_json: bool) -> None:
    """Say of every node of a builder what it can do."""
    from buildkit_builder import config
    from buildkit_builder.buildkit.find import buildx_command
    from buildkit_builder.cli import examination
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    environ = config.environment()
    with told():
        nodes = _nodes(name, environ)
        if bootstrap:
            buildx_command.start(name, environ)
        reports = asyncio.run(_examine(nodes, flyte_settings.load()))
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        click.echo("\n\n".join(examination.render(report) for report in reports))


@builder.command()
@click.argument("name", default=_DEFAULT)
def rm(name: str) -> None:
    """Remove a builder, with its containers and its cache."""
    from buildkit_builder import config
    from buildkit_builder.buildkit.find import buildx_command

    with told():
        buildx_command.remove(name, config.environment())
    click.echo(f"The builder `{name}` is removed.")


def _pair(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not equals:
        raise click.BadParameter(f"`{option}` is not KEY=VALUE", param_hint="--driver-opt")
    return key, value


def _nodes(name: str, environ: Mapping[str, str]) -> tuple[Node, ...]:
    return _at(f"buildx://{name}", environ)


def _at(address: str, environ: Mapping[str, str]) -> tuple[Node, ...]:
    from buildkit_builder import config
    from buildkit_builder.buildkit.find.discovery import discover
    from buildkit_builder.buildkit.find.endpoint import EndpointOptions

    return discover(EndpointOptions(address=address), environ=environ, home=config.home(environ)).found()


async def _lacking(settings: Settings, environ: Mapping[str, str], context: str | None) -> list[str]:
    """What the engine's own BuildKit cannot do, a line each."""
    from buildkit_builder.errors import CapabilityError

    try:
        (report,) = await _examine(_at(f"docker://{context}" if context else "docker", environ), settings)
    except CapabilityError as error:
        return [f"anything: {str(error).rstrip('.')}"]
    return [f"{finding.name} ({finding.detail})" for finding in report.findings if finding.ok is False]


async def _examine(nodes: tuple[Node, ...], settings: Settings) -> list[Report]:
    from buildkit_builder.buildkit.connect.connection import connect
    from buildkit_builder.cli import examination

    reports = []
    for node in nodes:
        async with await connect(node.endpoint, timeout=settings.connect_timeout) as connection:
            reports.append(await examination.examine(connection))
    return reports
