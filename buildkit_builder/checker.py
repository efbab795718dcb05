"""Is this image, for these platforms, already in the registry? Asked through BuildKit, with the user's credentials."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from flyte._status import status

from buildkit_builder.errors import BuildKitError

if TYPE_CHECKING:
    from flyte import Image

    from buildkit_builder.image_build import Spec

# A checker is given a name and a tag; `activation` leaves the image here for the time that Flyte asks for it.
asked_for: ContextVar[Image | None] = ContextVar("asked_for", default=None)


class BuildKitImageChecker:
    """Implements `flyte.extend.ImageChecker`."""

    @classmethod
    async def image_exists(cls, repository: str, tag: str, arch: tuple[str, ...] = ("linux/amd64",)) -> str | None:
        """Looks an image up.

        "Cannot tell" is not "exists": where the registry or BuildKit does not answer, the image counts as missing, so
        that the build is tried and says what is wrong. An image of ours says in a label what it was made from; one
        that was made from something else than is asked for counts as missing, too.

        Args:
            repository: Registry and name.
            tag: The tag.
            arch: Every platform that has to be there.

        Returns:
            The image's reference, or `None` where it has to be built.
        """
        from buildkit_builder import flyte_image, flyte_settings, image_build

        reference = f"{repository}:{tag}"
        if "/" not in repository:
            return None  # only an engine could have it, and building it again costs nothing
        try:
            settings = flyte_settings.load()
            platforms = flyte_image.chosen(arch, settings.platforms)
            found = await image_build.look_up(reference, platforms or arch, settings, _spec(reference))
        except BuildKitError as error:
            status.warn(f"Could not look up {reference}, so it is built: {error}")
            return None
        if found.changed and not found.missing:
            status.info(f"{reference} is there, but {' and '.join(dict.fromkeys(found.changed))}, so it is built again")
        return None if found.missing or found.changed else reference


def _spec(reference: str) -> Spec | None:
    from buildkit_builder import flyte_image, flyte_settings

    image = asked_for.get()
    if image is None:
        return None
    settings = flyte_settings.load()
    spec = flyte_image.read(image, uv_image=settings.uv_image, platforms=settings.platforms)
    return spec if spec.reference == reference else None
