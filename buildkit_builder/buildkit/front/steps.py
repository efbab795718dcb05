"""The steps of a recipe that change files, or what the image says of itself."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.front.mounts import Mount
from buildkit_builder.buildkit.front.needs import Needs
from buildkit_builder.buildkit.front.recipe import Lowered, Lowering, Recipe, Step

Network = Literal["default", "none"]

_GLOB = frozenset("*?[")
_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class Configure(Step):
    """Change what the image says of itself."""

    change: Callable[[llb.ImageConfig], llb.ImageConfig]

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Change the config."""
        return replace(before, config=self.change(before.config))


@dataclass(frozen=True, slots=True)
class SetCmd(Step):
    """Set the command that the image runs."""

    args: tuple[str, ...]

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Change the config, and remember that the command is not the base's."""
        return replace(before, config=before.config.with_cmd(self.args), has_own_cmd=True)


@dataclass(frozen=True, slots=True)
class SetEntrypoint(Step):
    """Set what the image runs before its command."""

    args: tuple[str, ...]

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Change the config. The base's command would be arguments of the new entrypoint, and goes, as with Docker."""
        config = before.config if before.has_own_cmd else before.config.with_cmd(())
        return replace(before, config=config.with_entrypoint(self.args))


@dataclass(frozen=True, slots=True)
class PrependPath(Step):
    """Put directories before those that `PATH` has."""

    directories: tuple[str, ...]

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Change the config."""
        known = before.config.env.get("PATH") or llb.ImageConfig.empty(before.platform).env.get("PATH", "")
        path = ":".join((*self.directories, *filter(None, [known])))
        return replace(before, config=before.config.with_env("PATH", path))


@dataclass(frozen=True, slots=True)
class ChangeDirectory(Step):
    """Change the directory that later steps and the image start in, and make it."""

    path: str

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Make the directory and change the config."""
        path = _within(before, self.path).rstrip("/") or "/"
        tree = before.tree if path == "/" else before.tree.file(llb.mkdir(path, parents=True), name=f"workdir {path}")
        return replace(before, tree=tree, config=before.config.with_working_dir(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Step):
    """Run a command.

    Attributes:
        args: The command and its arguments, or the one text that a shell is given.
        is_shell: Whether it is a text for the image's shell.
        env: Variables for this command alone.
        mounts: What it sees beside its root.
        network: `default` for the daemon's usual network, or `none`.
        name: What progress calls it.
        cached: Whether the daemon may use a result that it has.
    """

    args: tuple[str, ...]
    is_shell: bool = False
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: Network = "default"
    name: str | None = None
    cached: bool = True

    def reads(self) -> tuple[Recipe, ...]:
        """Return the states that are mounted."""
        return tuple(recipe for mount in self.mounts for recipe in mount.reads())

    def needs(self) -> Needs:
        """Collect secrets and agents of its mounts."""
        return Needs.joined(mount.needs() for mount in self.mounts)

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Run it with the environment, the directory and the user of the state."""
        config = before.config
        args = (*(config.shell or _SHELL), *self.args) if self.is_shell else self.args
        mounts = [mount.lower(lowering) for mount in self.mounts]
        title = self.name or (self.args[0] if self.is_shell else shlex.join(self.args))
        done = before.tree.run(
            args,
            env={**config.env, **dict(self.env)},
            cwd=config.working_dir or "/",
            user=config.user,
            mounts=[mount for mount in mounts if not isinstance(mount, llb.SecretEnv)],
            secret_env=[mount for mount in mounts if isinstance(mount, llb.SecretEnv)],
            network=self.network,
            platform=None if before.platform == lowering.platform else before.platform,
            name=f"[{lowering.label}] {title}" if lowering.label else self.name,
            ignore_cache=not self.cached,
        )
        return replace(before, tree=done.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Step):
    """Copy files of another state.

    Attributes:
        source: The state.
        src: What to copy of it; of a directory, what is in it.
        dst: Where to; a directory if it ends with `/`.
        owner: Whom the files belong to; root, if it is `None`.
        mode: Their permissions; their own, if it is `None`.
        exclude: Patterns of what to leave out.
    """

    source: Recipe = field(repr=False)
    src: str
    dst: str
    owner: str | None = None
    mode: int | None = None
    exclude: tuple[str, ...] = ()

    def reads(self) -> tuple[Recipe, ...]:
        """Return the state that is copied from."""
        return (self.source,)

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Copy with the rules of a Dockerfile's `COPY`."""
        copied = llb.copy(
            lowering.of(self.source).tree,
            self.src,
            _within(before, self.dst),
            owner=llb.Owner.parse(self.owner or "0:0"),
            mode=self.mode,
            follow_symlinks=True,
            contents_only=True,
            create_dest=True,
            wildcard=bool(_GLOB & set(self.src)),
            exclude=self.exclude,
        )
        label = f"[{lowering.label}] " if lowering.label else ""
        return replace(before, tree=before.tree.file(copied, name=f"{label}copy {self.src} to {self.dst}"))


@dataclass(frozen=True, slots=True)
class Change(Step):
    """Make, write, link or remove a file.

    Attributes:
        action: Makes the action for a path.
        path: The path as the user wrote it.
        makes_parents: Whether the directories on the way to it are made first.
    """

    action: Callable[[str], llb.FileAction]
    path: str
    makes_parents: bool = False

    def lower(self, before: Lowered, lowering: Lowering) -> Lowered:
        """Do it at the path within the state's directory."""
        path = _within(before, self.path)
        parent = posixpath.dirname(path)
        parents = [llb.mkdir(parent, parents=True)] if self.makes_parents and parent != "/" else []
        return replace(before, tree=before.tree.file(*parents, self.action(path)))


def _within(before: Lowered, path: str) -> str:
    """Return a path as it is meant in the state's directory, with the `/` at its end that tells a directory."""
    joined = posixpath.join(before.config.working_dir or "/", path)
    is_directory = path in (".", "..") or path.endswith(("/", "/.", "/.."))
    clean = posixpath.normpath(joined)
    return f"{clean}/" if is_directory and clean != "/" else clean
