"""Reads a `flyte.Image` into an `ImageSpec`: the only module that knows the private names of Flyte's image.

Written for flyte 2.12.1. Reading touches the files that the image names (is it there, what does it say) and nothing
else; whatever is wrong is one `ImageError` before any connection is made.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tomli
from flyte import Image, Secret
from flyte import _image as flyte_layers
from flyte.errors import ImageBuildError

from buildkit_builder.errors import ImageError, MissingSourceError, UnsupportedLayerError
from buildkit_builder.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    DockerfileSpec,
    EnvLayer,
    ImageSpec,
    LabelsLayer,
    Layer,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    SecretRef,
    WorkdirLayer,
)

KNOWN_FLYTE = "2.12.1"


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
    wanted = tuple(platform for platform in image.platform if not platforms or platform in platforms)
    if not wanted:
        raise ImageError(
            f"The image is for {', '.join(image.platform)}, and `image.buildkit.platforms` leaves only "
            f"{', '.join(platforms)} to build. Name one platform in both."
        )
    if image.dockerfile is not None:
        dockerfile = _file(image.dockerfile, "from_dockerfile")
        return DockerfileSpec(
            reference=_reference(image), push=bool(image.registry), dockerfile=dockerfile, platforms=wanted
        )
    if not image.base_image:
        raise ImageError(
            f"The image `{image.name}` has no base: name one with `from_base`, or, for `from_ref_name`, "
            "under `image.image_refs` of the config."
        )
    ignore = _ignore_patterns(image)
    layers = [read for layer in image._layers for read in _layer(layer, ignore)]
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
    )


def _reference(image: Image) -> str:
    """The image's name. Its tag is a digest of every layer and file, so this comes after those have been checked."""
    try:
        return image.uri
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
    """Whether a file of a folder, by its relative path, goes into the image: by the rules of Flyte's own builder."""
    from flyte._internal.imagebuild import docker

    matcher: Any = docker.PatternMatcher(list(patterns))  # type: ignore[no-untyped-call]
    return lambda path: not matcher.matches(path)


def _layer(layer: flyte_layers.Layer, ignore: tuple[str, ...]) -> Iterable[Layer]:
    match layer:
        case flyte_layers.Requirements():
            yield _requirements(layer)
        case flyte_layers.PipPackages():
            yield PipLayer(packages=layer.packages or (), options=_options(layer), secrets=_secrets(layer))
        case flyte_layers.UVScript():
            yield from _script(layer)
        case flyte_layers.AptPackages():
            yield AptLayer(packages=layer.packages, secrets=_secrets(layer))
        case flyte_layers.Commands():
            yield _commands(layer)
        case flyte_layers.Env():
            yield _env(layer)
        case flyte_layers.WorkDir():
            yield WorkdirLayer(path=layer.workdir)
        case flyte_layers.CopyConfig():
            yield _copy(layer, ignore)
        case flyte_layers.DockerIgnore():
            return  # its patterns are already with every folder that is copied
        case flyte_layers._DockerLines():
            yield _labels(layer)
        case _:
            raise UnsupportedLayerError(
                f"The layer `{type(layer).__name__}` is not built by this version of buildkit-builder "
                f"(written for flyte {KNOWN_FLYTE}). Use `image.builder: docker` for Flyte's own builder."
            )


def _commands(layer: flyte_layers.Commands) -> CommandsLayer:
    """Commands for a shell. What Flyte's own builder would hand to the Dockerfile's syntax is not that."""
    for command in layer.commands:
        if command.lstrip().startswith(("--", "<<")) or _is_exec_form(command):
            raise UnsupportedLayerError(
                f"with_commands: `{command}` is Dockerfile syntax and not a shell command, which this version of "
                "buildkit-builder does not build. Write it as a shell command, or use `image.builder: docker` for "
                "Flyte's own builder."
            )
    return CommandsLayer(commands=layer.commands, secrets=_secrets(layer))


def _is_exec_form(command: str) -> bool:
    try:
        words = json.loads(command)
    except ValueError:
        return False
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _env(layer: flyte_layers.Env) -> EnvLayer:
    variables = tuple((str(key), str(value)) for key, value in layer.env_vars)
    for key, _ in variables:
        if not key or "=" in key or any(char.isspace() for char in key):
            raise ImageError(f"with_env_vars: `{key}` cannot be the name of a variable.")
    return EnvLayer(variables=variables)


def _options(layer: flyte_layers.PipOption) -> PipOptions:
    return PipOptions(
        index_url=layer.index_url,
        extra_index_urls=tuple(layer.extra_index_urls or ()),
        pre=layer.pre,
        extra_args=layer.extra_args,
    )


def _requirements(layer: flyte_layers.Requirements) -> RequirementsLayer:
    file = _file(layer.file, "with_requirements")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MissingSourceError(f"with_requirements: the file `{file}` cannot be read: {error.strerror}.") from error
    return RequirementsLayer(file=file, content=content, options=_options(layer), secrets=_secrets(layer))


def _script(layer: flyte_layers.UVScript) -> Iterable[Layer]:
    from flyte._utils.uv_script_parser import _extract_uv_metadata_block, parse_uv_script_file

    script = _file(layer.script, "from_uv_script")
    try:
        header = parse_uv_script_file(script)
        # Flyte reads TOML so leniently that half a list of dependencies would go missing without a word.
        strict = tomli.loads(_extract_uv_metadata_block(script.read_text(encoding="utf-8")) or "")
        dependencies = strict.get("dependencies", [])
        if not isinstance(dependencies, list) or not all(isinstance(item, str) and item for item in dependencies):
            raise ValueError("`dependencies` is not a list of packages")
    except OSError as error:
        raise MissingSourceError(f"from_uv_script: the file `{script}` cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, AttributeError) as error:
        # The last two are what the parser does with a header whose tables and lists are not where they belong.
        raise ImageError(f"from_uv_script: the `# /// script` header of `{script}` makes no sense: {error}.") from error
    if header.pyprojects:
        raise UnsupportedLayerError(
            f"from_uv_script: `{script}` depends on local projects ({', '.join(header.pyprojects)}), which this "
            "version of buildkit-builder does not build. Use `image.builder: docker` for Flyte's own builder."
        )
    if header.dependencies:
        yield PipLayer(
            packages=tuple(header.dependencies), options=_options(layer), secrets=_secrets(layer),
            origin="from_uv_script",
        )  # fmt: skip


def _copy(layer: flyte_layers.CopyConfig, ignore: tuple[str, ...]) -> CopyLayer:
    if layer.path_type == 0:
        return CopyLayer(kind="file", source=_file(layer.src, "with_source_file"), destination=layer.dst)
    if not layer.src.is_dir():
        what = "is not a folder" if layer.src.exists() else "does not exist"
        raise MissingSourceError(f"with_source_folder: `{layer.src.absolute()}` {what}.")
    return CopyLayer(kind="folder", source=layer.src.absolute(), destination=layer.dst, ignore=ignore)


def _labels(layer: flyte_layers._DockerLines) -> LabelsLayer:
    """The lines that Flyte's default image has: labels, quoted as a Dockerfile quotes them."""
    labels: list[tuple[str, str]] = []
    for line in layer.lines:
        keyword, _, rest = line.strip().partition(" ")
        if keyword.upper() != "LABEL" or "$" in rest or "\\" in rest or "\n" in rest:
            raise UnsupportedLayerError(
                f"The Dockerfile line `{line.strip()}` is not built by this version of buildkit-builder. "
                "Use `image.builder: docker` for Flyte's own builder."
            )
        try:
            pairs = [word.partition("=") for word in shlex.split(rest)]
        except ValueError as error:
            raise ImageError(f"The Dockerfile line `{line.strip()}` is not understood: {error}.") from error
        if not pairs or not all(key and equals for key, equals, _ in pairs):
            raise ImageError(f"The Dockerfile line `{line.strip()}` is not `LABEL key=value`.")
        labels += [(key, value) for key, _, value in pairs]
    return LabelsLayer(labels=tuple(labels))


def _secrets(layer: Any) -> tuple[SecretRef, ...]:
    """A layer's secrets, each once, and each in a place of its own."""
    items = (Secret(key=item) if isinstance(item, str) else item for item in layer.secret_mounts or ())
    secrets = tuple(dict.fromkeys(_secret(item) for item in items))
    places: dict[str, SecretRef] = {}
    for secret in secrets:
        place = secret.path or secret.variable or ""
        if place in places:
            raise ImageError(
                f"The secrets `{_shown(places[place])}` and `{_shown(secret)}` of one layer are both to be `{place}`. "
                "Give one of them another name with `as_env_var`."
            )
        places[place] = secret
    return secrets


def _shown(secret: SecretRef) -> str:
    return secret.id.removeprefix("flyte/")


def _secret(secret: Secret) -> SecretRef:
    """Where the value is looked up, and where it stands in the step, as Flyte's own builder has it."""
    parts = [part for part in (secret.group, secret.key) if part]
    path = str(secret.mount) if secret.mount else None
    variable = None if path else secret.as_env_var or "_".join(parts)
    return SecretRef(
        id="flyte/" + "/".join(parts),
        variable=variable,
        path=path,
        source_variable="_".join(part.upper() for part in parts),
        source_file="/etc/secrets/" + "_".join(parts),
    )


def _file(path: Path, layer: str) -> Path:
    try:
        is_file, exists = path.is_file(), path.exists()
    except OSError as error:
        raise MissingSourceError(f"{layer}: `{path.absolute()}` cannot be looked at: {error.strerror}.") from error
    if not exists:
        raise MissingSourceError(f"{layer}: the file `{path.absolute()}` does not exist.")
    if not is_file:
        raise MissingSourceError(f"{layer}: `{path.absolute()}` is not a file.")
    return path.absolute()


def _ignore_patterns(image: Image) -> tuple[str, ...]:
    """The patterns that hold for the image's folders: of its last `with_dockerignore`, else of the root folder."""
    from flyte._internal.imagebuild.utils import get_and_list_dockerignore

    for layer in image._layers:
        if isinstance(layer, flyte_layers.DockerIgnore) and not Path(layer.path).is_file():
            raise MissingSourceError(f"with_dockerignore: the file `{Path(layer.path).absolute()}` does not exist.")
    return tuple(get_and_list_dockerignore(image))
