"""What an image was made from, in a label of it, so that a tag can be told from what it stood for before.

Flyte names an image by a digest of its layers, which does not hold everything: two lists of packages may run together
into one text, and the platform, the Python version, what the base's tag pointed at, the modes of files, the context of
a Dockerfile, and the settings are not in it. We leave the tag alone and say the rest in a label, part by part, so that
a difference has a name. What cannot be told is another than it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from buildkit_builder.image.spec import DockerfileSpec, ImageSpec

LABEL = "buildkit-builder.identity"
# Counted up when the same image is made another way, so that what was made before is made again.
_VERSION = "2"
UNKNOWN = "?"
"""The value of a part that cannot be told."""
# Fields that tell where something lies on this machine.
_HERE = ("place",)
_WORDS = {
    "v": "another version of buildkit-builder made it",
    "base": "the base image has moved",
    "platform": "the platform is another",
    "python": "the Python version is another",
    "layers": "a layer says something else",
    "sources": "a local file or its mode has changed",
    "files": "a local file that the tag does not cover has changed",
    "labels": "the labels are others",
    "annotations": "the annotations are others",
    "args": "a build argument is another",
    "epoch": "the time that nothing may be younger than is another",
    "packing": "layers are to be packed another way",
    "attests": "another attestation is wanted",
}
_UNTOLD = {
    "base": "it cannot be told whether the base image has moved",
    "sources": "it cannot be told whether a local file has changed",
    "files": "it cannot be told whether a local file that the tag does not cover has changed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What determines an image, but for its base's digest and its platform, which come last.

    Attributes:
        parts: Short digests and texts by name; the same for the same image, whoever builds it and wherever.
    """

    parts: Mapping[str, str]

    def label(self, platform: str, base: str) -> str:
        """The label's value for one platform.

        Args:
            platform: In OCI notation.
            base: The digest that the base's name stood for; empty where there is none to name.
        """
        parts = {"v": _VERSION, "platform": platform, **({"base": base} if base else {}), **self.parts}
        return " ".join(f"{name}={value}" for name, value in parts.items())

    def of_unknown_files(self) -> Identity:
        """The identity of an image whose local files changed while they were read."""
        return Identity(parts={**self.parts, "sources": UNKNOWN})

    @classmethod
    def of(
        cls,
        spec: ImageSpec | DockerfileSpec,
        *,
        text: str = "",
        files: str = "",
        sources: str = "",
        settings: Mapping[str, object] = MappingProxyType({}),
    ) -> Identity:
        """The identity of a spec.

        Args:
            spec: The image.
            text: Of a Dockerfile.
            files: A digest of the local files that Flyte's tag does not cover; empty where there are none.
            sources: A digest of the others.
            settings: By the name of a part, what settings make of the image; nothing where they leave it as it is.
        """
        digests = {name: _digest(value) for name, value in settings.items() if value}
        found = {name: value for name, value in {"sources": sources, "files": files, **digests}.items() if value}
        if isinstance(spec, DockerfileSpec):
            return cls(parts={"layers": _digest([spec.dockerfile.name, text]), **found})
        python = "{}.{}".format(*spec.python_version)
        layers = _digest([spec.base, spec.uv_image, spec.creates_user, list(spec.layers)])
        return cls(parts={"python": python, "layers": layers, **found})


def changes(found: str, wanted: str) -> tuple[str, ...]:
    """What differs between two labels, in words; nothing where they say the same."""
    before, after = _parsed(found), _parsed(wanted)
    if before.get("v") != after.get("v"):
        return (_WORDS["v"],)
    return tuple(words for name, words in _WORDS.items() if before.get(name) != after.get(name))


def untold(wanted: str) -> tuple[str, ...]:
    """What of a label cannot be told, in words, and so cannot be said to be the same as it was."""
    return tuple(_UNTOLD[name] for name, value in _parsed(wanted).items() if value == UNKNOWN)


def base_part(digest: str, config: bytes) -> str:
    """A base for the label: by its digest, or, on an engine that has none of its images, by its config's."""
    return digest or f"config:{hashlib.sha256(config).hexdigest()}"


def base_of(label: str) -> str:
    """The digest of the base in a label; empty where it names none."""
    return _parsed(label).get("base", "")


def _parsed(label: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in label.split())


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()[:16]


def _canonical(value: Any) -> bytes:
    """Bytes that stand for one value only: every part is preceded by its length and its kind.

    Of a path only the last name counts: where a project lies is this machine's affair.
    """
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.name not in _HERE]
        return _framed(type(value).__name__, [[name, getattr(value, name)] for name in names])
    if isinstance(value, (list, tuple)):
        return _framed("list", value)
    if isinstance(value, PurePath):
        return _framed("path", [value.name])
    text = value if isinstance(value, str) else repr(value)
    # What is not UTF-8 stays what it is: paths may have such names.
    data = value if isinstance(value, bytes) else text.encode(errors="surrogateescape")
    return b"%s %d:%s" % (type(value).__name__.encode(), len(data), data)


def _framed(kind: str, items: Any) -> bytes:
    inner = b"".join(_canonical(item) for item in items)
    return b"%s %d:%s" % (kind.encode(), len(inner), inner)
