"""A folder with an OCI layout, as local caches are kept in: which manifest a tag stands for.

The blobs are written by the daemon, over `session.content`; `index.json` and `oci-layout` are the client's to write.
Protocol: buildkit `client/ociindex`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from buildkit_builder.errors import BuildKitError

_INDEX = "index.json"
_TAG = "org.opencontainers.image.ref.name"
_NAME = "io.containerd.image.name"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def digest_of(folder: Path, tag: str) -> str | None:
    """What a tag stands for, or `None` where there is no such folder or tag.

    Raises:
        BuildKitError: The directory cannot be read, or its index is not an OCI index.
    """
    for entry in _manifests(_read(folder)):
        annotations = entry.get("annotations")
        if isinstance(annotations, dict) and tag in (annotations.get(_TAG), annotations.get(_NAME)):
            digest = entry.get("digest")
            return digest if isinstance(digest, str) else None
    return None


def tag(folder: Path, name: str, descriptor: Mapping[str, Any], *, reset: bool = False) -> None:
    """Has a tag stand for a manifest that is in the folder.

    Args:
        folder: Of the layout.
        name: The tag.
        descriptor: Of the manifest, as OCI writes it: `mediaType`, `digest`, `size`.
        reset: Remove the blobs that no tag leads to any more.

    Raises:
        BuildKitError: The folder cannot be written to.
    """
    entry = {**descriptor, "annotations": {**(descriptor.get("annotations") or {}), _TAG: name}}
    try:
        with _locked(folder):
            index = _read(folder)
            others = [one for one in _manifests(index) if (one.get("annotations") or {}).get(_TAG) != name]
            index.update(schemaVersion=2, mediaType=_INDEX_TYPE, manifests=[*others, entry])
            _write(folder / "oci-layout", {"imageLayoutVersion": "1.0.0"})
            _write(folder / _INDEX, index)
            if reset:
                _sweep(folder, [str(one.get("digest", "")) for one in index["manifests"]])
    except OSError as error:
        raise BuildKitError(f"The layout in {folder} cannot be written: {error.strerror}.") from error


def _read(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / _INDEX).read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BuildKitError(f"The index of the layout in {folder} cannot be read: {error.strerror}.") from error
    except ValueError:
        index = None
    if not isinstance(index, dict):
        raise BuildKitError(f"{folder / _INDEX} is not the index of an OCI layout.")
    return index


def _manifests(index: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = index.get("manifests")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _write(path: Path, value: object) -> None:
    """Puts a file in its place whole, so that nobody ever reads half of it."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    aside.write_text(json.dumps(value))
    aside.replace(path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other builds from changing the index meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sweep(folder: Path, roots: list[str]) -> None:
    """Removes what cannot be reached from the manifests."""
    blobs = folder / "blobs" / "sha256"
    kept: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop().removeprefix("sha256:")
        if name not in kept:
            kept.add(name)
            waiting += _needs(blobs / name)
    for path in blobs.iterdir():
        if path.name not in kept:
            path.unlink()


def _needs(blob: Path) -> list[str]:
    """The blobs that a manifest or an index names; none for any other blob."""
    if not blob.is_file() or blob.stat().st_size > 1 << 22:
        return []
    try:
        said = json.loads(blob.read_bytes())
    except ValueError:
        return []
    if not isinstance(said, dict):
        return []
    named = [said.get("config"), *(said.get("layers") or ()), *(said.get("manifests") or ())]
    return [str(one["digest"]) for one in named if isinstance(one, dict) and "digest" in one]
