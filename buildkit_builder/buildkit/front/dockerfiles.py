"""Dockerfiles, as something to build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkit_builder.buildkit.front.mounts import Secret, Ssh
from buildkit_builder.buildkit.front.needs import Needs
from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.errors import MissingSourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A Dockerfile and what belongs to it. `dockerfile` makes it, `build` builds it.

    Attributes:
        directory: The build context.
        file: The Dockerfile.
        target: The stage to build, or empty for the last.
        build_args: Values of its `ARG` instructions.
        secrets: What its `RUN --mount=type=secret` may ask for.
        ssh: What its `RUN --mount=type=ssh` may ask for.
    """

    directory: Path
    file: Path
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    ssh: tuple[Ssh, ...] = ()

    def text(self) -> str:
        """Read the Dockerfile.

        Raises:
            MissingSourceError: It cannot be read.
        """
        try:
            return self.file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise MissingSourceError(f"The Dockerfile {self.file} cannot be read: {error.strerror}.") from error

    def needs(self) -> Needs:
        """Collect what the session has to serve.

        Raises:
            BuildKitError: A directory or a secret is missing.
        """
        if not self.directory.is_dir():
            raise MissingSourceError(f"There is no directory {self.directory}, which `bk.dockerfile` names.")
        directories = {
            "context": LocalDirectory("context", self.directory),
            "dockerfile": LocalDirectory("dockerfile", self.file.parent),
        }
        return Needs.joined((Needs(directories=directories), *(each.needs() for each in (*self.secrets, *self.ssh))))

    def options(self) -> dict[str, str]:
        """Return the options of the daemon's Dockerfile frontend."""
        return {
            "filename": self.file.name,
            **({"target": self.target} if self.target else {}),
            **{f"build-arg:{name}": value for name, value in self.build_args.items()},
        }


def dockerfile(
    directory: str | Path = ".",
    *,
    file: str | Path = "Dockerfile",
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    secrets: Sequence[Secret] = (),
    ssh: Sequence[Ssh] = (),
) -> Dockerfile:
    """Take a Dockerfile to build.

    Args:
        directory: The build context; its `.dockerignore` counts.
        file: The Dockerfile, within the directory or absolute.
        target: The stage to build; the last, if it is not given.
        build_args: Values of its `ARG` instructions.
        secrets: What its `RUN --mount=type=secret` may ask for, from `secret`.
        ssh: What its `RUN --mount=type=ssh` may ask for, from `ssh`.

    Example:
        >>> app = bk.dockerfile(".", build_args={"VERSION": "1.2"})
    """
    context = Path(directory).expanduser().absolute()
    return Dockerfile(
        directory=context,
        file=context / Path(file).expanduser(),
        target=target,
        build_args=dict(build_args or {}),
        secrets=tuple(secrets),
        ssh=tuple(ssh),
    )
