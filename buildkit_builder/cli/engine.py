"""`buildkit-builder engine`: a BuildKit of this user's own, where one is installed and none runs."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from buildkit_builder.cli.failing import told


@click.group()
def engine() -> None:
    """Start and stop a private engine of your own."""


@engine.command()
@click.option("--no-network", is_flag=True, help="A dockerd without bridge and packet filter rules, beside another.")
def up(no_network: bool) -> None:
    """Start the installed buildkitd, or else dockerd, for you; builds find it by themselves."""
    from buildkit_builder import config
    from buildkit_builder.cli import private_daemon
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    with told():
        registries = flyte_settings.load().insecure_registries
        found = private_daemon.up(config.environment(), insecure_registries=registries, network=not no_network)
    click.echo(f"{found.program} answers at {found.address} (process {found.pid}).")


@engine.command()
@click.option("--purge", is_flag=True, help="Remove its cache and its images as well.")
def down(purge: bool) -> None:
    """Stop the private engine."""
    from buildkit_builder import config
    from buildkit_builder.cli import private_daemon

    with told():
        ended = private_daemon.down(config.environment(), purge=purge)
    click.echo(f"{ended.program} (process {ended.pid}) has ended." if ended else "No private engine runs.")


@engine.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Say whether the private engine runs; exit code 1 where it does not."""
    from buildkit_builder import config
    from buildkit_builder.flyte_plugin import private_engine

    environ = config.environment()
    place, found = private_engine.Place.of(environ), private_engine.running(environ)
    if as_json:
        click.echo(json.dumps({"engine": asdict(found) if found else None, "folder": str(place.folder)}, indent=2))
    elif found:
        click.echo(f"{found.program} answers at {found.address} (process {found.pid}); its log is {place.log}.")
    else:
        installed = private_engine.installed(environ)
        advice = f"`buildkit-builder engine up` starts {installed}." if installed else "None is installed, either."
        click.echo(f"No private engine runs. {advice}")
    if found is None:
        raise click.exceptions.Exit(1)
