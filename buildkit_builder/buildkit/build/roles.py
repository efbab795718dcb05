"""What this build knows of its vertices beside what the daemon says of them."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from buildkit_builder.buildkit.api.events import StatusUpdate, VertexEvent
from buildkit_builder.buildkit.llb import Definition, Role


class Roles:
    """The roles and names of one build's vertices, looked up by digest.

    Every build has its own: a vertex that two builds share plays for each the part that this one gave it, and is called
    what this one calls it, where the daemon goes by whichever build came first.
    """

    def __init__(self) -> None:
        self._roles: dict[str, Role] = {}
        self._names: dict[str, str] = {}
        self._lookups: dict[str, Role] = {}

    def learn(self, definition: Definition) -> None:
        """Take in a graph that is about to be solved; a vertex that two graphs have is only what it is in both."""
        names = definition.names
        for digest, role in definition.roles:
            known = self._roles.get(digest)
            for alias in (digest, uncached(digest)):
                self._roles[alias] = role if known is None else role & known
                if digest in names and not (role.quiet and alias in self._names):
                    self._names[alias] = names[digest]

    def learn_lookup(self, name: str, role: Role) -> None:
        """Take in what a look-up will be called that is about to be asked for: the daemon chooses its digest."""
        self._lookups[name] = role

    def told(self, update: StatusUpdate) -> StatusUpdate:
        """An update in which every vertex of this build has its role and its name."""
        if not update.vertexes:
            return update
        return replace(update, vertexes=tuple(map(self._told, update.vertexes)))

    def name(self, digest: str) -> str | None:
        """What this build calls a vertex; `None` for one that it gave no name."""
        return self._names.get(digest)

    def role(self, digest: str) -> Role | None:
        """The role of a vertex; `None` for one that this build did not make."""
        return self._roles.get(digest)

    def _told(self, vertex: VertexEvent) -> VertexEvent:
        role = self._roles.get(vertex.digest)
        if role is not None:
            # Its group is what another build may have put it into.
            return replace(vertex, role=role, name=self._names.get(vertex.digest, vertex.name), group=None)
        return replace(vertex, role=self._lookups.get(vertex.name))


def uncached(digest: str) -> str:
    """What a daemon calls a vertex that is to run although another build has it (buildkit `solver/jobs.go`)."""
    return f"sha256:{sha256(f'{digest}-ignorecache'.encode()).hexdigest()}"
