"""A Docker Engine of a test's own, which may be killed, filled up or set up differently from the shared one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

UP_SECONDS = 60


@dataclass(kw_only=True)
class Daemon:
    """A running engine.

    Attributes:
        folder: Of its socket and its log.
        command: What starts it.
        environ: What it finds its helpers by.
        process: The engine itself; its containerd is a child of it.
    """

    folder: Path
    command: Sequence[str]
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def address(self) -> str:
        """`unix://…` of its socket."""
        return f"unix://{self.folder}/sock"

    def start(self) -> None:
        """Starts it, also again after `kill`, and waits until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=dict(self.environ), start_new_session=True
            )
        _wait(self.folder, self.process)

    def kill(self) -> None:
        """Ends it at once, as when the kernel runs out of memory."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """Stops it where it is, as a machine without a breath of memory does; `thaw` lets it go on."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ends it and all that it left."""
        _end(self.folder, self.process)

    def load(self, archive: Path) -> None:
        """Puts the images of an archive (`docker save`) into its store."""
        headers = {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
        with archive.open("rb") as body, contextlib.closing(self._connect()) as connection:
            connection.request("POST", "/images/load?quiet=1", body=body, headers=headers, encode_chunked=True)
            answer = connection.getresponse()
            said = answer.read()
        assert answer.status == 200, said
        assert b"errorDetail" not in said, said

    def images(self) -> list[str]:
        """The names in its store."""
        with contextlib.closing(self._connect()) as connection:
            connection.request("GET", "/images/json")
            found = json.loads(connection.getresponse().read())
        return [tag for image in found for tag in image["RepoTags"] or ()]

    def _connect(self) -> HTTPConnection:
        connection = HTTPConnection("docker", timeout=120)
        connection.sock = socket(AF_UNIX, SOCK_STREAM)
        connection.sock.connect(urllib.parse.urlsplit(self.address).path)
        return connection


@contextlib.contextmanager
def daemon(
    program: Path, environ: Mapping[str, str], *, containerd_store: bool = True, data: Path | None = None
) -> Iterator[Daemon]:
    """Starts an engine without a network of its own (its steps want `network: none` or `host`), and ends it.

    Args:
        program: `dockerd`.
        environ: What it finds its helpers by.
        containerd_store: Whether it has the containerd image store, or the older graph drivers.
        data: Where it keeps everything.
    """
    # Sockets want short paths, which a test's own folder does not have.
    folder = Path(tempfile.mkdtemp(prefix="bkb-", dir="/tmp"))
    config = folder / "daemon.json"
    # As for the engine of scripts/engine.
    patience = ["timeout:1", "attempts:5"]
    config.write_text(json.dumps({"features": {"containerd-snapshotter": containerd_store}, "dns-opts": patience}))
    command = [
        str(program), "--config-file", str(config), "--data-root", str(data or folder / "data"),
        "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"), "--host", f"unix://{folder}/sock",
        "--bridge=none", "--iptables=false", "--ip6tables=false",
    ]  # fmt: skip
    own = Daemon(folder=folder, command=command, environ=environ)
    try:
        own.start()
        yield own
    finally:
        own.end()


def _wait(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while True:
        with contextlib.suppress(OSError), socket(AF_UNIX, SOCK_STREAM) as probe:
            probe.connect(str(folder / "sock"))
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            if b"200" in probe.recv(64):
                return
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.1)


def _end(folder: Path, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # After a kill its containerd is still there, and so are the mounts of steps.
    for pid in _pids_that_name(str(folder)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (mounted := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", mounted], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _pids_that_name(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
