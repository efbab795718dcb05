"""The image so far, while it is lowered: its config, its files in branches, and what the steps share."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildkit_builder import llb
from buildkit_builder.errors import CapabilityError, ImageError
from buildkit_builder.lower.branches import Branches
from buildkit_builder.lower.questions import Environment, Lowered
from buildkit_builder.lower.words import WordError
from buildkit_builder.plan import Plan
from buildkit_builder.plan.context import step_name
from buildkit_builder.plan.effects import Effects


@dataclass(kw_only=True)
class Host:
    """Where work for a foreign platform is done without emulation.

    Attributes:
        platform: The daemon's own.
        root: The same base for that platform, with the builder's tools.
    """

    platform: llb.Platform
    root: llb.State


@dataclass(kw_only=True)
class Draft:
    """An image that steps are added to.

    Attributes:
        host: Set where the image's platform is foreign to the daemon's machine and the base exists for both.
        waiting: The numbers of the steps that are known to need what was before them.
        attempts: By the number of a step, the number of the change that tries it ahead.
        lacks_lists: Whether packages were installed, and their lists are not in the image.
    """

    plan: Plan
    platform: llb.Platform
    environment: Environment
    config: llb.ImageConfig
    branches: Branches
    host: Host | None = None
    waiting: frozenset[int] = frozenset()
    attempts: dict[int, int] = field(default_factory=dict)
    lacks_lists: bool = False

    def __post_init__(self) -> None:
        self.sources = {source.name: source for source in self.plan.sources}

    @property
    def cwd(self) -> str:
        """The working directory, as an absolute path."""
        return absolute(self.config.working_dir)

    @property
    def image(self) -> Lowered:
        """All of it so far."""
        tries = set(self.attempts.values())
        apart = [n for n in self.branches.all if n not in tries and not tries & self.branches.changes[n].needed]
        return Lowered(
            state=self.branches.tree(self.branches.all),
            config=self.config,
            attempts={step: self.branches.changes[change].after for step, change in self.attempts.items()},
            apart=self.branches.tree(frozenset(apart)),
            outline=self.branches.outline(),
        )

    def named(self, name: str) -> str:
        """What progress calls a step."""
        return f"[{self.environment.label}] {name}" if self.environment.label else name

    def emulated(self, name: str, what: str = "emulated") -> str:
        """What progress calls a step that runs programs of the image's platform.

        Args:
            name: The step's.
            what: How much of it is emulated, where the platform is foreign.

        Raises:
            CapabilityError: The daemon cannot run them.
        """
        if self.environment.native is None:
            return self.named(name)
        if not self.environment.emulates:
            raise CapabilityError(
                f"{name}: this step runs programs for {self.platform}, and the daemon's machine "
                f"({self.environment.native}) has no emulator for them. Add a node of that platform (`endpoint` as a "
                "list of nodes), install an emulator there (qemu-user-static and binfmt-support, or the image "
                f"tonistiigi/binfmt), or take {self.platform} out of the image's `platform`."
            )
        return f"{self.named(name)} ({what})"

    def change(self, name: str, effects: Effects, make: Callable[[llb.State], llb.State]) -> None:
        """Adds what a step does to the tree that it depends on."""
        needed = self.branches.needed(effects)
        before = self.branches.tree(needed)
        self.branches.add(name, effects, before, make(before), needed)

    def expanded(self, step: str, how: Any, text: str, variables: Mapping[str, str]) -> str:
        """A text of a step with the image's variables in it.

        Raises:
            ImageError: It makes no sense; names the step.
        """
        try:
            return str(how(text, variables))
        except WordError as error:
            raise ImageError(f"{step}: `{text}` is not understood: {error}.") from error

    def local(self, name: str) -> llb.State:
        """A local source."""
        return llb.local(
            name,
            session=self.environment.session,
            shared_key=self.environment.shared_keys.get(name, ""),
            display=step_name("read", self.sources[name].files.root.name),
        )


def absolute(*parts: str) -> str:
    """Joins paths below the root; of two slashes at the start, which POSIX lets mean something else, one is left."""
    return "/" + posixpath.normpath(posixpath.join("/", *parts)).lstrip("/")
