"""Is this image, for these platforms, already in the registry? Asked through BuildKit, with the user's credentials."""

from __future__ import annotations

from flyte._status import status

from buildkit_builder.errors import BuildKitError


class BuildKitImageChecker:
    """Implements `flyte.extend.ImageChecker`."""

    @classmethod
    async def image_exists(cls, repository: str, tag: str, arch: tuple[str, ...] = ("linux/amd64",)) -> str | None:
        """Looks an image up.

        "Cannot tell" is not "exists": where the registry or BuildKit does not answer, the image counts as missing, so
        that the build is tried and says what is wrong.

        Args:
            repository: Registry and name.
            tag: The tag.
            arch: Every platform that has to be there.

        Returns:
            The image's reference, or `None` where it has to be built.
        """
        from buildkit_builder import flyte_settings, image_build

        reference = f"{repository}:{tag}"
        try:
            missing = await image_build.missing_platforms(reference, arch, flyte_settings.load())
        except BuildKitError as error:
            status.warn(f"Could not look up {reference}, so it is built: {error}")
            return None
        return reference if not missing else None
