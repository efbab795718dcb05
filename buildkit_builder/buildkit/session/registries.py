"""Which registries' credentials a daemon may have: those of the images that a build has to do with, and no others."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable

from buildkit_builder.buildkit.llb import ImageReference
from buildkit_builder.errors import ImageError

HUB_HOSTS = ("registry-1.docker.io", "index.docker.io", "docker.io")
_ALL = "*"
_WITHHELD_LIMIT = 20
_HOST_LIMIT = 255


def _domain(image: str) -> str | None:
    try:
        return ImageReference.parse(image).domain
    except ImageError:
        return None


class Registries:
    """The registries of one build.

    Args:
        hosts: Registries whatever the build, such as the mirrors that a daemon has been told of; `*` for every one.

    Attributes:
        withheld: The first registries that the daemon asked for and was given nothing of.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        self.withheld: list[str] = []
        self._hosts = set(hosts)
        self._texts: list[str] = []

    def add(self, *images: str) -> None:
        """Adds the registries of images, by their names as people write them."""
        self._hosts.update(filter(None, map(_domain, images)))

    def add_text(self, *texts: str) -> None:
        """Adds every registry whose name stands in a text, such as a Dockerfile's."""
        self._texts += texts

    def add_dockerfile(self, *texts: str) -> None:
        """Adds what a Dockerfile may take images from: Docker Hub, and whatever registry's name stands in it.

        Args:
            texts: The Dockerfile, and the values of its arguments.
        """
        self._hosts.update(HUB_HOSTS)
        self.add_text(*texts)

    def allow(self, host: str) -> bool:
        """Tells whether the daemon may have what is known of a registry, and remembers where it may not.

        Args:
            host: The registry's API host, with its port if it has one.
        """
        names = HUB_HOSTS if host in HUB_HOSTS else (host,)
        allowed = _ALL in self._hosts or any(name in self._hosts or self._stands_in_text(name) for name in names)
        if not allowed and host not in self.withheld and len(self.withheld) < _WITHHELD_LIMIT:
            self.withheld.append(host[:_HOST_LIMIT])
        return allowed

    def _stands_in_text(self, host: str) -> bool:
        # A port may stand elsewhere than its host, as where both are arguments of a Dockerfile.
        name = re.escape(re.sub(r":\d+$", "", host))
        return bool(name) and any(re.search(rf"(?<![\w.-]){name}(?![\w.-])", text) for text in self._texts)


def is_insecure(registry: str, declared: Collection[str]) -> bool:
    """Whether a registry may be spoken to without TLS: it is declared so, or it is on this machine's loopback."""
    host = _without_port(registry)
    return is_declared(registry, declared) or host == "localhost" or _is_loopback(host.strip("[]"))


def is_declared(registry: str, declared: Collection[str]) -> bool:
    """Whether a registry is one of some that are named with or without a port."""
    return registry in declared or _without_port(registry) in declared


def _without_port(registry: str) -> str:
    return registry.rpartition(":")[0] if ":" in registry.rpartition("]")[2] else registry


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, be it 127.example.com
