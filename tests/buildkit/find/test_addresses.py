from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit_builder.buildkit.find.endpoint import TLS, EndpointOptions
from buildkit_builder.buildkit.llb import Platform
from tests.buildkit.find.test_discovery import found, refusal, search, store_context, use_context


@pytest.fixture
def pem(tmp_path: Path) -> str:
    path = tmp_path / "some.pem"
    path.write_text("PEM")
    return str(path)


# --- buildx ---


def keep_builder(home: Path, name: str, *nodes: dict[str, object], driver: str = "remote", key: str = "") -> None:
    """Write a builder as `docker buildx create` does; with a key it is in use, as after `docker buildx use`."""
    store = home / ".docker/buildx"
    (store / "instances").mkdir(parents=True, exist_ok=True)
    (store / "instances" / name).write_text(json.dumps({"Name": name, "Driver": driver, "Nodes": nodes}))
    if key:
        (store / "current").write_text(json.dumps({"Key": key, "Name": name, "Global": False}))


def in_container(engine: str, **more: object) -> dict[str, object]:
    return {"Name": "mine0", "Endpoint": engine, **more}


def test_builder_of_the_settings(tmp_path: Path) -> None:
    """A builder's container is on the engine that buildx has stored, by its address or by its context."""
    store_context(tmp_path, "one", "unix:///one.sock")
    keep_builder(tmp_path, "mine", in_container("unix:///e.sock"), driver="docker-container")
    keep_builder(tmp_path, "other", in_container("one"), driver="docker-container")

    mine = found(tmp_path, options=EndpointOptions(builder="mine"), BUILDKIT_HOST="tcp://b:1")
    other = found(tmp_path, options=EndpointOptions(address="buildx://other"))

    assert ("docker-container://buildx_buildkit_mine0", "buildkit") == (mine.address, mine.kind)
    assert mine.engine is not None
    assert other.engine is not None
    assert ("unix:///e.sock", "docker") == (mine.engine.address, mine.engine.kind)
    assert "unix:///one.sock" == other.engine.address
    assert "the settings choose the builder `mine`, whose driver is docker-container" == mine.reason


def test_remote_nodes(tmp_path: Path, pem: str) -> None:
    """A remote builder's nodes keep names, platforms and TLS; their addresses may be of any form that BuildKit has."""
    options = {"cacert": pem, "cert": pem, "key": pem, "servername": "other"}
    arm = [{"os": "linux", "architecture": "arm64"}]
    keep_builder(
        tmp_path,
        "far",
        {"Name": "a", "Endpoint": "tcp://Far:1", "DriverOpts": options},
        {"Name": "b", "Endpoint": "kube-pod://b?namespace=n", "Platforms": arm},
        {"Name": "c", "Endpoint": "ssh://me@far"},
    )

    nodes = search(tmp_path, options=EndpointOptions(address="buildx://far")).found()

    assert ["a", "b", "c"] == [node.name for node in nodes]
    assert ["tcp://Far:1", "kube-pod://b?namespace=n", "ssh://me@far"] == [node.endpoint.address for node in nodes]
    assert {"buildkit"} == {node.endpoint.kind for node in nodes}
    assert TLS(ca=pem, cert=pem, key=pem, server_name="other") == nodes[0].endpoint.tls
    assert (Platform(architecture="arm64"),) == nodes[1].platforms


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            {"Name": "a", "Endpoint": "tcp://h:1", "DriverOpts": {"key": "/k", "cert": "/c"}},
            "no driver option `cacert`",
        ),
        ({"Name": "a", "Endpoint": "tcp://h:1", "DriverOpts": {"cacert": "/no/ca"}}, "`/no/ca`"),
        ({"Name": "a", "Endpoint": "npipe://x"}, "only buildx knows"),
        ({"Name": "a", "Endpoint": "tcp://h"}, "tcp://HOST:PORT"),
    ],
)
def test_remote_node_that_makes_no_sense(tmp_path: Path, node: dict[str, object], words: str) -> None:
    """What a stored node lacks is told."""
    keep_builder(tmp_path, "far", node)

    assert words in refusal(tmp_path, options=EndpointOptions(address="buildx://far"))


@pytest.mark.parametrize(
    ("platforms", "address"),
    [(None, "buildx://pods"), ([{"os": "linux", "architecture": "arm64"}], "buildx://pods?platform=linux/arm64")],
)
def test_other_drivers(tmp_path: Path, platforms: object, address: str) -> None:
    """What only buildx can reach is left to it, with a platform by which it finds the node."""
    keep_builder(tmp_path, "pods", in_container("kubernetes:///x", Platforms=platforms), driver="kubernetes")

    assert address == found(tmp_path, options=EndpointOptions(address="buildx://pods")).address


def test_buildx_builder(tmp_path: Path) -> None:
    """BUILDX_BUILDER comes after BUILDKIT_HOST and before DOCKER_HOST, and may name a Docker context."""
    store_context(tmp_path, "one", "unix:///one.sock")
    keep_builder(tmp_path, "mine", {"Name": "a", "Endpoint": "tcp://h:1"})
    engine = "unix:///d.sock"

    assert "tcp://h:1" == found(tmp_path, BUILDX_BUILDER="mine", DOCKER_HOST=engine).address
    assert "tcp://b:1" == found(tmp_path, BUILDX_BUILDER="mine", BUILDKIT_HOST="tcp://b:1").address
    assert "unix:///one.sock" == found(tmp_path, BUILDX_BUILDER="one").address
    assert engine == found(tmp_path, BUILDX_BUILDER="default", DOCKER_HOST=engine).address
    assert "The builders in" in refusal(tmp_path, BUILDX_BUILDER="nope")


def test_builder_in_use(tmp_path: Path) -> None:
    """The builder in use with an engine is taken instead of that engine, and of no other."""
    keep_builder(tmp_path, "mine", {"Name": "a", "Endpoint": "tcp://h:1"}, key="unix:///d.sock")

    taken = found(tmp_path, DOCKER_HOST="unix:///d.sock")

    assert "tcp://h:1" == taken.address
    assert "`mine` is the buildx builder in use" in taken.reason
    assert "unix:///other.sock" == found(tmp_path, DOCKER_HOST="unix:///other.sock").address
    assert (
        "unix:///d.sock"
        == found(tmp_path, options=EndpointOptions(address="docker"), DOCKER_HOST="unix:///d.sock").address
    )


@pytest.mark.parametrize("key", ["unix:///var/run/docker.sock", "one"])
def test_builder_in_use_without_variables(tmp_path: Path, key: str) -> None:
    """Without variables the engine is that of the context in use, or the default one; so is the builder in use."""
    store_context(tmp_path, "one", "unix:///one.sock")
    use_context(tmp_path, "one" if key == "one" else "default")
    keep_builder(tmp_path, "mine", {"Name": "a", "Endpoint": "tcp://h:1"}, key=key)

    assert "tcp://h:1" == found(tmp_path, "/var/run/docker.sock").address


# --- containers, pods and other machines ---


def test_container(tmp_path: Path) -> None:
    """A container is on the engine in use, or on that of the context which the address names."""
    store_context(tmp_path, "one", "tcp://one:2375")
    here = found(tmp_path, options=EndpointOptions(address="docker-container://Box"), DOCKER_HOST="unix:///d.sock")
    there = found(tmp_path, options=EndpointOptions(address="docker-container://Box?context=one"))

    assert ("docker-container://Box", "docker-container://Box") == (here.address, there.address)
    assert here.engine is not None
    assert there.engine is not None
    assert ("unix:///d.sock", "tcp://one:2375") == (here.engine.address, there.engine.address)


@pytest.mark.parametrize(
    ("address", "expected", "kind"),
    [
        ("ssh://me@Far", "ssh://me@Far", "buildkit"),
        ("docker+ssh://Far", "ssh://Far", "docker"),
        ("podman-container://Box", "podman-container://Box", "buildkit"),
        ("kube-pod://b?context=c", "kube-pod://b?context=c", "buildkit"),
    ],
)
def test_addresses_of_programs(tmp_path: Path, address: str, expected: str, kind: str) -> None:
    """What a program reaches is kept as it was written, and is nothing that TLS settings could be for."""
    endpoint = found(tmp_path, BUILDKIT_HOST=address)

    assert (expected, kind) == (endpoint.address, endpoint.kind)
    assert "is not of the form" in refusal(tmp_path, BUILDKIT_HOST=f"{address}?bad=1")


@pytest.mark.parametrize("address", ["ssh://far", "kube-pod://b", "docker-container://b", "buildx://b"])
def test_tls_where_there_is_none(tmp_path: Path, pem: str, address: str) -> None:
    """TLS settings together with an address without TLS are an error, not ignored."""
    assert "has no TLS" in refusal(tmp_path, options=EndpointOptions(address=address, tls_ca=pem))
