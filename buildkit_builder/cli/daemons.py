"""The daemons that a command is about: those that builds would go to."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import click

if TYPE_CHECKING:
    from buildkit_builder.buildkit.connect.connection import Connection
    from buildkit_builder.buildkit.find.endpoint import Endpoint
    from buildkit_builder.config import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Generic[T]):
    """What became of a question to several daemons.

    Attributes:
        given: By the daemon that gave it.
        problems: Why others gave none.
    """

    given: Mapping[Endpoint, T]
    problems: tuple[str, ...] = ()

    def check(self) -> None:
        """Ends the command with an error where a daemon gave no answer."""
        if self.problems:
            raise click.ClickException("\n".join(self.problems))


def endpoints() -> tuple[Settings, list[Endpoint]]:
    """The settings, and the daemons that they lead to, each once.

    Raises:
        BuildKitError: A setting makes no sense, or there is no daemon.
    """
    from buildkit_builder import config
    from buildkit_builder.flyte_plugin import image_build
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    settings = flyte_settings.load()
    found = image_build.search(settings, config.environment()).found()
    return settings, list(dict.fromkeys(node.endpoint for node in found))


async def ask(
    endpoints: Sequence[Endpoint], settings: Settings, question: Callable[[Connection], Awaitable[T]]
) -> Answers[T]:
    """Asks every daemon, all at the same time.

    Args:
        endpoints: The daemons.
        settings: The settings.
        question: What is asked over a connection. Where it raises a `BuildKitError` the daemon has a problem.
    """
    from buildkit_builder.buildkit.connect.connection import connect
    from buildkit_builder.errors import BuildKitError

    given: dict[Endpoint, T] = {}
    problems: dict[Endpoint, str] = {}

    async def one(endpoint: Endpoint) -> None:
        try:
            async with await connect(endpoint, timeout=settings.connect_timeout) as connection:
                given[endpoint] = await question(connection)
        except BuildKitError as error:
            problems[endpoint] = str(error)

    await asyncio.gather(*(one(endpoint) for endpoint in endpoints))
    return Answers(
        given={endpoint: given[endpoint] for endpoint in endpoints if endpoint in given},
        problems=tuple(problems[endpoint] for endpoint in endpoints if endpoint in problems),
    )


def title(endpoint: Endpoint) -> str:
    """What a daemon is called."""
    return f"{'Docker Engine' if endpoint.kind == 'docker' else 'buildkitd'} at {endpoint.address}"


def width() -> int | None:
    """What a line may be long at most: a terminal's width; anything elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
