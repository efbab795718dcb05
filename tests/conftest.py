"""What tests of several rooms share: the engine, and an environment without the machine's own settings."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

from tests.integration.servers import open_registry

# How fast a machine is, and what else it does meanwhile, is no property of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "scripts" / "engine"
START = dict(os.environ)
ENGINE_VARIABLES = (
    "BUILDKIT_BUILDER_CA",
    "BUILDKIT_BUILDER_DOCKERD",
    "BUILDKIT_BUILDER_ENGINE",
    "BUILDKIT_BUILDER_ENGINE_DIR",
    "BUILDKIT_BUILDER_REGISTRY_BIN",
    "BUILDKIT_BUILDER_TEST_REGISTRY",
    "BUILDKIT_HOST",
    "DOCKER_CONFIG",
    "DOCKER_HOST",
    "PATH",
)
NO_ENGINE = "no engine to test against: run the tests with `scripts/test`, or bring one up with `scripts/engine up`"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A BuildKit, a registry it may push to, and the programs to start more of them.

    Attributes:
        docker_host: The Docker Engine's address, `unix://…`; empty where the engine is a bare buildkitd.
        address: Where BuildKit answers: the Docker Engine's address, or the buildkitd's.
        registry: The registry's `host:port`, over plain HTTP.
        ca: The CA bundle that build steps need on this machine to reach a package index, or `None`.
        dockerd: The Docker Engine's program, for tests that start one of their own, or `None`.
        registry_bin: The registry's program, for tests that start one of their own, or `None`.
        environ: The environment in which the `docker` command speaks to this engine.
    """

    docker_host: str
    address: str
    registry: str
    ca: Path | None
    dockerd: Path | None
    registry_bin: Path | None
    environ: Mapping[str, str]


def _from_script() -> dict[str, str]:
    """What `scripts/engine env` would set in a shell, or nothing where no engine is up."""
    script = 'set -e; lines=$("$0" env); eval "$lines"; for name; do printf "%s=%s\\0" "$name" "${!name-}"; done'
    done = subprocess.run(
        ["bash", "-c", script, str(SCRIPT), *ENGINE_VARIABLES],
        env=START,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return {}
    pairs = (item.partition("=") for item in done.stdout.split("\0") if item)
    return {name: value for name, _, value in pairs if value}


def _answers(address: str) -> bool:
    """Whether something accepts connections at `unix://…` or `tcp://…`."""
    parts = urlsplit(address)
    unix = parts.scheme == "unix"
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
        probe.settimeout(5)
        try:
            probe.connect(parts.path if unix else (parts.hostname, parts.port))
        except OSError:
            return False
    return True


def pytest_configure() -> None:
    """A run in the background may ignore interrupts, and would have the programs that it starts ignore them too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what needs an engine: all that asks for the fixture.

    What needs an emulator is left out where the kernel lets nobody register one, as `scripts/engine up` has said: that
    is the one thing which the scripts cannot bring about.
    """
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)
    if START.get("BUILDKIT_BUILDER_NO_EMULATOR"):
        lost = [item for item in items if "emulator" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=lost)
        items[:] = [item for item in items if item not in lost]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine that `scripts/engine` brought up, with a registry of this run's own.

    A test that needs it fails where there is none. Whatever tests push is gone when the run ends, from the engine too.
    """
    found = _engine()
    if found.registry_bin is None:
        yield found
        return
    kept = found.environ.get("BUILDKIT_BUILDER_ENGINE_DIR")
    folder = Path(kept) / "run" if kept else tmp_path_factory.mktemp("registry")
    with open_registry(found.registry_bin, folder / f"tests-{uuid.uuid4().hex[:8]}") as registry:
        yield replace(found, registry=registry)
    subprocess.run([str(SCRIPT), "forget", f"{registry}/"], env=dict(found.environ), check=True)


def _engine() -> Engine:
    known = START.get("BUILDKIT_BUILDER_TEST_REGISTRY") and (START.get("DOCKER_HOST") or START.get("BUILDKIT_HOST"))
    found = START if known else {**START, **_from_script()}
    docker_host, registry = found.get("DOCKER_HOST", ""), found.get("BUILDKIT_BUILDER_TEST_REGISTRY", "")
    address = docker_host or found.get("BUILDKIT_HOST", "")
    if not address or not registry:
        pytest.fail(NO_ENGINE, pytrace=False)
    for place in (address, f"tcp://{registry}"):
        if not _answers(place):
            pytest.fail(f"nothing answers at {place}: {NO_ENGINE}", pytrace=False)

    def path(name: str) -> Path | None:
        return Path(found[name]) if found.get(name) else None

    return Engine(
        docker_host=docker_host,
        address=address,
        registry=registry,
        ca=path("BUILDKIT_BUILDER_CA"),
        dockerd=path("BUILDKIT_BUILDER_DOCKERD"),
        registry_bin=path("BUILDKIT_BUILDER_REGISTRY_BIN"),
        environ=found,
    )


@pytest.fixture(scope="session")
def emulator(engine: Engine) -> Engine:
    """An engine that runs arm64 programs."""
    return engine


@pytest.fixture
def clean_environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """`os.environ` without what steers Flyte, Docker, BuildKit or us, and with an empty home."""
    for name in list(os.environ):
        if name.startswith(("FLYTE", "UCTL_", "DOCKER_", "BUILDKIT_", "BUILDX_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return monkeypatch


@pytest.fixture(scope="session")
def docker(engine: Engine) -> str:
    """The path of the `docker` command that belongs to the engine."""
    found = shutil.which("docker", path=engine.environ["PATH"])
    if found is None:
        pytest.fail(f"no `docker` command: {NO_ENGINE}", pytrace=False)
    return found
