"""What cannot be built or looked up is never said to be there: through `flyte build`, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.integration.conftest import BASE
from tests.integration.registry import tags

# Even root may then read only what the modes of files allow (no CAP_DAC_OVERRIDE, no CAP_DAC_READ_SEARCH).
AS_ANYBODY = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

Ended = tuple[int, str]
Flyte = Callable[[str], Ended]


@pytest.fixture
def flyte_build(user: Path, engine: Engine, name: str) -> Flyte:
    """Runs `flyte build` for an expression of an image; `NAME` and `REGISTRY` stand for this test's own."""

    def ended(image: str) -> Ended:
        (user / "config.yaml").write_text(
            f"image:\n  builder: local\n  registry: {engine.registry}\n", encoding="utf-8"
        )
        text = image.replace("NAME", repr(name)).replace("REGISTRY", repr(engine.registry))
        (user / "app.py").write_text(
            f"import os\nfrom pathlib import Path\nimport flyte\nimage = {text}\n"
            "env = flyte.TaskEnvironment(name='app', image=image)\n",
            encoding="utf-8",
        )
        flyte = str(Path(sys.executable).parent / "flyte")
        done = subprocess.run(
            [sys.executable, "-c", AS_ANYBODY, flyte, "-c", "config.yaml", "build", "app.py", "env"],
            cwd=user,
            env={**os.environ, "COLUMNS": "400", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        output = done.stdout.decode(errors="replace").replace("│", " ").replace("──", "")
        return done.returncode, " ".join(output.split())

    return ended


FROM_DOCKERFILE = "flyte.Image.from_dockerfile(Path('context/Dockerfile').absolute(), registry=REGISTRY, name=NAME)"
FROM_BASE = f"flyte.Image.from_base({BASE!r}).clone(registry=REGISTRY, name=NAME, extendable=True)"


@pytest.fixture
def context(user: Path) -> Path:
    """A folder with a Dockerfile and a file that it copies."""
    folder = user / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY data.txt /\n")
    (folder / "data.txt").write_text("data")
    return folder


def refused(ended: Ended, engine: Engine, name: str, *named: str) -> None:
    """It ended with one error that names the file, and nothing is in the registry."""
    code, output = ended
    assert (1, []) == (code, tags(engine.registry, name)), output
    assert 1 == output.count("╭─ Error"), output
    for text in named:
        assert text in output
    assert "Traceback" not in output
    assert "Built image" not in output


@pytest.mark.parametrize(
    "place",
    [(".dockerignore", "a["), (".dockerignore", "[]"), (".dockerignore", "!"), ("Dockerfile.dockerignore", "a\\")],
)
def test_a_malformed_dockerignore(
    flyte_build: Flyte, context: Path, engine: Engine, name: str, place: tuple[str, str]
) -> None:
    """The file and what is wrong with it are named."""
    file, pattern = place
    (context / file).write_text(f"*.log\n{pattern}\n")

    refused(flyte_build(FROM_DOCKERFILE), engine, name, str(context / file), "makes no sense")


def test_a_dockerignore_that_cannot_be_read(flyte_build: Flyte, context: Path, engine: Engine, name: str) -> None:
    """The file is named."""
    (context / ".dockerignore").write_text("*.log\n")
    (context / ".dockerignore").chmod(0)

    refused(flyte_build(FROM_DOCKERFILE), engine, name, str(context / ".dockerignore"), "Permission denied")


def test_a_dockerfile_that_cannot_be_read(flyte_build: Flyte, context: Path, engine: Engine, name: str) -> None:
    """The file is named."""
    (context / "Dockerfile").chmod(0)

    refused(flyte_build(FROM_DOCKERFILE), engine, name, str(context / "Dockerfile"))


def test_a_file_that_is_copied_and_cannot_be_read(flyte_build: Flyte, context: Path, engine: Engine, name: str) -> None:
    """The file is named."""
    (context / "data.txt").chmod(0)

    refused(flyte_build(FROM_DOCKERFILE), engine, name, "data.txt", "Permission denied")


def test_a_folder_that_cannot_be_read(flyte_build: Flyte, context: Path, engine: Engine, name: str) -> None:
    """The folder is named, although nothing of it is copied: the daemon is not told half of a context."""
    (context / "private").mkdir(mode=0)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")

    refused(flyte_build(FROM_DOCKERFILE), engine, name, "private")


def test_a_name_that_is_not_utf8(flyte_build: Flyte, context: Path, engine: Engine, name: str) -> None:
    """The file is named, with the bytes of its name."""
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    Path(os.fsdecode(os.fsencode(context) + b"/caf\xe9")).write_text("data")

    refused(flyte_build(FROM_DOCKERFILE), engine, name, "caf\\xe9")


def test_a_source_folder_whose_name_is_not_utf8(flyte_build: Flyte, user: Path, engine: Engine, name: str) -> None:
    """The folder is named."""
    folder = Path(os.fsdecode(os.fsencode(user) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "data.txt").write_text("data")

    refused(flyte_build(f"{FROM_BASE}.with_source_folder(Path(os.fsdecode(b'caf\\xe9')))"), engine, name, "caf\\xe9")


def test_a_source_file_that_cannot_be_read(flyte_build: Flyte, user: Path, engine: Engine, name: str) -> None:
    """The file is named."""
    (user / "data.txt").write_text("data")
    (user / "data.txt").chmod(0)

    refused(flyte_build(f"{FROM_BASE}.with_source_file(Path('data.txt'))"), engine, name, "data.txt")


def test_what_only_looks_wrong_is_built(flyte_build: Flyte, context: Path, engine: Engine, name: str) -> None:
    """Comments that are not UTF-8, a file that nobody may read and nothing copies, a folder named `.dockerignore`."""
    (context / "Dockerfile.dockerignore").write_bytes(b"# caf\xe9\n*.log\n")
    (context / ".dockerignore").mkdir()
    (context / "private").write_text("private")
    (context / "private").chmod(0)

    code, output = flyte_build(FROM_DOCKERFILE)

    assert (0, 1) == (code, len(tags(engine.registry, name))), output
    code, output = flyte_build(FROM_DOCKERFILE)
    assert 0 == code
    assert "already exists" in output
