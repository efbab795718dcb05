"""What builds that run side by side on one daemon do once for all: a layer they share is packed once, and sent once.

A registry that has a blob in one repository gives it to another without its being sent again, if it is asked to. The
daemon asks where it remembers to have pushed the blob; so of several builds with a new layer in common one pushes it
first (protocol: `POST /v2/<name>/blobs/uploads/?mount=<digest>&from=<other>`; buildkit `util/push/push.go`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from buildkit_builder.buildkit.llb.layer_outputs import Output


@dataclass(eq=False)
class SharedLayers:
    """The layers of builds on one daemon.

    Attributes:
        builds: How many there are.
        packed: The layers that are packed ahead (`packing`).
    """

    builds: int = 0
    packed: set[Output] = field(default_factory=set)
    _pushing: dict[tuple[str, Output], asyncio.Future[None]] = field(default_factory=dict)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """There is one more build while the context lasts."""
        self.builds += 1
        try:
            yield
        finally:
            self.builds -= 1

    async def begin_push(self, registry: str, layers: frozenset[Output]) -> Turn:
        """Waits until no other build pushes one of these layers.

        A build that waits holds up nobody.

        Args:
            registry: Where they go.
            layers: Those that are new.

        Returns:
            To be ended when they have been pushed.
        """
        keys = frozenset((registry, layer) for layer in layers)
        while others := {self._pushing[key] for key in keys & self._pushing.keys()}:
            await asyncio.wait(others)
        over = asyncio.get_running_loop().create_future()
        self._pushing.update(dict.fromkeys(keys, over))
        return Turn(self, keys, over)


@dataclass(frozen=True, eq=False)
class Turn:
    """One build's push of layers."""

    shared: SharedLayers
    keys: frozenset[tuple[str, Output]]
    over: asyncio.Future[None]

    def end(self) -> None:
        """It is done, or has failed: others that wait for it go on, the first of which pushes what is not there."""
        for key in self.keys:
            del self.shared._pushing[key]
        self.over.set_result(None)
