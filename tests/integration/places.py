"""Places to find BuildKit at: a container, a machine behind ssh, programs that stand in for `podman` and `kubectl`."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Engine

UP_SECONDS = 30

# Debian has no package of BuildKit, so where `buildctl` is called for, this connects what it was called with to the
# BuildKit of the engine, which expects an upgrade: to the socket, or the host and port, that `STAND_IN` names.
_BUILDCTL = """\
#!{python}
import os, socket, sys, threading

if sys.argv[1:3] == ["debug", "workers"]:
    sys.exit(0)
if sys.argv[1:2] == ["--addr"]:
    place, command = sys.argv[2].removeprefix("unix://"), sys.argv[3:]
else:
    place, command = os.environ.get("STAND_IN", "{place}"), sys.argv[1:]
if command != ["dial-stdio"]:
    sys.exit("buildctl: no such command: " + " ".join(command))
try:
    if place.startswith("/"):
        line = socket.socket(socket.AF_UNIX)
        line.connect(place)
    else:
        line = socket.create_connection(place.rsplit(":", 1))
except OSError as error:
    sys.exit("buildctl: dial " + place + ": " + str(error))
head = "POST /grpc HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 0", "", ""
line.sendall("\\r\\n".join(head).encode())
answer = b""
while not answer.endswith(b"\\r\\n\\r\\n"):
    answer += line.recv(1)
assert answer.startswith(b"HTTP/1.1 101"), answer


def copy(read, write, end):
    while data := read():
        write(data)
    end()


def out(data):
    while data:
        data = data[os.write(1, data):]


there = threading.Thread(
    target=copy, args=(lambda: os.read(0, 65536), line.sendall, lambda: line.shutdown(socket.SHUT_WR)), daemon=True
)
there.start()
copy(lambda: line.recv(65536), out, lambda: None)
"""


def write_program(path: Path, text: str) -> Path:
    """Writes a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_buildctl(path: Path, place: str, *, python: str = sys.executable) -> Path:
    """Writes a `buildctl` that leads to the BuildKit of an engine.

    Args:
        path: The program.
        place: The engine's socket, or its host and port.
        python: What runs it.
    """
    return write_program(path, _BUILDCTL.format(python=python, place=place))


@contextlib.contextmanager
def container(docker: str, engine: Engine, image: str, *options: str) -> Iterator[str]:
    """Runs a container that does nothing, and gives its name."""
    name = f"bkb-test-{uuid.uuid4().hex[:12]}"
    run = [docker, "run", "--detach", "--rm", "--init", "--network", "none", "--name", name, *options, image]
    subprocess.run([*run, "sleep", "infinity"], env=dict(engine.environ), check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run([docker, "rm", "--force", name], env=dict(engine.environ), check=False, capture_output=True)


# --- ssh ---


@dataclass(frozen=True, kw_only=True)
class Machine:
    """This machine, behind an ssh server.

    Attributes:
        address: `ssh://USER@HOST:PORT`.
        path: A folder with an `ssh` that knows the server's key and has a key for it.
        log: What the server says.
    """

    address: str
    path: Path
    log: Path


@contextlib.contextmanager
def ssh_server(engine: Engine, programs: Path) -> Iterator[Machine]:
    """Starts an ssh server on this machine, for the user of the tests.

    Args:
        engine: What brings `sshd`, `ssh` and `ssh-keygen`, and what `docker` speaks to at the other end.
        programs: A folder that comes first on the PATH at the other end.
    """
    sshd, ssh, keygen = (shutil.which(name, path=engine.environ["PATH"]) for name in ("sshd", "ssh", "ssh-keygen"))
    assert sshd, "no `sshd`: `scripts/engine up` fetches one"
    assert ssh
    assert keygen
    folder = Path(tempfile.mkdtemp(prefix="bkb-ssh-", dir="/tmp"))
    for name in ("host", "key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port, user = _free_port(), pwd.getpwuid(os.getuid()).pw_name
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "PermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\n"
        f"SetEnv PATH={programs}:{engine.environ['PATH']} DOCKER_HOST={engine.docker_host}\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\n  IdentityFile {folder}/key\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
    )
    write_program(folder / "bin/ssh", f'#!/bin/sh\nexec {shlex.quote(ssh)} -F {folder}/ssh_config "$@"\n')
    made = _privilege_separation()
    with (folder / "log").open("wb") as log:
        command = _with_sshd_user(folder, [sshd, "-D", "-e", "-f", str(folder / "sshd_config")])
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait(port, process, folder / "log")
        yield Machine(address=f"ssh://{user}@127.0.0.1:{port}", path=folder / "bin", log=folder / "log")
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
        if made is not None:
            made.rmdir()


def _privilege_separation() -> Path | None:
    """The folder that an `sshd` of root's wants, where it was not there."""
    folder = Path("/run/sshd")
    if os.geteuid() != 0 or folder.exists():
        return None
    folder.mkdir(mode=0o755)
    return folder


def _with_sshd_user(folder: Path, command: list[str]) -> list[str]:
    """A server of root's wants a user `sshd`, which only an installed one has: it gets a view with one."""
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        passwd = folder / "passwd"
        passwd.write_text(Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
        line = f"mount --bind {passwd} /etc/passwd && exec {shlex.join(command)}"
        return ["unshare", "--mount", "sh", "-c", line]
    return command


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            if probe.recv(4) == b"SSH-":
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
