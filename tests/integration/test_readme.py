"""The programs in the READMEs, run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Engine
from tests.integration.command import run
from tests.integration.registry import pull, tags

TOP = Path("README.md")
LLB = Path("buildkit_builder", "buildkit", "llb", "README.md")
IMAGE = Path("buildkit_builder", "image", "README.md")
BASE = "debian:bookworm-slim"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [TOP, LLB], ids=["front-door", "by-hand"])
def test_the_example_of_a_client_pushes_an_image(engine: Engine, name: str, page: Path) -> None:
    """It builds a graph, pushes it, and prints the digest of what it pushed."""
    (example,) = (block for block in blocks(page, "python") if "localhost:5000/hello:1" in block)
    reference = f"{engine.registry}/{name}:1"
    # The test engine has this image under one of its names only.
    program = example.replace("localhost:5000/hello:1", reference).replace('"debian:12"', f'"{BASE}"')

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=dict(engine.environ), cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.stdout.startswith("sha256:"), done.stderr
    assert b"hello\n" == pull(reference).tree()["hello"].content


def test_the_example_of_flyte_builds_and_its_task_runs(engine: Engine, docker: str, name: str, user: Path) -> None:
    """The first config and program build with the command beside them, and show what the page shows."""
    config, program = blocks(TOP, "yaml")[0], blocks(TOP, "python")[0]
    (command,) = (block for block in blocks(TOP, "sh") if block.startswith("flyte"))
    (shown,) = blocks(TOP, "text")
    (user / "config.yaml").write_text(config.replace("registry.example/team", engine.registry))
    (user / "hello.py").write_text(program.replace('name="hello"', f'name="{name}"'))

    done = run(*command.split(), folder=user, FLYTE_IMAGE_REGISTRY="", FLYTE_BUILDKIT_PROGRESS="plain")

    assert 0 == done.code, done.output
    steps = re.findall(r"^#\d+ ([a-z].*)$", shown, re.MULTILINE)
    assert 6 == len(steps)
    for step in steps:
        said = re.sub(r":[0-9a-f]{32}.*", "", step).replace("registry.example/team/hello", f"{engine.registry}/{name}")
        assert said in done.output
    (tag,) = tags(engine.registry, name)
    reference = f"{engine.registry}/{name}:{tag}"
    assert "usr/bin/git" in pull(reference).tree()
    task = subprocess.run(
        [docker, "run", "--rm", "--interactive", reference, "python", "-"],
        input=f"{program}\nprint(add_up.func(100))\n",
        env=dict(engine.environ), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert task.stdout == "5050\n", task.stderr


def test_the_example_of_a_plan_prints_what_the_page_shows(user: Path) -> None:
    """`plan` prints the tree that stands below the program, but for the tag, which depends on the files."""
    (program,), (shown,) = blocks(IMAGE, "python"), blocks(IMAGE, "text")
    (user / "hello.py").write_text(program)
    (user / "src").mkdir()

    done = run("buildkit-builder", "plan", "hello.py", "env", folder=user, FLYTE_BUILDKIT_PLATFORMS="linux/amd64")

    assert 0 == done.code, done.output
    without_tag = [re.sub(r"(?<=hello:)[0-9a-f]{32}", "…", said) for said in (shown, done.output)]
    assert without_tag[0] == without_tag[1]
