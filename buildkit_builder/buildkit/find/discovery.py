"""Which daemon to talk to: settings, environment, Docker, buildx and default sockets, in one order.

The order: the `endpoint` setting, the builder that the settings name, BUILDKIT_HOST, BUILDX_BUILDER, what DOCKER_HOST
or DOCKER_CONTEXT names, an engine that the caller has started, what `docker buildx use` and `docker context use`
chose, and last the default sockets. What somebody said comes before what was merely found. With an engine
the builder that buildx would use with it is taken, as `docker buildx build` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from buildkit_builder.buildkit.find import sockets
from buildkit_builder.buildkit.find.addresses import Addresses
from buildkit_builder.buildkit.find.buildx_store import BuildxStore
from buildkit_builder.buildkit.find.docker_endpoint import DockerEndpoints
from buildkit_builder.buildkit.find.endpoint import AUTO, FORMS, Endpoint, EndpointOptions, said
from buildkit_builder.buildkit.find.nodes import Node
from buildkit_builder.buildkit.find.sockets import ABSENT, Probe
from buildkit_builder.errors import EndpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One place that was looked at.

    Attributes:
        place: Which.
        found: What was found there, in words.
    """

    place: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What a search ended with.

    Attributes:
        nodes: The daemons, mostly one; none where nothing was found.
        looked: The places looked at, in order; the last is the one taken, if any.
        missing: Where nothing was found, that as an error's message.
    """

    nodes: tuple[Node, ...]
    looked: tuple[Look, ...]
    missing: str = ""

    def found(self) -> tuple[Node, ...]:
        """The daemons.

        Raises:
            EndpointError: There is none.
        """
        if not self.nodes:
            raise EndpointError(self.missing)
        return self.nodes


class OwnEngine(Protocol):
    """An engine that the caller can start: one more place to look at."""

    @property
    def name(self) -> str:
        """What the engine is called, as in "no NAME runs" and "the NAME"."""

    def running(self) -> Endpoint | None:
        """The engine, where it runs."""

    def advice(self) -> str:
        """How to start it, as a sentence; empty where it cannot be started."""


def discover(
    options: EndpointOptions,
    *,
    environ: Mapping[str, str],
    home: Path,
    probe: Probe = sockets.probe,
    own: OwnEngine | None = None,
) -> Discovery:
    """Choose the daemon, or the daemons that build together.

    Args:
        options: From the settings.
        environ: The environment.
        home: The user's home folder, below which Docker keeps its config.
        probe: What is wrong with a socket; asked of default sockets only.
        own: An engine that the caller can start.

    Raises:
        EndpointError: An address, a Docker context, a buildx builder or the TLS files make no sense.
    """
    return _Search(options, environ, home, probe, own).run()


def resolve(
    options: EndpointOptions, *, environ: Mapping[str, str], home: Path, own: OwnEngine | None = None
) -> Endpoint:
    """As `discover`, where one daemon is enough: the first.

    Raises:
        EndpointError: As `discover`, or nothing was found.
    """
    return discover(options, environ=environ, home=home, own=own).found()[0].endpoint


class _Search:
    def __init__(
        self,
        options: EndpointOptions,
        environ: Mapping[str, str],
        home: Path,
        probe: Probe,
        own: OwnEngine | None,
    ) -> None:
        self._options = options
        self._own = own
        self._environ = environ
        self._home = home
        self._probe = probe
        self._docker = DockerEndpoints(options, environ, home, probe)
        self._store = BuildxStore.of(environ, self._docker.folder)
        self._addresses = Addresses(options, self._docker, self._store)
        self._looked: list[Look] = []

    def run(self) -> Discovery:
        places: tuple[Callable[[], tuple[Node, ...]], ...] = (
            self._setting,
            self._builder,
            self._buildkit_host,
            self._buildx_builder,
            self._docker_of_environment,
            self._own_engine,
            self._buildx_in_use,
            self._context_in_use,
            self._default_sockets,
        )
        for place in places:
            if nodes := place():
                return Discovery(nodes=nodes, looked=tuple(self._looked))
        return Discovery(nodes=(), looked=tuple(self._looked), missing=self._missing())

    def _setting(self) -> tuple[Node, ...]:
        address = (self._options.address or "").strip()
        if not address or address == AUTO:
            return self._look("the `endpoint` setting", f"`{AUTO}`" if address else "not set")
        nodes = self._addresses.read(address, "the `endpoint` setting names it")
        return self._look("the `endpoint` setting", f"`{address}`", nodes)

    def _builder(self) -> tuple[Node, ...]:
        name = (self._options.builder or "").strip()
        if not name:
            return ()
        place = "the builder in the settings"
        return self._look(
            place, f"`{name}`", self._addresses.builder(name, f"the settings choose the builder `{name}`")
        )

    def _buildkit_host(self) -> tuple[Node, ...]:
        address = said(self._environ, "BUILDKIT_HOST")
        if not address:
            return self._look("BUILDKIT_HOST", "not set")
        return self._look("BUILDKIT_HOST", f"`{address}`", self._addresses.read(address, "BUILDKIT_HOST names it"))

    def _buildx_builder(self) -> tuple[Node, ...]:
        name = said(self._environ, "BUILDX_BUILDER")
        if not name:
            return self._look("BUILDX_BUILDER", "not set")
        nodes = self._addresses.builder(name, f"BUILDX_BUILDER chooses the builder `{name}`")
        return self._look("BUILDX_BUILDER", f"`{name}`", nodes)

    def _docker_of_environment(self) -> tuple[Node, ...]:
        name = next((name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if said(self._environ, name)), None)
        if name is None:
            return self._look("DOCKER_HOST and DOCKER_CONTEXT", "not set")
        nodes = self._with_buildx(self._docker.of_environment())
        return self._look(name, f"`{said(self._environ, name)}`", nodes)

    def _own_engine(self) -> tuple[Node, ...]:
        if self._own is None:
            return ()
        endpoint = self._own.running()
        if endpoint is None:
            return self._look(f"the {self._own.name}", "none runs")
        return self._look(f"the {self._own.name}", f"`{endpoint.address}`", _alone(endpoint))

    def _buildx_in_use(self) -> tuple[Node, ...]:
        nodes = self._with_buildx(None)
        place = f"the builder in use ({self._store.folder / 'current'})"
        return self._look(place, nodes[0].endpoint.address if nodes else "the engine's own", nodes)

    def _context_in_use(self) -> tuple[Node, ...]:
        endpoint = None if said(self._environ, "DOCKER_CONTEXT") else self._docker.of_context_in_use()
        place = f"the Docker context in use ({self._docker.folder / 'config.json'})"
        return self._look(place, f"`{endpoint.address}`" if endpoint else "the default one", _alone(endpoint))

    def _default_sockets(self) -> tuple[Node, ...]:
        blocked = None
        for place in sockets.default_sockets(self._environ, self._home):
            wrong = self._probe(place.path)
            self._look(f"{place.path}, {place.what}", wrong or "somebody listens")
            if not wrong:
                return _alone(place.endpoint(f"it is {place.what}, and nothing else is configured"))
            if wrong != ABSENT and blocked is None:
                blocked = place.endpoint(f"it is {place.what}, which is there, and nothing else is configured")
        # Connecting tells more of what is wrong with it than "nothing was found" would.
        return _alone(blocked)

    def _with_buildx(self, engine: Endpoint | None) -> tuple[Node, ...]:
        """The builder that buildx uses with the engine in use, else the engine."""
        if builder := self._store.current(self._docker.key()):
            reason = f"`{builder.name}` is the buildx builder in use ({self._store.folder / 'current'})"
            return self._addresses.nodes_of(builder, reason)
        return _alone(engine)

    def _look(self, place: str, found: str, nodes: tuple[Node, ...] = ()) -> tuple[Node, ...]:
        if nodes and nodes[0].endpoint.address not in found:
            found = f"{found}: {', '.join(node.endpoint.address for node in nodes)}"
        self._looked.append(Look(place=place, found=found))
        return nodes

    def _missing(self) -> str:
        places = ", ".join(place.path for place in sockets.default_sockets(self._environ, self._home))
        advice = (self._own.advice() if self._own else "") or "Start Docker."
        own = f"no {self._own.name} runs, " if self._own else ""
        return (
            "No BuildKit was found: the `endpoint` setting, BUILDKIT_HOST, BUILDX_BUILDER, DOCKER_HOST and "
            f"DOCKER_CONTEXT are not set, {own}no buildx builder and no "
            f"Docker context is in use, and there is no socket at {places}. {advice} Or set the `endpoint` setting to "
            f"one of {FORMS}."
        )


def _alone(endpoint: Endpoint | None) -> tuple[Node, ...]:
    return (Node(name=endpoint.address, endpoint=endpoint),) if endpoint else ()
