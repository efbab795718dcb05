from __future__ import annotations

import pytest

from buildkit_builder.buildkit.session.registries import Registries

DOCKERFILE = """
ARG REGISTRY=reg.corp:5000
FROM ${REGISTRY}/base AS base
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/
RUN echo other.corp.example
"""


def test_nothing_is_named_at_first() -> None:
    """A build that names no image may have no credentials at all."""
    registries = Registries()

    assert not registries.allow("reg.corp")
    assert not registries.allow("")
    assert ["reg.corp", ""] == registries.withheld


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("reg.corp:5000/a/b:1", "reg.corp:5000"),
        ("localhost:5000/a", "localhost:5000"),
        ("[::1]:5000/a", "[::1]:5000"),
        ("python:3.12", "registry-1.docker.io"),
        ("docker.io/team/a@sha256:" + "0" * 64, "registry-1.docker.io"),
        ("index.docker.io/a", "docker.io"),
    ],
)
def test_images_bring_their_registries(image: str, host: str) -> None:
    """By whatever name an image is called, its registry's API host is meant; nobody else is."""
    registries = Registries()
    registries.add(image)

    assert registries.allow(host)
    assert not registries.allow("reg.corp")
    assert not registries.allow("corp:5000")
    assert not registries.allow("evil.example")


def test_dockerfiles_bring_what_stands_in_them() -> None:
    """Docker Hub, and names that stand there as a whole, be they behind arguments, with their port elsewhere."""
    registries = Registries()
    registries.add_dockerfile(DOCKERFILE, "127.0.0.1:5000")

    for host in ("registry-1.docker.io", "reg.corp:5000", "reg.corp", "ghcr.io", "127.0.0.1:5000"):
        assert registries.allow(host)
    for host in ("corp", "hcr.io", "corp.example", "evil.example", "reg.corp.example", "example", "r.g.corp"):
        assert not registries.allow(host)


def test_registries_that_are_given_whatever_the_build() -> None:
    """Those of a setting, or all."""
    assert Registries(["mirror.corp"]).allow("mirror.corp")
    assert not Registries(["mirror.corp"]).allow("other.corp")
    assert Registries(["*"]).allow("other.corp")


def test_a_daemon_that_asks_for_many_is_not_remembered_for_each() -> None:
    """What was withheld is kept for a message, and not without end."""
    registries = Registries()
    for number in range(1000):
        assert not registries.allow(f"{number}.example" + "x" * 1000)

    assert 20 == len(registries.withheld)
    assert 255 == max(map(len, registries.withheld))
