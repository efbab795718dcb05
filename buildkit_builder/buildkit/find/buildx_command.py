"""What only the `docker` command line does: it makes, starts and removes the builders of buildx.

`buildx_store` reads them; a build runs none of this.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from buildkit_builder.errors import EndpointError

if TYPE_CHECKING:
    from python_on_whales.components.buildx.cli_wrapper import BuildxCLI

_LINES = 12


def create(
    name: str,
    environ: Mapping[str, str],
    *,
    context: str | None = None,
    platforms: tuple[str, ...] = (),
    options: Mapping[str, str],
    use: bool = False,
) -> None:
    """Make a builder of the driver `docker-container`, and start it; where that fails nothing of it stays.

    Args:
        name: Its name.
        environ: The environment, for the PATH.
        context: The Docker context of the engine that runs it; the one in use where not given.
        platforms: What it is meant to build for; empty for all that it can.
        options: Options of the driver.
        use: Whether it becomes the builder in use.

    Raises:
        EndpointError: There is no `docker` or no buildx, or it refused; holds its words.
    """
    advice = "Where its image cannot be had, `--image` names another, which the engine may have already."
    with _told(f"The builder `{name}` could not be made", advice):
        buildx = _buildx(environ)
        buildx.create(
            context_or_endpoint=context,
            platforms=list(platforms) or None,
            driver="docker-container",
            driver_options=dict(options),
            name=name,
        )
        try:
            buildx.inspect(name, bootstrap=True)
            if use:
                buildx.use(name)
        except BaseException:
            buildx.remove(name)
            raise


def start(name: str, environ: Mapping[str, str]) -> None:
    """Start a builder, and make its containers where they are not there.

    Raises:
        EndpointError: As `create`.
    """
    with _told(f"The builder `{name}` could not be started"):
        _buildx(environ).inspect(name, bootstrap=True)


def remove(name: str, environ: Mapping[str, str]) -> None:
    """Remove a builder, with its containers and its cache.

    Raises:
        EndpointError: As `create`.
    """
    with _told(f"The builder `{name}` could not be removed"):
        _buildx(environ).remove(name)


def _buildx(environ: Mapping[str, str]) -> BuildxCLI:
    found = shutil.which("docker", path=environ.get("PATH"))
    if found is None:
        raise EndpointError("Builders are made by `docker buildx`, and there is no `docker` on the PATH. Install it.")
    from python_on_whales import DockerClient

    buildx = DockerClient(client_call=[found]).buildx
    if not buildx.is_installed():
        raise EndpointError(f"Builders are made by `docker buildx`, and {found} has no buildx. Install its plugin.")
    return buildx


@contextmanager
def _told(what: str, advice: str = "") -> Iterator[None]:
    """Turns what `docker` says against it into an error of ours."""
    from python_on_whales.exceptions import DockerException

    try:
        yield
    except DockerException as error:
        lines = [line.rstrip() for line in (error.stderr or "").splitlines() if line.strip()]
        said = "\n".join(lines[-_LINES:]) or f"it ended with exit code {error.return_code}"
        raise EndpointError(f"{what}; `docker buildx` says:\n{said}\n{advice}".rstrip()) from error
