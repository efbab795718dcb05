"""An image built on the real engine by a program on a system that is like macOS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.integration.conftest import BASE
from tests.integration.registry import pull
from tests.macos.conftest import LikeMacOS

PROGRAM = Path(__file__).resolve().parent / "program.py"


@pytest.fixture
def source(caseless: Path) -> Path:
    """Files on a disk that knows no case."""
    (caseless / "src").mkdir()
    (caseless / "src" / "main.py").write_text("print('hello')\n")
    (caseless / "read.me").write_text("read me\n")
    return caseless


def test_a_program_on_macos_builds_its_image(
    like_macos: LikeMacOS, source: Path, engine: Engine, tmp_path: Path
) -> None:
    """With this package, in a process that was spawned; files have the names that the program calls them by."""
    name = f"test-{os.urandom(6).hex()}"
    environ = {
        **os.environ, **engine.environ, "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker"),
        "FLYTE_BUILDKIT_PROGRESS": "plain", "FLYTE_IMAGE_REGISTRY": engine.registry,
    }  # fmt: skip
    ended = like_macos(str(PROGRAM), BASE, name, engine.registry, str(source), environ=environ)

    assert 0 == ended.returncode, ended.stderr[-4000:]
    builder, uri = ended.stdout.splitlines()[-1].split()
    assert "buildkit_builder.flyte_plugin.builder" == builder
    tree = pull(uri).tree()
    assert b"print('hello')\n" == tree["app/main.py"].content
    assert b"read me\n" == tree["app/READ.ME"].content
    assert b"./READ.ME\n./main.py\n" == tree["seen"].content
