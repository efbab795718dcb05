"""What an image runs on: operating system, architecture and variant."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from buildkit_builder.errors import ImageError
from buildkit_builder.llb.arguments import check, checked
from buildkit_builder.wire import ops_pb2

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_OS = re.compile(r"(?P<os>[A-Za-z0-9_-]+)(?:\((?P<version>[A-Za-z0-9_.-]*)(?P<features>(?:\+[A-Za-z0-9_.-]+)*)\))?")

_ARCHITECTURE_ALIASES = {"i386": "386", "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
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

    @classmethod
    @checked
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture[/variant]`, or an architecture alone, which means Linux.

        The words are kept as written, in lower case; `normalized` translates aliases.

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
    def _of_architecture(cls, word: str, text: str) -> Platform:
        platform = cls(architecture=word).normalized()
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
        """The message of the protocol, in normal form: daemons compare the words as they are."""
        normal = self.normalized()
        return ops_pb2.Platform(
            OS=normal.os,
            Architecture=normal.architecture,
            Variant=normal.variant,
            OSVersion=normal.os_version,
            OSFeatures=normal.os_features,
        )

    def normalized(self) -> Platform:
        """The same platform with its aliases translated, as daemons spell it.

        `x86_64` becomes `amd64`, `aarch64` and `arm64/v8` become `arm64`, `arm` becomes `arm/v7`, `macos` becomes
        `darwin`. Two platforms are the same if their normal forms are equal.
        """
        os = self.os.lower()
        architecture, variant = self.architecture.lower(), self.variant.lower()
        if architecture in _ARM_ALIASES:
            architecture, variant = "arm", _ARM_ALIASES[architecture]
        else:
            if architecture == "i386":
                variant = ""
            architecture = _ARCHITECTURE_ALIASES.get(architecture, architecture)
            variant = _VARIANT_ALIASES.get(architecture, {}).get(variant, variant)
        return replace(self, os="darwin" if os == "macos" else os, architecture=architecture, variant=variant)

    def __str__(self) -> str:
        options = "".join([self.os_version, *(f"+{feature}" for feature in self.os_features)])
        words = [f"{self.os}({options})" if options else self.os, self.architecture, self.variant]
        return "/".join(word for word in words if word)
