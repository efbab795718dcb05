"""Looks at images where they were pushed, over the registry's own HTTP API and with nothing of the package."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

CONTENT_MAX = 1 << 20
ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of an image, whatever layer it came from; its content up to `CONTENT_MAX`."""

    kind: str
    mode: int
    uid: int
    gid: int
    link: str = ""
    content: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one layer does: entries it adds, by path, and paths it takes away."""

    digest: str
    entries: Mapping[str, Entry] = field(repr=False)
    gone: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PulledImage:
    """One platform's image: manifest, config and layers."""

    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[Layer, ...]

    @property
    def env(self) -> dict[str, str]:
        """The variables of the config."""
        return dict(entry.split("=", 1) for entry in self.config["config"]["Env"])

    def tree(self, below: str = "") -> dict[str, Entry]:
        """The files that a container of it would see, by path without a leading slash."""
        files: dict[str, Entry] = {}
        for layer in self.layers:
            replaced = {path for path, entry in layer.entries.items() if entry.kind != "folder"}
            for path in list(files):
                parents = {path[:end] for end, char in enumerate(path) if char == "/"} | {path}
                if parents & set(layer.gone) or (parents - {path}) & replaced:
                    del files[path]
            files |= layer.entries
        return {path: entry for path, entry in files.items() if path.startswith(below)}


@lru_cache(maxsize=64)
def _layer(registry: str, name: str, digest: str) -> Layer:
    """A layer, fetched and read once: the tests' images share their bases."""
    blob = _get(registry, f"{name}/blobs/{digest}")[0]
    entries: dict[str, Entry] = {}
    gone = []
    with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
        for member in archive:
            path = member.name.removeprefix("./").strip("/")
            folder, _, base = path.rpartition("/")
            if base.startswith(".wh."):
                gone.append("/".join(filter(None, (folder, base.removeprefix(".wh.")))))
            elif member.islnk():
                entries[path] = entries[member.linkname.removeprefix("./").strip("/")]
            elif path:
                entries[path] = _entry(archive, member)
    return Layer(digest=digest, entries=entries, gone=tuple(gone))


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    kind = "folder" if member.isdir() else "link" if member.issym() else "file" if member.isreg() else "other"
    reader = archive.extractfile(member) if kind == "file" and member.size <= CONTENT_MAX else None
    return Entry(
        kind=kind, mode=member.mode & 0o7777, uid=member.uid, gid=member.gid, link=member.linkname,
        content=reader.read() if reader else b"",
    )  # fmt: skip


def _get(registry: str, path: str) -> tuple[bytes, str]:
    request = urllib.request.Request(f"http://{registry}/v2/{path}", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read(), answer.headers.get("Content-Type", "")


def exists(reference: str) -> bool:
    """Whether a registry knows `host:port/name:tag`."""
    registry, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    try:
        _get(registry, f"{name}/manifests/{tag}")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True


def tags(registry: str, name: str) -> list[str]:
    """What a registry has under a name; nothing where it does not know the name."""
    try:
        return json.loads(_get(registry, f"{name}/tags/list")[0])["tags"] or []
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise


def manifest(reference: str) -> tuple[dict[str, Any], str]:
    """What a registry has under `host:port/name:tag`, and its media type."""
    registry, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition("@" if "@" in rest else ":")
    body, kind = _get(registry, f"{name}/manifests/{tag}")
    return json.loads(body), kind


def pull(reference: str, *, platform: str = "linux/amd64") -> PulledImage:
    """Fetches an image with all its layers."""
    registry, _, rest = reference.partition("/")
    name = rest.rpartition("@" if "@" in rest else ":")[0]
    found, _ = manifest(reference)
    if "manifests" in found:
        (chosen,) = (
            entry["digest"]
            for entry in found["manifests"]
            if f"{entry['platform']['os']}/{entry['platform']['architecture']}" == platform
        )
        found = json.loads(_get(registry, f"{name}/manifests/{chosen}")[0])
    config = json.loads(_get(registry, f"{name}/blobs/{found['config']['digest']}")[0])
    layers = tuple(_layer(registry, name, layer["digest"]) for layer in found["layers"])
    return PulledImage(manifest=found, config=config, layers=layers)
