"""What a command sees beside its root: caches, secrets, SSH agents, other states, memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.front.needs import Needs, agent_socket, secret_value
from buildkit_builder.buildkit.front.recipe import Lowering, Recipe

Sharing = Literal["shared", "private", "locked"]


class Mount:
    """Something that a command sees beside its root."""

    __slots__ = ()

    def reads(self) -> tuple[Recipe, ...]:
        """Return other states that are mounted."""
        return ()

    def needs(self) -> Needs:
        """Collect what the session has to serve."""
        return Needs()

    def lower(self, lowering: Lowering) -> llb.Mount | llb.SecretEnv:
        """Return the mount, or the variable, as the graph has it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Cache(Mount):
    """A directory that the daemon keeps between builds. `cache` makes it."""

    mount: llb.Cache

    def lower(self, lowering: Lowering) -> llb.Mount:
        """Return the mount, the same for every platform."""
        return self.mount


@dataclass(frozen=True, slots=True)
class Tmpfs(Mount):
    """An empty directory in memory. `tmpfs` makes it."""

    mount: llb.Tmpfs

    def lower(self, lowering: Lowering) -> llb.Mount:
        """Return the mount, the same for every platform."""
        return self.mount


@dataclass(frozen=True, slots=True)
class Bind(Mount):
    """Another state, mounted. `bind` makes it."""

    target: str
    source: Recipe = field(repr=False)
    path: str
    readonly: bool

    def reads(self) -> tuple[Recipe, ...]:
        """Return the state that is mounted."""
        return (self.source,)

    def lower(self, lowering: Lowering) -> llb.Mount:
        """Return the mount of the state's files for the platform."""
        tree = lowering.of(self.source).tree
        return llb.Bind(self.target, tree, selector=self.path, readonly=self.readonly, output=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret(Mount):
    """A secret: where its value comes from, and how a command sees it. `secret` makes it.

    The value never enters the graph, the image or a log. Without `at` or `as_env` a command reads it from the file
    `/run/secrets/NAME`.

    Attributes:
        name: What the daemon asks for it by.
        value: The value itself.
        env: The variable of this process that holds the value.
        file: The local file that holds the value.
        target: The file that the command sees.
        variable: The variable that the command sees, instead of a file.
    """

    name: str
    value: bytes | None = field(default=None, repr=False)
    env: str | None = None
    file: Path | None = None
    target: str = ""
    variable: str = ""

    def at(self, target: str) -> Secret:
        """Show the secret to the command as a file at this path."""
        return replace(self, target=target, variable="")

    def as_env(self, variable: str) -> Secret:
        """Show the secret to the command as an environment variable."""
        return replace(self, variable=variable)

    def needs(self) -> Needs:
        """Read the secret's value."""
        return Needs(secrets={self.name: secret_value(self.name, value=self.value, env=self.env, file=self.file)})

    def lower(self, lowering: Lowering) -> llb.Mount | llb.SecretEnv:
        """Return the file or the variable, without the value."""
        if self.variable:
            return llb.SecretEnv(self.variable, self.name)
        return llb.SecretFile(self.target or f"/run/secrets/{self.name}", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh(Mount):
    """An SSH agent of this machine. `ssh` makes it.

    Attributes:
        id: What the daemon asks for it by.
        socket: The agent's socket, or `None` for the one that `SSH_AUTH_SOCK` names.
    """

    id: str = "default"
    socket: Path | None = None

    def needs(self) -> Needs:
        """Find the agent's socket."""
        return Needs(agents={self.id: agent_socket(self.id, self.socket)})

    def lower(self, lowering: Lowering) -> llb.Mount:
        """Return the socket that the command sees."""
        return llb.Ssh(id=self.id)


def cache(target: str, id: str | None = None, *, sharing: Sharing = "shared") -> Cache:
    """Mount a directory that the daemon keeps between builds.

    Args:
        target: Path in the container.
        id: Name of the directory on the daemon; the path, if it is not given.
        sharing: What commands do that use it at once: share it, get one each, or wait for each other.

    Example:
        >>> install = bk.image("python:3.12-slim").shell("pip install ruff", mounts=[bk.cache("/root/.cache/pip")])
    """
    return Cache(llb.Cache(target, target if id is None else id, sharing=sharing))


def tmpfs(target: str, *, size: int | None = None) -> Tmpfs:
    """Mount an empty directory in memory.

    Args:
        target: Path in the container.
        size: The most bytes it may hold.
    """
    return Tmpfs(llb.Tmpfs(target, size=size))


def bind(target: str, source: Recipe, path: str = "/", *, readonly: bool = True) -> Bind:
    """Mount another state for the time of one command.

    Args:
        target: Path in the container.
        source: The state.
        path: What to mount of it.
        readonly: Whether the command may only read. What it writes otherwise is dropped.

    Raises:
        TypeError: `source` is not a state.
    """
    if not isinstance(source, Recipe):
        raise TypeError(f"`source` is {source!r}, and has to be a state, such as `bk.local(…)`.")
    return Bind(target, source, path, readonly)


def secret(
    name: str, *, value: str | bytes | None = None, env: str | None = None, file: str | Path | None = None
) -> Secret:
    """Declare a secret for the commands that mount it.

    A build with secrets stays out of the daemon's history, which would keep all that its commands print.

    Args:
        name: What the command finds it by: the file `/run/secrets/NAME`, unless `at` or `as_env` say otherwise.
        value: The value itself.
        env: The variable of this process to read the value from. The default is the variable called `name`.
        file: The local file to read the value from.

    Raises:
        ValueError: The value is given in more than one way.
        TypeError: `value` is neither text nor bytes.

    Example:
        >>> token = bk.secret("token", value="s3cret").as_env("TOKEN")
        >>> fetched = bk.image("debian:bookworm-slim").shell('test "$TOKEN" = s3cret', mounts=[token])
    """
    if sum(given is not None for given in (value, env, file)) > 1:
        raise ValueError(f"The secret `{name}` has more than one source: give `value`, `env` or `file`.")
    if value is not None and not isinstance(value, (str, bytes)):
        raise TypeError(f"The value of the secret `{name}` has to be text or bytes.")
    data = value.encode() if isinstance(value, str) else value
    return Secret(name=name, value=data, env=env, file=None if file is None else Path(file).expanduser().absolute())


def ssh(id: str = "default", *, socket: str | Path | None = None) -> Ssh:
    """Forward an SSH agent of this machine to a command.

    Args:
        id: What tells several agents apart.
        socket: The agent's socket; the one that `SSH_AUTH_SOCK` names, if it is not given.
    """
    return Ssh(id=id, socket=None if socket is None else Path(socket))
