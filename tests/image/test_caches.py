"""Which caches an image reads and writes: those that are named, and those that follow from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build.request import CacheEntry, CacheExport
from buildkit_builder.config import Settings
from buildkit_builder.errors import ConfigError
from buildkit_builder.image.caches import Caches

AMD64, ARM64 = llb.Platform(architecture="amd64"), llb.Platform(architecture="arm64")
BRANCH = {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "mine", "CI_DEFAULT_BRANCH": "main"}
GITHUB = {"ACTIONS_RUNTIME_TOKEN": "token", "ACTIONS_RESULTS_URL": "https://results.example/"}


def caches(
    section: dict[str, Any],
    *,
    reference: str = "registry.example/team/app:v1",
    platforms: tuple[llb.Platform, ...] = (AMD64,),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Caches:
    """The caches of an image."""
    return Caches.of(
        reference, platforms, Settings.load({"image": {"buildkit": section}}, {}), environ, Path("/nowhere")
    )


def refs(entries: tuple[CacheEntry, ...] | tuple[CacheExport, ...]) -> list[str]:
    """The references of caches in registries."""
    found = [entry.entry if isinstance(entry, CacheExport) else entry for entry in entries]
    return [entry.attributes["ref"] for entry in found]


# --- derived ---


def test_nothing_is_asked_for() -> None:
    """Without a setting there is no cache, and nothing to say of it."""
    assert Caches() == caches({})


def test_beside_the_image() -> None:
    """A branch reads its own cache and the default branch's, and writes its own, in a form that any registry takes."""
    found = caches({"cache": "registry"}, environ=BRANCH)

    own = "registry.example/team/app:buildcache-mine-linux-amd64"
    assert [own, "registry.example/team/app:buildcache-main-linux-amd64"] == refs(found.imports)
    attributes = {
        "ref": own, "mode": "max", "image-manifest": "true", "oci-mediatypes": "true", "compression-level": "1"
    }  # fmt: skip
    entry = CacheEntry(type="registry", attributes=attributes, platform=AMD64)
    assert (CacheExport(entry=entry, platforms=(AMD64,), only_if_made=True),) == found.exports
    assert () == found.notes


def test_in_a_place_of_their_own() -> None:
    """Under a prefix each image has a repository, by the last part of its name."""
    found = caches({"cache": "cache.example/builds"}, environ=BRANCH)

    assert ["cache.example/builds/app:buildcache-mine-linux-amd64"] == refs(found.exports)


def test_each_platform_has_its_own() -> None:
    """No platform takes the place of another, and a node that builds for one has to do with that alone."""
    found = caches({"cache": "registry"}, platforms=(AMD64, ARM64), environ=BRANCH)

    assert [AMD64, AMD64, ARM64, ARM64] == [entry.platform for entry in found.imports]
    assert 2 == len(set(refs(found.exports)))
    part = found.of_platforms((ARM64,))
    assert ["arm64", "arm64"] == [ref[-5:] for ref in refs(part.imports)]
    assert ["registry.example/team/app:buildcache-mine-linux-arm64"] == refs(part.exports)


def test_packed_as_the_image_is() -> None:
    """Layers that are in both are stored once."""
    (export,) = caches({"cache": "registry", "compression": "zstd", "compression_level": 3}, environ=BRANCH).exports

    assert {"compression": "zstd", "compression-level": "3"}.items() <= export.entry.attributes.items()


def test_what_is_no_branch_only_reads() -> None:
    """The build of a tag has nothing to leave behind, and that is said."""
    found = caches({"cache": "registry"}, environ={"GITLAB_CI": "true", "CI_COMMIT_TAG": "v1"})

    assert ["registry.example/team/app:buildcache-main-linux-amd64"] == refs(found.imports)
    assert () == found.exports
    assert ("The build cache is read and not written, since this is not the build of a branch.",) == found.notes


def test_an_image_without_a_registry() -> None:
    """There is no place beside it; a place of its own can be named."""
    found = caches({"cache": "registry"}, reference="app:v1", environ=BRANCH)

    assert ((), ()) == (found.imports, found.exports)
    assert "names no registry" in found.notes[0]
    assert ["cache.example/app:buildcache-mine-linux-amd64"] == refs(
        caches({"cache": "cache.example"}, reference="app:v1", environ=BRANCH).exports
    )


@given(st.lists(st.text(min_size=1, max_size=90), min_size=2, max_size=2, unique=True))
def test_every_branch_is_a_tag_of_its_own(names: list[str]) -> None:
    """Whatever branches are called, their tags can be tags, and differ."""
    found = [caches({"cache": "registry"}, environ={**BRANCH, "CI_COMMIT_BRANCH": name}) for name in names]

    tags = [refs(one.exports)[0].rpartition(":")[2] for one in found]
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag) for tag in tags)
    assert 2 == len(set(tags))


def test_loopback_needs_no_tls() -> None:
    """A registry on this machine, or declared to be without TLS, is spoken to accordingly; what is said wins."""
    section = {
        "cache": "registry", "insecure_registries": ["plain.example"],
        "cache_from": ["plain.example/a", "safe.example/a", "type=registry,ref=localhost:1/a,registry.insecure=false"],
    }  # fmt: skip

    found = caches(section, reference="127.0.0.1:5000/app:1", environ=BRANCH)

    insecure = [entry.attributes.get("registry.insecure") for entry in found.imports]
    assert ["true", None, "false", "true", "true"] == insecure
    assert "true" == found.exports[0].entry.attributes["registry.insecure"]


# --- GitHub's own ---


def test_githubs_cache() -> None:
    """Each image and platform has a scope; branches are kept apart by GitHub."""
    found = caches({"cache": "gha"}, environ={"ACTIONS_CACHE_SERVICE_V2": "True", **GITHUB})

    known = {"token": "token", "url": "https://results.example/", "url_v2": "https://results.example/"}
    assert {"scope": "app-linux-amd64", **known} == dict(found.imports[0].attributes)
    assert {"scope": "app-linux-amd64", "mode": "max", **known} == dict(found.exports[0].entry.attributes)
    assert ("token",) == found.credentials


def test_githubs_older_cache() -> None:
    """Without the second version of the service its address is that of the first."""
    environ = {"ACTIONS_CACHE_URL": "https://cache.example/", **GITHUB}

    (entry,) = caches({"cache_from": "type=gha"}, environ=environ).imports

    assert {"token": "token", "url": "https://cache.example/"} == dict(entry.attributes)


def test_what_is_said_of_githubs_cache_wins() -> None:
    """Attributes come before variables."""
    text = "type=gha,version=2,token=mine,url_v2=https://a.example"
    (entry,) = caches({"cache_from": text}, environ=GITHUB).imports

    expected = {"version": "2", "token": "mine", "url_v2": "https://a.example", "url": "https://results.example/"}
    assert expected == dict(entry.attributes)


@pytest.mark.parametrize("section", [{"cache": "gha"}, {"cache_from": "type=gha", "cache_to": "type=gha"}])
def test_githubs_cache_elsewhere(section: dict[str, Any]) -> None:
    """Where no runner has said how to reach it, it is left out, which is said once."""
    found = caches(section, environ={"ACTIONS_RUNTIME_TOKEN": "token"})

    assert ((), ()) == (found.imports, found.exports)
    assert 1 == len(found.notes)
    assert "ACTIONS_RESULTS_URL" in found.notes[0]


# --- Amazon's ---


def test_keys_of_the_environment() -> None:
    """A user's keys are handed on, as the daemon has none; a session's token goes with its own keys alone."""
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_SESSION_TOKEN": "also"}
    own = "type=s3,bucket=b,access_key_id=mine,secret_access_key=mine-too"

    handed, said = caches({"cache_from": ["type=s3,bucket=b", own]}, environ=environ).imports

    keys = {"access_key_id": "id", "secret_access_key": "hush", "session_token": "also"}
    assert {"bucket": "b", **keys} == dict(handed.attributes)
    assert {"bucket": "b", "access_key_id": "mine", "secret_access_key": "mine-too"} == dict(said.attributes)


# --- named ---


def test_named_caches_are_for_all_platforms() -> None:
    """They are written whatever was built, and fail a build only where that is asked for."""
    section = {"cache_to": ["type=registry,ref=r.example/c,ignore-error=false", "type=inline"]}

    first, second = caches(section, platforms=(AMD64, ARM64)).exports

    entry = CacheEntry(type="registry", attributes={"ref": "r.example/c"})
    assert CacheExport(entry=entry, platforms=(AMD64, ARM64), required=True) == first
    assert CacheExport(entry=CacheEntry(type="inline"), platforms=(AMD64, ARM64)) == second


def test_a_local_cache(tmp_path: Path) -> None:
    """It is written under a tag, read by the digest that the tag stands for, and each folder is given accordingly."""
    digest = f"sha256:{'1' * 64}"
    manifest = {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    other = tmp_path / "other"

    found = caches(
        {"cache_from": f"type=local,src={tmp_path}", "cache_to": f"type=local,dest={other},tag=a,reset=true"}
    )

    assert ({"src": str(tmp_path), "digest": digest},) == tuple(dict(entry.attributes) for entry in found.imports)
    entry = CacheEntry(type="local", attributes={"dest": str(other)})
    expected = CacheExport(entry=entry, platforms=(AMD64,), folder=other, tag="a", reset=True)
    assert (expected,) == found.exports
    assert {f"local:{tmp_path}": tmp_path, f"local:{other}": other} == found.stores
    assert {f"local:{tmp_path}"} == found.read_only


def test_a_local_cache_that_is_read_and_written(tmp_path: Path) -> None:
    """What is written may be written to, though it is read too; one that is not there yet is no error."""
    found = caches({"cache_from": f"type=local,src={tmp_path}", "cache_to": f"type=local,dest={tmp_path}"})

    assert (frozenset(), 1) == (found.read_only, len(found.exports))
    assert (f"There is no build cache in {tmp_path} yet.",) == found.notes


def test_a_local_cache_that_is_broken(tmp_path: Path) -> None:
    """An index that is none is said, and the build goes on without."""
    (tmp_path / "index.json").write_text("[")

    found = caches({"cache_from": f"type=local,src={tmp_path}"})

    assert () == found.imports
    assert "is not the index of an OCI layout" in found.notes[0]


@pytest.mark.parametrize("name", ["cache_from", "cache_to"])
def test_a_name_that_is_none(name: str) -> None:
    """A reference that cannot be one is found before anything is connected to."""
    with pytest.raises(ConfigError, match=r"`r\.example/A` is not the name of an image"):
        caches({name: "type=registry,ref=r.example/A"})
