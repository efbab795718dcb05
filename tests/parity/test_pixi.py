"""Pixi projects and scripts. Stand-in: a small program under the name of pixi's image, which records what it is asked.

Pixi itself, and the packages it installs, cannot be had on a machine without the internet. What both builders must do
for it can be seen nevertheless: how it is called, where, with which variables, and which files it finds.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte import Image, Secret
from flyte._internal.imagebuild.utils import PIXI_VERSION

from tests.conftest import Engine
from tests.parity.bases import AMD64, Bases
from tests.parity.builders import Parity
from tests.parity.packages import Index

# Writes down what it sees, and makes the environment, as pixi would.
STAND_IN = """\
#!/bin/sh
set -e
{
  printf 'argument <%s>\\n' "$@"
  pwd
  env | sort | grep -v '^HOSTNAME='
  find /opt/pixi-project /root/.cache -not -path '*/rattler/*' -printf '%p %m %U:%G %s\\n' | sort
  find /opt/pixi-project -type f -exec sha256sum {} + | sort
} > /opt/record-$$
mv /opt/record-$$ /opt/record
while [ $# -gt 0 ]; do
  if [ "$1" = --environment ]; then environment=$2; fi
  shift
done
mkdir -p "/opt/pixi-project/.pixi/envs/$environment/bin"
ln -sf /usr/local/bin/python3 "/opt/pixi-project/.pixi/envs/$environment/bin/python"
"""


@pytest.fixture(autouse=True, scope="module")
def stand_in(bases: Bases) -> Iterator[None]:
    """Puts the stand-in into the engine's store, under the name of the pixi that Flyte uses, and takes it out again."""
    name = f"ghcr.io/prefix-dev/pixi:{PIXI_VERSION}"
    encoded = base64.b64encode(STAND_IN.encode()).decode()
    bases.made(
        f"RUN echo {encoded} | base64 -d > /usr/local/bin/pixi && chmod 755 /usr/local/bin/pixi",
        name=name,
    )
    yield
    bases.forget(name)


@pytest.fixture
def project(user: Path) -> Path:
    """A project of pixi's."""
    folder = user / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "pixi.toml").write_text('[workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n')
    (folder / "src" / "main.py").write_text("x = 1\n")
    (folder / "src" / "notes.log").write_text("no\n")
    return folder


async def test_stand_in_project(base: Image, parity: Parity, project: Path) -> None:
    """The manifest alone, without a lock file."""
    pulled = await parity.same(base.with_pixi_project(project / "pixi.toml"))

    record = pulled.tree()["opt/record"].content.decode()
    assert "argument <install>\nargument <--manifest-path>\nargument </opt/pixi-project/pixi.toml>" in record
    assert "--locked" not in record
    assert "src/main.py" not in record
    assert "/opt/pixi-project/.pixi/envs/default/bin/python" == pulled.env["UV_PYTHON"]


async def test_stand_in_locked_project(
    base: Image, parity: Parity, index: Index, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock file, another environment, an argument, a secret and a variable; then a package, into that environment."""
    monkeypatch.setenv("CHANNEL_TOKEN", "s3cret-of-a-channel")
    (project / "pixi.lock").write_text("version: 6\n")
    image = base.with_env_vars({"CONDA_OVERRIDE_CUDA": "12.4"}).with_pixi_project(
        project,
        environment="prod",
        extra_args="--no-progress -v",
        secret_mounts=Secret(key="channel_token", mount=Path("/etc/flyte/secrets")),
    )

    pulled = await parity.same(image.with_commands(["echo $PATH $UV_PYTHON $VIRTUAL_ENV > /after"]))

    record = pulled.tree()["opt/record"].content.decode()
    assert "argument <--locked>\nargument <--no-progress>\nargument <-v>\n" in record
    assert pulled.tree()["after"].content.startswith(b"/opt/pixi-project/.pixi/envs/prod/bin:/opt/venv/bin:")


async def test_stand_in_frozen_project(base: Image, parity: Parity, project: Path) -> None:
    """`--frozen` takes the place of `--locked`; the manifest is a `pyproject.toml`, the lock file is elsewhere."""
    (project / "pixi.toml").unlink()
    (project / "pyproject.toml").write_text('[tool.pixi.workspace]\nchannels = []\nplatforms = ["linux-64"]\n')
    (project.parent / "other.lock").write_text("version: 6\n")
    (project.parent / "pixi.lock").write_text("version: 5\n")
    image = base.with_pixi_project(project, pixi_lock=project.parent / "pixi.lock", extra_args="--frozen")

    record = (await parity.same(image)).tree()["opt/record"].content.decode()

    assert "--locked" not in record
    assert "/opt/pixi-project/pixi.lock" in record


async def test_stand_in_whole_project(base: Image, parity: Parity, project: Path) -> None:
    """The whole project, less what a `.dockerignore` names from there and from where the user is, but with the lock
    file that it names too.
    """
    (project / "pixi.lock").write_text("version: 6\n")
    (project / "secret").write_text("no\n")
    (project.parent / ".dockerignore").write_text("**/*.log\npixi.lock\napp/secret\n")
    image = base.with_dockerignore(Path(".dockerignore")).with_pixi_project(
        Path("app"), project_install_mode="install_project"
    )

    tree = (await parity.same(image)).tree("opt/pixi-project")

    assert {"opt/pixi-project/src/main.py", "opt/pixi-project/pixi.lock"} <= set(tree)
    assert not {"opt/pixi-project/src/notes.log", "opt/pixi-project/secret"} & set(tree)


@pytest.mark.parametrize("locked", [False, True])
async def test_stand_in_script(engine: Engine, repository: str, parity: Parity, user: Path, locked: bool) -> None:
    """A script's header becomes a manifest, with the lock file beside the script where there is one."""
    script = user / "job.py"
    script.write_text(
        '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["flyte"]\n#\n'
        '# [tool.pixi.workspace]\n# channels = ["conda-forge"]\n# platforms = ["linux-64"]\n#\n'
        '# [tool.pixi.dependencies]\n# gdal = "*"\n# ///\nprint(1)\n'
    )
    if locked:
        (user / "job.py.pixi.lock").write_text("version: 6\n")
    image = Image.from_pixi_script(
        script, name=repository, registry=engine.registry, environment="job", extra_args="-q", platform=AMD64
    ).clone(base_image="python:3.11-slim-bookworm", python_version=(3, 11))

    record = (await parity.same(image)).tree()["opt/record"].content.decode()

    assert locked == ("--locked" in record)
    assert "/opt/pixi-project/pixi.toml" in record
