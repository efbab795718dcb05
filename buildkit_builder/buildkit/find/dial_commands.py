"""Daemons that are reached through a program's standard input and output: its command line, from an address.

Protocol: buildkit `client/connhelper`, `cmd/buildctl/dialstdio.go`; docker/cli `cli/connhelper`; docker/buildx
`commands/dial_stdio.go`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from urllib.parse import parse_qsl

from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.errors import EndpointError

DIAL = ("buildctl", "dial-stdio")

_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Protocol: buildkit `client/connhelper/kubepod`.
_KUBERNETES = re.compile(r"[-a-z0-9.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program whose standard input and output are a connection.

    Attributes:
        argv: The program and its arguments.
        advice: What to do where it fails, as a sentence.
    """

    argv: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address `SCHEME://NAME?KEY=VALUE&…`, taken apart; names keep their case."""

    name: str
    options: dict[str, str]

    @classmethod
    def parse(cls, address: str, form: str, name: re.Pattern[str], *options: str) -> Address:
        """Take an address apart.

        Args:
            address: The address.
            form: What it should look like, for the message.
            name: What a name is.
            options: The keys that may be given.

        Raises:
            EndpointError: It is not of that form.
        """
        rest, _, query = address.partition("://")[2].partition("?")
        given = dict(parse_qsl(query, keep_blank_values=True))
        values_fit = all(not value or name.fullmatch(value) for value in given.values())
        if not name.fullmatch(rest) or given.keys() - set(options) or not values_fit:
            raise EndpointError(f"The address `{address}` is not of the form {form}.")
        return cls(name=rest, options=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshPlace:
    """An account on another machine, and perhaps a socket there."""

    host: str
    user: str = ""
    port: str = ""
    path: str = ""

    @classmethod
    def parse(cls, address: str) -> SshPlace:
        """Read `ssh://[USER@]HOST[:PORT][/PATH]`.

        Raises:
            EndpointError: It is not of that form, or holds a password, which ssh would not take.
        """
        found = re.fullmatch(
            r"ssh://((?P<user>[^@/?#]*)@)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:@/?#\[\]]+)(:(?P<port>\d+))?(?P<path>/[^?#]*)?",
            address,
        )
        if found is None or ":" in (found["user"] or ""):
            shown = re.sub(r"//[^/]*@", "//…@", address)
            raise EndpointError(
                f"The address `{shown}` is not of the form ssh://USER@HOST:PORT/PATH, where only the host must be "
                "given; a password may not, ssh takes keys from its agent."
            )
        path = (found["path"] or "").rstrip("/")
        return cls(host=found["host"].strip("[]"), user=found["user"] or "", port=found["port"] or "", path=path)

    def command(self, *remote: str) -> Command:
        """Run a program there."""
        user = ("-l", self.user) if self.user else ()
        port = ("-p", self.port) if self.port else ()
        # The shell at the other end reads one line; `-T` since a terminal would change the bytes.
        argv = ("ssh", *user, *port, "-T", "--", self.host, shlex.join(remote))
        return Command(
            argv=argv,
            advice=f"Run `{shlex.join(argv[:-1])} true`: it must work without a question, so the host must be known "
            f"and a key be in the agent; and `{remote[0]}` must be on the PATH of that account.",
        )


def container_of(address: str) -> Address:
    """The name, and the option `context`, of a `docker-container` address."""
    return Address.parse(
        address, "docker-container://NAME, or docker-container://NAME?context=X", _CONTAINER, "context"
    )


def command_of(endpoint: Endpoint) -> Command | None:
    """The program that reaches an endpoint, or `None` where no program is needed.

    Raises:
        EndpointError: The address is not of its form.
    """
    match endpoint.scheme:
        case "ssh":
            return _ssh(endpoint)
        case "podman-container":
            return _podman(endpoint.address)
        case "kube-pod":
            return _kubectl(endpoint.address)
        case "buildx":
            return _buildx(endpoint.address)
    return None


def _ssh(endpoint: Endpoint) -> Command:
    place = SshPlace.parse(endpoint.address)
    if endpoint.kind == "docker":
        socket = ("--host", f"unix://{place.path}") if place.path else ()
        return place.command("docker", *socket, "system", "dial-stdio")
    socket = ("--addr", f"unix://{place.path}") if place.path else ()
    return place.command(DIAL[0], *socket, *DIAL[1:])


def _podman(address: str) -> Command:
    name = Address.parse(address, "podman-container://NAME", _CONTAINER).name
    return Command(
        argv=("podman", "exec", "-i", name, *DIAL),
        advice=f"See with `podman ps --all` that the container `{name}` runs (`podman start {name}`); its image needs "
        "`buildctl`, as moby/buildkit has it.",
    )


def _kubectl(address: str) -> Command:
    form = "kube-pod://POD, or kube-pod://POD?context=X&namespace=Y&container=Z"
    pod = Address.parse(address, form, _KUBERNETES, "context", "namespace", "container")
    context, namespace, container = (pod.options.get(name, "") for name in ("context", "namespace", "container"))
    where = f"--context={context}", f"--namespace={namespace}"
    return Command(
        argv=("kubectl", *where, "exec", f"--container={container}", "-i", pod.name, "--", *DIAL),
        advice=f"See with `{shlex.join(('kubectl', *where, 'get', 'pod', pod.name))}` that the pod runs and that you "
        "may exec into it; its image needs `buildctl`, as moby/buildkit has it.",
    )


def _buildx(address: str) -> Command:
    builder = Address.parse(address, "buildx://BUILDER", re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*"), "platform")
    platform = builder.options.get("platform")
    return Command(
        argv=(
            *("docker", "buildx", "dial-stdio", "--builder", builder.name),
            *(("--platform", platform) if platform else ()),
        ),
        advice=f"`docker buildx inspect --bootstrap {builder.name}` says what is wrong with it, and starts it.",
    )
