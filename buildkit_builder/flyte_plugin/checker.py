"""Is this image, for these platforms, already in the registry? Asked through BuildKit, with the user's credentials."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from buildkit_builder.errors import ImageError
from buildkit_builder.image.unforeseen import as_ours

if TYPE_CHECKING:
    from flyte import Image

    from buildkit_builder.config import Settings
    from buildkit_builder.flyte_plugin.image_build import Spec

# A checker is given a name and a tag; `activation` leaves the image here for the time that Flyte asks for it.
asked_for: ContextVar[Image | None] = ContextVar("asked_for", default=None)


class BuildKitImageChecker:
    """Implements `flyte.extend.ImageChecker`."""

    @classmethod
    async def image_exists(cls, repository: str, tag: str, arch: tuple[str, ...] = ("linux/amd64",)) -> str | None:
        """Looks an image up; raises nothing, since Flyte would take an error for "it exists".

        "Cannot tell" is not "exists": where the registry or BuildKit does not answer, or anything else goes wrong, the
        image counts as missing, so that the build is tried and says what is wrong. An image of ours says in a label
        what it was made from; one that was made from something else than is asked for counts as missing, too.

        Args:
            repository: Registry and name.
            tag: The tag.
            arch: Every platform that has to be there.

        Returns:
            The image's reference, or `None` where it has to be built.
        """
        reference = f"{repository}:{tag}"
        if "/" not in repository:
            return None  # only an engine could have it, and building it again costs nothing
        try:
            return await _found(reference, arch)
        except Exception as error:  # noqa: BLE001 - an image is there only where it was found
            with contextlib.suppress(Exception):  # a closed stream is no reason, either
                meant = as_ours(error)
                # What is wrong with the image itself the build says, and at once.
                if not isinstance(meant, ImageError):
                    _say(f"Could not look up {reference}, so it is built: {meant}", is_warning=True)
            return None


async def _found(reference: str, arch: tuple[str, ...]) -> str | None:
    from buildkit_builder.flyte_plugin import image_build, reader
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    settings = flyte_settings.load()
    platforms = reader.chosen(arch, settings.platforms) or arch
    image = asked_for.get()
    spec = None if image is None else _spec(image, settings)
    has_old_name = False
    if spec is not None and _repository(spec.reference) == _repository(reference):
        # The name that it would be built under: Flyte makes it once and keeps it, though files may have changed since.
        has_old_name, reference = reference != spec.reference, spec.reference
    else:
        spec = None
    found = await image_build.look_up(reference, platforms, settings, spec)
    if has_old_name and not image_build.is_told_by_label(found):
        return None
    if found.changed and not found.missing:
        _say(f"{reference} is there, but {' and '.join(dict.fromkeys(found.changed))}, so it is built again")
    return None if found.missing or found.changed else reference


def _spec(image: Image, settings: Settings) -> Spec:
    from buildkit_builder.flyte_plugin import reader

    return reader.read(image, uv_image=settings.uv_image, platforms=settings.platforms)


def _repository(reference: str) -> str:
    return reference.rpartition(":")[0]


def _say(text: str, *, is_warning: bool = False) -> None:
    from flyte._status import status

    (status.warn if is_warning else status.info)(text)
