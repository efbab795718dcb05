from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_builder.buildkit.build import DockerArchive, Exporter, Files, LoadIntoEngine, OciArchive, Push, TarArchive
from buildkit_builder.buildkit.build.exporters import Compression
from buildkit_builder.config import Annotation
from buildkit_builder.errors import ConfigError

PATH = Path("made.tar")
PUSHED = {"name": "r.example/a:1", "push": "true", "store": "false", "unpack": "false"}


@pytest.mark.parametrize(
    ("exporter", "kind", "attributes"),
    [
        (Push(reference="r.example/a:1"), "image", PUSHED),
        (Push(reference="r.example/a:1", insecure=True), "image", {**PUSHED, "registry.insecure": "true"}),
        (
            Push(
                reference="r.example/a:1",
                oci_media_types=True,
                compression=Compression(type="zstd", level=0, force=True),
            ),
            "image",
            {
                **PUSHED,
                "oci-mediatypes": "true",
                "compression": "zstd",
                "compression-level": "0",
                "force-compression": "true",
            },
        ),
        (Push(reference="r.example/a:1", oci_media_types=False), "image", {**PUSHED, "oci-mediatypes": "false"}),
        (Push(reference="r.example/a:1", rewrite_timestamps=True), "image", {**PUSHED, "rewrite-timestamp": "true"}),
        (LoadIntoEngine(reference="a:1"), "moby", {"name": "a:1"}),
        (OciArchive(path=PATH), "oci", {}),
        (
            OciArchive(path=PATH, reference="a:1", compression=Compression(type="estargz")),
            "oci",
            {"name": "a:1", "compression": "estargz"},
        ),
        (DockerArchive(path=PATH), "docker", {}),
        (DockerArchive(path=PATH, reference="a:1"), "docker", {"name": "a:1"}),
        (TarArchive(path=PATH), "tar", {}),
        (Files(path=Path("out")), "local", {}),
    ],
)
def test_attributes(exporter: Exporter, kind: str, attributes: dict[str, str]) -> None:
    """Every exporter is named, and says what it is asked for and nothing else."""
    assert (kind, attributes) == (exporter.type, exporter.attributes())


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"), [(None, 0, 9), ("gzip", 0, 9), ("estargz", 0, 9), ("zstd", 0, 22)]
)
def test_compression_levels(kind: str | None, lowest: int, highest: int) -> None:
    """Each packing has its own range of levels, both ends included."""
    for level in (lowest, highest):
        assert str(level) == Compression(type=kind, level=level).attributes()["compression-level"]
    for level in (lowest - 1, highest + 1):
        with pytest.raises(ConfigError, match=f"{level} is not one of {kind or 'gzip'}: {lowest} to {highest}"):
            Compression(type=kind, level=level).attributes()


def test_level_of_nothing() -> None:
    """What is not packed has no level."""
    with pytest.raises(ConfigError, match="uncompressed"):
        Compression(type="uncompressed", level=0).attributes()


@pytest.mark.parametrize("kind", ["zstd", "estargz"])
def test_packings_of_oci_only(kind: str) -> None:
    """Packings that Docker's media types have no name for are refused together with those."""
    with pytest.raises(ConfigError, match="OCI media types"):
        Push(reference="a", oci_media_types=False, compression=Compression(type=kind)).attributes()


@pytest.mark.parametrize(
    ("annotation", "key"),
    [
        (Annotation(key="a.b", value="v"), "annotation.a.b"),
        (Annotation(key="a", value="v", platform="linux/arm64"), "annotation[linux/arm64].a"),
        (Annotation(key="a", value="v", level="index"), "annotation-index.a"),
        (Annotation(key="a", value="v", level="index-descriptor"), "annotation-index-descriptor.a"),
        (
            Annotation(key="a", value="v", level="manifest-descriptor", platform="linux/amd64"),
            "annotation-manifest-descriptor[linux/amd64].a",
        ),
    ],
)
def test_annotations(annotation: Annotation, key: str) -> None:
    """An annotation's key says what carries it and for which platform, and the daemon must know of annotations."""
    for exporter in (
        Push(reference="a", annotations=(annotation,)),
        LoadIntoEngine(reference="a", annotations=(annotation,)),
        OciArchive(path=PATH, annotations=(annotation,)),
    ):
        assert "v" == exporter.attributes()[key]
        assert {"exporter.image.annotations"} == exporter.capabilities


def test_capabilities() -> None:
    """Without annotations no exporter needs more than every daemon has."""
    exporters = (Push(reference="a"), LoadIntoEngine(reference="a"), OciArchive(path=PATH), Files(path=PATH))

    assert [frozenset()] * 4 == [exporter.capabilities for exporter in exporters]
