"""Recipes: what a state is made by, kept until a build knows the config of its base images.

A state of the front door holds no graph. Its environment, directory and user may come from a base image, whose config
only the daemon can look up, and for each platform anew. So each verb adds a step to a recipe, and a build lowers the
recipe to a graph for one platform after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.gateway import ResolveMode
from buildkit_builder.buildkit.front.needs import Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """An image that a recipe begins with.

    Attributes:
        reference: Its name as the user wrote it.
        platform: The platform to take it for, or `None` for the one that is built.
    """

    reference: str
    platform: llb.Platform | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedBase:
    """A base image for one platform, as the daemon found it.

    Attributes:
        reference: Its full name, with the digest.
        config: Its config.
        mode: How the daemon found it; it has to be fetched in the same way.
    """

    reference: str
    config: llb.ImageConfig
    mode: ResolveMode = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A recipe as it is for one platform, up to one of its steps.

    Attributes:
        tree: The files.
        config: Environment, directory, user and all else that an image says of itself.
        platform: What its commands run on.
        has_own_cmd: Whether the recipe set the command, so that a new entrypoint keeps it.
    """

    tree: llb.State
    config: llb.ImageConfig
    platform: llb.Platform
    has_own_cmd: bool = False


class Step:
    """One step of a recipe.

    Attributes:
        content: Path of what a copy of the whole state takes: a single file, or the root.
    """

    __slots__ = ()

    @property
    def content(self) -> str:
        """Return the root, unless the step says otherwise."""
        return "/"

    def reads(self) -> tuple[Recipe, ...]:
        """Return other recipes that this step needs."""
        return ()

    def base(self) -> BaseImage | None:
        """Return the image that this step begins with."""
        return None

    def needs(self) -> Needs:
        """Collect what the session has to serve for this step."""
        return Needs()

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Apply the step for one platform."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Recipe:
    """A step, and the recipe that it continues."""

    step: Step
    parent: Recipe | None = None

    def all(self) -> Iterator[Recipe]:
        """Yield every recipe that this one needs, each once and before those that need it; itself last."""
        done: set[int] = set()
        stack = [self]
        while stack:
            recipe = stack[-1]
            needed = (*recipe.step.reads(), *(() if recipe.parent is None else (recipe.parent,)))
            waiting = [each for each in needed if id(each) not in done]
            if waiting and id(recipe) not in done:
                stack.extend(waiting)
                continue
            stack.pop()
            if id(recipe) not in done:
                done.add(id(recipe))
                yield recipe

    def bases(self) -> tuple[BaseImage, ...]:
        """Return the images that it begins with or copies from, each once."""
        found = (recipe.step.base() for recipe in self.all())
        return tuple(dict.fromkeys(base for base in found if base is not None))

    def needs(self) -> Needs:
        """Collect what the session has to serve.

        Raises:
            BuildKitError: A file or a secret is missing.
        """
        return Needs.joined(recipe.step.needs() for recipe in self.all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """Lowers recipes for one platform.

    Attributes:
        platform: The platform.
        bases: Every base image, looked up for the platform.
        session: The session that serves local directories.
        label: What names of commands begin with, where several platforms are built at once.
    """

    platform: llb.Platform
    bases: Mapping[BaseImage, ResolvedBase] = field(default_factory=dict)
    session: str = ""
    label: str = ""
    _done: dict[int, Lowered] = field(default_factory=dict, repr=False)

    def lower(self, recipe: Recipe) -> Lowered:
        """Lower a recipe and all that it needs.

        Raises:
            ImageError: Something that the user wrote makes no sense.
        """
        for each in recipe.all():
            before = self.empty() if each.parent is None else self.of(each.parent)
            self._done[id(each)] = each.step.lower(before, self)
        return self.of(recipe)

    def of(self, recipe: Recipe) -> Lowered:
        """Return what was lowered before."""
        return self._done[id(recipe)]

    def empty(self) -> Lowered:
        """Begin with no files, and the config of an image made from scratch."""
        return Lowered(tree=llb.scratch(), config=llb.ImageConfig.empty(self.platform), platform=self.platform)
