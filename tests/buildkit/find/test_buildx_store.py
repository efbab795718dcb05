from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit.find.buildx_store import BuildxStore, StoredNode
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.errors import EndpointError

ENGINE = "unix:///var/run/docker.sock"


@pytest.fixture
def store(tmp_path: Path) -> BuildxStore:
    """An empty store."""
    for folder in ("instances", "defaults"):
        (tmp_path / folder).mkdir()
    return BuildxStore(tmp_path)


def keep(store: BuildxStore, name: str, *nodes: dict[str, Any], driver: str = "remote") -> None:
    """What `docker buildx create` writes."""
    content = {"Name": name, "Driver": driver, "Nodes": nodes or [{"Name": f"{name}0", "Endpoint": "tcp://h:1"}]}
    (store.folder / "instances" / name).write_text(json.dumps(content))


def use(store: BuildxStore, name: str, key: str = ENGINE, *, everywhere: bool = False) -> None:
    """What `docker buildx use` writes."""
    (store.folder / "current").write_text(json.dumps({"Key": key, "Name": name, "Global": everywhere}))


def name_of_current(store: BuildxStore, key: str = ENGINE) -> str | None:
    current = store.current(key)
    return current.name if current else None


def test_place(tmp_path: Path) -> None:
    """The store is where BUILDX_CONFIG says, else beside Docker's config."""
    assert BuildxStore(Path("/elsewhere")) == BuildxStore.of({"BUILDX_CONFIG": "/elsewhere"}, tmp_path)
    assert BuildxStore(tmp_path / "buildx") == BuildxStore.of({}, tmp_path)


def test_nothing_stored(tmp_path: Path) -> None:
    """Without a store there are no builders, and none is in use."""
    store = BuildxStore(tmp_path / "none")

    assert () == store.names()
    assert store.builder("x") is None
    assert store.current(ENGINE) is None


def test_nodes(store: BuildxStore) -> None:
    """Nodes are read in their order, with platforms and the driver's options."""
    platforms = [{"architecture": "arm", "os": "linux", "variant": "v7"}, {"architecture": "386", "os": "linux"}]
    keep(
        store,
        "pair",
        {"Name": "pair0", "Endpoint": "tcp://a:1", "Platforms": platforms, "DriverOpts": {"cacert": "/ca.pem"}},
        {"Name": "b", "Endpoint": "unix:///b", "Platforms": None, "DriverOpts": None, "Flags": ["--x"], "Files": None},
    )

    found = store.builder("Pair")

    assert found is not None
    assert ("pair", "remote", ("pair",)) == (found.name, found.driver, store.names())
    first = StoredNode(
        name="pair0",
        endpoint="tcp://a:1",
        platforms=(Platform(architecture="arm", variant="v7"), Platform(architecture="386")),
        options=(("cacert", "/ca.pem"),),
    )
    assert (first, StoredNode(name="b", endpoint="unix:///b")) == found.nodes


@pytest.mark.parametrize("name", ["../current", "a/b", "", "-x", "1x"])
def test_names_that_are_none(store: BuildxStore, name: str) -> None:
    """What buildx would not take as a name is none, whatever file it would lead to."""
    use(store, "x")

    assert store.builder(name) is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"Nodes": []}', '{"Nodes": [1]}', '{"Nodes": [{"Name": 1}]}', '{"Nodes": {"a": 1}}',
     '{"Nodes": [{"Name": "a", "Endpoint": "b", "DriverOpts": []}]}'[:-3] + '["x"]}]}',
     '{"Nodes": [{"Name": "a", "Endpoint": "b", "Platforms": ["linux/amd64"]}]}'],
)  # fmt: skip
def test_damaged_builder(store: BuildxStore, content: str) -> None:
    """A file that buildx did not write is an error that names it."""
    (store.folder / "instances/bad").write_text(content)

    with pytest.raises(EndpointError, match=str(store.folder / "instances/bad")):
        store.builder("bad")


def test_current_of_an_engine(store: BuildxStore) -> None:
    """The builder in use holds for the engine that it was chosen for."""
    keep(store, "mine")
    use(store, "mine")

    assert "mine" == name_of_current(store)
    assert name_of_current(store, "far") is None


def test_current_everywhere(store: BuildxStore) -> None:
    """A builder that is used globally holds for every engine."""
    keep(store, "mine")
    use(store, "mine", everywhere=True)

    assert "mine" == name_of_current(store, "far")


def test_current_that_is_gone(store: BuildxStore) -> None:
    """A builder in use that was removed leaves the engine's own."""
    use(store, "gone")

    assert name_of_current(store) is None


def test_default_of_an_engine(store: BuildxStore) -> None:
    """Where the builder in use is for another engine, the default of this one is taken."""
    keep(store, "mine")
    keep(store, "usual")
    use(store, "mine", "far")
    (store.folder / "defaults" / hashlib.sha256(ENGINE.encode()).hexdigest()[:20]).write_text("usual")

    assert "usual" == name_of_current(store)
    assert "mine" == name_of_current(store, "far")


def test_reading_writes_nothing(store: BuildxStore) -> None:
    """The store is as it was, although buildx itself would write into it."""
    keep(store, "mine")
    use(store, "", "far")

    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    assert name_of_current(store) is None

    assert before == {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
