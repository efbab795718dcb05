"""`buildkit-builder plan`: what an image becomes, as a tree of branches, as JSON, or as a graph for Graphviz."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit_builder.buildkit.terminal import printable

if TYPE_CHECKING:
    from buildkit_builder.image.lower import Placed

Outlines = Mapping[str, Sequence["Placed"]]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("environment")
@click.option("--json", "form", flag_value="json", help="For programs.")
@click.option("--dot", "form", flag_value="dot", help="For Graphviz.")
def plan(file: Path, environment: str, form: str | None) -> None:
    """Show what the image of an ENVIRONMENT in a FILE becomes, and which of its steps run side by side.

    The base is looked up; nothing is built.
    """
    from buildkit_builder.errors import BuildKitError
    from buildkit_builder.flyte_plugin import image_build, reader
    from buildkit_builder.flyte_plugin import settings as flyte_settings
    from buildkit_builder.image.spec import DockerfileSpec

    try:
        settings = flyte_settings.load()
        image = flyte_settings.image_of(_environment(file, environment))
        spec = reader.read(image, uv_image=settings.uv_image, platforms=settings.platforms)
        if isinstance(spec, DockerfileSpec):
            raise click.ClickException(f"{spec.dockerfile} is carried out by the daemon's own Dockerfile frontend.")
        found = asyncio.run(image_build.outline(spec, settings))
    except BuildKitError as error:
        raise click.ClickException(str(error)) from error
    outlines = {str(platform): lowered.outline for platform, lowered in found.items()}
    shapes = {"json": as_json, "dot": as_dot}
    click.echo(shapes.get(form or "", as_tree)(spec.reference, spec.base, outlines))


def _environment(file: Path, name: str) -> Any:
    """A variable of a file that is run as a module, as Flyte runs it."""
    sys.path.insert(0, str(file.parent.resolve()))
    described = importlib.util.spec_from_file_location(file.stem, file)
    if described is None or described.loader is None:
        raise click.ClickException(f"{file} is no Python file.")
    module = importlib.util.module_from_spec(described)
    sys.modules[file.stem] = module
    described.loader.exec_module(module)
    if not hasattr(module, name):
        raise click.ClickException(f"{file} has no `{name}`.")
    return getattr(module, name)


def as_tree(reference: str, base: str, outlines: Outlines) -> str:
    """For people: below each step stands what waits for it.

    Args:
        reference: The image's name.
        base: The image that it is made from.
        outlines: By platform, its steps.
    """
    lines = []
    for platform, steps in outlines.items():
        lines += [f"{reference} for {platform}", base]
        lines += _below(steps, None, "")
    return "\n".join(map(printable, lines))


def _below(steps: Sequence[Placed], parent: int | None, indent: str) -> Iterator[str]:
    """The steps that hang below one: those that come right after it, and of what they need nothing comes later."""
    children = [number for number, step in enumerate(steps) if (max(step.after) if step.after else None) == parent]
    for number in children:
        is_last = number == children[-1]
        others = [steps[other].name for other in steps[number].after if other != parent]
        joined = f"   (joins: {'; '.join(others)})" if others else ""
        yield f"{indent}{'└─' if is_last else '├─'} {steps[number].name}{joined}"
        yield from _below(steps, number, f"{indent}{'   ' if is_last else '│  '}")


def as_json(reference: str, base: str, outlines: Outlines) -> str:
    """For programs; `after` has the numbers of the steps that a step waits for, from 0 in the list.

    Args:
        reference: The image's name.
        base: The image that it is made from.
        outlines: By platform, its steps.
    """
    platforms = {
        platform: [{"name": step.name, "after": list(step.after)} for step in steps]
        for platform, steps in outlines.items()
    }
    return json.dumps({"image": reference, "base": base, "platforms": platforms}, indent=2)


def as_dot(reference: str, base: str, outlines: Outlines) -> str:
    """For Graphviz, whose language quotes as JSON does.

    Args:
        reference: The image's name.
        base: The image that it is made from.
        outlines: By platform, its steps.
    """
    lines = [f"digraph {json.dumps(reference)} {{", "  node [shape=box];"]
    for number, (platform, steps) in enumerate(outlines.items()):
        lines += [f"  subgraph cluster_{number} {{", f"    label={json.dumps(platform)};"]
        lines.append(f"    p{number}_base [label={json.dumps(base)}];")
        for index, step in enumerate(steps):
            lines.append(f"    p{number}_{index} [label={json.dumps(step.name)}];")
            lines += [
                f"    p{number}_{before} -> p{number}_{index};" for before in (step.after or ("base",))
            ]  # fmt: skip
        lines.append("  }")
    return "\n".join([*lines, "}"])
