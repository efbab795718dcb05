"""Every kind of endpoint, each to something real: a container, a machine behind ssh, a builder, an own daemon."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from flyte import Image

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, GraphFrontend
from buildkit_builder.buildkit.build import build as solve
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.discovery import discover
from buildkit_builder.buildkit.find.endpoint import Endpoint, EndpointOptions
from buildkit_builder.buildkit.find.nodes import Node
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.buildkit.progress import open_screen
from buildkit_builder.cli.main import main
from buildkit_builder.errors import DaemonLostError, EndpointError
from buildkit_builder.flyte_plugin import private_engine
from tests.buildkit.connect.test_engine import Front, read_trivial, socket_of
from tests.conftest import Engine
from tests.fakes import certificates
from tests.integration.command import Finished
from tests.integration.conftest import BASE, Build
from tests.integration.places import Machine, container, ssh_server, write_buildctl, write_program

ENDPOINT = "FLYTE_BUILDKIT_ENDPOINT"


@pytest.fixture(scope="module")
def programs(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `buildctl` that leads to the engine's BuildKit, for where it is called for on this machine."""
    return write_buildctl(tmp_path_factory.mktemp("programs") / "buildctl", socket_of(engine)).parent


@pytest.fixture(scope="module")
def pod(engine: Engine, docker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container with a BuildKit in it: the engine's own, whose socket it has."""
    inside = "/run/engine.sock"
    buildctl = write_buildctl(tmp_path_factory.mktemp("pod") / "buildctl", inside, python="/usr/bin/env python3")
    volumes = f"--volume={socket_of(engine)}:{inside}", f"--volume={buildctl}:/usr/local/bin/buildctl"
    with container(docker, engine, BASE, *volumes) as name:
        yield name


@pytest.fixture(scope="module")
def machine(engine: Engine, programs: Path) -> Iterator[Machine]:
    """This machine behind ssh."""
    with ssh_server(engine, programs) as started:
        yield started


@pytest.fixture
def docker_config(engine: Engine, user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Docker config of the test's own, with the plugins of the engine's."""
    folder = tmp_path / "docker"
    shutil.copytree(Path(engine.environ["DOCKER_CONFIG"]) / "cli-plugins", folder / "cli-plugins", symlinks=True)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture
def first_on_path(tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on the PATH."""
    folder = tmp_path / "first"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def nodes_at(address: str) -> tuple[Node, ...]:
    """What an address leads to, in the environment of the test."""
    own = private_engine.Own(os.environ)
    return discover(EndpointOptions(address=address), environ=os.environ, home=Path.home(), own=own).found()


def command(*words: str, **variables: str) -> Finished:
    """`buildkit-builder …`, with variables in its environment; an empty one is taken out of it."""
    ended = CliRunner().invoke(main, words, env={name: value or None for name, value in variables.items()})
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Finished(code=ended.exit_code, output=ended.output)


def doctor(**variables: str) -> Finished:
    """`buildkit-builder doctor`."""
    return command("doctor", **variables)


def docker_says(*words: str) -> str:
    """What a `docker` command that goes well prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


async def answers(address: str) -> str:
    """Builds something without an image at an address, and says what kind of daemon that was."""
    (node,) = nodes_at(address)
    async with await connect(node.endpoint) as connection:
        assert b"world" == await read_trivial(connection)
        return connection.endpoint.kind


async def refusal(address: str) -> str:
    """The message with which connecting to an address fails."""
    (node,) = nodes_at(address)
    with pytest.raises(EndpointError) as caught:
        await connect(node.endpoint)
    return str(caught.value)


# --- containers ---


async def test_container(pod: str, base: Image, build: Build, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is built and pushed by the BuildKit in a container, and `doctor` says that it is there."""
    monkeypatch.setenv(ENDPOINT, f"docker-container://{pod}")

    pulled = await build(base.with_env_vars({"WHERE": "container"}))
    said = await asyncio.to_thread(doctor)

    assert "container" == pulled.env["WHERE"]
    assert 0 == said.code, said.output
    assert f"buildkitd at docker-container://{pod}" in said.plain
    assert "the `endpoint` setting names it" in said.plain


async def test_container_that_is_not_there(user: Path) -> None:
    """A container that is not there is told as such, with the engine that was asked."""
    message = await refusal("docker-container://bkb-none")

    assert "No such container: bkb-none" in message
    assert os.environ["DOCKER_HOST"] in message


async def test_container_that_has_ended(engine: Engine, docker: str, user: Path) -> None:
    """A container that does not run is told as such, with how it is started."""
    with container(docker, engine, BASE) as name:
        docker_says(docker, "pause", name)
        paused = await refusal(f"docker-container://{name}")
        docker_says(docker, "unpause", name)

    assert "paused" in paused
    assert f"docker-container://{name}" in paused


async def test_container_without_buildctl(engine: Engine, docker: str, user: Path) -> None:
    """A container of another image is told as such, in the engine's words."""
    with container(docker, engine, BASE) as name:
        message = await refusal(f"docker-container://{name}")

    assert '"buildctl": executable file not found' in message
    assert "its image needs `buildctl`" in message


async def test_container_whose_buildkit_is_gone(engine: Engine, docker: str, tmp_path: Path, user: Path) -> None:
    """Where `buildctl` runs but reaches nothing, its words are told."""
    buildctl = write_buildctl(tmp_path / "buildctl", "/run/none.sock", python="/usr/bin/env python3")
    with container(docker, engine, BASE, f"--volume={buildctl}:/usr/local/bin/buildctl") as name:
        message = await refusal(f"docker-container://{name}")

    assert "buildctl: dial /run/none.sock: [Errno 2] No such file or directory" in message


async def test_connections_leave_nothing_in_a_container(engine: Engine, docker: str, pod: str, user: Path) -> None:
    """When a connection is closed, what it started in the container ends."""
    for _ in range(3):
        await answers(f"docker-container://{pod}")

    def running() -> int:
        return docker_says(docker, "top", pod, "-eo", "pid,args").count("buildctl")

    while running():
        await asyncio.sleep(0.02)


# --- programs ---


async def test_podman(pod: str, docker: str, first_on_path: Path) -> None:
    """A container of Podman's is reached by `podman exec`; here a stand-in hands that to the engine."""
    asked = first_on_path / "asked"
    write_program(first_on_path / "podman", f'#!/bin/sh\necho "$@" >>{asked}\nexec {shlex.quote(docker)} "$@"\n')

    assert "buildkit" == await answers(f"podman-container://{pod}")

    assert f"exec -i {pod} buildctl dial-stdio\n" == asked.read_text()


async def test_kubernetes(pod: str, docker: str, first_on_path: Path) -> None:
    """A pod is reached by exactly the command that BuildKit's own client runs; a stand-in takes it to a container."""
    asked = first_on_path / "asked"
    program = f'#!/bin/sh\necho "$@" >{asked}\nshift 5\nexec {shlex.quote(docker)} exec -i "$@"\n'
    write_program(first_on_path / "kubectl", program.replace("shift 5", 'shift 5; pod=$1; shift 2; set -- "$pod" "$@"'))

    assert "buildkit" == await answers(f"kube-pod://{pod}?context=far&namespace=builds&container=buildkitd")

    expected = f"--context=far --namespace=builds exec --container=buildkitd -i {pod} -- buildctl dial-stdio\n"
    assert expected == asked.read_text()


async def test_program_that_fails(first_on_path: Path, user: Path) -> None:
    """Where a program ends, its last words are told, and what can be done; `doctor` says the same."""
    write_program(first_on_path / "kubectl", "#!/bin/sh\necho 'pods \"x\" not found' >&2\nexit 1\n")

    message = await refusal("kube-pod://x?namespace=builds")
    said = await asyncio.to_thread(doctor, **{ENDPOINT: "kube-pod://x?namespace=builds"})

    assert 'dial-stdio` ended with exit code 1: pods "x" not found. See with `kubectl' in message
    assert 1 == said.code
    assert 'ended with exit code 1: pods "x" not found' in said.plain


async def test_program_that_is_killed_while_building(pod: str, docker: str, first_on_path: Path) -> None:
    """When the program that carries a build is killed, the build's error says so, and no program is left."""
    pid = first_on_path / "pid"
    write_program(first_on_path / "podman", f'#!/bin/sh\necho $$ >{pid}\nexec {shlex.quote(docker)} "$@"\n')
    (node,) = nodes_at(f"podman-container://{pod}")
    sleep = llb.image(BASE).run(["sleep", "600"], name=f"sleep {pod}").root
    lines = io.StringIO()
    screen = open_screen("plain", lines, environ={}, clock=time.monotonic)
    async with await connect(node.endpoint) as connection:
        request = BuildRequest(title="test", frontend=GraphFrontend(state=sleep, platform=Platform()))
        building = asyncio.ensure_future(solve(connection, request, screen.display()))
        while f"sleep {pod}" not in lines.getvalue():
            await asyncio.sleep(0.02)
        os.kill(int(pid.read_text()), signal.SIGKILL)

        with pytest.raises(DaemonLostError, match=r"`podman exec -i .* was ended by signal 9"):
            await building


async def test_program_that_is_missing(first_on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such program, that is told by its name."""
    monkeypatch.setenv("PATH", str(first_on_path))

    assert "Install `podman`" in await refusal("podman-container://x")


# --- ssh ---


@pytest.fixture
def over_ssh(machine: Machine, first_on_path: Path) -> Machine:
    """The machine, for a user whose `ssh` has a key for it."""
    (first_on_path / "ssh").symlink_to(machine.path / "ssh")
    return machine


async def test_buildkitd_over_ssh(
    over_ssh: Machine, base: Image, build: Build, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is built and pushed by a BuildKit on another machine, over a real ssh server; `doctor` names it."""
    monkeypatch.setenv(ENDPOINT, over_ssh.address)

    pulled = await build(base.with_env_vars({"WHERE": "far"}))
    said = await asyncio.to_thread(doctor)

    assert "far" == pulled.env["WHERE"]
    assert (0, True) == (said.code, f"buildkitd at {over_ssh.address}" in said.plain), said.output


async def test_buildkitd_over_ssh_at_a_socket(over_ssh: Machine, engine: Engine) -> None:
    """A path in the address is the socket at the other end; one where nobody listens is told in `buildctl`'s words."""
    assert "buildkit" == await answers(f"{over_ssh.address}{socket_of(engine)}")

    assert "dial /run/it's none.sock" in await refusal(f"{over_ssh.address}/run/it's none.sock")


async def test_engine_over_ssh(over_ssh: Machine, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_HOST may name an engine over ssh, as for `docker`; `doctor` says that it is a Docker Engine."""
    monkeypatch.setenv("DOCKER_HOST", over_ssh.address)

    said = await asyncio.to_thread(doctor)

    assert "docker" == await answers("docker")
    assert (0, True) == (said.code, f"Docker Engine at {over_ssh.address}" in said.plain), said.output


async def test_context_over_ssh(
    over_ssh: Machine, docker: str, docker_config: Path, pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Docker context over ssh, made by Docker itself, leads to its engine, and to the containers of that."""
    monkeypatch.delenv("DOCKER_HOST")
    docker_says(docker, "context", "create", "far", "--docker", f"host={over_ssh.address}")

    assert "docker" == await answers("docker://far")
    assert "buildkit" == await answers(f"docker-container://{pod}?context=far")


async def test_ssh_that_is_refused(over_ssh: Machine, first_on_path: Path, docker: str) -> None:
    """A login that is refused is told in ssh's words, for a buildkitd as for an engine."""
    address = over_ssh.address.replace("//", "//nobody-at-all:x@").partition(":x@")[0] + "@" + "127.0.0.1:"
    address += over_ssh.address.rpartition(":")[2]

    for message in (await refusal(address), await refusal(f"docker+{address}")):
        assert "Permission denied" in message
        assert "a key be in the agent" in message


# --- buildx ---


async def test_remote_builder_of_two_nodes(
    engine: Engine, docker: str, docker_config: Path, tmp_path: Path, user: Path
) -> None:
    """Nodes, platforms and TLS files of a builder that buildx has stored are read as they were given."""
    certs = certificates.make(tmp_path)
    options = f"cacert={certs.ca},cert={certs.client},key={certs.client_key}"
    async with Front(socket_of(engine), upgrade=True, tls=certs.server_context("h2")) as secured:
        async with Front(socket_of(engine), upgrade=True, path=str(tmp_path / "plain")) as plain:
            create = [docker, "buildx", "create", "--name", "pair", "--driver", "remote"]
            for words in (
                ["--driver-opt", options, "--platform", "linux/amd64,linux/386", secured.address],
                ["--append", "--node", "arm", "--platform", "linux/arm64", plain.address],
            ):
                await asyncio.to_thread(docker_says, *create, *words)
            first, second = nodes_at("buildx://pair")
            for node in (first, second):
                async with await connect(node.endpoint) as connection:
                    assert b"world" == await read_trivial(connection)

    assert ("pair0", "arm") == (first.name, second.name)
    assert (secured.address, plain.address) == (first.endpoint.address, second.endpoint.address)
    assert (Platform(), Platform(architecture="386")) == first.platforms
    assert (Platform(architecture="arm64"),) == second.platforms


async def test_builder_in_use(engine: Engine, docker: str, docker_config: Path, tmp_path: Path, user: Path) -> None:
    """The builder that `docker buildx use` chose for the engine is taken; after `use default` the engine is."""
    async with Front(socket_of(engine), upgrade=True, path=str(tmp_path / "plain")) as plain:
        create = [docker, "buildx", "create", "--name", "mine", "--driver", "remote", "--use", plain.address]
        await asyncio.to_thread(docker_says, *create)
        mine = await asyncio.to_thread(doctor)
        await asyncio.to_thread(docker_says, docker, "buildx", "use", "default")
        default = await asyncio.to_thread(doctor)
        named = await asyncio.to_thread(doctor, BUILDX_BUILDER="mine")
        unknown = await asyncio.to_thread(doctor, FLYTE_DOCKER_BUILDKIT_BUILDER_NAME="yours")

    assert (0, 0, 0, 1) == (mine.code, default.code, named.code, unknown.code), mine.output
    assert "`mine` is the buildx builder in use" in mine.plain
    assert f"buildkitd at {plain.address}" in mine.plain
    assert f"Docker Engine at {engine.docker_host} chosen because DOCKER_HOST names it" in default.plain
    assert "BUILDX_BUILDER chooses the builder `mine`" in named.plain
    assert "no buildx builder `yours`" in unknown.plain
    assert "are: `mine`" in unknown.plain


async def test_what_only_buildx_reaches(docker_config: Path) -> None:
    """For a driver that buildx alone knows, `docker buildx dial-stdio` is the connection."""
    reached = Endpoint(address="buildx://default?platform=linux/amd64", kind="buildkit")
    async with await connect(reached) as connection:
        assert b"world" == await read_trivial(connection)
    with pytest.raises(EndpointError, match=r'no builder "nope" found\. `docker buildx inspect --bootstrap nope`'):
        await connect(Endpoint(address="buildx://nope", kind="buildkit"))


@pytest.mark.usefixtures("docker_config")
async def test_builder_create(engine: Engine, docker: str, user: Path, base: Image, build: Build) -> None:
    """A builder is made only where one is needed or asked for; it is found, builds, is looked at, and goes again."""
    image = f"{engine.registry}/bkb-stand-in:{base.name}"
    async with Front(socket_of(engine), upgrade=False) as front:
        place = front.address.removeprefix("tcp://")
        write_buildctl(user / "image/buildctl", place, python="/usr/bin/env python3")
        (user / "image/Dockerfile").write_text(
            f'FROM {BASE}\nCOPY buildctl /usr/local/bin/\nENTRYPOINT ["sh", "-c", "exec sleep infinity"]\n'
        )
        making = [docker, "buildx", "build", "--builder", "default", "--quiet", "--tag", image, str(user / "image")]
        await asyncio.to_thread(docker_says, *making)
        try:

            async def builder(*words: str) -> Finished:
                return await asyncio.to_thread(command, "builder", *words)

            needless = await builder("create", "mine")
            none = await builder("ls")
            options = "--image", image, "--driver-opt", "network=host", "--use"
            made = await builder("create", "mine", "--anyway", *options)
            listed = json.loads((await builder("ls", "--json")).output)
            said = await asyncio.to_thread(doctor)
            pulled = await build(base.with_env_vars({"WHERE": "builder"}))
            looked = await builder("inspect", "mine")
            gone = await builder("rm", "mine")
            again = await builder("rm", "mine")
        finally:
            docker_says(docker, "rm", "--force", "buildx_buildkit_mine0")
            docker_says(docker, "image", "rm", image)

    assert "can do all that images may need, so no builder is made" in needless.plain
    assert "No builder is stored" in none.plain
    assert 0 == made.code, made.output
    assert "The builder `mine` runs" in made.plain
    assert [("mine", "docker-container", True)] == [(row["name"], row["driver"], row["in_use"]) for row in listed]
    assert "buildkitd at docker-container://buildx_buildkit_mine0" in said.plain
    assert "`mine` is the buildx builder in use" in said.plain
    assert "builder" == pulled.env["WHERE"]
    assert "buildkitd at docker-container://buildx_buildkit_mine0" in looked.plain
    assert (0, 1) == (gone.code, again.code)
    assert 'no builder "mine" found' in again.plain


# --- found by themselves ---


async def test_rootless_buildkitd(engine: Engine, user: Path, docker_config: Path) -> None:
    """The socket of a rootless buildkitd is found in the user's runtime folder, and `doctor` says where it looked."""
    with tempfile.TemporaryDirectory(prefix="bkb-", dir="/tmp") as runtime:
        (Path(runtime) / "buildkit").mkdir()
        async with Front(socket_of(engine), upgrade=True, path=f"{runtime}/buildkit/buildkitd.sock"):
            variables = {"DOCKER_HOST": "", "XDG_RUNTIME_DIR": runtime}
            said = await asyncio.to_thread(doctor, **variables)
            forced = await asyncio.to_thread(doctor, **variables, **{ENDPOINT: "auto"})

    assert (0, 0) == (said.code, forced.code), said.output
    assert "DOCKER_HOST and DOCKER_CONTEXT not set" in said.plain
    assert f"{runtime}/docker.sock, the socket of a rootless Docker there is none" in said.plain
    assert f"{runtime}/buildkit/buildkitd.sock, the socket of a rootless buildkitd somebody listens" in said.plain
    assert "the `endpoint` setting `auto`" in forced.plain


@pytest.fixture
def lonely(engine: Engine, user: Path, docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user for whom nothing runs, but a `dockerd` is installed; gives the folder of the user's sockets."""
    assert engine.dockerd is not None
    monkeypatch.delenv("DOCKER_HOST")
    with tempfile.TemporaryDirectory(prefix="bkb-", dir="/tmp") as home:
        for name, folder in (("HOME", home), ("XDG_RUNTIME_DIR", f"{home}/run"), ("XDG_STATE_HOME", f"{home}/state")):
            Path(folder).mkdir(exist_ok=True)
            monkeypatch.setenv(name, folder)
        monkeypatch.setenv("PATH", str(engine.dockerd.parent), prepend=os.pathsep)
        yield Path(home) / "run"
        command("engine", "down", "--purge")


async def test_private_engine(lonely: Path) -> None:
    """`engine up` starts the installed `dockerd`; it is found by itself, builds, and is gone after `engine down`."""

    async def engine(*words: str) -> Finished:
        return await asyncio.to_thread(command, "engine", *words)

    before, idle, crowded = await asyncio.to_thread(doctor), await engine("status"), await engine("up")
    up, again, status = await engine("up", "--no-network"), await engine("up"), await engine("status", "--json")
    said = await asyncio.to_thread(doctor)
    kind = await answers("auto")
    down, nothing, after = await engine("down", "--purge"), await engine("down"), await engine("status")

    assert (1, 1, 1) == (before.code, idle.code, after.code)
    assert "No BuildKit was found" in before.plain
    assert "is installed: `buildkit-builder engine up` starts it for you" in before.plain
    assert "none runs" in before.plain
    assert "Another Docker Engine runs on this machine" in crowded.plain
    assert (0, 0, 0) == (up.code, again.code, status.code), up.output
    found = json.loads(status.output)["engine"]
    assert f"unix://{lonely}/buildkit-builder/dockerd.sock" == found["address"]
    assert up.plain == again.plain
    assert f"Docker Engine at {found['address']}" in said.plain
    assert f"`buildkit-builder engine up` has started it (process {found['pid']})" in said.plain
    assert "docker" == kind
    assert f"(process {found['pid']}) has ended" in down.plain
    assert "No private engine runs" in nothing.plain
    assert [] == list(lonely.iterdir())
    assert not Path(f"/proc/{found['pid']}").exists()
    assert str(lonely) not in Path("/proc/self/mounts").read_text()
