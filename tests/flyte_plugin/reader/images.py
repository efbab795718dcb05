"""Images as users write them, and what they are read into."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from flyte import Image
from flyte import _image as flyte_layers

from buildkit_builder.flyte_plugin import reader
from buildkit_builder.image.spec import CopyLayer, ImageSpec, Layer, LocalFiles, SecretRef

TOKEN = SecretRef(id="flyte/TOKEN", variable="TOKEN", source_variable="TOKEN", source_file="/etc/secrets/TOKEN")


def base() -> Image:
    """An image without layers, to which layers may be added."""
    return Image.from_base("debian:bookworm").clone(name="mine", registry="reg.example.com/team", extendable=True)


def with_layer(layer: flyte_layers.Layer) -> Image:
    """An image of one layer."""
    return base().clone(addl_layer=layer, extendable=True)


def read(image: Image, **options: Any) -> ImageSpec:
    """The spec of an image that is made of layers."""
    spec = reader.read(image, **options)
    assert isinstance(spec, ImageSpec)
    return spec


def layers(image: Image) -> tuple[Layer, ...]:
    """What the layers of an image were read into."""
    return read(image).layers


def layer(image: Image) -> Any:
    """What the one layer of an image was read into."""
    [found] = layers(image)
    return found


def write(path: Path, text: str = "") -> Path:
    """A new file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def folder(root: Path, *ignore: str, **options: Any) -> LocalFiles:
    """The files of a folder."""
    return LocalFiles(kind="folder", root=root, ignore=ignore, **options)


def file(root: Path) -> LocalFiles:
    """One file."""
    return LocalFiles(kind="file", root=root)


def file_layer(root: Path, destination: str = ".") -> CopyLayer:
    """A file that is copied."""
    return CopyLayer(files=file(root), destination=destination, origin="with_source_file")


def folder_layer(root: Path, destination: str, *ignore: str) -> CopyLayer:
    """A folder that is copied."""
    return CopyLayer(files=folder(root, *ignore), destination=destination, origin="with_source_folder")
