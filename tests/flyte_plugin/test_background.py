"""The process of a build that nobody waits for: what it imports, and what becomes of its log."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import buildkit_builder
from buildkit_builder.config import Settings
from buildkit_builder.flyte_plugin import background
from buildkit_builder.image.spec import DockerfileSpec

NOWHERE = "unix:///nonexistent/buildkitd.sock"
# Modules of Python's own, of packages that are installed, and those that Python loads by itself.
NAMES = (
    *("secrets", "random", "types", "logging", "queue", "json", "asyncio", "uuid", "statistics"),
    *("grpc", "google", "click", "rich", "yaml", "flyte", "tomli", "cryptography"),
    *("sitecustomize", "usercustomize", "config", "fcntl", "simplejson", "uvloop", "brotli"),
)
STARTS = """
import sys
from pathlib import Path
import flyte._status, flyte.config, secrets, uuid
sys.path[:0] = HERE
from buildkit_builder.flyte_plugin import background
from buildkit_builder.config import Settings
from buildkit_builder.image.spec import DockerfileSpec
sys.path[:0] = USERS
spec = DockerfileSpec(reference="r/x:1", push=True, dockerfile=Path(USERS[0], "Dockerfile"), platforms=("linux/amd64",))
log = background.start(spec, Settings(endpoint="unix:///nonexistent/buildkitd.sock"))
[process] = background._started
print(process.wait(60), log)
"""


@pytest.fixture
def user(tmp_path: Path, clean_environ: pytest.MonkeyPatch) -> Path:
    """The user's folder: it has modules of such names, each of which leaves a file beside it when it is imported."""
    folder = tmp_path / "user"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"open({str(folder / 'imported')!r}, 'a').write({name!r} + ' ')\n")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    return folder


def started(user: Path, *, here: tuple[Path, ...] = (), **variables: str) -> tuple[str, str]:
    """Starts a build in the background from a process whose path then begins with the user's folder.

    Returns:
        What its process ended with, and its log.
    """
    script = f"HERE, USERS = {list(map(str, here))!r}, {[str(user), '']!r}\n{STARTS}"
    done = subprocess.run(
        # `-E` for this process itself, which is to import nothing of the user's either.
        [sys.executable, "-E", "-c", script], cwd="/", env={**os.environ, **variables},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    code, _, log = done.stdout.splitlines()[-1].partition(" ")
    return code, Path(log).read_text(encoding="utf-8")


def test_nothing_of_the_users_is_imported(user: Path) -> None:
    """Though it is first on the path, in `PYTHONPATH`, and the folder that the process runs in."""
    code, log = started(user, PYTHONPATH=str(user), PYTHONSTARTUP=str(user / "json" / "__init__.py"))

    assert ("1", 1, True) == (code, len(log.splitlines()), "/nonexistent/buildkitd.sock" in log)
    assert not (user / "imported").exists()


def test_nor_is_what_lies_where_it_runs(user: Path, clean_environ: pytest.MonkeyPatch) -> None:
    """`python -m` would begin with that folder, and Python 3.10 has no option that keeps it from doing so."""
    spec = DockerfileSpec(reference="r/x:1", push=True, dockerfile=user / "Dockerfile", platforms=("linux/amd64",))
    clean_environ.chdir(user)
    log = background.start(spec, Settings(endpoint=NOWHERE))

    assert 1 == background._started.pop().wait(60)
    assert log.read_text(encoding="utf-8").startswith("Building r/x:1 failed: ")
    assert not (user / "imported").exists()


def test_the_package_is_the_one_that_started_it(user: Path) -> None:
    """Wherever it lies, and whichever other Python would find: here in a folder that only `sys.path` names."""
    folder = user / "vendored"
    package = folder / "buildkit_builder"
    shutil.copytree(Path(buildkit_builder.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / "flyte_plugin/background.py").read_text(encoding="utf-8")
    (package / "flyte_plugin/background.py").write_text(text.replace(" failed: ", " failed here: "), encoding="utf-8")
    for name in ("secrets", "random"):
        shutil.copytree(user / name, folder / name)

    code, log = started(user, here=(folder,))

    assert "1" == code
    assert log.startswith("Building r/x:1 failed here: ")
    assert not (user / "imported").exists()


def test_packages_are_looked_for_where_packages_are_installed(
    tmp_path: Path, clean_environ: pytest.MonkeyPatch
) -> None:
    """A folder of `pip install --target` is one; a folder of sources is none, even of a project that is built there."""
    target, sources = tmp_path / "target", tmp_path / "sources"
    (target / "x-1.dist-info").mkdir(parents=True)
    (sources / "x.egg-info").mkdir(parents=True)
    clean_environ.setattr(sys, "path", ["", str(sources), str(target), str(tmp_path / "gone")])

    assert [str(target)] == background._places()


# --- logs ---


@pytest.fixture
def logs(tmp_path: Path, clean_environ: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of more logs than are kept, where processes are only said to be started."""
    clean_environ.setattr("subprocess.Popen", lambda *_, **__: None)
    clean_environ.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "buildkit-builder" / "logs"
    folder.mkdir(parents=True)
    for number in range(background._LOGS_MAX + 20):
        (folder / f"20200101-{number:06}-x.log").write_text("log")
    yield folder
    background._started.clear()


SPEC = DockerfileSpec(reference="r/x:1", push=True, dockerfile=Path("/Dockerfile"), platforms=("linux/amd64",))


def test_the_oldest_logs_go(logs: Path) -> None:
    """As many are kept as there may be, the new one among them."""
    log = background.start(SPEC, Settings())
    names = sorted(path.name for path in logs.glob("*.log"))

    assert background._LOGS_MAX == len(names)
    assert log.name == names[-1]
    assert "20200101-000021-x.log" == names[0]


def test_the_log_of_a_build_that_runs_stays(logs: Path) -> None:
    """However old it is."""
    running = logs / "20200101-000000-x.log"
    with running.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        background.start(SPEC, Settings())
        assert running.exists()

    background.start(SPEC, Settings())
    assert not running.exists()


def test_a_process_holds_its_log(user: Path, clean_environ: pytest.MonkeyPatch) -> None:
    """From its start to its end, without doing anything for it."""
    clean_environ.setattr(background, "_BEGIN", "import sys; sys.stdin.close(); import time; time.sleep(600)")
    log = background.start(SPEC, Settings())
    process = background._started.pop()
    try:
        with log.open("rb") as file:
            assert not background._lock(file)
    finally:
        process.kill()
        process.wait()
    with log.open("rb") as file:
        assert background._lock(file)


def test_the_memory_of_builds_is_elsewhere(logs: Path) -> None:
    """It deletes what it has too much of, and would not know a log from what it remembers."""
    log = background.start(SPEC, Settings())

    assert "builds" not in log.parts


def test_nothing_is_left_of_an_order_that_nobody_takes(logs: Path, clean_environ: pytest.MonkeyPatch) -> None:
    """Settings may hold passwords."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", sys.executable)

    clean_environ.setattr("subprocess.Popen", refuse)
    with pytest.raises(PermissionError):
        background.start(SPEC, Settings())

    assert [] == list(logs.glob("*.order"))
