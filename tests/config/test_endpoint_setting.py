"""The `endpoint` setting as a list of nodes, from a file and from the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_builder.config import NodeSettings, Settings, TLSSettings
from buildkit_builder.errors import ConfigError

VARIABLE = "FLYTE_BUILDKIT_ENDPOINT"


def load(endpoint: object = None, **environ: str) -> Settings:
    """Settings with this `endpoint` in the file, and with variables."""
    return Settings.load({"image": {"buildkit": {"endpoint": endpoint}}}, {"HOME": "/nowhere", **environ})


def refusal(endpoint: object = None, **environ: str) -> str:
    """What is said of an `endpoint` that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load(endpoint, **environ)
    return str(caught.value)


def test_an_address_is_no_list() -> None:
    """A single address stays what it was, in the file and in the variable."""
    assert ("tcp://a:1", ()) == (load("tcp://a:1").endpoint, load("tcp://a:1").nodes)
    assert ("tcp://a:1", ()) == (load(**{VARIABLE: "tcp://a:1,"}).endpoint, load(**{VARIABLE: "tcp://a:1,"}).nodes)


def test_nodes_of_a_file(tmp_path: Path) -> None:
    """A node is an address, or a map with a name, platforms and TLS of its own."""
    file = tmp_path / "ca.pem"
    file.write_text("")
    arm = {
        "name": "arm",
        "address": "tcp://arm:1234",
        "platforms": ["linux/arm64", "linux/arm/v7"],
        "tls": {"ca": str(file), "server_name": "x", "cert": None},
    }

    settings = load(["docker", arm])

    assert settings.endpoint is None
    assert settings.nodes == (
        NodeSettings(address="docker"),
        NodeSettings(
            name="arm",
            address="tcp://arm:1234",
            platforms=("linux/arm64", "linux/arm/v7"),
            tls=TLSSettings(ca=file, server_name="x"),
        ),
    )


def test_nodes_of_the_variable() -> None:
    """Nodes stand between commas, a node's platforms before its address."""
    settings = load(["tcp://other:1"], **{VARIABLE: "unix:///run/b.sock, linux/arm64+linux/arm/v7=tcp://arm:1234"})

    assert settings.nodes == (
        NodeSettings(address="unix:///run/b.sock"),
        NodeSettings(address="tcp://arm:1234", platforms=("linux/arm64", "linux/arm/v7")),
    )


def test_one_node_with_platforms_is_a_list() -> None:
    """A platform before the only address makes it a node."""
    assert (NodeSettings(address="tcp://a:1", platforms=("linux/arm64",)),) == load(
        **{VARIABLE: "linux/arm64=tcp://a:1"}
    ).nodes


@pytest.mark.parametrize(
    ("address", "title"),
    [
        ("tcp://arm.example:1234", "arm.example:1234"),
        ("docker", "docker"),
        ("docker+unix:///run/d.sock", "/run/d.sock"),
    ],
)
def test_a_node_without_a_name_goes_by_its_address(address: str, title: str) -> None:
    """What progress calls a node that has no name of its own."""
    assert title == NodeSettings(address=address).title


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ([], "`image.buildkit.endpoint` is a list, but must be an address, or a list of nodes: addresses, or maps"),
        ([], "; it is empty."),
        ([7], "its node 1 is 7 (a number), but must be one line of text."),
        (["a", {"name": "x"}], "its node 2 has no `address`."),
        ([{"address": " "}], "`address` of its node 1 is ' ' (text), but must be one line of text."),
        ([{"address": "a", "name": 1}], "`name` of its node 1 is 1 (a number), but must be one line of text."),
        ([{"address": "a", "plattforms": []}], "the unknown key `plattforms`: did you mean `platforms`?."),
        ([{"address": "a", "zzz": []}], "the unknown key `zzz`: known are address, name, platforms, tls."),
        ([{"address": "a", "platforms": "linux/arm64"}], "`platforms` of its node 1 is 'linux/arm64' (text), but must"),
        ([{"address": "a", "platforms": ["arm/"]}], "'arm/' (text) is not one."),
        ([{"address": "a", "tls": "x"}], "`tls` of its node 1 is 'x' (text), but must be a map."),
        (
            [{"address": "a", "tls": {"crt": "x"}}],
            "`tls` of its node 1 has the unknown key `crt`: did you mean `cert`?",
        ),
        (
            [{"address": "a", "tls": {"ca": "/no/such"}}],
            "`tls.ca` of its node 1 is '/no/such' (text), but must be a file",
        ),
        (["a", "a"], "two nodes have the name 'a' (text)."),
        ([{"address": "a", "name": "x"}, "x"], "two nodes have the name 'x' (text)."),
        ([{"address": "a", "name": "x"}, {"address": "a", "name": "y"}], "two nodes have the address 'a' (text)."),
    ],
)
def test_a_wrong_list_is_named(endpoint: object, expected: str) -> None:
    """The message has the node and the key of it that is wrong, and what is expected."""
    assert expected in refusal(endpoint)


def test_certificate_and_key_of_a_node_need_each_other(tmp_path: Path) -> None:
    """One without the other is refused."""
    file = tmp_path / "cert.pem"
    file.write_text("")

    assert "one of cert and key, which need each other" in refusal([{"address": "a", "tls": {"cert": str(file)}}])


def test_the_variable_is_named_where_it_is_wrong() -> None:
    """A platform without an address behind it is said to have none."""
    assert "`FLYTE_BUILDKIT_ENDPOINT` is 'linux/arm64=' (text), but must be an address" in refusal(
        **{VARIABLE: "linux/arm64="}
    )


def test_a_comma_in_a_path_is_a_part_of_it() -> None:
    """In the variable only what looks like an address begins another node."""
    assert "unix:///run/a,b.sock" == load(**{VARIABLE: "unix:///run/a,b.sock"}).endpoint
    assert "unix:///run/a,docker.sock" == load(**{VARIABLE: " unix:///run/a,docker.sock,\n"}).endpoint
    nodes = load(**{VARIABLE: "unix:///a,b.sock,linux/arm64/v8=unix:///c,d=e.sock, docker,docker+unix:///x,y"}).nodes
    assert ["unix:///a,b.sock", "unix:///c,d=e.sock", "docker", "docker+unix:///x,y"] == [
        node.address for node in nodes
    ]


def test_line_breaks_around_an_address() -> None:
    """A block of YAML ends with one, and so does what a program printed into a variable."""
    assert "tcp://a:1" == load("tcp://a:1\n").endpoint
    assert "tcp://a:1" == load(**{VARIABLE: "\n tcp://a:1\r\n"}).endpoint
    assert (NodeSettings(address="tcp://a:1"), NodeSettings(address="tcp://b:1")) == load(
        ["tcp://a:1\n", " tcp://b:1"]
    ).nodes
