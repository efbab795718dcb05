"""Where Flyte's own builder fails, or makes something else than was asked for: that it does, and what ours does."""

from __future__ import annotations

from pathlib import Path

import pytest
from flyte import Image

from tests.conftest import Engine
from tests.parity.builders import Parity
from tests.parity.packages import Index


async def test_value_with_a_space(base: Image, parity: Parity) -> None:
    """A value of two words is an error of theirs."""
    pair = await parity.better("values-with-spaces", base.with_env_vars({"GREETING": "hello world"}))

    assert 'can\'t find = in "world"' in pair.theirs.error
    assert "hello world" == pair.ours.pulled.env["GREETING"]


async def test_value_that_looks_like_two(base: Image, parity: Parity) -> None:
    """A value whose second word has an equals sign becomes a variable of its own with theirs."""
    pair = await parity.better("values-with-spaces", base.with_env_vars({"OPTIONS": "a=1 b=2"}))

    assert ("a=1", "2") == (pair.theirs.pulled.env["OPTIONS"], pair.theirs.pulled.env["b"])
    assert "a=1 b=2" == pair.ours.pulled.env["OPTIONS"]
    assert "b" not in pair.ours.pulled.env


async def test_source_with_a_space(with_user: Image, parity: Parity, user: Path) -> None:
    """A folder and a file whose paths have spaces."""
    (user / "my code").mkdir()
    (user / "my code" / "main file.py").write_text("x = 1\n")
    image = with_user.with_source_folder(user / "my code", dst="/app")
    image = image.with_source_file(user / "my code" / "main file.py", dst="/")

    pair = await parity.better("paths-with-spaces", image)

    assert pair.theirs.image is None
    assert {"app/main file.py", "main file.py"} <= set(pair.ours.pulled.tree())


async def test_requirements_with_a_space(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """A requirements file in a folder whose name has a space."""
    (user / "my project").mkdir()
    (user / "my project" / "requirements.txt").write_text("parity-beta\n")
    image = base.with_requirements(user / "my project" / "requirements.txt", index_url=index.public)

    pair = await parity.better("paths-with-spaces", image)

    assert pair.theirs.image is None
    assert "opt/venv/lib/python3.11/site-packages/parity_beta/__init__.py" in pair.ours.pulled.tree()


async def test_command_of_several_lines(base: Image, parity: Parity) -> None:
    """A script in triple quotes."""
    script = """
        set -e
        for i in 1 2; do
            echo $i >> /numbers
        done
    """

    pair = await parity.better("lines-of-a-command", base.with_commands([script]))

    assert pair.theirs.image is None
    assert b"1\n2\n" == pair.ours.pulled.tree()["numbers"].content


async def test_command_that_ends_in_a_backslash(base: Image, parity: Parity) -> None:
    """With theirs, the variable of the next layer becomes an argument of the command."""
    image = base.with_commands(["echo one > /one \\\n"]).with_env_vars({"LOST": "no"})

    pair = await parity.better("trailing-backslash", image)

    assert "LOST" not in pair.theirs.pulled.env
    assert b"one ENV LOST=no\n" == pair.theirs.pulled.tree()["one"].content
    assert "no" == pair.ours.pulled.env["LOST"]
    assert b"one\n" == pair.ours.pulled.tree()["one"].content


async def test_ignored_requirements(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """A `.dockerignore` whose pattern matches the requirements file."""
    (user / "requirements.txt").write_text("parity-beta\n")
    (user / ".dockerignore").write_text("**/*.txt\n")
    image = base.with_dockerignore(user / ".dockerignore").with_requirements("requirements.txt", index_url=index.public)

    pair = await parity.better("requirements-ignored", image)

    assert '"/requirements.txt": not found' in pair.theirs.error
    assert "opt/venv/lib/python3.11/site-packages/parity_beta/__init__.py" in pair.ours.pulled.tree()


async def test_ignored_file(with_user: Image, parity: Parity, user: Path) -> None:
    """A `.dockerignore` whose pattern matches a file that is copied by its name."""
    (user / "model.bin").write_text("weights\n")
    (user / ".dockerignore").write_text("**/*.bin\n")
    image = with_user.with_dockerignore(user / ".dockerignore").with_source_file(user / "model.bin", dst="/app/")

    pair = await parity.better("requirements-ignored", image)

    assert 'model.bin": not found' in pair.theirs.error
    assert b"weights\n" == pair.ours.pulled.tree()["app/model.bin"].content


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
async def test_everything_ignored_but(with_user: Image, parity: Parity, user: Path, relative: bool) -> None:
    """A `.dockerignore` that leaves out everything and makes exceptions."""
    folder = Path("src") if relative else user / "src"
    (user / "src" / "pkg").mkdir(parents=True)
    for path in ("main.py", "notes.md", "pkg/a.py"):
        (user / "src" / path).write_text(path)
    (user / ".dockerignore").write_text("*\n!main.py\n!pkg\n")
    image = with_user.with_dockerignore(user / ".dockerignore").with_source_folder(folder, dst="/app")

    pair = await parity.better("ignore-all-but", image)

    assert pair.theirs.image is None
    assert ["app/main.py", "app/pkg", "app/pkg/a.py"] == sorted(pair.ours.pulled.tree("app/"))


async def test_ignored_again(engine: Engine, repository: str, parity: Parity, user: Path) -> None:
    """A `.dockerignore` that leaves out what it has just taken back for a part of it."""
    (user / "config" / "secret").mkdir(parents=True)
    for path in ("config/app.yaml", "config/app.txt", "config/secret/db.yaml"):
        (user / path).write_text(path)
    (user / ".dockerignore").write_text("config\n!config/**/*.yaml\nconfig/secret\n")
    (user / "Dockerfile").write_text("FROM debian:bookworm-slim\nCOPY config /config\n")

    pair = await parity.better("ignored-again", Image.from_dockerfile(user / "Dockerfile", engine.registry, repository))

    assert "config/secret/db.yaml" in pair.theirs.pulled.tree()
    assert ["config/app.yaml"] == sorted(pair.ours.pulled.tree("config/"))


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"# \xe4\n"], ids=["byte order mark", "Latin-1"])
async def test_encoding_of_the_ignore_file(with_user: Image, parity: Parity, user: Path, mark: bytes) -> None:
    """A `.dockerignore` of an editor on Windows."""
    (user / "src").mkdir()
    for path in ("main.py", "password.env"):
        (user / "src" / path).write_text(path)
    (user / "ignore").write_bytes(mark + b"*.env\r\n")
    image = with_user.with_dockerignore(user / "ignore").with_source_folder(user / "src", dst="/app")

    pair = await parity.better("ignore-file-encoding", image)

    assert "app/password.env" in pair.theirs.pulled.tree()
    assert ["app/main.py"] == sorted(pair.ours.pulled.tree("app/"))


async def test_folders_of_empty_folders(with_user: Image, parity: Parity, user: Path) -> None:
    """The only difference is the outer folder."""
    (user / "src" / "outer" / "inner").mkdir(parents=True)
    (user / "src" / "main.py").write_text("x = 1\n")

    pair = await parity.better("empty-folders", with_user.with_source_folder(user / "src", dst="/app"))

    assert ["app/outer"] == [difference.name for difference in pair.differences() if difference.row is None]
    assert "app/outer" in pair.theirs.pulled.tree()


async def test_folder_the_user_stands_in(with_user: Image, parity: Parity, index: Index, user: Path) -> None:
    """With theirs, `Path(".")` is the build context itself, with the Dockerfile and with files of other layers."""
    (user / "main.py").write_text("x = 1\n")
    (user.parent / "requirements.txt").write_text("parity-beta\n")
    image = with_user.with_requirements("../requirements.txt", index_url=index.public)

    pair = await parity.better("context-in-the-image", image.with_source_folder(Path("."), dst="/app"))

    assert b"x = 1\n" == pair.ours.pulled.tree()["app/main.py"].content
    differing = [difference.name for difference in pair.differences() if difference.row is None]
    assert ["app/Dockerfile", "app/_flyte_abs_context"] == [name for name in differing if name.count("/") == 1]
    assert not [name for name in differing if not name.startswith(("app/Dockerfile", "app/_flyte_abs_context"))]
    assert not {"app/Dockerfile", "app/_flyte_abs_context"} & set(pair.ours.pulled.tree())
