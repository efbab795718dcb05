"""Flyte's front door: `BuildKitImageBuilder`, and the only place that raises errors of Flyte's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.errors import BuildKitError, ConfigError
from buildkit_builder.flyte_plugin import names as flyte_names
from buildkit_builder.image.unforeseen import as_ours

if TYPE_CHECKING:
    from flyte import ImageBuild


class BuildKitImageBuilder:
    """Builds images of Flyte with BuildKit; implements `flyte.extend.ImageBuilder`."""

    builder_type = "buildkit"

    def get_checkers(self) -> list[type[Any]]:
        """Who is asked whether an image is there already: the registry itself, through BuildKit."""
        from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker

        return [BuildKitImageChecker]

    async def build_image(
        self, image: Image, dry_run: bool = False, wait: bool = True, force: bool = False
    ) -> ImageBuild:
        """Builds an image and pushes it; into the engine's own store where it names no registry.

        Args:
            image: What to build.
            dry_run: Print the plan; connect to nothing.
            wait: Whether to return when it is built; otherwise a process of its own goes on, and says where it logs.
            force: Has been obeyed by coming here: the image is built although there may be one. What BuildKit has in
                its cache is still what it is, so nothing is run again that would give the same.

        Raises:
            flyte.errors.ImageBuildError: The build failed; says which, where and why. Comes out when builds that run
                beside it are over, so that they are not ended by it.
        """
        if (why_not := flyte_names.why_not()) is not None:
            raise ImageBuildError(flyte_names.cannot_build(why_not))
        try:
            return await _build(image, dry_run=dry_run, wait=wait)
        except ImageBuildError:
            raise
        except ConfigError as error:
            raise ImageBuildError(str(error)) from error
        except Exception as error:
            # It may be one of many that are built at the same time.
            raise ImageBuildError(str(BuildKitError(f"Building {_named(image)} failed: {as_ours(error)}"))) from error


async def _build(image: Image, *, dry_run: bool, wait: bool) -> ImageBuild:
    from flyte import ImageBuild

    from buildkit_builder.flyte_plugin import background, image_build, reader
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    if not reader.needs_building(image):
        return ImageBuild(uri=image.uri, remote_run=None)
    settings = flyte_settings.load()
    spec = reader.read(image, uv_image=settings.uv_image, platforms=settings.platforms)
    if dry_run:
        image_build.print_plan(spec)
    elif wait:
        await image_build.build(spec, settings)
    else:
        background.start(spec, settings)
    return ImageBuild(uri=spec.reference, remote_run=None)


def _named(image: Image) -> str:
    """An image by its whole name, as far as it has one: that is a digest of files, of which one may be gone."""
    with contextlib.suppress(Exception):
        return image.uri
    return image.name or "the image"
