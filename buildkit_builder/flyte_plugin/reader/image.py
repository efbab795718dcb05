"""An image as a whole: base, platforms, name, and its layers in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flyte import Image
from flyte import _image as flyte_layers
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.buildkit.session.patterns import Matcher
from buildkit_builder.errors import ImageError, MissingSourceError
from buildkit_builder.flyte_plugin.reader.layers import read_layer
from buildkit_builder.flyte_plugin.reader.local_files import local_file, read_patterns, read_text
from buildkit_builder.flyte_plugin.reader.secrets import secret_ref
from buildkit_builder.flyte_plugin.reader.texts import check, named
from buildkit_builder.flyte_plugin.reader.uv_files import ABSOLUTE, place_of
from buildkit_builder.image.spec import (
    CopyLayer,
    DockerfileSpec,
    ImageSpec,
    Layer,
    LocalFiles,
    PixiProjectLayer,
    PoetryProjectLayer,
    UvProjectLayer,
)

__all__ = ["chosen", "default_uv_image", "enters", "keeps", "needs_building", "read"]


def chosen(platforms: Iterable[str], only: Iterable[str]) -> tuple[str, ...]:
    """Those of an image's platforms that the setting leaves to build, each once, as daemons spell them.

    Raises:
        ImageError: One of them is no platform.
    """
    left = Platform.parse_each(only)
    return tuple(str(platform) for platform in Platform.parse_each(platforms) if not left or platform in left)


def read(image: Image, *, uv_image: str | None = None, platforms: tuple[str, ...] = ()) -> ImageSpec | DockerfileSpec:
    """Turns an image into a spec.

    Args:
        image: The image, its registry and name already settled by Flyte.
        uv_image: Where `uv` comes from; Flyte's own choice when not given.
        platforms: Of the image's platforms, the ones to build; all when empty.

    Raises:
        UnsupportedLayerError: A layer is of a kind that is not built yet; names it.
        MissingSourceError: A file or folder named by a layer is not there.
        ImageError: Anything else that is wrong with the image.
    """
    check("The image", (image.name, image.registry, image.base_image, *image.platform))
    wanted = chosen(image.platform, platforms)
    if not wanted:
        raise ImageError(
            f"The image is for {', '.join(image.platform)}, and `image.buildkit.platforms` leaves only "
            f"{', '.join(platforms)} to build. Name one platform in both."
        )
    if image.dockerfile is not None:
        dockerfile = local_file(image.dockerfile, "from_dockerfile")
        return DockerfileSpec(
            reference=_reference(image),
            push=bool(image.registry),
            dockerfile=dockerfile,
            platforms=wanted,
            registry_secret=secret_ref(image._image_registry_secret) if image._image_registry_secret else None,
        )
    if not image.base_image:
        raise ImageError(
            f"The image `{image.name}` has no base: name one with `from_base`, or, for `from_ref_name`, "
            "under `image.image_refs` of the config."
        )
    ignore = _ignore_patterns(image)
    outer = _outer_patterns(image)
    layers = [_within(layer, read, outer) for layer in image._layers for read in read_layer(layer, ignore)]
    for layer in layers:
        check(getattr(layer, "origin", "a layer"), layer)
    return ImageSpec(
        reference=_reference(image),
        push=bool(image.registry),
        base=image.base_image,
        platforms=wanted,
        python_version=image.python_version,
        layers=tuple(layers),
        creates_user=any(
            isinstance(layer, flyte_layers.Commands) and flyte_layers._CREATE_FLYTE_USER_CMD in layer.commands
            for layer in image._layers
        ),
        uv_image=uv_image or default_uv_image(),
        registry_secret=secret_ref(image._image_registry_secret) if image._image_registry_secret else None,
    )


def _reference(image: Image) -> str:
    """The image's name. Its tag is a digest of every layer and file, so this comes after those have been checked."""
    try:
        return image.uri
    except UnicodeEncodeError as error:
        raise ImageError(
            f"{named(image, error)} is not UTF-8, and an image is named by all files that it copies. Rename it, or "
            "name it in an ignore file."
        ) from error
    except (ImageBuildError, OSError, ValueError) as error:
        raise ImageError(f"The image `{image.name}` has no name to be pushed under: {error}") from error


def needs_building(image: Image) -> bool:
    """Whether there is anything to build: an image that nothing was added to is the one it names."""
    return image._is_cloned


def default_uv_image() -> str:
    """The image that Flyte's own builder takes `uv` from, read from its template so that the two never differ."""
    from flyte._internal.imagebuild import docker_builder

    for line in docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE.template.splitlines():
        words = line.split()
        if words[:1] == ["FROM"] and words[2:] == ["AS", "uv"]:
            return words[1]
    raise ImageError("This version of flyte names no uv image: set `image.buildkit.uv_image` in the config.")


def keeps(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether what is in a folder, by its relative path, goes into the image: by the rules of Flyte's own builder."""
    matcher = _matcher(patterns)
    return lambda path: not matcher.matches(path)


def enters(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a folder that does not go into the image is looked into nevertheless, for an exception (`!…`) below it.

    Flyte's own builder goes by how the exception is written, so that one that starts with `**` opens no folder.
    """
    exceptions = [pattern.cleaned_pattern for pattern in _matcher(patterns).patterns if pattern.exclusion]
    return lambda path: any(exception.startswith(path) for exception in exceptions)


def _matcher(patterns: tuple[str, ...]) -> Any:
    from flyte._internal.imagebuild import docker

    return docker.PatternMatcher(list(patterns))  # type: ignore[no-untyped-call]


def _ignore_patterns(image: Image) -> tuple[str, ...]:
    """The patterns that hold for the image's folders: of its last `with_dockerignore`, else of the root folder.

    Flyte takes a byte order mark for a part of the first pattern, and lets a file that is not UTF-8 leave out nothing.

    Raises:
        ImageError: One of them is malformed.
    """
    from flyte._initialize import _get_init_config

    config = _get_init_config()
    files = _dockerignores(image) or ([Path(config.root_dir) / ".dockerignore"] if config is not None else [])
    if not files or not files[-1].is_file():
        return ()
    file = files[-1].absolute()
    lines = [line.strip() for line in read_text(file, "ignored files").removeprefix("\ufeff").split("\n")]
    patterns = tuple(line for line in lines if line and not line.startswith("#"))
    try:
        keeps(patterns)("")
    except re.error as error:
        raise ImageError(f"with_dockerignore: `{file}` makes no sense: {error}.") from error
    return patterns


def _outer_patterns(image: Image) -> tuple[str, ...]:
    """What Flyte's own builder has the daemon leave out as well, of all that has a relative path.

    It copies the files of `with_dockerignore` into its context, where relative paths are what they are for the user,
    and the one of that name is the context's own.
    """
    own = [path for path in _dockerignores(image) if path.name == ".dockerignore"]
    return read_patterns(own[-1].absolute(), "with_dockerignore") if own else ()


def _dockerignores(image: Image) -> list[Path]:
    """The files of `with_dockerignore`.

    Raises:
        MissingSourceError: One is not there.
    """
    files = [Path(layer.path) for layer in image._layers if isinstance(layer, flyte_layers.DockerIgnore)]
    for file in files:
        if not file.is_file():
            raise MissingSourceError(f"with_dockerignore: the file `{file.absolute()}` does not exist.")
    return files


def _within(layer: flyte_layers.Layer, read: Layer, outer: tuple[str, ...]) -> Layer:
    """Folders that were given by a relative path, with what is left out as seen from where that starts."""
    if not outer:
        return read
    if isinstance(layer, flyte_layers.CopyConfig) and isinstance(read, CopyLayer):
        return replace(read, files=_less(read.files, place_of(layer.src), outer))
    if isinstance(layer, flyte_layers.PixiProject) and isinstance(read, PixiProjectLayer):
        return replace(read, project=read.project and _less(read.project, place_of(layer.manifest.parent), outer))
    if isinstance(read, PoetryProjectLayer):
        return replace(read, project=read.project and _less(read.project, read.place, outer))
    if isinstance(read, UvProjectLayer):
        editables = tuple(
            (path, _less(files, place_of(Path(read.place, path)), outer)) for path, files in read.editables
        )
        project = read.project and _less(read.project, read.place, outer)
        return replace(read, project=project, editables=editables)
    return read


def _less(files: LocalFiles, place: str, outer: tuple[str, ...]) -> LocalFiles:
    """A folder that is at a place of the context of Flyte's own builder, less what the context leaves out of it."""
    if files.kind != "folder" or place.startswith(ABSOLUTE):
        return files
    if place == ".":
        return replace(files, outer=outer)
    matcher = Matcher(outer)
    if matcher.matches(place) and not matcher.may_except_below(place):
        return files  # nothing of it would be left, and the patterns were not meant so
    return replace(files, place=f"{place}/", outer=outer)
