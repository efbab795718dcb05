"""The image so far, while it is lowered: its config, its files in branches, and what the steps share."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildkit_builder.buildkit import llb
from buildkit_builder.errors import CapabilityError, ImageError
from buildkit_builder.image.lower.branches import Branches
from buildkit_builder.image.lower.dockerfile_words import WordError
from buildkit_builder.image.lower.questions import Environment, Lowered
from buildkit_builder.image.plan import Plan
from buildkit_builder.image.plan.context import step_name
from buildkit_builder.image.plan.steering import Reads


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
class Ahead:
    """A step that runs ahead, and what its check needs.

    Attributes:
        name: The step's.
        change: The number of what it does.
        config: What the image says of itself before the step.
        before: The tree that the branch forks off from, or `None` where that is all there is before the step.
        after: The tree that the written order gives.
        reads: What is compared.
        targets: Where steps after it, which do not see it, put files.
    """

    name: str
    change: int
    config: llb.ImageConfig
    before: llb.State | None
    after: llb.State
    reads: Reads
    targets: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Draft:
    """An image that steps are added to.

    Attributes:
        host: Set where the image's platform is foreign to the daemon's machine and the base exists for both.
        waiting: The numbers of the steps that are known to need more than wheels.
        ordered: The numbers of the steps that are known to be steered by those before them.
        attempts: By the number of a step, the number of the change that tries it ahead.
        parts: The same, where only a part of it is done ahead, and the step itself follows.
        ahead: By the number of a step, what its check needs; the check fails if the step may not be ahead.
        is_plain: Whether nothing that could steer the package manager was put into the image.
    """

    plan: Plan
    platform: llb.Platform
    environment: Environment
    config: llb.ImageConfig
    branches: Branches
    host: Host | None = None
    waiting: frozenset[int] = frozenset()
    ordered: frozenset[int] = frozenset()
    attempts: dict[int, int] = field(default_factory=dict)
    parts: dict[int, int] = field(default_factory=dict)
    ahead: dict[int, Ahead] = field(default_factory=dict)
    is_plain: bool = True

    def __post_init__(self) -> None:
        self.sources = {source.name: source for source in self.plan.sources}

    @property
    def cwd(self) -> str:
        """The working directory, as an absolute path."""
        return absolute(self.config.working_dir)

    @property
    def image(self) -> Lowered:
        """All of it so far."""
        tries = {*self.attempts.values(), *self.parts.values()}
        apart = [n for n in self.branches.all if n not in tries and not tries & self.branches.changes[n].needed]
        return Lowered(
            state=self.branches.tree(self.branches.all),
            config=self.config,
            attempts={step: self.branches.changes[change].after for step, change in self.attempts.items()},
            parts={step: self.branches.changes[change].after for step, change in self.parts.items()},
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

    def change(self, name: str, make: Callable[[llb.State], llb.State]) -> None:
        """Adds what a step does to the tree of all that is before it."""
        self.branches.add(name, self.branches.all, make)

    def change_files(self, name: str, target: str, make: Callable[[llb.State], llb.State]) -> None:
        """Adds what a step puts at a place, without running anything: it need not wait for installations ahead.

        Files of the environment come after all that was installed there; where links lead, the checks find out.
        """
        self.is_plain = False
        home = self.config.env.get("VIRTUALENV", "")
        if home.startswith("/") and (_is_below(target, home) or _is_below(home, target)):
            self.change(name, make)
            self.branches.begin_anew()
        else:
            trunk = self.branches.trunk
            for step in self.ahead.values():
                if step.change not in trunk:
                    step.targets.append(target)
            self.branches.add(name, trunk, make)

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


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
