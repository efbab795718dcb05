"""Pairs of layers whose order makes a difference."""

from __future__ import annotations

from pathlib import Path

import pytest
from flyte import Image

from tests.parity.builders import Parity
from tests.parity.packages import Index

SITE = "opt/venv/lib/python3.11/site-packages"


@pytest.mark.parametrize("first", ["variable", "package"])
async def test_variable_and_pip(base: Image, parity: Parity, index: Index, first: str) -> None:
    """A variable that uv obeys holds for packages after it, and not for those before."""
    steps = {
        "variable": lambda image: image.with_env_vars({"UV_COMPILE_BYTECODE": "0"}),
        "package": lambda image: image.with_pip_packages("parity-beta", index_url=index.public),
    }
    for step in sorted(steps, key=lambda name: name != first):
        base = steps[step](base)

    tree = (await parity.same(base)).tree()

    assert (first == "package") == (f"{SITE}/parity_beta/__pycache__" in tree)


@pytest.mark.parametrize("first", ["workdir", "file"])
async def test_working_directory_and_file(with_user: Image, parity: Parity, user: Path, first: str) -> None:
    """A file goes to the working directory of its place among the layers."""
    (user / "main.py").write_text("x = 1\n")
    image = with_user.with_workdir("/early")
    if first == "workdir":
        image = image.with_workdir("/late").with_source_file(user / "main.py")
    else:
        image = image.with_source_file(user / "main.py").with_workdir("/late")

    tree = (await parity.same(image)).tree()

    assert ("late" if first == "workdir" else "early") + "/main.py" in tree


async def test_pip_before_apt(base: Image, parity: Parity, index: Index) -> None:
    """Packages of both kinds, Python's first and again last."""
    image = (
        base.with_pip_packages("parity-beta", index_url=index.public)
        .with_apt_packages("hello")
        .with_pip_packages("parity-gamma", index_url=index.public)
        .with_apt_packages("sl")
    )

    assert {"usr/bin/hello", f"{SITE}/parity_beta", "usr/games/sl"} <= set((await parity.same(image)).tree())


async def test_command_after_copy(with_user: Image, parity: Parity, user: Path) -> None:
    """A command changes what was copied before it, and what is copied after it covers what it made."""
    (user / "one").write_text("1\n")
    (user / "two").write_text("2\n")
    image = (
        with_user.with_workdir("/app")
        .with_source_file(user / "one")
        .with_commands(["cat one one > doubled; rm one; echo command > two; chmod 600 two"])
        .with_source_file(user / "two")
    )

    tree = (await parity.same(image)).tree()

    assert b"1\n1\n" == tree["app/doubled"].content
    assert (b"2\n", 1000) == (tree["app/two"].content, tree["app/two"].uid)
    assert "app/one" not in tree


async def test_variable_between_commands(base: Image, parity: Parity) -> None:
    """Each command sees the variables set before it."""
    image = (
        base.with_commands(['echo "<$LEVEL>" > /levels'])
        .with_env_vars({"LEVEL": "1"})
        .with_commands(['echo "<$LEVEL>" >> /levels'])
        .with_env_vars({"LEVEL": "${LEVEL}2"})
        .with_commands(['echo "<$LEVEL>" >> /levels'])
    )

    assert b"<>\n<1>\n<12>\n" == (await parity.same(image)).tree()["levels"].content


async def test_copy_of_one_file_twice(with_user: Image, parity: Parity, user: Path) -> None:
    """The same file in two layers, with a command that takes it away between them."""
    (user / "one").write_text("1\n")
    image = with_user.with_source_file(user / "one", dst="/app/").with_commands(["rm /app/one; rmdir /app"])

    assert "app/one" in (await parity.same(image.with_source_file(user / "one", dst="/app/"))).tree()


async def test_command_that_removes_what_flyte_put_there(base: Image, parity: Parity) -> None:
    """A command may take away uv, and the environment."""
    image = base.with_commands(["rm -rf /usr/bin/uv /opt/venv/bin/activate* && mv /opt/venv /opt/moved"])

    tree = (await parity.same(image)).tree()

    assert "usr/bin/uv" not in tree
    assert "opt/moved/bin/python" in tree
