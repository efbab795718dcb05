"""Folders that local caches are kept in."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit.session import oci_layout
from buildkit_builder.errors import BuildKitError


def blob(folder: Path, content: bytes | dict[str, Any]) -> dict[str, Any]:
    """Puts a blob into a layout, and gives its descriptor."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    name = hashlib.sha256(data).hexdigest()
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)
    return {"digest": f"sha256:{name}", "size": len(data)}


def image(folder: Path, content: bytes) -> dict[str, Any]:
    """Puts a manifest with a config and a layer into a layout."""
    return blob(folder, {"config": blob(folder, b"config " + content), "layers": [blob(folder, content)]})


def test_a_tag_is_found_again(tmp_path: Path) -> None:
    """What is tagged is there under its tag, beside other tags, and a tag that is used again moves."""
    first, second = image(tmp_path, b"1"), image(tmp_path, b"2")

    oci_layout.tag(tmp_path, "a", first)
    oci_layout.tag(tmp_path, "b", first)
    oci_layout.tag(tmp_path, "a", second)

    assert (second["digest"], first["digest"]) == (
        oci_layout.digest_of(tmp_path, "a"),
        oci_layout.digest_of(tmp_path, "b"),
    )
    assert {"imageLayoutVersion": "1.0.0"} == json.loads((tmp_path / "oci-layout").read_bytes())
    assert {"blobs", "index.json", "oci-layout"} == set(os.listdir(tmp_path))


def test_nothing_is_there(tmp_path: Path) -> None:
    """Neither a folder that is missing nor a tag that is is an error."""
    oci_layout.tag(tmp_path, "a", image(tmp_path, b"1"))

    assert oci_layout.digest_of(tmp_path / "no", "a") is None
    assert oci_layout.digest_of(tmp_path, "b") is None


def test_tags_of_other_tools(tmp_path: Path) -> None:
    """A name as containerd has it counts as a tag, and what else stands in the index stays."""
    other = {"digest": f"sha256:{'0' * 64}", "annotations": {"io.containerd.image.name": "b"}, "size": 1}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [other], "annotations": {"k": "v"}}))

    oci_layout.tag(tmp_path, "a", image(tmp_path, b"1"))

    assert other["digest"] == oci_layout.digest_of(tmp_path, "b")
    assert {"k": "v"} == json.loads((tmp_path / "index.json").read_bytes())["annotations"]


def test_what_no_tag_leads_to_is_removed(tmp_path: Path) -> None:
    """On demand only blobs stay that some tag leads to, by way of an index as well."""
    old, new, kept = image(tmp_path, b"old"), image(tmp_path, b"new"), image(tmp_path, b"kept")
    oci_layout.tag(tmp_path, "other", blob(tmp_path, {"manifests": [kept]}))
    oci_layout.tag(tmp_path, "a", old)

    oci_layout.tag(tmp_path, "a", new, reset=True)

    left = {(tmp_path / "blobs/sha256" / name).read_bytes() for name in os.listdir(tmp_path / "blobs/sha256")}
    assert {b"new", b"config new", b"kept", b"config kept"} <= left
    assert not left & {b"old", b"config old"}
    assert 7 == len(left)


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00"])
def test_an_index_that_is_none(tmp_path: Path, content: str) -> None:
    """It is neither read nor written over."""
    (tmp_path / "index.json").write_text(content)

    with pytest.raises(BuildKitError, match="is not the index of an OCI layout"):
        oci_layout.digest_of(tmp_path, "a")
    with pytest.raises(BuildKitError, match="is not the index of an OCI layout"):
        oci_layout.tag(tmp_path, "a", {"digest": "sha256:0"})
    assert content == (tmp_path / "index.json").read_text()


@pytest.mark.parametrize("content", ['{"manifests": 1}', '{"manifests": [1, {"annotations": 2}, {"digest": 3}]}'])
def test_an_index_of_odd_things(tmp_path: Path, content: str) -> None:
    """What is no manifest is passed over."""
    (tmp_path / "index.json").write_text(content)

    assert oci_layout.digest_of(tmp_path, "a") is None


def test_tags_of_builds_at_once(tmp_path: Path) -> None:
    """None of the tags that are written at the same time is lost."""
    entry = image(tmp_path, b"1")
    names = [str(number) for number in range(24)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: oci_layout.tag(tmp_path, name, entry), names))

    assert [entry["digest"]] * 24 == [oci_layout.digest_of(tmp_path, name) for name in names]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be made is named."""
    (tmp_path / "file").write_text("")

    with pytest.raises(BuildKitError, match="file/layout cannot be written"):
        oci_layout.tag(tmp_path / "file" / "layout", "a", {"digest": "sha256:0"})
