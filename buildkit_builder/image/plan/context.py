"""What the steps of one plan share: local sources, each named once, and the cache of `uv`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from buildkit_builder.image.plan.steps import CacheMount, LocalSource, SourceMount
from buildkit_builder.image.spec import LocalFiles


@dataclass(frozen=True, slots=True)
class Context:
    """Gathers what layers need while they become steps."""

    uv_cache: CacheMount
    wheel_cache: CacheMount
    sources: dict[LocalFiles, LocalSource] = field(default_factory=dict)

    def source(self, files: LocalFiles) -> str:
        """The name of a source, by which the daemon files its copy: it tells what the files are, not their place
        among the layers, so that adding a layer does not send the others again.
        """
        if files not in self.sources:
            digest = hashlib.sha256(repr(files).encode()).hexdigest()
            # Daemons ask for it in a header, which holds printable ASCII.
            name = re.sub(r"[^!-~]", "_", files.root.name) or "root"
            self.sources[files] = LocalSource(name=f"{name}-{digest[:12]}", files=files)
        return self.sources[files].name

    def mount(self, files: LocalFiles, target: str, *, writable: bool = False) -> SourceMount:
        """Shows files to a command: a folder as a folder, a file as a file."""
        path = "/" if files.kind == "folder" else f"/{files.root.name}"
        return SourceMount(source=self.source(files), path=path, target=target, writable=writable)


def uv_caches(uv_image: str) -> tuple[CacheMount, CacheMount]:
    """The caches of `uv`, for the index and for local wheels.

    One of each per version of uv, since a newer one may write entries that an older one refuses.
    """
    name, _, digest = uv_image.partition("@")
    _, _, tag = name.rpartition("/")[2].partition(":")  # a colon further left belongs to the registry's port
    version = tag or digest.replace(":", "-") or "latest"
    target = "/root/.cache/uv"
    return CacheMount(target=target, id=f"uv-{version}"), CacheMount(target=target, id=f"wheel-{version}")


def step_name(layer: str, what: str) -> str:
    """A step's name in the user's words, on one line."""
    text = " ".join([layer, *what.encode(errors="backslashreplace").decode().split()])
    return text if len(text) <= 120 else text[:119] + "…"
