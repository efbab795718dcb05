"""What would be built, without a daemon."""

from __future__ import annotations

import click

from buildkit_builder.buildkit.terminal import printable, printable_lines
from buildkit_builder.flyte_plugin.image_build.build_inputs import Spec
from buildkit_builder.image.plan import Plan, Run, plan
from buildkit_builder.image.spec import DockerfileSpec


def print_plan(spec: Spec) -> None:
    """Prints what would be built. Connects to nothing."""
    click.echo(f"{spec.reference} for {', '.join(spec.platforms)}")
    if isinstance(spec, DockerfileSpec):
        click.echo(f"  Dockerfile {spec.dockerfile}")
    else:
        _print_steps(plan(spec))
    click.echo("Dry run: nothing was built.")


def _print_steps(planned: Plan) -> None:
    click.echo(f"  base {planned.base}")
    for step in planned.steps:
        name = getattr(step, "name", None)
        if name is None:
            continue
        click.echo(f"  {printable(name)}")
        if isinstance(step, Run):
            click.echo(f"      {printable_lines(step.command)}")
