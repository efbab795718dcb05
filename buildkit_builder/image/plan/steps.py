"""The steps of a plan: what each does, in terms of an image and not yet of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from buildkit_builder.image.plan.wheels import Wheels
from buildkit_builder.image.spec import LocalFiles, SecretRef


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
class SourceMount:
    """Local files that are there only while a command runs.

    Attributes:
        source: The name of a `LocalSource`.
        path: What to take of it: `/` for all, else one file.
        target: Where; a relative path starts at the working directory.
        writable: Whether the command may change them; what it changes is lost.
    """

    source: str
    path: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A shell command.

    Attributes:
        name: What progress calls it.
        command: Given to the image's shell as it is.
        files: Content by path, there only while the command runs; relative paths start at the working directory.
        mounts: Local files, there only while the command runs.
        scope: What it changes: anything, or the Python environment alone; `environment` makes that.
        wheels: How it can be done ahead as far as nothing but wheels is needed; `None` where that cannot be told.
        dependencies: What can be done so of it in any case, and is not all of it: a step that is never run itself.
    """

    name: str
    command: str
    caches: tuple[CacheMount, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    mounts: tuple[SourceMount, ...] = ()
    secrets: tuple[SecretRef, ...] = ()
    scope: Literal["anything", "python", "environment"] = "anything"
    wheels: Wheels | None = None
    dependencies: Run | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPackages:
    """Packages of the distribution, installed by apt.

    Attributes:
        packages: As apt's command line takes them: names, with versions or releases, or files.
    """

    name: str
    packages: tuple[str, ...]
    secrets: tuple[SecretRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLocal:
    """Files of a local source put into the image, for the `flyte` user where there is one.

    Attributes:
        source: The name of a `LocalSource`.
        path: What to take of it: `/` for all, else one file.
        as_root: Owned by root, whatever users there are.
    """

    name: str
    source: str
    path: str
    destination: str
    as_root: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyImage:
    """A file taken from another image."""

    name: str
    image: str
    path: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """A file of the image, owned by root."""

    name: str
    path: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileLines:
    """Lines of a Dockerfile that go on from the image so far."""

    name: str
    lines: tuple[str, ...]
    secrets: tuple[SecretRef, ...] = ()


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
Step = Run | InstallPackages | CopyLocal | CopyImage | WriteFile | DockerfileLines | Workdir | Config


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Local files that the daemon may ask for, and the name by which the graph calls them."""

    name: str
    files: LocalFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do to a base image, step by step."""

    base: str
    steps: tuple[Step, ...]
    sources: tuple[LocalSource, ...]

    @property
    def images(self) -> tuple[str, ...]:
        """Every image that the plan needs, each once."""
        copied = [step.image for step in self.steps if isinstance(step, CopyImage)]
        return tuple(dict.fromkeys([self.base, *copied]))
