"""Looks at images where they were pushed, over the registry's own HTTP API and with nothing of the package."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of an image, whatever layer it came from.

    Attributes:
        kind: `file`, `folder`, `link` or `other`; in a layer also `same`: a further name of what is at `link`.
        link: Where a symbolic link leads, or the numbers of a device.
        size: Bytes of a file.
        digest: The content's SHA-256; empty for what is no file.
        xattrs: Extended attributes, by name.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    link: str = ""
    size: int = 0
    digest: str = ""
    xattrs: tuple[tuple[str, str], ...] = ()
    archive: Path | None = field(default=None, compare=False, repr=False)
    offset: int = field(default=0, compare=False, repr=False)

    @property
    def content(self) -> bytes:
        """A file's bytes, read when they are asked for."""
        if self.archive is None:
            return b""
        with self.archive.open("rb") as archive:
            archive.seek(self.offset)
            return archive.read(self.size)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one layer does: entries it adds, by path, and paths it takes away.

    Attributes:
        gone: Paths of lower layers that are no more, with all below them.
        emptied: Folders of which nothing that lower layers put there is left.
    """

    digest: str
    entries: Mapping[str, Entry] = field(repr=False)
    gone: frozenset[str]
    emptied: frozenset[str] = frozenset()

    def over(self, files: dict[str, Entry]) -> dict[str, Entry]:
        """The files of lower layers with this one on top."""
        kept = dict(files)
        # What was a folder and is something else now takes with it what was in it.
        replaced = {
            path
            for path, entry in self.entries.items()
            if entry.kind != "folder" and path in files and files[path].kind == "folder"
        }
        emptied = self.emptied | replaced
        if self.gone or emptied:
            for path in files:
                if path in self.gone or any(parent in self.gone or parent in emptied for parent in _parents(path)):
                    del kept[path]
        for path, entry in self.entries.items():
            kept[path] = files[entry.link] if entry.kind == "same" else entry
        return kept


@dataclass(frozen=True, kw_only=True)
class PulledImage:
    """One platform's image: manifest, config and layers.

    Attributes:
        reference: The name that it was fetched by.
    """

    reference: str
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
            files = layer.over(files)
        return {path: entry for path, entry in files.items() if path.startswith(below)}


def _parents(path: str) -> list[str]:
    return [path[:end] for end, char in enumerate(path) if char == "/"]


class _Layers:
    """Layers, each fetched and read once, since the tests' images share their bases; may be used by several threads."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pulled-")
        self._known: dict[str, Layer] = {}
        self._lock = threading.Lock()

    def get(self, registry: str, name: str, digest: str) -> Layer:
        """The layer of a digest, from a repository that has it."""
        with self._lock:
            if digest not in self._known:
                path = Path(self._folder.name) / digest.replace(":", "-")
                _unpack(f"http://{registry}/v2/{name}/blobs/{digest}", path)
                self._known[digest] = _read_layer(digest, path)
            return self._known[digest]


@lru_cache(maxsize=1)
def _layers() -> _Layers:
    """The layers of this process; what it has unpacked goes when it ends."""
    return _Layers()


def _unpack(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=60) as answer, path.open("wb") as archive:
        zipped = answer.peek(2)[:2] == b"\x1f\x8b"
        shutil.copyfileobj(gzip.GzipFile(fileobj=answer) if zipped else answer, archive, 1 << 20)


def _read_layer(digest: str, path: Path) -> Layer:
    entries: dict[str, Entry] = {}
    gone, emptied = set(), set()
    with tarfile.open(path) as archive:
        for member in archive:
            where = _clean(member.name)
            folder, _, base = where.rpartition("/")
            if base == _OPAQUE:
                emptied.add(folder)
            elif base.startswith(".wh."):
                gone.add("/".join(filter(None, (folder, base.removeprefix(".wh.")))))
            elif member.islnk():
                target = _clean(member.linkname)
                # A name of a file that a lower layer has is resolved when the layers are put on each other.
                entries[where] = entries.get(target, Entry(kind="same", mode=0, uid=0, gid=0, link=target))
            elif where:
                entries[where] = _entry(archive, member, path)
    return Layer(digest=digest, entries=entries, gone=frozenset(gone), emptied=frozenset(emptied))


def _clean(name: str) -> str:
    return name.removeprefix("./").strip("/")


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Entry:
    kind = "folder" if member.isdir() else "link" if member.issym() else "file" if member.isreg() else "other"
    link = member.linkname if kind == "link" else ""
    if kind == "other":
        link = f"{member.type!r} {member.devmajor},{member.devminor}"
    return Entry(
        kind=kind,
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        link=link,
        size=member.size,
        digest=_sha256(archive, member) if kind == "file" else "",
        xattrs=tuple(
            sorted(
                (key.removeprefix(_XATTR), str(value))
                for key, value in member.pax_headers.items()
                if key.startswith(_XATTR)
            )
        ),
        archive=path if kind == "file" else None,
        offset=member.offset_data,
    )


def _sha256(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    reader = archive.extractfile(member)
    assert reader is not None
    digest = hashlib.sha256()
    while block := reader.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


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


def blob(repository: str, digest: str) -> bytes:
    """What a registry has in `host:port/name` under a digest."""
    registry, _, name = repository.partition("/")
    return _get(registry, f"{name}/blobs/{digest}")[0]


def blobs(reference: str) -> list[list[str]]:
    """The digests of the blobs of `host:port/name:tag`, by platform: the config, and the layers."""
    repository = reference.rpartition("@" if "@" in reference else ":")[0]
    found, _ = manifest(reference)
    if "manifests" in found:
        return [part for entry in found["manifests"] for part in blobs(f"{repository}@{entry['digest']}")]
    return [[found["config"]["digest"], *(layer["digest"] for layer in found["layers"])]]


def delete_blob(repository: str, digest: str) -> None:
    """Takes a blob out of a registry, which goes on naming it in manifests."""
    registry, _, name = repository.partition("/")
    request = urllib.request.Request(f"http://{registry}/v2/{name}/blobs/{digest}", method="DELETE")
    with urllib.request.urlopen(request, timeout=60):
        pass


def has_blob(repository: str, digest: str) -> bool:
    """Whether a registry has a blob in `host:port/name`."""
    try:
        blob(repository, digest)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True


def digest_of(reference: str) -> str:
    """The digest of what a registry has under `host:port/name:tag`."""
    registry, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    return "sha256:" + hashlib.sha256(_get(registry, f"{name}/manifests/{tag}")[0]).hexdigest()


def forget(reference: str) -> None:
    """Takes `host:port/name:tag` out of a registry, where it is there."""
    if exists(reference):
        registry, _, rest = reference.partition("/")
        url = f"http://{registry}/v2/{rest.rpartition(':')[0]}/manifests/{digest_of(reference)}"
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=60):
            pass


def move(reference: str, to: str) -> None:
    """Gives what a registry has under `host:port/name:tag` another tag of the same name."""
    registry, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    body, kind = _get(registry, f"{name}/manifests/{tag}")
    url = f"http://{registry}/v2/{name}/manifests/{to.rpartition(':')[2]}"
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}, method="PUT"), timeout=60):
        pass


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
    layers = tuple(_layers().get(registry, name, layer["digest"]) for layer in found["layers"])
    return PulledImage(reference=reference, manifest=found, config=config, layers=layers)
