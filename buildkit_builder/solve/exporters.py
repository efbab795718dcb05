"""What becomes of a result: pushed, loaded into the engine, or written to disk.

Protocol: buildkit `exporter/**`; every attribute is a string, booleans are `true` and `false`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Union

from buildkit_builder.errors import ConfigError

_LEVELS = {"gzip": (0, 9), "estargz": (0, 9), "zstd": (0, 22)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """How layers are packed.

    Attributes:
        type: `gzip`, `zstd`, `estargz` or `uncompressed`; the daemon's default (gzip) when `None`.
        level: 0 to 9 for gzip and estargz, 0 to 22 for zstd; the daemon's default when `None`.
        force: Repack layers that are packed otherwise already, those of the base among them.
    """

    type: str | None = None
    level: int | None = None
    force: bool = False

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes.

        Raises:
            ConfigError: The level is out of the range of the type.
        """
        attributes: dict[str, str] = {}
        if self.type is not None:
            attributes["compression"] = self.type
        if self.level is not None:
            low, high = _LEVELS.get(self.type or "gzip", (0, 0))
            if not low <= self.level <= high:
                raise ConfigError(f"compression level {self.level} is not one of {self.type or 'gzip'}: {low} to {high}.")
            attributes["compression-level"] = str(self.level)
        if self.force:
            attributes["force-compression"] = "true"
        return attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Push an image to its registry, by the daemon itself.

    The engine neither keeps nor unpacks what is only pushed: that took 1.5 s of a 25 s build.

    Attributes:
        reference: `registry/name:tag`.
        insecure: Whether the registry may be spoken to over plain HTTP, or with a certificate that is not verified.
        oci_media_types: OCI rather than Docker media types; the daemon's default when `None`.
    """

    reference: str
    insecure: bool = False
    compression: Compression = Compression()
    oci_media_types: bool | None = None

    type = "image"

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes."""
        return {
            "name": self.reference,
            "push": "true",
            "store": "false",
            "unpack": "false",
            **({"registry.insecure": "true"} if self.insecure else {}),
            **_media_types(self.oci_media_types),
            **self.compression.attributes(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadIntoEngine:
    """Put an image into the store of the Docker Engine that builds it, under a name."""

    reference: str

    type = "moby"

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes."""
        return {"name": self.reference}


@dataclass(frozen=True, slots=True, kw_only=True)
class OciArchive:
    """Write an OCI layout, as one tar archive, to a file on this machine."""

    path: Path
    reference: str | None = None
    compression: Compression = Compression()

    type = "oci"

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes."""
        name = {"name": self.reference} if self.reference else {}
        return {**name, **self.compression.attributes()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Write the image's files, unpacked, into a folder on this machine."""

    path: Path

    type = "local"

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes: none."""
        return {}


Exporter = Union[Push, LoadIntoEngine, OciArchive, Files]


def _media_types(oci: bool | None) -> dict[str, str]:
    return {} if oci is None else {"oci-mediatypes": str(oci).lower()}
