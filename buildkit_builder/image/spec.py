"""What an image is made of, as plain frozen values that know nothing of where they were read from.

An `ImageSpec` is a base and a sequence of layers in the user's order. `reader` reads one from a `flyte.Image`;
`plan` turns it into steps. Nothing here touches the file system: paths are only named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A secret that a layer asks for; never its value.

    Attributes:
        id: What the daemon asks for; stable across processes, since it is part of the cache key.
        variable: The variable that holds it during the step, or `None`.
        path: The file that holds it during the step, or `None`.
        source_variable: The variable of our own environment that has the value.
        source_file: The file that has the value where the variable is empty.
    """

    id: str
    variable: str | None = None
    path: str | None = None
    source_variable: str
    source_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipOptions:
    """Options of an installer's command line, in pip's words."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    pre: bool = False
    extra_args: str | None = None

    def arguments(self) -> list[str]:
        """The arguments as shell text: unquoted, so that a variable of the step may stand in a URL."""
        words = [f"--index-url {self.index_url}"] if self.index_url else []
        words += [f"--extra-index-url {url}" for url in self.extra_index_urls]
        if self.pre:
            words.append("--pre")
        if self.extra_args:
            words.append(self.extra_args)
        return words


@dataclass(frozen=True, slots=True, kw_only=True)
class AptLayer:
    """System packages."""

    packages: tuple[str, ...]
    secrets: tuple[SecretRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PipLayer:
    """Python packages named one by one."""

    packages: tuple[str, ...]
    options: PipOptions = PipOptions()
    secrets: tuple[SecretRef, ...] = ()
    origin: str = "with_pip_packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementsLayer:
    """Python packages named in a requirements file."""

    file: Path
    content: bytes
    options: PipOptions = PipOptions()
    secrets: tuple[SecretRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandsLayer:
    """Shell commands, each a step of its own."""

    commands: tuple[str, ...]
    secrets: tuple[SecretRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvLayer:
    """Variables of the image, in order; a value may refer to earlier ones as a Dockerfile's does."""

    variables: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirLayer:
    """The working directory of all that follows, made where it is missing."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsLayer:
    """Labels of the image."""

    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFiles:
    """Files of this machine.

    Attributes:
        root: A file, or a folder.
        ignore: Patterns in the manner of a `.dockerignore`, relative to `root`, of what is left out of a folder.
        always: Paths relative to `root` that no pattern leaves out.
        only: The paths relative to `root` that are meant, and no others; `None` for all.
        place: What comes before a path relative to `root` in those that the patterns of `outer` are about.
        outer: Patterns of a `.dockerignore` above `root`, as a daemon reads them, of what is left out besides.
    """

    kind: Literal["file", "folder"]
    root: Path
    ignore: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    place: str = ""
    outer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLayer:
    """Local files put into the image.

    Attributes:
        files: A file, or a folder whose contents are copied.
        destination: As in a Dockerfile's `COPY`: relative to the working directory; a trailing `/` means a folder.
    """

    files: LocalFiles
    destination: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UvProjectLayer:
    """The dependencies of a project that uv manages, or the project itself.

    Attributes:
        pyproject: Its `pyproject.toml`.
        lock: Its `uv.lock`, or `None`.
        editables: Folders that the project depends on in place, by their path relative to the project.
        project: The whole project, where it is installed itself; `None` for its dependencies alone.
        place: The folder below `/root/.flyte` where the project is seen while it is installed.
    """

    pyproject: Path
    lock: Path | None
    options: PipOptions = PipOptions()
    secrets: tuple[SecretRef, ...] = ()
    editables: tuple[tuple[str, LocalFiles], ...] = ()
    project: LocalFiles | None = None
    place: str = ""
    origin: str = "with_uv_project"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoetryProjectLayer:
    """The dependencies of a project that Poetry manages, or the project itself; attributes as in `UvProjectLayer`."""

    pyproject: Path
    lock: Path
    extra_args: str = ""
    secrets: tuple[SecretRef, ...] = ()
    project: LocalFiles | None = None
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixiProjectLayer:
    """An environment of conda and PyPI packages, made by pixi, in which the image then runs.

    Attributes:
        pixi_image: Where `pixi` comes from.
        folder: Where the project is in the image.
        manifest: `pixi.toml` or `pyproject.toml`: its name, and the file or the text that it is.
        lock: The lock file, or `None`.
        project: The whole project, where it is copied; `None` for manifest and lock alone.
    """

    pixi_image: str
    folder: str
    manifest_name: str
    manifest: Path | bytes
    lock: Path | None
    environment: str = "default"
    extra_args: str = ""
    secrets: tuple[SecretRef, ...] = ()
    project: LocalFiles | None = None
    origin: str = "with_pixi_project"


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelLayer:
    """A package that is installed from a folder of wheels, its dependencies from the index."""

    folder: Path
    package: str
    options: PipOptions = PipOptions()
    secrets: tuple[SecretRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileLayer:
    """Lines of a Dockerfile, of any kind."""

    lines: tuple[str, ...]
    secrets: tuple[SecretRef, ...] = ()


Layer = (
    AptLayer
    | PipLayer
    | RequirementsLayer
    | CommandsLayer
    | EnvLayer
    | WorkdirLayer
    | LabelsLayer
    | CopyLayer
    | UvProjectLayer
    | PoetryProjectLayer
    | PixiProjectLayer
    | WheelLayer
    | DockerfileLayer
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """An image to build from a base and layers.

    Attributes:
        reference: The name it gets, `[registry/]name:tag`; also the value of `_F_IMG_ID` inside it.
        push: Whether the name has a registry to push to; else it is loaded into the engine.
        base: The base image as the user wrote it.
        platforms: In OCI notation (`linux/amd64`), at least one.
        python_version: Of the environment that is made where the base has none.
        creates_user: Whether a layer makes the unprivileged `flyte` user, which then runs the image.
        uv_image: The image that `uv` is taken from.
        registry_secret: Credentials for registries, in the form of Docker's config.json, or `None`.
    """

    reference: str
    push: bool
    base: str
    platforms: tuple[str, ...]
    python_version: tuple[int, int]
    layers: tuple[Layer, ...]
    creates_user: bool
    uv_image: str
    registry_secret: SecretRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileSpec:
    """An image to build from a Dockerfile; its context is the folder that it lies in."""

    reference: str
    push: bool
    dockerfile: Path
    platforms: tuple[str, ...]
    secrets: tuple[SecretRef, ...] = ()
    registry_secret: SecretRef | None = None


def secrets_of(spec: ImageSpec | DockerfileSpec) -> tuple[SecretRef, ...]:
    """Every secret that the image asks for, each id once, in order."""
    if isinstance(spec, DockerfileSpec):
        found = list(spec.secrets)
    else:
        found = [secret for layer in spec.layers for secret in getattr(layer, "secrets", ())]
    return tuple({secret.id: secret for secret in found}.values())
