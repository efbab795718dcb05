from __future__ import annotations

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2
from tests.buildkit.llb.graphs import capabilities, last_op

BASE = llb.image("alpine")
TREE = llb.scratch().file(llb.mkfile("/file", b""))


def mount_at(done: llb.Exec, target: str) -> ops_pb2.Mount:
    """The mount of a command at a path."""
    return next(mount for mount in last_op(llb.State(done.op)).exec.mounts if mount.dest == target)


def test_a_command_says_how_it_runs() -> None:
    """All that is said of a process is in its vertex."""
    done = BASE.run(
        ["echo", "hi"],
        env=[("B", "1"), ("A", "2")],
        cwd="/work",
        user="nobody:nogroup",
        proxy=llb.ProxyEnv(http="a", https="b", ftp="c", no="d", all="e"),
        network="host",
        security="insecure",
        extra_hosts=[("db", "10.0.0.1")],
        hostname="builder",
        ulimits=[("nofile", 1024, 2048)],
        cgroup_parent="slice",
        valid_exit_codes=[0, 3],
    )
    command = last_op(done.root).exec

    assert ops_pb2.Meta(
        args=["echo", "hi"],
        env=["B=1", "A=2"],
        cwd="/work",
        user="nobody:nogroup",
        proxy_env=ops_pb2.ProxyEnv(http_proxy="a", https_proxy="b", ftp_proxy="c", no_proxy="d", all_proxy="e"),
        extraHosts=[ops_pb2.HostIP(Host="db", IP="10.0.0.1")],
        hostname="builder",
        ulimit=[ops_pb2.Ulimit(Name="nofile", Soft=1024, Hard=2048)],
        cgroupParent="slice",
        removeMountStubsRecursive=True,
        validExitCodes=[0, 3],
    ) == (command.meta)
    assert (ops_pb2.HOST, ops_pb2.INSECURE) == (command.network, command.security)
    assert {
        "exec.meta.base",
        "exec.meta.setsdefaultpath",
        "exec.meta.proxyenv",
        "exec.meta.network",
        "exec.meta.security",
        "exec.meta.ulimit",
        "exec.meta.cgroup.parent",
        "exec.validexitcode",
        "exec.mount.bind",
    } == capabilities(done.root)


def test_a_plain_command_has_one_mount_and_few_demands() -> None:
    """A command without options has its root and nothing else."""
    done = BASE.run(["true"], env=[("PATH", "/bin")])

    assert [ops_pb2.Mount(input=0, dest="/", output=0)] == list(last_op(done.root).exec.mounts)
    assert {"exec.meta.base", "exec.mount.bind"} == capabilities(done.root)


def test_a_command_may_start_from_scratch() -> None:
    """A root of scratch is no input, and needs no bind mount."""
    done = llb.scratch().run(["/static"])

    assert [ops_pb2.Mount(input=-1, dest="/", output=0)] == list(last_op(done.root).exec.mounts)
    assert [] == list(last_op(done.root).inputs)
    assert "exec.mount.bind" not in capabilities(done.root)


def test_of_a_variable_set_twice_the_last_counts() -> None:
    """As in Go's client, the later value counts and stands where it was set."""
    done = BASE.run(["true"], env=[("A", "1"), ("B", "2"), ("A", "3")])

    assert ["B=2", "A=3"] == list(last_op(done.root).exec.meta.env)


def test_mounts_are_by_target_with_dense_outputs() -> None:
    """Mounts are sorted by target and outputs numbered in that order, skipping those that are none."""
    done = BASE.run(
        ["true"],
        mounts=[
            llb.Bind("/z", llb.scratch()),
            llb.Tmpfs("/y"),
            llb.Bind("/c", TREE, readonly=True),
            llb.Cache("/b", "cache"),
            llb.Bind("/a", TREE),
            llb.Bind("/d", TREE, output=False),
        ],
    )
    command = last_op(done.root)

    assert [
        ("/", 0, 0),
        ("/a", 1, 1),
        ("/b", -1, -1),
        ("/c", 1, -1),
        ("/d", 1, -1),
        ("/y", -1, -1),
        ("/z", -1, 2),
    ] == [(mount.dest, mount.input, mount.output) for mount in command.exec.mounts]
    assert 2 == len(command.inputs)
    assert (0, 1, 2) == (done.root.index, done.output("/a").index, done.output("/z").index)


def test_a_bind_mount_may_be_a_part_and_read_only() -> None:
    """A selector picks a path of the source, and demands that the daemon knows selectors."""
    done = BASE.run(["true"], mounts=[llb.Bind("/f", TREE, selector="/file", readonly=True)])

    assert ops_pb2.Mount(input=1, selector="/file", dest="/f", output=-1, readonly=True) == mount_at(done, "/f")
    assert "exec.mount.selector" in capabilities(done.root)


def test_a_bind_mount_without_output_demands_that_daemons_drop_writes() -> None:
    """A writable mount without output needs an ability of its own."""
    done = BASE.run(["true"], mounts=[llb.Bind("/f", TREE, output=False)])

    assert ops_pb2.Mount(input=1, dest="/f", output=-1) == mount_at(done, "/f")
    assert "exec.mount.bind.readwrite-nooutput" in capabilities(done.root)


@pytest.mark.parametrize(
    ("sharing", "number"), [("shared", ops_pb2.SHARED), ("private", ops_pb2.PRIVATE), ("locked", ops_pb2.LOCKED)]
)
def test_a_cache_mount_names_its_directory(sharing: str, number: ops_pb2.CacheSharingOpt.ValueType) -> None:
    """A cache mount has an id, a way of sharing, and nothing below it."""
    done = BASE.run(["true"], mounts=[llb.Cache("/c", "uv", sharing)])  # type: ignore[arg-type]

    assert ops_pb2.Mount(
        input=-1,
        dest="/c",
        output=-1,
        mountType=ops_pb2.CACHE,
        cacheOpt=ops_pb2.CacheOpt(ID="uv", sharing=number),
    ) == mount_at(done, "/c")
    assert {"exec.mount.cache", "exec.mount.cache.sharing"} <= capabilities(done.root)


def test_a_cache_mount_may_start_from_a_tree() -> None:
    """What a cache holds at first is an input."""
    mount = mount_at(BASE.run(["true"], mounts=[llb.Cache("/c", "uv", source=TREE, selector="/x")]), "/c")

    assert (1, "/x") == (mount.input, mount.selector)


@pytest.mark.parametrize(("size", "wire", "limited"), [(None, 0, False), (4096, 4096, True)])
def test_a_tmpfs_mount_may_be_limited(size: int | None, wire: int, limited: bool) -> None:
    """A directory in memory has no input, and a limit only if it is given."""
    done = BASE.run(["true"], mounts=[llb.Tmpfs("/t", size)])

    assert ops_pb2.Mount(
        input=-1, dest="/t", output=-1, mountType=ops_pb2.TMPFS, TmpfsOpt=ops_pb2.TmpfsOpt(size=wire)
    ) == mount_at(done, "/t")
    assert limited is ("exec.mount.tmpfs.size" in capabilities(done.root))


def test_a_secret_file_is_asked_for_by_id() -> None:
    """A secret's vertex says where it appears and to whom it belongs."""
    done = BASE.run(["true"], mounts=[llb.SecretFile("/s", "token", 1, 2, 0o440, optional=True)])

    assert ops_pb2.Mount(
        input=-1,
        dest="/s",
        mountType=ops_pb2.SECRET,
        secretOpt=ops_pb2.SecretOpt(ID="token", uid=1, gid=2, mode=0o440, optional=True),
    ) == mount_at(done, "/s")
    assert "exec.mount.secret" in capabilities(done.root)


def test_a_secret_variable_is_asked_for_by_id() -> None:
    """A secret variable is not among the variables of the process."""
    done = BASE.run(["true"], secret_env=[llb.SecretEnv("TOKEN", "token", optional=True)])
    command = last_op(done.root).exec

    assert [ops_pb2.SecretEnv(ID="token", name="TOKEN", optional=True)] == list(command.secretenv)
    assert [] == list(command.meta.env)
    assert {"exec.mount.secret", "exec.secretenv"} <= capabilities(done.root)


def test_sockets_of_agents_get_paths_and_a_variable() -> None:
    """Sockets without a path are numbered, and the first is named to the command."""
    done = BASE.run(["true"], mounts=[llb.Ssh(), llb.Ssh("/own", id="deploy"), llb.Ssh()], env=[("A", "1")])
    command = last_op(done.root).exec

    assert [
        ("/", 0),
        ("/run/buildkit/ssh_agent.0", 0o600),
        ("/own", 0o600),
        ("/run/buildkit/ssh_agent.2", 0o600),
    ] == [(mount.dest, mount.SSHOpt.mode) for mount in command.mounts]
    assert ["default", "deploy", "default"] == [mount.SSHOpt.ID for mount in command.mounts[1:]]
    assert ["A=1", "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"] == list(command.meta.env)
    assert "exec.mount.ssh" in capabilities(done.root)


def test_a_given_agent_variable_stays() -> None:
    """The command's own `SSH_AUTH_SOCK` counts."""
    done = BASE.run(["true"], mounts=[llb.Ssh()], env=[("SSH_AUTH_SOCK", "/mine")])

    assert ["SSH_AUTH_SOCK=/mine"] == list(last_op(done.root).exec.meta.env)


def test_a_read_only_root_is_what_it_was() -> None:
    """With a read-only root, the root after the command is the one before, and other outputs start at 0."""
    done = BASE.run(["true"], mounts=[llb.Bind("/out", llb.scratch())], read_only_root=True)

    assert BASE == done.root
    assert 0 == done.output("/out").index
    assert ops_pb2.Mount(dest="/", output=-1, readonly=True) == mount_at(done, "/")


def test_equal_inputs_are_shared() -> None:
    """A tree that is mounted twice is one input, even if it is described by two values."""
    again = llb.scratch().file(llb.mkfile("/file", b""), name="another name")
    done = BASE.run(["true"], mounts=[llb.Bind("/a", TREE), llb.Bind("/b", again), llb.Bind("/c", BASE)])
    command = last_op(done.root)

    assert 2 == len(command.inputs)
    assert [0, 1, 1, 0] == [mount.input for mount in command.exec.mounts]


@pytest.mark.parametrize("target", ["/none", "/ro", "/cache", "/dropped"])
def test_only_kept_mounts_are_outputs(target: str) -> None:
    """Asking for an output that a command has not says which it has."""
    done = BASE.run(
        ["true"],
        mounts=[
            llb.Bind("/ro", TREE, readonly=True),
            llb.Bind("/dropped", TREE, output=False),
            llb.Cache("/cache", "id"),
            llb.Bind("/out", TREE),
        ],
    )

    with pytest.raises(ValueError, match=f"no output at {target}; its outputs are: /, /out"):
        done.output(target)


@pytest.mark.parametrize(
    "mounts",
    [
        [llb.Bind("/a", TREE), llb.Tmpfs("/a/")],
        [llb.SecretFile("/a", "x"), llb.Cache("/b/../a", "y")],
        [llb.Ssh("/a"), llb.Ssh("/a")],
    ],
)
def test_two_mounts_at_one_path_are_refused(mounts: list[llb.Mount]) -> None:
    """Each path has one mount, however the path is written."""
    with pytest.raises(ValueError, match="Two mounts have the target /a"):
        BASE.run(["true"], mounts=mounts)


def test_a_mount_over_the_root_is_refused() -> None:
    """The root is the state that runs."""
    with pytest.raises(ValueError, match="Two mounts have the target /"):
        BASE.run(["true"], mounts=[llb.Bind("/", TREE)])


def test_senseless_commands_are_refused() -> None:
    """A command has arguments and a directory, its variables have names, and mounts have absolute paths."""
    with pytest.raises(ValueError, match="at least one argument"):
        BASE.run([])
    with pytest.raises(ValueError, match="working directory"):
        BASE.run(["true"], cwd="")
    with pytest.raises(ValueError, match="`A=B` cannot be the name"):
        BASE.run(["true"], env=[("A=B", "")])
    with pytest.raises(ValueError, match="`tmp` is not an absolute path"):
        BASE.run(["true"], mounts=[llb.Tmpfs("tmp")])


def test_caches_and_secrets_have_ids() -> None:
    """Without an id the daemon could not tell what is meant."""
    with pytest.raises(ValueError, match="cache mount at /c has no id"):
        llb.Cache("/c", "")
    with pytest.raises(ValueError, match="secret for `/s` has no id"):
        llb.SecretFile("/s", "")
    with pytest.raises(ValueError, match="secret for `TOKEN` has no id"):
        llb.SecretEnv("TOKEN", "")
