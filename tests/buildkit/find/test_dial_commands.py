from __future__ import annotations

import pytest

from buildkit_builder.buildkit.find.dial_commands import SshPlace, command_of, container_of
from buildkit_builder.buildkit.find.endpoint import Endpoint, Kind
from buildkit_builder.errors import EndpointError


def argv(address: str, kind: Kind = "buildkit") -> str:
    command = command_of(Endpoint(address=address, kind=kind))
    assert command is not None
    return " | ".join(command.argv)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("podman-container://My_pod.1", "podman | exec | -i | My_pod.1 | buildctl | dial-stdio"),
        (
            "kube-pod://builder-0",
            "kubectl | --context= | --namespace= | exec | --container= | -i | builder-0 | -- | buildctl | dial-stdio",
        ),
        (
            "kube-pod://b?namespace=n&context=c&container=x",
            "kubectl | --context=c | --namespace=n | exec | --container=x | -i | b | -- | buildctl | dial-stdio",
        ),
        ("ssh://Far", "ssh | -T | -- | Far | buildctl dial-stdio"),
        ("ssh://me@Far:2222", "ssh | -l | me | -p | 2222 | -T | -- | Far | buildctl dial-stdio"),
        ("ssh://[::1]:22/", "ssh | -p | 22 | -T | -- | ::1 | buildctl dial-stdio"),
        ("ssh://far/run/b.sock", "ssh | -T | -- | far | buildctl --addr unix:///run/b.sock dial-stdio"),
        ("ssh://far/a;rm b", "ssh | -T | -- | far | buildctl --addr 'unix:///a;rm b' dial-stdio"),
        ("ssh://-oProxyCommand=x", "ssh | -T | -- | -oProxyCommand=x | buildctl dial-stdio"),
        ("buildx://mine", "docker | buildx | dial-stdio | --builder | mine"),
        (
            "buildx://mine?platform=linux/arm64",
            "docker | buildx | dial-stdio | --builder | mine | --platform | linux/arm64",
        ),
    ],
)
def test_command_lines(address: str, expected: str) -> None:
    """Every address is one command line, in which nothing of the address is an option or a shell's word."""
    assert expected == argv(address)


def test_engine_over_ssh() -> None:
    """An engine is dialled by `docker` at the other end, at its own socket or at the one named."""
    assert "ssh | -T | -- | far | docker system dial-stdio" == argv("ssh://far", "docker")
    assert "ssh | -T | -- | far | docker --host unix:///d.sock system dial-stdio" == argv("ssh://far/d.sock", "docker")


@pytest.mark.parametrize("address", ["unix:///x", "tcp://h:1", "docker-container://x"])
def test_addresses_without_a_program(address: str) -> None:
    """Sockets, ports and containers need no program."""
    assert command_of(Endpoint(address=address, kind="buildkit")) is None


@pytest.mark.parametrize(
    "address",
    [
        "podman-container://",
        "podman-container://-x",
        "podman-container://a/b",
        "podman-container://a?x=1",
        "kube-pod://",
        "kube-pod://A",
        "kube-pod://a?namespace=B",
        "kube-pod://a?pod=b",
        "kube-pod://a/b",
        "ssh://",
        "ssh://h?x",
        "ssh://h#x",
        "ssh://h:port",
        "ssh://h:1:2",
        "buildx://",
        "buildx://--help",
        "buildx://a?builder=b",
    ],
)
def test_addresses_that_make_no_sense(address: str) -> None:
    """What is not of the form is an error that says the form."""
    scheme = address.partition(":")[0]

    with pytest.raises(EndpointError, match=rf"is not of the form {scheme}://"):
        argv(address)


def test_password_is_not_told() -> None:
    """A password in an ssh address is refused, and not repeated."""
    with pytest.raises(EndpointError, match="a password may not") as caught:
        SshPlace.parse("ssh://me:hunter2@far")

    assert "hunter2" not in str(caught.value)


def test_container_name_and_context() -> None:
    """A container's name keeps its case; its engine's context may be named."""
    assert ("A_b.c-1", {}) == (
        container_of("docker-container://A_b.c-1").name,
        container_of("docker-container://x").options,
    )
    assert {"context": "far"} == container_of("docker-container://x?context=far").options
    with pytest.raises(EndpointError, match="docker-container://NAME"):
        container_of("docker-container://x y")
