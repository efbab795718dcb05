"""States as people write them, with the verbs of a Dockerfile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.front import sources
from buildkit_builder.buildkit.front.checks import check_mounts, check_source, pairs, text, words
from buildkit_builder.buildkit.front.mounts import Mount, Secret, Ssh
from buildkit_builder.buildkit.front.recipe import Recipe, Step
from buildkit_builder.buildkit.front.steps import (
    Change,
    ChangeDirectory,
    Configure,
    Copy,
    Network,
    PrependPath,
    Run,
    SetCmd,
    SetEntrypoint,
)


class State(Recipe):
    """A tree of files, and what an image made of it says of itself.

    A state is a value: each verb returns a new state and leaves the old one as it is. Nothing runs until `build`. A
    state from `image` has the base's environment, directory, user and command, as after a Dockerfile's `FROM`; the
    base's `ONBUILD` instructions are not run. Paths that do not begin with `/` are meant in the state's directory.

    Example:
        >>> base = bk.image("debian:bookworm-slim").env(LANG="C.UTF-8").dir("/app")
        >>> image = base.write("hello.txt", "hello").shell("cat hello.txt").cmd(["cat", "hello.txt"])
    """

    __slots__ = ()

    def run(
        self,
        args: Sequence[str],
        *,
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        network: Network = "default",
        name: str | None = None,
        cached: bool = True,
    ) -> State:
        """Run a command, given as a list. No shell is involved.

        Args:
            args: The command and its arguments.
            mounts: What it sees beside its root, from `cache`, `secret`, `ssh`, `bind` and `tmpfs`.
            env: Variables for this command alone.
            network: `default` for the daemon's usual network, or `none`.
            name: What progress calls it.
            cached: Whether the daemon may use a result that it has. Without it, cache mounts begin empty as well.

        Raises:
            TypeError: `args` is not a list of texts, or a mount is not a mount.
            ValueError: The command is empty.
        """
        return self._run(
            words(args, "args"), is_shell=False, mounts=mounts, env=env, network=network, name=name, cached=cached
        )

    def shell(
        self,
        command: str,
        *,
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        network: Network = "default",
        name: str | None = None,
        cached: bool = True,
    ) -> State:
        """Run a text in the image's shell, which is `/bin/sh -c` unless the base says otherwise.

        Args:
            command: What the shell is given.
            mounts: As `run`.
            env: As `run`.
            network: As `run`.
            name: As `run`.
            cached: As `run`.

        Raises:
            TypeError: `command` is not a text, or a mount is not a mount.
            ValueError: The command is empty.
        """
        return self._run(
            (text(command, "command", " Write `.run([…])` for a list."),), is_shell=True, mounts=mounts, env=env,
            network=network, name=name, cached=cached,
        )  # fmt: skip

    @overload
    def copy(
        self, source: Recipe, dst: str, /, *, owner: str | None = ..., mode: int | None = ...,
        exclude: Sequence[str] = ...,
    ) -> State: ...  # fmt: skip

    @overload
    def copy(
        self, source: Recipe, src: str, dst: str, /, *, owner: str | None = ..., mode: int | None = ...,
        exclude: Sequence[str] = ...,
    ) -> State: ...  # fmt: skip

    def copy(
        self,
        source: Recipe,
        src: str,
        dst: str | None = None,
        /,
        *,
        owner: str | None = None,
        mode: int | None = None,
        exclude: Sequence[str] = (),
    ) -> State:
        """Copy files of another state: `copy(source, dst)` or `copy(source, src, dst)`.

        Without `src` all of the source is copied: what is in its root, or its file where it is a single one. Of a
        directory, what is in it is copied, as `COPY` does. `*`, `?` and `[…]` in `src` are patterns.

        Args:
            source: The state to copy from, such as `local(".")` or another stage.
            src: What to copy of it.
            dst: Where to; a directory if it ends with `/`.
            owner: Whom the files belong to, as `user` or `user:group`. The default is root.
            mode: Their permissions, such as `0o644`.
            exclude: Patterns of what to leave out.

        Raises:
            TypeError: `source` is not a state.
        """
        check_source(source)
        if owner is not None:
            llb.Owner.parse(owner)
        taken, target = (source.step.content, src) if dst is None else (src, dst)
        step = Copy(
            source=source, src=text(taken, "src"), dst=text(target, "dst"), owner=owner, mode=mode,
            exclude=words(exclude, "exclude"),
        )  # fmt: skip
        return self._then(step)

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> State:
        """Write a file, in directories that are made if need be."""
        action = partial(llb.mkfile, data=content, mode=mode)
        # What makes no sense is refused here, and not in mid-build.
        action("/file")
        return self._then(Change(action, text(path, "path"), makes_parents=True))

    def mkdir(self, path: str, *, mode: int = 0o755) -> State:
        """Make a directory, and those that it is in."""
        return self._then(Change(partial(llb.mkdir, mode=mode, parents=True), text(path, "path")))

    def rm(self, path: str, *, missing_ok: bool = False) -> State:
        """Remove a file or a directory with all that is in it."""
        return self._then(Change(partial(llb.rm, allow_not_found=missing_ok), text(path, "path")))

    def symlink(self, path: str, target: str) -> State:
        """Make a symbolic link at `path` that leads to `target`, in directories that are made if need be."""
        return self._then(Change(partial(llb.symlink, text(target, "target")), text(path, "path"), makes_parents=True))

    def env(self, variables: Mapping[str, str] | None = None, /, **more: str) -> State:
        """Set variables, for later steps and in the image.

        Args:
            variables: Names and values, where names are no keywords.
            **more: Names and values.

        Raises:
            TypeError: A value is not a text.
            ValueError: A name is empty or has `=` in it.
        """
        return self._configure(*(partial(_with_env, key=key, value=value) for key, value in pairs(variables, more)))

    def label(self, labels: Mapping[str, str] | None = None, /, **more: str) -> State:
        """Set labels of the image.

        Args:
            labels: Names and values, where names are no keywords.
            **more: Names and values.

        Raises:
            TypeError: A value is not a text.
        """
        return self._configure(*(partial(_with_label, key=key, value=value) for key, value in pairs(labels, more)))

    def prepend_path(self, *directories: str) -> State:
        """Put directories before those that `PATH` has."""
        return self._then(PrependPath(words(directories, "directories")))

    def dir(self, path: str) -> State:
        """Change the directory that later steps and the image start in, and make it; a Dockerfile's `WORKDIR`."""
        return self._then(ChangeDirectory(text(path, "path")))

    def user(self, user: str) -> State:
        """Change whom later steps and the image run as, `user` or `user:group`, by name or number."""
        return self._configure(lambda config: config.with_user(user))

    def cmd(self, args: Sequence[str]) -> State:
        """Set what the image runs, or the default arguments of its entrypoint."""
        return self._then(SetCmd(words(args, "args")))

    def entrypoint(self, args: Sequence[str]) -> State:
        """Set what the image runs before its command. A command that comes from the base is dropped."""
        return self._then(SetEntrypoint(words(args, "args")))

    def expose(self, *ports: int | str) -> State:
        """Say which ports the image listens on, such as `8080` or `"53/udp"`."""
        named = [f"{port}/tcp" if str(port).isdigit() else str(port) for port in ports]
        return self._configure(lambda config: config.with_exposed_ports(*named))

    def __repr__(self) -> str:
        steps, first = 0, self.parent
        while first is not None:
            steps, first = steps + 1, first.parent
        return f"<State of {steps} step{'' if steps == 1 else 's'}>"

    def _run(
        self,
        args: tuple[str, ...],
        *,
        is_shell: bool,
        mounts: Sequence[Mount],
        env: Mapping[str, str] | None,
        network: Network,
        name: str | None,
        cached: bool,
    ) -> State:
        if not args or not args[0]:
            raise ValueError("The command is empty.")
        check_mounts(mounts)
        if network not in ("default", "none"):
            raise ValueError(f"`network` is {network!r}, and has to be `default` or `none`.")
        variables = tuple(pairs(env, {}))
        return self._then(
            Run(
                args=args, is_shell=is_shell, env=variables, mounts=tuple(mounts), network=network, name=name,
                cached=cached,
            )
        )  # fmt: skip

    def _configure(self, *changes: Any) -> State:
        state = self
        for change in changes:
            # What makes no sense is refused here, and not in mid-build.
            change(llb.ImageConfig())
            state = state._then(Configure(change))
        return state

    def _then(self, step: Step) -> State:
        return State(step, self)


def image(reference: str, *, platform: str | None = None) -> State:
    """Begin with an image in a registry, as a Dockerfile's `FROM` does.

    Args:
        reference: Its name, completed by Docker's rules.
        platform: The platform to take it for whatever the build is for. Commands on it then run on that platform.

    Raises:
        ImageError: The name or the platform is malformed.

    Example:
        >>> image = bk.image("python:3.12-slim").shell("python -m venv /venv").prepend_path("/venv/bin")
    """
    return State(sources.from_image(reference, platform))


def scratch() -> State:
    """Begin with nothing.

    Example:
        >>> image = bk.scratch().write("/hello", "hello")
    """
    return State(sources.FromScratch())


def local(
    path: str | Path, *, include: Sequence[str] = (), exclude: Sequence[str] = (), dockerignore: bool = True
) -> State:
    """Take a directory, or a single file, of this machine. It is read when the build asks for it.

    Args:
        path: The directory or file.
        include: Patterns of the paths to send; none means all.
        exclude: Patterns of the paths to leave out, as in a `.dockerignore`.
        dockerignore: Whether the directory's `.dockerignore` counts as well.

    Example:
        >>> image = bk.image("debian:bookworm-slim").copy(bk.local(".", exclude=["*.log"]), "/app")
    """
    return State(sources.from_local(path, include, exclude, dockerignore))


def git(
    url: str,
    ref: str = "",
    *,
    subdir: str = "",
    token: Secret | None = None,
    ssh: Ssh | None = None,
    known_hosts: str | None = None,
) -> State:
    """Take a git repository at one commit.

    Args:
        url: Its address: `https://…`, `ssh://…` or `user@host:path`.
        ref: Branch, tag or commit; the default branch, if it is not given.
        subdir: The directory of the repository to take.
        token: An access token for HTTPS.
        ssh: The agent for SSH; the one that `SSH_AUTH_SOCK` names, if it is not given.
        known_hosts: Lines as in `known_hosts`, for SSH.

    Raises:
        ValueError: The address makes no sense.

    Example:
        >>> source = bk.git("https://github.com/octocat/Hello-World.git", "master")
    """
    return State(sources.from_git(url, ref, subdir, token=token, ssh=ssh, known_hosts=known_hosts))


def http(url: str, *, name: str | None = None, checksum: str | None = None, mode: int = 0o644) -> State:
    """Take a file on a web server.

    Args:
        url: Its address.
        name: What it is called; the last part of the address, if it is not given.
        checksum: The digest that it must have, as `sha256:…`.
        mode: Its permissions.

    Raises:
        ValueError: The address makes no sense.

    Example:
        >>> tool = bk.http("https://example.com/tool", mode=0o755)
        >>> image = bk.image("debian:bookworm-slim").copy(tool, "/usr/local/bin/tool")
    """
    return State(sources.from_http(url, name, checksum, mode))


def _with_env(config: llb.ImageConfig, *, key: str, value: str) -> llb.ImageConfig:
    return config.with_env(key, value)


def _with_label(config: llb.ImageConfig, *, key: str, value: str) -> llb.ImageConfig:
    return config.with_label(key, value)
