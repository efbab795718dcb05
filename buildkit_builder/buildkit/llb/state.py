"""States: the trees of files that a graph describes, and the verbs that lead from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buildkit_builder.buildkit.llb.arguments import check, checked, pairs, several
from buildkit_builder.buildkit.llb.execution import ExecOp, Mount, Network, ProxyEnv, SecretEnv, Security
from buildkit_builder.buildkit.llb.file_actions import FileAction, FileOp
from buildkit_builder.buildkit.llb.operation import Output
from buildkit_builder.buildkit.llb.platforms import Platform
from buildkit_builder.buildkit.llb.role import ORDINARY, Role


@dataclass(frozen=True, slots=True, repr=False)
class State(Output):
    """A tree of files, described by the vertex that makes it: one output of one operation.

    States are values. A verb gives a new state and leaves the old one as it is; nothing happens on any daemon until
    the graph is marshalled and solved. Two states are equal if they are described equally.
    """

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        cwd: str = "/",
        user: str = "",
        mounts: Sequence[Mount] = (),
        secret_env: Sequence[SecretEnv] = (),
        proxy: ProxyEnv | None = None,
        network: Network = "default",
        security: Security = "sandbox",
        extra_hosts: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        hostname: str = "",
        ulimits: Sequence[tuple[str, int, int]] = (),
        cgroup_parent: str = "",
        valid_exit_codes: Sequence[int] = (),
        platform: Platform | None = None,
        name: str | None = None,
        role: Role = ORDINARY,
        ignore_cache: bool = False,
        read_only_root: bool = False,
    ) -> Exec:
        """Run a command with this tree as its root.

        Args:
            args: The command and its arguments; no shell is involved unless it is named.
            env: Variables and their values, in order. The daemon adds a default `PATH` if none is given.
            cwd: Directory the command starts in.
            user: Whom it runs as, `user[:group]` by name or number; empty means root.
            mounts: What it sees beside the root.
            secret_env: Secrets it sees as variables.
            proxy: Proxy settings, which do not count for the cache.
            network: `default` for the daemon's usual network, `host` (needs an entitlement), or `none`.
            security: `sandbox`, or `insecure` for all privileges (needs an entitlement).
            extra_hosts: Names and IP addresses for its `/etc/hosts`.
            hostname: Its host name; empty means the daemon's choice.
            ulimits: Limits as name, soft and hard value.
            cgroup_parent: Parent of its control group.
            valid_exit_codes: What it may end with besides failing the build; none means only 0.
            platform: Platform it runs on, if it is not the one the graph is marshalled for.
            name: What progress calls the vertex.
            role: What is known of the vertex beside its name.
            ignore_cache: Run it even if the daemon has its result.
            read_only_root: Whether it may not write to the root, which is then no output.

        Raises:
            TypeError: If an argument is of another type than it should be; says what to write.
            ValueError: If the command is empty, or mounts contradict each other.
        """
        return Exec(
            ExecOp(
                name=name,
                role=role,
                ignore_cache=ignore_cache,
                root=self,
                args=several(args, "args"),
                env=pairs(env, "env"),
                cwd=cwd,
                user=user,
                mounts=several(mounts, "mounts"),
                secret_env=several(secret_env, "secret_env"),
                proxy=proxy,
                network=network,
                security=security,
                extra_hosts=pairs(extra_hosts, "extra_hosts"),
                hostname=hostname,
                ulimits=tuple(_limit(limit) for limit in several(ulimits, "ulimits")),
                cgroup_parent=cgroup_parent,
                valid_exit_codes=several(valid_exit_codes, "valid_exit_codes"),
                platform=platform,
                read_only_root=read_only_root,
            )
        )

    def file(
        self,
        *actions: FileAction,
        name: str | None = None,
        role: Role = ORDINARY,
        ignore_cache: bool = False,
    ) -> State:
        """Change files of this tree.

        All actions are one vertex, each working on the result of the one before.

        Args:
            *actions: What to do, from `copy`, `mkfile`, `mkdir`, `rm` and `symlink`.
            name: What progress calls the vertex.
            role: What is known of the vertex beside its name.
            ignore_cache: Do it even if the daemon has the result.

        Raises:
            TypeError: If something is no action.
            ValueError: If there is no action, or an owner is to be looked up by name in scratch.
        """
        if any(isinstance(action, (list, tuple)) for action in actions):
            raise TypeError("`file` takes each action as an argument of its own. Write `.file(*actions)`.")
        return State(FileOp(name=name, role=role, ignore_cache=ignore_cache, base=self, actions=actions))


@dataclass(frozen=True, slots=True)
class Exec:
    """A command, and the trees that it leaves behind.

    Attributes:
        op: The vertex.
    """

    op: ExecOp

    def __post_init__(self) -> None:
        check(self)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            known = name in State.__slots__ or (not name.startswith("_") and hasattr(State, name))
            hint = f". A command is not yet a tree: write `.root.{name}`" if known else ""
            raise AttributeError(f"a command has no `{name}`{hint}")

    @property
    def root(self) -> State:
        """The root after the command; with a read-only root, the root before it."""
        if not self.op.read_only_root:
            return self.output("/")
        return State(self.op.root.op, self.op.root.index)

    @checked
    def output(self, target: str) -> State:
        """What is in the writable bind mount at `target` after the command.

        Raises:
            ValueError: If no mount there can be written to and kept.
        """
        return State(self.op, self.op.output_index(target))


def _limit(given: Any) -> tuple[str, int, int]:
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise TypeError(f"`ulimits` has {given!r} in it, and wants names with a soft and a hard value.")
    name, soft, hard = given
    return name, soft, hard


def scratch() -> State:
    """The empty tree."""
    return State()
