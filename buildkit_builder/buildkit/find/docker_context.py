"""Docker's own notion of "which engine": its config folder, its contexts and its TLS files.

Facts only; `endpoint` decides what they mean. Source: docker/cli `cli/command/cli.go`, `cli/context/store`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit_builder.buildkit.find.docker_json import read_object, text_of
from buildkit_builder.errors import EndpointError

DEFAULT = "default"
"""The context that means "DOCKER_HOST, or else the default socket"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerContext:
    """One stored context.

    Attributes:
        name: As the user wrote it; case matters.
        host: The engine's address in DOCKER_HOST's spelling, for example `unix:///run/user/1000/docker.sock`.
        skip_tls_verify: The server's certificate is not to be checked.
        ca: Path of the CA bundle, where the context holds one.
        cert: Path of the client certificate, where the context holds one.
        key: Path of its key.
    """

    name: str
    host: str
    skip_tls_verify: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


def config_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where Docker keeps `config.json` and its contexts: DOCKER_CONFIG, else `~/.docker`."""
    return Path(environ.get("DOCKER_CONFIG") or home / ".docker")


def current_context(folder: Path) -> str | None:
    """The context that `docker context use` chose, or `None`; as in docker also where `config.json` makes no sense."""
    try:
        return text_of(read_object((folder / "config.json").read_bytes()), "currentContext") or None
    except (OSError, ValueError):
        return None


def names(folder: Path) -> tuple[str, ...]:
    """The stored contexts, sorted; damaged ones are left out."""
    return tuple(sorted(filter(None, map(_name, (folder / "contexts" / "meta").glob("*/meta.json")))))


def load(name: str, folder: Path) -> DockerContext:
    """Read one stored context and its TLS files.

    Raises:
        EndpointError: There is none of that name, or it names no Docker engine.
    """
    key = hashlib.sha256(name.encode()).hexdigest()
    path = folder / "contexts" / "meta" / key / "meta.json"
    meta = read_json(path)
    if not meta:
        known = ", ".join(f"`{known}`" for known in (DEFAULT, *names(folder)))
        raise EndpointError(f"There is no Docker context `{name}` in {folder}; the contexts are {known}.")
    endpoints = meta.get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    if not isinstance(docker, dict) or not isinstance(host, str) or not host:
        raise EndpointError(f"The Docker context `{name}` names no Docker engine ({path} has no docker endpoint).")
    tls = folder / "contexts" / "tls" / key / "docker"
    return DockerContext(
        name=name,
        host=host,
        skip_tls_verify=docker.get("SkipTLSVerify") is True,
        ca=present(tls / "ca.pem"),
        cert=present(tls / "cert.pem"),
        key=present(tls / "key.pem"),
    )


def present(path: Path) -> str | None:
    """The path where there is such a file, else `None`."""
    return str(path) if path.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that Docker wrote, empty where there is no such file.

    Raises:
        EndpointError: It is not what Docker writes.
    """
    try:
        return read_object(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise EndpointError(f"Docker's file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise EndpointError(f"Docker's file {path} cannot be read: it {error}.") from error


def _name(path: Path) -> str:
    try:
        return str(read_json(path).get("Name", ""))
    except EndpointError:
        return ""
