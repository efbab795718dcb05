"""Starts and stops the engine of `buildkit-builder engine up`: a buildkitd or a dockerd of this user's own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit_builder import config
from buildkit_builder.buildkit.find import sockets
from buildkit_builder.buildkit.find.endpoint import Kind
from buildkit_builder.errors import EndpointError
from buildkit_builder.flyte_plugin import private_engine
from buildkit_builder.flyte_plugin.private_engine import PROGRAMS, Place, PrivateEngine, find_program, started_at

UP_SECONDS = 60.0
DOWN_SECONDS = 40.0

_POLL = 0.05
_TAIL = 2000
_RUNTIME_MAX = 60
"""Longest folder whose sockets, some of them containerd's with names of its own, have paths that the kernel takes."""

# Kept, since a process object that is thrown away complains that its process still runs.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    name: str
    kind: Kind
    path: str


def up(environ: Mapping[str, str], *, insecure_registries: tuple[str, ...] = (), network: bool = True) -> PrivateEngine:
    """Start a private engine, or find that it runs.

    Args:
        environ: The environment, which it gets.
        insecure_registries: Registries that it may reach without TLS.
        network: Whether a dockerd has a bridge and packet filter rules of its own, as it has by default. Without them
            its steps have the host's network or none.

    Raises:
        EndpointError: There is nothing to start, or it did not come up; holds the end of its log.
    """
    _only_linux()
    place = Place.of(environ)
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _lock(place):
        if engine := private_engine.running(environ):
            return engine
        if left := place.read():
            _sweep(left, place)
        program = _choose(environ)
        if program.kind == "docker" and network:
            _refuse_second_engine()
        runtime = _runtime(environ, place)
        address = f"unix://{runtime}/{program.name}.sock"
        if program.name == "dockerd":
            settings = _dockerd_settings(address, runtime, place, insecure_registries, network)
            command = _dockerd(program, place, settings, environ)
        else:
            text = _buildkitd_settings(runtime, insecure_registries)
            command = _buildkitd(program, place, address, text, environ)
            if os.geteuid() != 0:
                command = [*_rootlesskit(runtime, environ), *command]
        with place.log.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=dict(environ), cwd="/",
            )  # fmt: skip
        _started.append(process)
        engine = PrivateEngine(
            address=address,
            kind=program.kind,
            program=program.path,
            pid=process.pid,
            started=started_at(process.pid),
            runtime=str(runtime),
        )
        # Recorded before it is up, so that whoever interrupts this can still take it down.
        place.write(engine)
        _wait(engine, process, place)
        return engine


def down(environ: Mapping[str, str], *, purge: bool = False) -> PrivateEngine | None:
    """Stop the private engine, and remove its sockets and its record.

    Args:
        environ: The environment.
        purge: Whether what it keeps, its cache and its images, is removed as well.

    Returns:
        What was running, or `None` where nothing was.

    Raises:
        EndpointError: It did not end.
    """
    _only_linux()
    place = Place.of(environ)
    if not place.folder.is_dir():
        return None
    with _lock(place):
        recorded, engine = place.read(), private_engine.running(environ)
        if engine is not None:
            _end(engine.pid, engine.started)
        for process in _started:
            process.poll()  # takes leave of those that have ended
        if recorded is not None:
            _sweep(recorded, place)
            place.record.unlink(missing_ok=True)
        if purge:
            _remove(place.data, environ)
            for rest in (place.log, *_config_files(place)):
                rest.unlink(missing_ok=True)
        return engine


# --- what is started ---


def _choose(environ: Mapping[str, str]) -> _Program:
    rootless = os.geteuid() != 0
    for name, kind in PROGRAMS:
        found = find_program(name, environ)
        if found is None:
            continue
        helper = {"buildkitd": "rootlesskit", "dockerd": "dockerd-rootless.sh"}[name]
        if rootless and find_program(helper, environ) is None:
            continue
        return _Program(name=name, kind=kind, path=found)
    if rootless:
        raise EndpointError(
            "There is nothing to start: a user other than root needs `buildkitd` and `rootlesskit`, or `dockerd` and "
            "`dockerd-rootless.sh`. Install them, or set the `endpoint` setting to a BuildKit that runs elsewhere."
        )
    raise EndpointError(
        "There is nothing to start: neither `buildkitd` nor `dockerd` is installed. Install one, or set the "
        "`endpoint` setting to a BuildKit that runs elsewhere."
    )


def _dockerd(program: _Program, place: Place, settings: Mapping[str, object], environ: Mapping[str, str]) -> list[str]:
    file = place.folder / "daemon.json"
    file.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    starter = find_program("dockerd-rootless.sh", environ) if os.geteuid() != 0 else program.path
    return [str(starter), "--config-file", str(file)]


def _buildkitd(program: _Program, place: Place, address: str, settings: str, environ: Mapping[str, str]) -> list[str]:
    file = place.folder / "buildkitd.toml"
    file.write_text(settings, encoding="utf-8")
    runtimes = [name for name in ("buildkit-runc", "runc", "crun") if find_program(name, environ)]
    if not runtimes:
        raise EndpointError("`buildkitd` needs `runc` or `crun`, and there is neither. Install one of them.")
    return [
        program.path, "--config", str(file), "--addr", address, "--root", str(place.data / "buildkit"),
        "--oci-worker-binary", runtimes[0], "--containerd-worker=false",
    ]  # fmt: skip


def _rootlesskit(runtime: Path, environ: Mapping[str, str]) -> list[str]:
    # The host's network, so that a registry of this machine is one for the daemon, too.
    return [str(find_program("rootlesskit", environ)), "--net=host", f"--state-dir={runtime / 'rootlesskit'}"]


def _dockerd_settings(
    address: str, runtime: Path, place: Place, insecure: tuple[str, ...], network: bool
) -> dict[str, object]:
    settings: dict[str, object] = {
        "hosts": [address],
        "data-root": str(place.data / "docker"),
        "exec-root": str(runtime / "exec"),
        "pidfile": str(runtime / "dockerd.pid"),
        # Should it find a containerd of the system's, it must not meet the system's own images there.
        "containerd-namespace": f"buildkit-builder-{os.geteuid()}",
        "containerd-plugins-namespace": f"buildkit-builder-plugins-{os.geteuid()}",
        "features": {"containerd-snapshotter": True},
        "builder": {"entitlements": {"network-host": True}},
        "insecure-registries": list(insecure),
    }
    if not network:
        settings |= {"bridge": "none", "iptables": False, "ip6tables": False}
    return settings


def _buildkitd_settings(runtime: Path, insecure: tuple[str, ...]) -> str:
    # Its second socket would be in a folder of the system's buildkitd.
    lines = ['insecure-entitlements = ["network.host"]', "", "[otel]"]
    lines += [f"  socketPath = {json.dumps(str(runtime / 'otel.sock'))}", ""]
    for registry in insecure:
        # Both: without TLS, or with a certificate nobody vouches for (buildkit `util/resolver/resolver.go`).
        lines += [f"[registry.{json.dumps(registry)}]", "  http = true", "  insecure = true", ""]
    return "\n".join(lines)


def _config_files(place: Place) -> tuple[Path, ...]:
    return place.folder / "daemon.json", place.folder / "buildkitd.toml"


def _runtime(environ: Mapping[str, str], place: Place) -> Path:
    """A folder for sockets that only this user may enter."""
    home = config.runtime_home(environ)
    folder = (home / "buildkit-builder") if home and home.is_dir() else place.folder / "run"
    if len(os.fsencode(folder)) > _RUNTIME_MAX:
        return Path(tempfile.mkdtemp(prefix="bkb-engine-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _refuse_second_engine() -> None:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "dockerd":
                raise EndpointError(
                    f"Another Docker Engine runs on this machine (process {entry.name}). Two of them take each other's "
                    "bridge and packet filter rules away. Use that one (`endpoint: docker+unix://PATH`), or start "
                    "this one with `--no-network`: its steps then have the host's network or none."
                )


# --- processes ---


def _wait(engine: PrivateEngine, process: subprocess.Popen[bytes], place: Place) -> None:
    deadline = time.monotonic() + UP_SECONDS
    try:
        while sockets.probe(engine.address.removeprefix("unix://")):
            if process.poll() is not None:
                raise EndpointError(f"{_shown(engine)} ended with exit code {process.returncode}. {_last_words(place)}")
            if time.monotonic() > deadline:
                raise EndpointError(f"{_shown(engine)} did not answer within {UP_SECONDS:g} s. {_last_words(place)}")
            time.sleep(_POLL)
    except BaseException:
        # Its end is waited for by way of the kernel, so it must not stay behind as a dead child.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DOWN_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()
        _sweep(engine, place)
        place.record.unlink(missing_ok=True)
        raise


def _shown(engine: PrivateEngine) -> str:
    return f"`{engine.program}`, started for you,"


def _last_words(place: Place) -> str:
    said = place.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip()
    return f"The end of its log ({place.log}):\n{said}" if said else f"Its log ({place.log}) is empty."


def _end(pid: int, started: str) -> None:
    """End a process and wait for that."""
    if sys.platform != "linux":
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # From here on the number cannot become another process's.
        if started_at(pid) != started:
            return
        for number, seconds in ((signal.SIGTERM, DOWN_SECONDS), (signal.SIGKILL, 5.0)):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], seconds)[0]:
                return
    finally:
        os.close(handle)
    raise EndpointError(f"The private engine (process {pid}) does not end, not even when killed.")


def _sweep(engine: PrivateEngine, place: Place) -> None:
    """Take away what an engine leaves: its containerd, where it was killed, its mounts and its sockets."""
    runtime = Path(engine.runtime)
    with contextlib.suppress(OSError, ValueError):
        pid = int((runtime / "exec/containerd/containerd.pid").read_text())
        if str(runtime).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            _end(pid, started_at(pid))
    if os.geteuid() == 0:
        for line in reversed(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()):
            mounted = line.split()[1]
            if mounted.startswith((f"{runtime}/", f"{place.data}/")):
                subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)
    shutil.rmtree(runtime, ignore_errors=True)


def _remove(folder: Path, environ: Mapping[str, str]) -> None:
    """Remove what it keeps; of a rootless one some belongs to users that only its namespace has."""
    if os.geteuid() != 0 and (rootlesskit := find_program("rootlesskit", environ)):
        subprocess.run([rootlesskit, "rm", "-rf", str(folder)], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise EndpointError(f"What the private engine keeps in {folder} could not be removed entirely.")


@contextlib.contextmanager
def _lock(place: Place) -> Iterator[None]:
    """One start or stop at a time."""
    with (place.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _only_linux() -> None:
    if sys.platform != "linux":
        raise EndpointError(
            "Only on Linux can a private engine be started. Start Docker Desktop, or set the `endpoint` setting to a "
            "BuildKit that runs elsewhere."
        )
