"""What an image runs on: operating system, architecture and variant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from buildkit_builder.buildkit.llb.arguments import check, checked
from buildkit_builder.buildkit.wire import ops_pb2
from buildkit_builder.errors import ImageError

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_OS = re.compile(r"(?P<os>[A-Za-z0-9_-]+)(?:\((?P<version>[A-Za-z0-9_.-]*)(?P<features>(?:\+[A-Za-z0-9_.-]+)*)\))?")

_OS_ALIASES = {"macos": "darwin"}
_ARCHITECTURE_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_ARM_ALIASES = {"armhf": "v7", "armel": "v6"}
_VARIANT_ALIASES = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"},
}
_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x", "wasm"}
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Platform:
    """An operating system and architecture, in the words of the OCI image specification.

    Aliases are translated, as daemons do it (protocol: containerd `platforms`): `x86_64` is `amd64`, `aarch64` and
    `arm64/v8` are `arm64`, `arm` is `arm/v7`, `macos` is `darwin`. So two platforms are the same if they are equal,
    and one prints as daemons spell it.

    Attributes:
        os: Operating system, such as `linux`.
        architecture: Go's name of the architecture, such as `amd64` or `arm64`.
        variant: Variant of the architecture, such as `v7`, or empty.
        os_version: Version of the operating system; only Windows images have one.
        os_features: Features the operating system must have; only Windows images have them.
    """

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        if "/" in self.architecture:
            raise ValueError(f"`{self.architecture}` is a whole platform. Write `llb.Platform.parse(…)`.")
        os, (architecture, variant) = self.os.lower(), _normal(self.architecture.lower(), self.variant.lower())
        for name, value in (("os", _OS_ALIASES.get(os, os)), ("architecture", architecture), ("variant", variant)):
            object.__setattr__(self, name, value)

    @classmethod
    @checked
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture[/variant]`, or an architecture alone, which means Linux.

        Raises:
            ImageError: If the text is not a platform.
        """
        first, *rest = text.strip().lower().split("/")
        if not rest:
            return cls._of_architecture(first, text)
        match = _OS.fullmatch(first)
        if match is None or len(rest) > 2 or not all(_WORD.fullmatch(part) for part in rest):
            raise ImageError(f"`{text}` is not a platform. Write one as `os/architecture`, such as `linux/arm64`.")
        return cls(
            os=match["os"],
            architecture=rest[0],
            variant=rest[1] if len(rest) == 2 else "",
            os_version=match["version"] or "",
            os_features=tuple((match["features"] or "").split("+")[1:]),
        )

    @classmethod
    @checked
    def parse_each(cls, texts: Iterable[str]) -> tuple[Platform, ...]:
        """Read several, each of them once, however it is spelled.

        Raises:
            ImageError: If one of the texts is not a platform.
        """
        return tuple(dict.fromkeys(map(cls.parse, texts)))

    @classmethod
    def _of_architecture(cls, word: str, text: str) -> Platform:
        platform = cls(architecture=word)
        if platform.architecture not in _ARCHITECTURES:
            raise ImageError(
                f"`{text}` is not an architecture that is known here. Write the platform as `os/architecture`, "
                "such as `linux/arm64`."
            )
        return platform

    @classmethod
    def from_wire(cls, message: ops_pb2.Platform) -> Platform:
        """Take over a platform that a daemon reported."""
        return cls(
            os=message.OS,
            architecture=message.Architecture,
            variant=message.Variant,
            os_version=message.OSVersion,
            os_features=tuple(message.OSFeatures),
        )

    def to_wire(self) -> ops_pb2.Platform:
        """The message of the protocol: daemons compare the words as they are."""
        return ops_pb2.Platform(
            OS=self.os,
            Architecture=self.architecture,
            Variant=self.variant,
            OSVersion=self.os_version,
            OSFeatures=self.os_features,
        )

    def __str__(self) -> str:
        options = "".join([self.os_version, *(f"+{feature}" for feature in self.os_features)])
        words = [f"{self.os}({options})" if options else self.os, self.architecture, self.variant]
        return "/".join(word for word in words if word)


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    if architecture in _ARM_ALIASES:
        return "arm", _ARM_ALIASES[architecture]
    if architecture == "i386":
        return "386", ""
    architecture = _ARCHITECTURE_ALIASES.get(architecture, architecture)
    return architecture, _VARIANT_ALIASES.get(architecture, {}).get(variant, variant)
