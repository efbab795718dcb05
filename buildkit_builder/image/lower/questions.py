"""What lowering asks, what it is told of its surroundings, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from buildkit_builder.buildkit import llb


@dataclass(frozen=True, slots=True)
class ResolveImage:
    """Asks for an image's config. The answer is a `Resolved`.

    Attributes:
        reference: The image.
        platform: Which of its platforms.
        optional: Whether the answer may be `None`, where the image is not there for the platform.
    """

    reference: str
    platform: llb.Platform
    optional: bool = False


@dataclass(frozen=True, slots=True)
class BuildLines:
    """Asks for lines of a Dockerfile to be carried out on an image. The answer is a `Lowered`."""

    image: Lowered
    lines: tuple[str, ...]
    name: str


Question = ResolveImage | BuildLines


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """An image as the daemon found it: as it was named, the name that pins it, how to look it up, and its config."""

    name: str
    reference: str
    resolve_mode: Literal["default", "pull", "local"]
    config: llb.ImageConfig

    def state(self, platform: llb.Platform) -> llb.State:
        """The image's files."""
        return llb.image(self.reference, platform=platform, resolve_mode=self.resolve_mode, name=f"image {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What surrounds a build and is no part of the image.

    Attributes:
        session: The id of the session that serves the local sources.
        shared_keys: By local source, what the daemon files its copy under, so that only changes are sent.
        proxy: Proxies for the steps; ignored by the cache.
        ca_bundle: Whether a CA bundle is to be had as the secret `CA_SECRET`.
        network: `default`, `host` or `none`, for the steps.
        extra_hosts: Names that the steps know besides DNS.
        no_cache: Run every step again.
        epoch: The time that is to stand for the time of the build, in seconds since 1970; empty where it does not
            matter.
        build_args: Arguments of a Dockerfile, for lines of one.
        side_by_side: Whether steps that do not need each other may be branches, which the daemon can then join.
        native: The platform of the daemon's machine, where the image's is another; else `None`.
        emulates: Whether the daemon can run programs of the image's platform.
        label: What tells this platform's steps from another's, put before their names; empty where there is one.
    """

    session: str = ""
    shared_keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    proxy: llb.ProxyEnv | None = None
    ca_bundle: bool = False
    network: Literal["default", "host", "none"] = "default"
    extra_hosts: tuple[tuple[str, str], ...] = ()
    no_cache: bool = False
    epoch: str = ""
    build_args: tuple[tuple[str, str], ...] = ()
    side_by_side: bool = False
    native: llb.Platform | None = None
    emulates: bool = True
    label: str = ""

    def dockerfile_options(self) -> dict[str, str]:
        """The same, as far as it can be told to a Dockerfile frontend. Protocol: buildkit `frontend/dockerui`."""
        proxy = self.proxy or llb.ProxyEnv()
        proxies = {"http_proxy": proxy.http, "https_proxy": proxy.https, "no_proxy": proxy.no, "all_proxy": proxy.all}
        return {
            **{f"build-arg:{name}": value for name, value in proxies.items() if value},
            **{f"build-arg:{name}": value for name, value in self.build_args},
            **({"no-cache": ""} if self.no_cache else {}),
            **({"force-network-mode": self.network} if self.network != "default" else {}),
            **({"add-hosts": ",".join(f"{host}={ip}" for host, ip in self.extra_hosts)} if self.extra_hosts else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A step that changes files, in its place among the others.

    Attributes:
        name: As progress calls it.
        after: The steps that it sees the work of, by their numbers, without those that these see in turn.
    """

    name: str
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A platform's image: its files as a graph, and its config.

    Attributes:
        attempts: By the number of a step, the tree after an installation that is tried ahead and may turn out to need
            what it was not given. Then the step has to wait: lower again, and say so.
        parts: The same of steps of which a part is done ahead. If that fails, nothing of the step is to be ahead.
        checks: By the number of a step that is ahead, what fails if the steps before it would have steered it. Then it
            is to be in order: lower again, and say so.
        apart: All that rests on no attempt; wanted however those end.
        outline: The steps, in the user's order.
    """

    state: llb.State
    config: llb.ImageConfig
    attempts: Mapping[int, llb.State] = field(default_factory=lambda: MappingProxyType({}))
    parts: Mapping[int, llb.State] = field(default_factory=lambda: MappingProxyType({}))
    checks: Mapping[int, llb.State] = field(default_factory=lambda: MappingProxyType({}))
    apart: llb.State = field(default_factory=llb.scratch)
    outline: tuple[Placed, ...] = ()
