"""What a user wrote as an address, or buildx stored, as endpoints."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace

from buildkit_builder.buildkit.find import dial_commands
from buildkit_builder.buildkit.find.buildx_store import BuildxStore, StoredBuilder, StoredNode
from buildkit_builder.buildkit.find.docker_endpoint import DockerEndpoints
from buildkit_builder.buildkit.find.endpoint import (
    FORMS,
    SCHEMES,
    TLS,
    Endpoint,
    EndpointOptions,
    Kind,
    checked,
    refuse_tls,
    split_tcp,
    tls_of,
    unix_address,
)
from buildkit_builder.buildkit.find.nodes import Node
from buildkit_builder.errors import EndpointError

# How buildx calls the container of a node: docker/buildx `driver/manager.go`.
_CONTAINER = "buildx_buildkit_"


class Addresses:
    """Reads addresses for a user who has these engines and builders."""

    def __init__(self, options: EndpointOptions, docker: DockerEndpoints, store: BuildxStore) -> None:
        self._options = options
        self._docker = docker
        self._store = store

    def read(self, address: str, reason: str) -> tuple[Node, ...]:
        """The daemons at an address: one, except where it is a buildx builder of several nodes.

        Args:
            address: As the user wrote it.
            reason: Why it is taken.

        Raises:
            EndpointError: The address, or what it refers to, makes no sense.
        """
        address = address.strip()
        scheme, separator, rest = address.partition("://")
        if scheme not in SCHEMES or (not separator and scheme != "docker"):
            raise EndpointError(_unknown(address, scheme, reason))
        if scheme == "buildx":
            refuse_tls(self._options, address)
            return self.builder(rest, f"{reason} (`{address}`)")
        return (_alone(self._endpoint(address, reason)),)

    def builder(self, name: str, reason: str) -> tuple[Node, ...]:
        """The nodes of a buildx builder, or the engine of the Docker context of that name, as in buildx.

        Raises:
            EndpointError: There is neither.
        """
        if stored := self._store.builder(name):
            return self.nodes_of(stored, reason)
        if self._docker.known(name):
            return (_alone(self._docker.engine(name, reason)),)
        known = ", ".join(f"`{known}`" for known in self._store.names()) or "none"
        raise EndpointError(
            f"There is no buildx builder `{name}`, and no Docker context of that name; it was chosen because {reason}. "
            f"The builders in {self._store.folder} are: {known}. `buildkit-builder builder create {name}` makes one."
        )

    def nodes_of(self, builder: StoredBuilder, reason: str) -> tuple[Node, ...]:
        """The nodes of a stored builder.

        Raises:
            EndpointError: One of them makes no sense.
        """
        reason = f"{reason}, whose driver is {builder.driver or 'unknown'}"
        return tuple(
            Node(name=node.name, endpoint=self._endpoint_of(builder, node, reason), platforms=node.platforms)
            for node in builder.nodes
        )

    def _endpoint(self, address: str, reason: str) -> Endpoint:
        scheme, _, rest = address.partition("://")
        if scheme == "docker":
            found = self._docker.engine(rest, "it is given by name") if rest else self._docker.in_use()
            return replace(found, reason=f"{reason} (`{address}`; {found.reason})")
        kind: Kind = "docker" if scheme.startswith("docker+") else "buildkit"
        address = address.removeprefix("docker+")
        if scheme.endswith("tcp"):
            address = address.rstrip("/")
            split_tcp(address)
            return Endpoint(address=address, kind=kind, tls=tls_of(self._options), reason=reason)
        refuse_tls(self._options, address)
        if scheme.endswith("unix"):
            return Endpoint(address=unix_address(address), kind=kind, reason=reason)
        if scheme == "docker-container":
            return self._in_container(address, reason)
        endpoint = Endpoint(address=address, kind=kind, reason=reason)
        dial_commands.command_of(endpoint)
        return endpoint

    def _in_container(self, address: str, reason: str) -> Endpoint:
        container = dial_commands.container_of(address)
        context = container.options.get("context")
        engine = self._docker.engine(context, f"`{address}` names its context") if context else self._docker.in_use()
        return Endpoint(address=f"docker-container://{container.name}", kind="buildkit", engine=engine, reason=reason)

    def _endpoint_of(self, builder: StoredBuilder, node: StoredNode, reason: str) -> Endpoint:
        if builder.driver == "docker-container":
            if "://" in node.endpoint:
                engine = self._docker.at(node.endpoint, None, reason)
            else:
                engine = self._docker.engine(node.endpoint, reason)
            address = f"docker-container://{_CONTAINER}{node.name}"
            return Endpoint(address=address, kind="buildkit", engine=engine, reason=reason)
        if builder.driver == "remote":
            where = f"the node `{node.name}` of the buildx builder `{builder.name}`"
            if not re.match(r"(docker-container|podman-container|kube-pod|ssh|tcp|unix)://", node.endpoint):
                raise EndpointError(f"The address `{node.endpoint}` of {where} is of a form that only buildx knows.")
            endpoint = self._endpoint(node.endpoint, reason)
            return replace(endpoint, tls=_tls_of(dict(node.options), where) or endpoint.tls)
        # A pod has to be chosen, or buildx has a driver that this version does not know: buildx itself dials.
        platform = f"?platform={node.platforms[0]}" if node.platforms else ""
        return Endpoint(address=f"buildx://{builder.name}{platform}", kind="buildkit", reason=reason)


def _alone(endpoint: Endpoint) -> Node:
    return Node(name=endpoint.address, endpoint=endpoint)


def _tls_of(options: dict[str, str], where: str) -> TLS | None:
    """The TLS of a node of the driver `remote`; source: docker/buildx `driver/remote/factory.go`."""
    given = {name: options.get(name) for name in ("cacert", "cert", "key", "servername")}
    if not any(given.values()):
        return None
    if not given["cacert"]:
        raise EndpointError(f"TLS without CA: {where} has no driver option `cacert`.")
    tls = TLS(ca=given["cacert"], cert=given["cert"], key=given["key"], server_name=given["servername"])
    return checked(tls, where)


def _unknown(address: str, scheme: str, reason: str) -> str:
    nearest = difflib.get_close_matches(scheme, SCHEMES, n=1, cutoff=0.5)
    if address.startswith("/"):
        hint = f" Did you mean `unix://{address}`?"
    else:
        hint = f" Did you mean `{nearest[0]}`?" if nearest else ""
    return f"The address `{address}` ({reason}) is of no known form.{hint} Known are {FORMS}."
