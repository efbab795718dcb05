"""What is built: one description for all contestants, and what it is as an image of Flyte."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flyte import Image

_PLATFORMS: dict[str, Literal["linux/amd64", "linux/arm64"]] = {
    "linux/amd64": "linux/amd64",
    "linux/arm64": "linux/arm64",
}
MACHINE = f"linux/{'arm64' if platform.machine() in ('aarch64', 'arm64') else 'amd64'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a contestant starts from, which no other contestant and no earlier run has touched.

    Attributes:
        name: Its own word, which its base and its caches have in them.
        base: An image in the engine's store: Python on Debian, with a file that no other has.
        uv: An image in the engine's store that holds `uv`, with bytes at its end that no other has.
        caches: The namespace of the cache mounts.
        registry: Registry and folder that images are pushed to.
    """

    name: str
    base: str
    uv: str
    caches: str
    registry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An image to build.

    Attributes:
        apt: Layers of packages of the distribution.
        pip: Layers of Python packages.
        source: A folder, copied to `/app`.
        name: The repository's name, below the world's registry.
        cache: Where steps are written to and read from, as the beginning of a name in a registry; nowhere if empty.
        host_network: Whether steps use the machine's network, where the engine has none.
    """

    world: World
    name: str
    apt: tuple[tuple[str, ...], ...] = ()
    pip: tuple[tuple[str, ...], ...] = ()
    source: Path | None = None
    platforms: tuple[str, ...] = (MACHINE,)
    cache: str = ""
    host_network: bool = False

    @property
    def repository(self) -> str:
        """Where it is pushed, without a tag."""
        return f"{self.world.registry}/{self.name}"

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {**asdict(self), "source": str(self.source) if self.source else None}

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> Subject:
        """Reads what `to_json` wrote."""
        return cls(
            **{
                **text,
                "world": World(**text["world"]),
                "apt": tuple(map(tuple, text["apt"])),
                "pip": tuple(map(tuple, text["pip"])),
                "source": Path(text["source"]) if text["source"] else None,
                "platforms": tuple(text["platforms"]),
            }
        )


def flyte_image(subject: Subject) -> Image:
    """The image as a user of Flyte writes it; its tag is hashed already, as it is before a builder is called."""
    image: Image = Image.from_base(subject.world.base).clone(
        name=subject.name,
        registry=subject.world.registry,
        extendable=True,
        python_version=(3, 11),
        platform=tuple(_PLATFORMS[name] for name in subject.platforms),
    )
    for packages in subject.apt:
        image = image.with_apt_packages(*packages)
    for packages in subject.pip:
        image = image.with_pip_packages(*packages)
    image = image.with_env_vars({"BENCH": "1"})
    if subject.source is not None:
        image = image.with_source_folder(subject.source, dst="/app")
    assert image.uri
    return image
