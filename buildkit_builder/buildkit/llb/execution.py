"""Running a command in a container: mounts, secrets, and the vertex itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from buildkit_builder.buildkit.llb.arguments import check, check_mode
from buildkit_builder.buildkit.llb.operation import NO_INPUT, NO_OUTPUT, Inputs, Operation, Output, absolute, distinct
from buildkit_builder.buildkit.wire import ops_pb2

if TYPE_CHECKING:
    from buildkit_builder.buildkit.llb.platforms import Platform

Network = Literal["default", "host", "none"]
Security = Literal["sandbox", "insecure"]
Sharing = Literal["shared", "private", "locked"]

_NETWORKS = {"default": ops_pb2.UNSET, "host": ops_pb2.HOST, "none": ops_pb2.NONE}
_SECURITIES = {"sandbox": ops_pb2.SANDBOX, "insecure": ops_pb2.INSECURE}
_SHARINGS = {"shared": ops_pb2.SHARED, "private": ops_pb2.PRIVATE, "locked": ops_pb2.LOCKED}
_MAX_EXIT_CODE = 255
_SSH_SOCKET = "SSH_AUTH_SOCK"


@dataclass(frozen=True, slots=True)
class Bind:
    """Another state, mounted into the container.

    Attributes:
        target: Path in the container.
        source: What to mount. Scratch gives an empty, writable directory.
        selector: Path in `source` to mount instead of its root.
        readonly: Whether the command may only read. A read-only mount has no output.
        output: Whether what the command writes there can be had as a state (`Exec.output`). Without it writes are
            dropped.
    """

    target: str
    source: Output
    selector: str = ""
    readonly: bool = False
    output: bool = True

    def __post_init__(self) -> None:
        check(self)

    @property
    def has_output(self) -> bool:
        """Whether the mount is one of the outputs of the vertex."""
        return self.output and not self.readonly


@dataclass(frozen=True, slots=True)
class Cache:
    """A directory that the daemon keeps between builds.

    Attributes:
        target: Path in the container.
        id: Name of the directory on the daemon.
        sharing: What concurrent users do: use it together, each get its own, or wait for each other.
        source: What it holds when it is first made.
        selector: Path in it to mount instead of its root.
    """

    target: str
    id: str
    sharing: Sharing = "shared"
    source: Output | None = None
    selector: str = ""

    def __post_init__(self) -> None:
        check(self)
        if not self.id:
            raise ValueError(f"The cache mount at {self.target} has no id.")


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A directory in memory, empty at first and gone at the end.

    Attributes:
        target: Path in the container.
        size: Most bytes it may hold, or `None` for the kernel's default.
    """

    target: str
    size: int | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.size is not None and self.size < 0:
            raise ValueError(f"The memory mount at {self.target} cannot hold {self.size} bytes.")


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret as a file, which is in the container but in no layer.

    Attributes:
        target: Path in the container.
        id: Name of the secret; its value is asked for when the command starts.
        uid: Owner of the file.
        gid: Group of the file.
        mode: Permissions of the file.
        optional: Whether the command may start without it.
    """

    target: str
    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False

    def __post_init__(self) -> None:
        check(self)
        _check_secret(self.id, self.target)
        _check_owned(self)


@dataclass(frozen=True, slots=True)
class Ssh:
    """A socket that forwards to an SSH agent of the client.

    Attributes:
        target: Path of the socket, or `None` for one that is chosen. `SSH_AUTH_SOCK` names the first socket, unless
            the command's environment has it already.
        id: Which agent of the client.
        uid: Owner of the socket.
        gid: Group of the socket.
        mode: Permissions of the socket.
        optional: Whether the command may start without it.
    """

    target: str | None = None
    id: str = "default"
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False

    def __post_init__(self) -> None:
        check(self)
        _check_owned(self)


@dataclass(frozen=True, slots=True)
class SecretEnv:
    """A secret as a variable of the command's environment, which is in no layer and not in the cache key.

    Attributes:
        name: Name of the variable.
        id: Name of the secret.
        optional: Whether the command may start without it; the variable is then empty.
    """

    name: str
    id: str
    optional: bool = False

    def __post_init__(self) -> None:
        check(self)
        _check_secret(self.id, self.name)


@dataclass(frozen=True, slots=True)
class ProxyEnv:
    """Proxy settings as variables, in lower and upper case, which do not count for the cache.

    Attributes:
        http: Value of `HTTP_PROXY`.
        https: Value of `HTTPS_PROXY`.
        ftp: Value of `FTP_PROXY`.
        no: Value of `NO_PROXY`.
        all: Value of `ALL_PROXY`.
    """

    http: str = ""
    https: str = ""
    ftp: str = ""
    no: str = ""
    all: str = ""

    def __post_init__(self) -> None:
        check(self)


Mount = Bind | Cache | Tmpfs | SecretFile | Ssh


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExecOp(Operation):
    """The vertex of a command. `State.run` makes it and documents its fields."""

    root: Output
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    mounts: tuple[Mount, ...]
    secret_env: tuple[SecretEnv, ...]
    proxy: ProxyEnv | None
    network: Network
    security: Security
    extra_hosts: tuple[tuple[str, str], ...]
    hostname: str
    ulimits: tuple[tuple[str, int, int], ...]
    cgroup_parent: str
    valid_exit_codes: tuple[int, ...]
    platform: Platform | None
    read_only_root: bool

    def __post_init__(self) -> None:
        Operation.__post_init__(self)
        if not self.args:
            raise ValueError("A command has at least one argument.")
        if not self.cwd.startswith("/"):
            raise ValueError(f"A command needs a working directory: an absolute path, and not `{self.cwd}`.")
        for key, _ in self.env:
            if not key or "=" in key:
                raise ValueError(f"`{key}` cannot be the name of a variable.")
        for code in self.valid_exit_codes:
            if not 0 <= code <= _MAX_EXIT_CODE:
                raise ValueError(f"A command cannot end with the exit code {code}.")
        _check_targets(
            [mount.target for mount in self._filesystems()]
            + [secret.target for secret in self._secrets()]
            + [target for target, _ in self._sockets()]
        )

    def output_index(self, target: str) -> int:
        """Which output of the vertex is the content of the mount at `target` after the command.

        Raises:
            ValueError: If no mount there can be written to and kept.
        """
        outputs = [absolute(mount.target) for mount in self._filesystems() if _has_output(mount)]
        try:
            return outputs.index(absolute(target))
        except ValueError:
            kept = ", ".join(outputs) or "none"
            raise ValueError(f"The command has no output at {target}; its outputs are: {kept}.") from None

    def dependencies(self) -> tuple[Output, ...]:
        """The sources of its mounts, by target."""
        return distinct(
            mount.source for mount in self._filesystems() if not isinstance(mount, Tmpfs) and mount.source is not None
        )

    def capabilities(self) -> Iterator[str]:
        """Ids of what the daemon must be able to do."""
        yield "exec.meta.base"
        if not any(key == "PATH" for key, _ in self.env):
            yield "exec.meta.setsdefaultpath"
        optional = {
            "exec.meta.proxyenv": self.proxy is not None,
            "exec.meta.network": self.network != "default",
            "exec.meta.security": self.security == "insecure",
            "exec.meta.ulimit": bool(self.ulimits),
            "exec.meta.cgroup.parent": bool(self.cgroup_parent),
            "exec.validexitcode": bool(self.valid_exit_codes),
            "exec.mount.secret": bool(self.secret_env) or any(self._secrets()),
            "exec.secretenv": bool(self.secret_env),
            "exec.mount.ssh": any(self._sockets()),
        }
        yield from (capability for capability, needed in optional.items() if needed)
        for mount in self._filesystems():
            yield from _mount_capabilities(mount)

    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: Platform) -> None:
        """Write it in the order that Go's client writes: files by target, then secrets, then sockets."""
        op.platform.CopyFrom((self.platform or platform).to_wire())
        message = op.exec
        self._encode_meta(message.meta)
        message.network = _NETWORKS[self.network]
        message.security = _SECURITIES[self.security]
        outputs = 0
        for mount in self._filesystems():
            entry = message.mounts.add(dest=absolute(mount.target), input=NO_INPUT, output=NO_OUTPUT)
            if not isinstance(mount, Tmpfs):
                entry.selector = mount.selector
                if mount.source is not None:
                    entry.input = inputs.share(mount.source)
            _encode_mount(entry, mount)
            if _has_output(mount):
                entry.output = outputs
                outputs += 1
        for secret in self._secrets():
            entry = message.mounts.add(dest=absolute(secret.target), input=NO_INPUT, mountType=ops_pb2.SECRET)
            _encode_handed_in(entry.secretOpt, secret)
        for target, socket in self._sockets():
            entry = message.mounts.add(dest=absolute(target), input=NO_INPUT, mountType=ops_pb2.SSH)
            _encode_handed_in(entry.SSHOpt, socket)
        for variable in self.secret_env:
            message.secretenv.add(ID=variable.id, name=variable.name, optional=variable.optional)

    def _encode_meta(self, meta: ops_pb2.Meta) -> None:
        meta.args.extend(self.args)
        meta.env.extend(f"{key}={value}" for key, value in self._environment())
        meta.cwd = self.cwd
        meta.user = self.user
        meta.hostname = self.hostname
        meta.cgroupParent = self.cgroup_parent
        # Without it, the empty files and directories made for mount targets would stay in the layer.
        meta.removeMountStubsRecursive = True
        meta.validExitCodes.extend(self.valid_exit_codes)
        for host, address in self.extra_hosts:
            meta.extraHosts.add(Host=host, IP=address)
        for name, soft, hard in self.ulimits:
            meta.ulimit.add(Name=name, Soft=soft, Hard=hard)
        if self.proxy is not None:
            meta.proxy_env.CopyFrom(
                ops_pb2.ProxyEnv(
                    http_proxy=self.proxy.http,
                    https_proxy=self.proxy.https,
                    ftp_proxy=self.proxy.ftp,
                    no_proxy=self.proxy.no,
                    all_proxy=self.proxy.all,
                )
            )

    def _environment(self) -> list[tuple[str, str]]:
        """Of a variable that is set twice, the last one counts, and its place too."""
        values: dict[str, str] = {}
        for key, value in self.env:
            values.pop(key, None)
            values[key] = value
        for target, _ in self._sockets():
            values.setdefault(_SSH_SOCKET, target)
            break
        return list(values.items())

    def _filesystems(self) -> list[Bind | Cache | Tmpfs]:
        """The root and the mounts of files, by target; the daemon numbers outputs by position."""
        root = Bind("/", self.root, readonly=self.read_only_root)
        mounts = [mount for mount in self.mounts if isinstance(mount, Bind | Cache | Tmpfs)]
        return sorted([root, *mounts], key=lambda mount: absolute(mount.target))

    def _secrets(self) -> Iterator[SecretFile]:
        return (mount for mount in self.mounts if isinstance(mount, SecretFile))

    def _sockets(self) -> Iterator[tuple[str, Ssh]]:
        sockets = (mount for mount in self.mounts if isinstance(mount, Ssh))
        return ((ssh.target or f"/run/buildkit/ssh_agent.{index}", ssh) for index, ssh in enumerate(sockets))


def _has_output(mount: Bind | Cache | Tmpfs) -> bool:
    return isinstance(mount, Bind) and mount.has_output


def _mount_capabilities(mount: Bind | Cache | Tmpfs) -> Iterator[str]:
    if isinstance(mount, Tmpfs):
        yield "exec.mount.tmpfs"
        if mount.size is not None:
            yield "exec.mount.tmpfs.size"
        return
    if mount.selector:
        yield "exec.mount.selector"
    if isinstance(mount, Cache):
        yield "exec.mount.cache"
        yield "exec.mount.cache.sharing"
        return
    if mount.source.op is not None:
        yield "exec.mount.bind"
    if not mount.readonly and not mount.output:
        yield "exec.mount.bind.readwrite-nooutput"


def _encode_mount(entry: ops_pb2.Mount, mount: Bind | Cache | Tmpfs) -> None:
    if isinstance(mount, Tmpfs):
        entry.mountType = ops_pb2.TMPFS
        entry.TmpfsOpt.CopyFrom(ops_pb2.TmpfsOpt(size=mount.size or 0))
    elif isinstance(mount, Cache):
        entry.mountType = ops_pb2.CACHE
        entry.cacheOpt.CopyFrom(ops_pb2.CacheOpt(ID=mount.id, sharing=_SHARINGS[mount.sharing]))
    else:
        entry.readonly = mount.readonly


def _encode_handed_in(options: ops_pb2.SecretOpt | ops_pb2.SSHOpt, mount: SecretFile | Ssh) -> None:
    options.ID = mount.id
    options.uid = mount.uid
    options.gid = mount.gid
    options.mode = mount.mode
    options.optional = mount.optional


def _check_secret(secret_id: str, used_as: str) -> None:
    if not secret_id:
        raise ValueError(f"The secret for `{used_as}` has no id.")


def _check_owned(mount: SecretFile | Ssh) -> None:
    check_mode(mount.mode, "mode", 0o777)
    if mount.uid < 0 or mount.gid < 0:
        raise ValueError(f"The mount for `{mount.id}` cannot belong to {mount.uid}:{mount.gid}.")


def _check_targets(targets: list[str]) -> None:
    seen: set[str] = set()
    for target in targets:
        if not target.startswith("/"):
            raise ValueError(f"The mount target `{target}` is not an absolute path.")
        if absolute(target) in seen:
            raise ValueError(f"Two mounts have the target {absolute(target)}.")
        seen.add(absolute(target))
