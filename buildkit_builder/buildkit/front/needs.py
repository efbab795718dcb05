"""What a build has to serve to the daemon: local directories, secrets, SSH agents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buildkit_builder.buildkit.environment import environment
from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.errors import ConfigError, MissingSecretError


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a recipe needs from this machine.

    Attributes:
        directories: Local directories, by the name of their source.
        secrets: Values of secrets, by id.
        agents: Sockets of SSH agents, by id.
    """

    directories: Mapping[str, LocalDirectory] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    agents: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Iterable[Needs]) -> Needs:
        """Join the needs of several steps.

        Raises:
            ConfigError: Two secrets or agents of one id differ.
        """
        directories: dict[str, LocalDirectory] = {}
        secrets: dict[str, bytes] = {}
        agents: dict[str, Path] = {}
        for part in parts:
            directories |= part.directories
            for name, value in part.secrets.items():
                if secrets.setdefault(name, value) != value:
                    raise ConfigError(f"Two secrets are called `{name}` and differ. Give one of them another name.")
            for name, socket in part.agents.items():
                if agents.setdefault(name, socket) != socket:
                    raise ConfigError(f"Two SSH agents are called `{name}`. Give one of them another id.")
        return cls(directories=directories, secrets=secrets, agents=agents)


def secret_value(name: str, *, value: bytes | None, env: str | None, file: Path | None) -> bytes:
    """Read the value of a secret from where it is.

    Raises:
        MissingSecretError: The variable is not set, or the file cannot be read.
    """
    if value is not None:
        return value
    if file is not None:
        try:
            return file.read_bytes()
        except OSError as error:
            raise MissingSecretError(
                f"The secret `{name}` has no value: the file {file} cannot be read ({error.strerror})."
            ) from error
    found = environment().get(env or name)
    if found is None:
        raise MissingSecretError(f"The secret `{name}` has no value: the variable {env or name} is not set.")
    return found.encode(errors="surrogateescape")


def agent_socket(name: str, socket: Path | None) -> Path:
    """Find the socket of an SSH agent.

    Raises:
        ConfigError: No agent listens there.
    """
    said = environment().get("SSH_AUTH_SOCK", "")
    path = socket.expanduser() if socket is not None else Path(said) if said else None
    if path is None or not path.is_socket():
        where = f"{path} is not a socket" if path is not None else "SSH_AUTH_SOCK is not set"
        raise ConfigError(
            f"The SSH agent `{name}` cannot be reached: {where}. Start one with `ssh-agent`, add your keys with "
            "`ssh-add`, or name its socket."
        )
    return path
