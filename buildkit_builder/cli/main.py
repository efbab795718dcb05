"""The command `buildkit-builder`, also mounted as `flyte buildkit`."""

from __future__ import annotations

from pathlib import Path

import click

from buildkit_builder import __version__
from buildkit_builder.cli.builder import builder
from buildkit_builder.cli.doctor import doctor
from buildkit_builder.cli.engine import engine
from buildkit_builder.cli.history import history
from buildkit_builder.cli.plan import plan
from buildkit_builder.cli.prune import prune
from buildkit_builder.cli.usage import du


@click.group()
@click.version_option(__version__, prog_name="buildkit-builder")
@click.option(
    "-c", "--config", "config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Flyte's config.yaml; found as Flyte finds it when not given.",
)  # fmt: skip
def main(config_file: Path | None) -> None:
    """BuildKit as the local image builder of Flyte."""
    from buildkit_builder.flyte_plugin import names as flyte_names
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    if (reason := flyte_names.cannot_run()) is not None:
        raise click.ClickException(flyte_names.cannot_build(reason))
    flyte = click.get_current_context().find_object(object)
    source = getattr(getattr(flyte, "config", None), "source", None)
    flyte_settings.remember_config(config_file or source)


main.add_command(builder)
main.add_command(doctor)
main.add_command(du)
main.add_command(engine)
main.add_command(history)
main.add_command(plan)
main.add_command(prune)
