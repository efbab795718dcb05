from __future__ import annotations

import pytest

from buildkit_builder.buildkit.progress.phrasing import (
    amount_of,
    human_bytes,
    human_seconds,
    is_internal,
    plain_name,
    short_title,
)


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ("exporting the image", "exporting to image"),
        ("exporting a Docker archive", "exporting to docker image format"),
        ("exporting an OCI archive", "exporting to oci image format"),
        ("packing the layers", "exporting layers"),
        ("writing the manifest", "exporting manifest sha256:0123"),
        ("writing the list of platforms", "exporting manifest list sha256:0123"),
        ("pushing localhost:5000/app:v1", "pushing manifest for localhost:5000/app:v1@sha256:0123"),
        ("naming it localhost:5000/app:v1", "naming to localhost:5000/app:v1"),
        ("naming it app:v1", "naming to docker.io/library/app:v1"),
        ("signing in to docker.io for library/python", "[auth] library/python:pull token for registry-1.docker.io"),
        ("signing in to ghcr.io for a/b", "[auth] a/b:pull,push token for ghcr.io"),
        ("reading the build cache from localhost:5000/cache", "importing cache manifest from localhost:5000/cache"),
        ("saving the build cache", "exporting cache to registry"),
        ("looking up python:3.11", "resolve image config for docker-image://docker.io/library/python:3.11"),
        ("base image python:3.11", "docker-image://docker.io/library/python:3.11@sha256:0123"),
        ("base image a.io/b@0123456789ab", "docker-image://a.io/b@sha256:0123456789abcdef"),
        ("layer 0123456789ab", "sha256:0123456789abcdef"),
        ("unpacking layer 0123456789ab", "extracting sha256:0123456789abcdef"),
        ("sending context", "transferring context:"),
        ("reading Dockerfile", "[internal] load build definition from Dockerfile"),
    ],
)
def test_vertices_of_the_daemon_get_plain_words(expected: str, name: str) -> None:
    """What the daemon does by itself is named so that a user of Python understands it."""
    assert expected == plain_name(name)


@pytest.mark.parametrize("name", ["with_apt_packages git, curl", "with_commands echo exporting to image", ""])
def test_names_of_ours_stay(name: str) -> None:
    """A step of the user's image is called what we called it."""
    assert name == plain_name(name)
    assert not is_internal(name)


def test_steps_of_the_image_are_told_from_the_daemons_work() -> None:
    """Exports, cache and sign-in are not steps of the image; its base is."""
    assert is_internal("exporting to image")
    assert is_internal("[auth] a/b:pull token for ghcr.io")
    assert not is_internal("docker-image://docker.io/library/python:3.11")


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("registry.example:5000/team/app:beba8bc6f65f3a6d1888945c1a2f6f63", "app:beba8bc6"),
        ("localhost:5000/app:v1 linux/arm64 on arm:1234", "app:v1 linux/arm64 on arm:1234"),
        ("flyte:py3.11-v2.12.1", "flyte:py3.11-v2.12.1"),
        ("hello", "hello"),
    ],
)
def test_short_titles(title: str, expected: str) -> None:
    """An image goes without its registry, and a tag that is a digest is cut; what follows stays."""
    assert expected == short_title(title)


@pytest.mark.parametrize(
    ("expected", "count"),
    [
        ("0 B", 0),
        ("999 B", 999),
        ("1.0 kB", 1000),
        ("12.3 MB", 12_345_678),
        ("1.0 GB", 999_950_000),
        ("5000.0 PB", 5 * 10**18),
    ],
)
def test_amounts_of_data(expected: str, count: int) -> None:
    """Amounts have a unit that a person would choose."""
    assert expected == human_bytes(count)


def test_amount_of_how_much() -> None:
    """Where the total is not known, only what is done is said."""
    assert amount_of(1_000_000, 2_500_000) == "1.0 MB / 2.5 MB"
    assert amount_of(1_000_000, 0) == "1.0 MB"
    assert amount_of(0, 0) == ""
    assert human_seconds(-0.2) == "0.0s"
