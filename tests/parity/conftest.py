"""The same image from Flyte's own builder and from ours, compared; at the end one line says how it went."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte import Image

from tests.conftest import Engine
from tests.parity.bases import Bases
from tests.parity.builders import Parity, Tally, strip_syntax
from tests.parity.packages import Index, serve
from tests.parity.random_layers.world import World, opened
from tests.parity.tools import Tools, download
from tests.parity.written import Written

TALLY = pytest.StashKey[Tally]()
BASE = "python:3.11-slim-bookworm"


def pytest_configure(config: pytest.Config) -> None:
    """Where the tests count."""
    config.stash[TALLY] = Tally()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how many cases there were, and how they ended."""
    tally = terminalreporter.config.stash.get(TALLY, Tally())
    for note in tally.notes:
        terminalreporter.write_line(note)
    better = set().union(*tally.better.values()) if tally.better else set()
    if cases := len(tally.equal | better):
        terminalreporter.write_line(
            f"parity with Flyte's own builder: {cases} cases, {len(tally.equal - better)} equal, "
            f"{len(better)} differing on purpose ({len(tally.better)} rows of tests/parity/differences.py)"
        )


@pytest.fixture(scope="session")
def index(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The suite's package index, which has Poetry and hatchling as well."""
    kept = engine.environ.get("BUILDKIT_BUILDER_ENGINE_DIR")
    folder = Path(kept) / "parity" if kept else tmp_path_factory.mktemp("parity")
    with serve(download(folder / f"wheels-{platform.machine()}", "poetry", "hatchling")) as served:
        yield served


@pytest.fixture(scope="session")
def world(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Bases, files and indexes that layers meet on."""
    with opened(bases, tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture
def written(world: World, engine: Engine) -> Written:
    """Builds images in parallel and in order."""
    return Written(world=world, engine=engine)


@pytest.fixture(scope="session")
def tools(bases: Bases, index: Index, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Uv and Poetry, to make lock files with; Flyte's own builder wants uv as well."""
    return Tools(bases=bases, index=index, folder=tmp_path_factory.mktemp("tools"))


@pytest.fixture(scope="session")
def repository() -> str:
    """The name that all images are pushed under: they share layers."""
    return "parity"


@pytest.fixture
def user(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, home and environment for both builders."""
    for name, value in engine.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLYTE_IMAGE_REGISTRY", engine.registry)
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "quiet")
    monkeypatch.setenv("FLYTE_DOCKER_BUILDKIT_BUILDER_NAME", "default")
    # The index of the suite is on this machine's loopback.
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--network host")
    monkeypatch.setenv("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")
    monkeypatch.setenv("BUILDKIT_PROGRESS", "plain")
    strip_syntax(monkeypatch)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def parity(user: Path, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Parity:
    """Builds with both and compares."""
    return Parity(
        case=request.node.nodeid, tally=request.config.stash[TALLY], output=lambda: "".join(capfd.readouterr())
    )


@pytest.fixture
def base(bases: Bases) -> Image:
    """An image to put layers on: Python on Debian, without a user of its own."""
    return bases.named(BASE)


@pytest.fixture
def with_user(bases: Bases) -> Image:
    """An image to put files on: as `base`, with the `flyte` user whom Flyte's own builder gives them to."""
    return bases.of("RUN useradd --create-home flyte")


@pytest.fixture(scope="session")
def bases(engine: Engine, docker: str, repository: str) -> Iterator[Bases]:
    """Makes base images. An engine that is not the tests' own is left as it was found."""
    bases = Bases(engine=engine, docker=docker, repository=repository)
    yield bases
    if not engine.docker_host.startswith(f"unix://{engine.environ.get('BUILDKIT_BUILDER_ENGINE_DIR')}/"):
        bases.forget("parity-*")
