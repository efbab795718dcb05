"""BuildKit as the `local` image builder of Flyte 2, and a BuildKit client for Python."""

from __future__ import annotations

__version__ = "0.1.0"


def activate() -> None:
    """Makes `image.builder: local` mean this package, in a process that builds without having called `flyte.init…`.

    Raises nothing: beside a Flyte that is not known, Flyte's own builder stays, and one line says so.
    """
    from buildkit_builder.flyte_plugin import activation

    activation.activate()
