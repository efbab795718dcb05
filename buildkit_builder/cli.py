"""The command `buildkit-builder`, also mounted as `flyte buildkit`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from buildkit_builder import __version__


@click.group()
@click.version_option(__version__, prog_name="buildkit-builder")
@click.option(
    "-c", "--config", "config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Flyte's config.yaml; found as Flyte finds it when not given.",
)  # fmt: skip
def main(config_file: Path | None) -> None:
    """BuildKit as the local image builder of Flyte."""
    from buildkit_builder import flyte_settings

    flyte = click.get_current_context().find_object(object)
    source = getattr(getattr(flyte, "config", None), "source", None)
    flyte_settings.remember_config(config_file or source)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Say which BuildKit is used and why, what it can do, and what to do where it cannot."""
    from buildkit_builder import config, doctor, flyte_settings, image_build
    from buildkit_builder.client.connection import connect
    from buildkit_builder.errors import BuildKitError

    async def examine() -> doctor.Report:
        settings = flyte_settings.load()
        endpoint = image_build.find_endpoint(settings, config.environment())
        async with await connect(endpoint, timeout=settings.connect_timeout) as connection:
            return await doctor.examine(connection)

    try:
        report = asyncio.run(examine())
    except BuildKitError as error:
        raise click.ClickException(str(error)) from error
    click.echo(doctor.to_json(report) if as_json else doctor.render(report))
