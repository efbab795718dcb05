from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_builder.cli import private_daemon
from buildkit_builder.errors import EndpointError
from buildkit_builder.flyte_plugin import private_engine
from buildkit_builder.flyte_plugin.private_engine import Place
from tests.integration.places import write_program

# Listens where it is told to, and notes how it was called; SIGTERM ends it.
DAEMON = f"""\
#!{sys.executable}
import json, os, signal, socket, sys
args = sys.argv[1:]
noted = {{"args": args, "rootless": os.environ.get("ROOTLESS", "")}}
if "--addr" in args:
    address = args[args.index("--addr") + 1]
else:
    address = json.load(open(args[args.index("--config-file") + 1]))["hosts"][0]
open(os.environ["HOME"] + "/called", "w").write(json.dumps(noted))
if os.environ.get("FAIL"):
    sys.exit("it is broken")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = socket.socket(socket.AF_UNIX)
server.bind(address.removeprefix("unix://"))
server.listen()
while True:
    signal.pause()
"""
ROOTLESSKIT = '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nROOTLESS=1 exec "$@"\n'


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """A user with a `buildkitd` on the PATH, whose folders have the short names that sockets want."""
    folder = Path(tempfile.mkdtemp(prefix="bkb-", dir="/tmp"))
    (folder / "run").mkdir()
    for name in ("buildkitd", "runc"):
        write_program(folder / "bin" / name, DAEMON)
    environ = {"HOME": str(folder), "PATH": f"{folder}/bin", "XDG_RUNTIME_DIR": str(folder / "run")}
    yield environ
    private_daemon.down(environ)
    shutil.rmtree(folder)


def called(environ: dict[str, str]) -> dict[str, object]:
    """How the daemon was called."""
    noted = json.loads((Path(environ["HOME"]) / "called").read_text())
    assert isinstance(noted, dict)
    return noted


def test_up_and_down(environ: dict[str, str]) -> None:
    """The engine is started once, is found, and leaves no process, socket or record when it is taken down."""
    engine = private_daemon.up(environ)
    again = private_daemon.up(environ)

    assert engine == again == private_engine.running(environ)
    assert ("buildkit", f"unix://{environ['XDG_RUNTIME_DIR']}/buildkit-builder/buildkitd.sock") == (
        engine.kind,
        engine.address,
    )
    assert engine == private_daemon.down(environ)
    assert private_daemon.down(environ) is None
    assert private_engine.running(environ) is None
    assert [] == list(Path(environ["XDG_RUNTIME_DIR"]).iterdir())
    assert not Place.of(environ).record.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(engine.pid, 0)


def test_two_at_once(environ: dict[str, str]) -> None:
    """Who starts it at the same time gets the same."""
    found = []
    threads = [threading.Thread(target=lambda: found.append(private_daemon.up(environ))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(set(found))


def test_settings_reach_it(environ: dict[str, str]) -> None:
    """It keeps everything in folders of its own, and reaches the registries that may be insecure."""
    private_daemon.up(environ, insecure_registries=("far:5000",))

    args = called(environ)["args"]
    assert isinstance(args, list)
    toml = Path(args[args.index("--config") + 1]).read_text()
    assert f"{environ['HOME']}/.local/state/buildkit-builder/engine/data/buildkit" == args[args.index("--root") + 1]
    assert "runc" == args[args.index("--oci-worker-binary") + 1]
    assert '[registry."far:5000"]\n  http = true\n  insecure = true\n' in toml
    assert f'socketPath = "{environ["XDG_RUNTIME_DIR"]}/buildkit-builder/otel.sock"' in toml


def test_rootless(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For another user than root it is started by rootlesskit, in the host's network."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    kit = write_program(Path(environ["HOME"]) / "bin/rootlesskit", ROOTLESSKIT)

    private_daemon.up(environ)

    assert "1" == called(environ)["rootless"]
    kit.unlink()
    private_daemon.down(environ)
    with pytest.raises(EndpointError, match="needs `buildkitd` and `rootlesskit`"):
        private_daemon.up(environ)


def test_engine_that_fails(environ: dict[str, str]) -> None:
    """An engine that does not come up is an error with the end of its log, and is gone."""
    with pytest.raises(EndpointError, match=r"ended with exit code 1\. The end of its log \(.*\):\nit is broken"):
        private_daemon.up({**environ, "FAIL": "1"})

    assert private_engine.running(environ) is None
    assert [] == list(Path(environ["XDG_RUNTIME_DIR"]).iterdir())


def test_engine_that_does_not_answer(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that never listens is ended after a while."""
    monkeypatch.setattr(private_daemon, "UP_SECONDS", 0.2)
    write_program(Path(environ["HOME"]) / "bin/buildkitd", "#!/bin/sh\nexec /bin/sleep 600\n")

    with pytest.raises(EndpointError, match=r"did not answer within 0\.2 s\. Its log \(.*\) is empty"):
        private_daemon.up(environ)

    assert private_engine.running(environ) is None


def test_engine_that_was_killed(environ: dict[str, str]) -> None:
    """A killed engine does not run, whatever the record says, and can be started anew."""
    first = private_daemon.up(environ)
    os.kill(first.pid, signal.SIGKILL)
    os.waitpid(first.pid, 0)

    assert private_engine.running(environ) is None
    second = private_daemon.up(environ)

    assert first.pid != second.pid
    assert second == private_engine.running(environ)


def test_other_process_of_that_number(environ: dict[str, str]) -> None:
    """A process that has got the number of a dead engine is neither taken for it nor ended."""
    place = Place.of(environ)
    place.folder.mkdir(parents=True)
    engine = private_engine.PrivateEngine(
        address="unix:///x", kind="buildkit", program="/b", pid=os.getpid(), started="1",
        runtime=f"{environ['XDG_RUNTIME_DIR']}/x",
    )  # fmt: skip
    place.write(engine)

    assert private_daemon.down(environ) is None
    assert not place.record.exists()


def test_purge(environ: dict[str, str]) -> None:
    """What it keeps stays until it is asked to go."""
    private_daemon.up(environ)
    kept = Place.of(environ).data / "buildkit/cache.db"
    kept.parent.mkdir(parents=True)
    kept.touch()
    private_daemon.down(environ)
    assert kept.exists()

    private_daemon.down(environ, purge=True)

    assert ["lock"] == [entry.name for entry in Place.of(environ).folder.iterdir()]


def test_folder_with_a_long_name(environ: dict[str, str]) -> None:
    """Sockets have short paths whatever the user's folders are called."""
    deep = Path(environ["HOME"]) / ("x" * 100)
    deep.mkdir()
    environ["XDG_RUNTIME_DIR"] = str(deep)

    engine = private_daemon.up(environ)

    assert len(engine.address) < 60
    private_daemon.down(environ)
    assert not Path(engine.runtime).exists()


def test_no_runtime_for_containers(environ: dict[str, str]) -> None:
    """Without runc or crun the error says so."""
    (Path(environ["HOME"]) / "bin/runc").unlink()
    environ["PATH"] = f"{environ['HOME']}/bin"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private_engine, "SYSTEM_PATH", ())
        with pytest.raises(EndpointError, match="`runc` or `crun`"):
            private_daemon.up(environ)


def test_nothing_installed(environ: dict[str, str]) -> None:
    """Where there is nothing to start, the error says what could be installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private_engine, "SYSTEM_PATH", ())
        with pytest.raises(EndpointError, match="There is nothing to start"):
            private_daemon.up({**environ, "PATH": "/none"})


def test_docker_engine(environ: dict[str, str]) -> None:
    """Where there is only `dockerd`, it is started with the containerd image store, and without a network as told."""
    (Path(environ["HOME"]) / "bin/buildkitd").rename(Path(environ["HOME"]) / "bin/dockerd")
    engine = private_daemon.up(environ, insecure_registries=("far:5000",), network=False)

    args = called(environ)["args"]
    assert isinstance(args, list)
    settings = json.loads(Path(args[args.index("--config-file") + 1]).read_text())

    assert ("docker", [engine.address]) == (engine.kind, settings["hosts"])
    assert {"containerd-snapshotter": True} == settings["features"]
    assert ("none", False, ["far:5000"]) == (settings["bridge"], settings["iptables"], settings["insecure-registries"])
    assert settings["data-root"].startswith(environ["HOME"])
    assert settings["exec-root"].startswith(engine.runtime)
