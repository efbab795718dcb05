"""How commands fail: with the message of the error, and without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from buildkit_builder.errors import BuildKitError


@contextmanager
def told() -> Iterator[None]:
    """Ends the command with an error's message."""
    try:
        yield
    except BuildKitError as error:
        raise click.ClickException(str(error)) from error
