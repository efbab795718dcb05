"""What becomes of a result: pushed, loaded into the engine, or written to disk.

Protocol: buildkit `exporter/**`; every attribute is a string, booleans are `true` and `false`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.annotation import Annotation
from buildkit_builder.errors import ConfigError

_LEVELS = {"gzip": (0, 9), "estargz": (0, 9), "zstd": (0, 22)}
_OCI_ONLY = ("estargz", "zstd")
_ANNOTATIONS = "exporter.image.annotations"


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

    @property
    def capabilities(self) -> frozenset[str]:
        """What the daemon must be capable of."""
        return frozenset([f"exporter.compression.{self.type}"] if self.type in _OCI_ONLY else [])

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes.

        Raises:
            ConfigError: The level is out of the range of the type.
        """
        attributes: dict[str, str] = {}
        if self.type is not None:
            attributes["compression"] = self.type
        if self.level is not None:
            kind = self.type or "gzip"
            if kind not in _LEVELS:
                raise ConfigError(f"A compression level has no meaning with {kind} layers.")
            low, high = _LEVELS[kind]
            if not low <= self.level <= high:
                raise ConfigError(f"The compression level {self.level} is not one of {kind}: {low} to {high}.")
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
        by_digest: Push what has no name but its digest, and leave the tag of the reference alone.
        insecure: Whether the registry may be spoken to over plain HTTP, or with a certificate that is not verified.
        oci_media_types: OCI rather than Docker media types; the daemon's default when `None`.
        annotations: Of the manifests, or of the index.
        rewrite_timestamps: Whether no file of the layers that are new may be younger than the build's
            `SOURCE_DATE_EPOCH`; those of the base stay as they are, where the result tells which they are.
    """

    reference: str
    by_digest: bool = False
    insecure: bool = False
    compression: Compression = Compression()
    oci_media_types: bool | None = None
    annotations: tuple[Annotation, ...] = ()
    rewrite_timestamps: bool = False

    type = "image"

    @property
    def capabilities(self) -> frozenset[str]:
        """What the daemon must be capable of."""
        return _capabilities(self.annotations) | self.compression.capabilities

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes.

        Raises:
            ConfigError: They contradict each other.
        """
        name = llb.ImageReference.parse(self.reference).repository if self.by_digest else self.reference
        return {
            "name": name,
            "push": "true",
            **({"push-by-digest": "true"} if self.by_digest else {}),
            "store": "false",
            "unpack": "false",
            **({"registry.insecure": "true"} if self.insecure else {}),
            **({"rewrite-timestamp": "true"} if self.rewrite_timestamps else {}),
            **_packing(self.compression, self.oci_media_types),
            **_annotations(self.annotations),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadIntoEngine:
    """Put an image into the store of the Docker Engine that builds it, under a name.

    Attributes:
        annotations: Only where the engine has the containerd image store; without it, an image has none.
    """

    reference: str
    annotations: tuple[Annotation, ...] = ()

    type = "moby"

    @property
    def capabilities(self) -> frozenset[str]:
        """What the daemon must be capable of."""
        return _capabilities(self.annotations)

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes."""
        return {"name": self.reference, **_annotations(self.annotations)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OciArchive:
    """Write an OCI layout, as one tar archive, to a file on this machine.

    Attributes:
        path: The file; it is there when the build has succeeded, and not before.
        reference: The name that the archive's index gives the image.
    """

    path: Path
    reference: str | None = None
    compression: Compression = Compression()
    oci_media_types: bool | None = None
    annotations: tuple[Annotation, ...] = ()

    type = "oci"

    @property
    def capabilities(self) -> frozenset[str]:
        """What the daemon must be capable of."""
        return _capabilities(self.annotations) | self.compression.capabilities

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes.

        Raises:
            ConfigError: They contradict each other.
        """
        return {
            **({"name": self.reference} if self.reference else {}),
            **_packing(self.compression, self.oci_media_types),
            **_annotations(self.annotations),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerArchive:
    """Write an archive that `docker load` reads to a file on this machine; for one platform.

    Attributes:
        path: The file; it is there when the build has succeeded, and not before.
        reference: The name that the image has once it is loaded.
    """

    path: Path
    reference: str | None = None
    compression: Compression = Compression()
    oci_media_types: bool | None = None

    type = "docker"

    @property
    def capabilities(self) -> frozenset[str]:
        """What the daemon must be capable of."""
        return self.compression.capabilities

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes.

        Raises:
            ConfigError: They contradict each other.
        """
        name = {"name": self.reference} if self.reference else {}
        return {**name, **_packing(self.compression, self.oci_media_types)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarArchive:
    """Write the image's files, and nothing of its config, as one tar archive to a file on this machine.

    Attributes:
        path: The file; it is there when the build has succeeded, and not before.
    """

    path: Path

    type = "tar"
    capabilities: ClassVar[frozenset[str]] = frozenset()

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes: none."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Write the image's files, unpacked, into a folder on this machine.

    Attributes:
        path: The folder, made if need be. When the build has succeeded the files are moved there, and replace those
            of the same names; what else is there stays.
    """

    path: Path

    type = "local"
    capabilities: ClassVar[frozenset[str]] = frozenset()

    def attributes(self) -> dict[str, str]:
        """The exporter's attributes: none."""
        return {}


Exporter = Push | LoadIntoEngine | OciArchive | DockerArchive | TarArchive | Files


def _packing(compression: Compression, oci: bool | None) -> dict[str, str]:
    if oci is False and compression.type in _OCI_ONLY:
        raise ConfigError(
            f"Layers packed as {compression.type} exist only with OCI media types: leave `oci_media_types` out, or "
            "choose gzip."
        )
    types = {} if oci is None else {"oci-mediatypes": str(oci).lower()}
    return {**types, **compression.attributes()}


def _annotations(annotations: tuple[Annotation, ...]) -> dict[str, str]:
    """Protocol: buildkit `exporter/containerimage/exptypes/annotations.go`."""
    attributes = {}
    for annotation in annotations:
        level = "" if annotation.level == "manifest" else f"-{annotation.level}"
        platform = f"[{annotation.platform}]" if annotation.platform else ""
        attributes[f"annotation{level}{platform}.{annotation.key}"] = annotation.value
    return attributes


def _capabilities(annotations: tuple[Annotation, ...]) -> frozenset[str]:
    return frozenset([_ANNOTATIONS] if annotations else [])
