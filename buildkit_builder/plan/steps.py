"""The steps of a plan: what each does, in terms of an image and not yet of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from buildkit_builder.spec import SecretRef


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    """A folder that outlives the build on the daemon.

    Attributes:
        id: Shared by every step that names it; `{architecture}` in it stands for the platform's.
        locked: Whether only one step at a time may use it. `uv` and most tools need no lock; `dpkg` does.
    """

    target: str
    id: str
    locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A shell command.

    Attributes:
        name: What progress calls it.
        command: Given to the image's shell as it is.
        files: Content by path, there only while the command runs; relative paths start at the working directory.
        may_add_users: Whether it can change who owns what is copied afterwards (the user's own commands).
    """

    name: str
    command: str
    caches: tuple[CacheMount, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    secrets: tuple[SecretRef, ...] = ()
    may_add_users: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLocal:
    """Files of a local source put into the image, for the `flyte` user where there is one.

    Attributes:
        source: The name of a `LocalSource`.
        path: What to take of it: `/` for all, else one file.
    """

    name: str
    source: str
    path: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyImage:
    """A file taken from another image."""

    name: str
    image: str
    path: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir:
    """The working directory, made where it is missing."""

    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEnv:
    """Variables of the image, set at once: a value may refer to what was set before, as in a Dockerfile's `ENV`."""

    variables: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLabels:
    """Labels of the image."""

    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUser:
    """The user of all that follows, and of the image."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetShell:
    """The shell that the image names for commands."""

    shell: tuple[str, ...]


Config = SetEnv | SetLabels | SetUser | SetShell
Step = Run | CopyLocal | CopyImage | Workdir | Config


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Local files that the daemon may ask for.

    Attributes:
        name: What the graph calls it.
        root: The folder, or the one file, on this machine.
        ignore: Patterns of what is left out, relative to `root`, by Flyte's rules.
    """

    name: str
    kind: Literal["file", "folder"]
    root: Path
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do to a base image, step by step."""

    base: str
    steps: tuple[Step, ...]
    sources: tuple[LocalSource, ...]
    creates_user: bool

    @property
    def images(self) -> tuple[str, ...]:
        """Every image that the plan needs, each once."""
        copied = [step.image for step in self.steps if isinstance(step, CopyImage)]
        return tuple(dict.fromkeys([self.base, *copied]))
