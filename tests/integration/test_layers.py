"""Every layer, built by BuildKit and looked at in the registry."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from flyte import Image, Secret

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.conftest import BASE, Build


async def test_environment_variables_in_order(base: Image, build: Build) -> None:
    """The config has Flyte's variables, then the user's, references put in."""
    image = base.with_env_vars({"GREETING": "hello", "WHO": "${GREETING} world", "PATH": "/opt/tool/bin:$PATH"})

    pulled = await build(image)

    names = list(pulled.env)
    ours = ["UV_COMPILE_BYTECODE", "UV_LINK_MODE", "VIRTUALENV", "UV_PYTHON", "LD_LIBRARY_PATH", "GREETING", "WHO"]
    assert [*ours, "_F_IMG_ID"] == [name for name in names if name in (*ours, "_F_IMG_ID")]
    assert "hello world" == pulled.env["WHO"]
    assert pulled.env["PATH"].startswith("/opt/tool/bin:/opt/venv/bin:")
    assert image.uri == pulled.env["_F_IMG_ID"]
    assert ["/bin/bash", "-c"] == pulled.config["config"]["Shell"]


async def test_apt_packages(base: Image, build: Build) -> None:
    """A system package is installed from Debian, and its archive is not left in the image."""
    pulled = await build(base.with_apt_packages("hello"))

    tree = pulled.tree()
    assert "usr/bin/hello" in tree
    assert [] == [path for path in tree if path.startswith("var/cache/apt/archives/") and path.endswith(".deb")]


async def test_pip_packages(base: Image, build: Build) -> None:
    """Python packages go into the environment, compiled, and not into a cache inside the image."""
    pulled = await build(base.with_pip_packages("iniconfig==2.0.0", "six", extra_args="--no-deps"))

    tree = pulled.tree()
    assert "opt/venv/lib/python3.11/site-packages/iniconfig/__init__.py" in tree
    assert "opt/venv/lib/python3.11/site-packages/iniconfig-2.0.0.dist-info/METADATA" in tree
    assert "opt/venv/lib/python3.11/site-packages/__pycache__/six.cpython-311.pyc" in tree
    assert [] == [path for path in tree if path.startswith("root/.cache/") and ("six" in path or "iniconfig" in path)]


async def test_requirements(base: Image, build: Build, user: Path) -> None:
    """A requirements file is read where the step runs, and is not left there."""
    (user / "requirements.txt").write_text("six  # a comment\niniconfig>=2\n")

    pulled = await build(base.with_workdir("/srv").with_requirements("requirements.txt"))

    tree = pulled.tree()
    assert "opt/venv/lib/python3.11/site-packages/six.py" in tree
    assert "srv/requirements.txt" not in tree


async def test_commands_and_workdir(base: Image, build: Build) -> None:
    """Commands run in the working directory, which is made, one after another, as root."""
    image = base.with_workdir("/data/in").with_workdir("deeper").with_commands(["echo one > file", "id -un >> file"])

    pulled = await build(image)

    assert b"one\nroot\n" == pulled.tree()["data/in/deeper/file"].content
    assert "/data/in/deeper" == pulled.config["config"]["WorkingDir"]
    assert "root" == pulled.config["config"]["User"]


async def test_source_file_and_folder(base: Image, build: Build, user: Path) -> None:
    """Files and folders land where a Dockerfile's COPY would put them, with their modes, owned by root."""
    folder = user / "source code"
    (folder / "pkg" / "empty").mkdir(parents=True)
    (folder / "pkg" / "módulo.py").write_text("x = 1\n")
    (folder / "tool.sh").write_text("#!/bin/sh\n")
    (folder / "tool.sh").chmod(0o755)
    (folder / "link.py").symlink_to("pkg/módulo.py")
    (user / "main.py").write_text("print('hi')\n")
    image = base.with_workdir("/app").with_source_folder(folder, dst="lib").with_source_file(user / "main.py")

    tree = (await build(image)).tree("app")

    assert b"x = 1\n" == tree["app/lib/pkg/módulo.py"].content
    assert "file" == tree["app/lib/link.py"].kind
    assert b"x = 1\n" == tree["app/lib/link.py"].content
    assert 0o755 == tree["app/lib/tool.sh"].mode
    assert b"print('hi')\n" == tree["app/main.py"].content
    assert (0, 0) == (tree["app/main.py"].uid, tree["app/main.py"].gid)
    assert "app/lib/pkg/empty" not in tree


async def test_dockerignore(base: Image, build: Build, user: Path) -> None:
    """Files that the .dockerignore names are left out, exceptions excepted."""
    folder = user / "src"
    (folder / "data").mkdir(parents=True)
    for path in ("keep.py", "drop.log", "data/big.bin", "data/small.txt"):
        (folder / path).write_text(path)
    (user / ".dockerignore").write_text("# what is left out\n*.log\ndata\n!data/small.txt\n")
    image = base.with_dockerignore(user / ".dockerignore").with_source_folder(folder, dst="/app")

    tree = (await build(image)).tree("app/")

    assert ["app/data", "app/data/small.txt", "app/keep.py"] == sorted(tree)


async def test_flyte_user_owns_what_is_copied(engine_registry: str, name: str, build: Build, user: Path) -> None:
    """Flyte's Debian base without flyte gets the flyte user, its home and its labels, and the user owns the files."""
    (user / "main.py").write_text("x = 1\n")
    image = Image.from_debian_base(
        python_version=(3, 11), install_flyte=False, registry=engine_registry, name=name, platform=("linux/amd64",)
    ).with_source_file(user / "main.py")

    pulled = await build(image)

    tree = pulled.tree("home/flyte")
    owner = (tree["home/flyte"].uid, tree["home/flyte"].gid)
    assert (0, 0) != owner
    assert owner == (tree["home/flyte/main.py"].uid, tree["home/flyte/main.py"].gid)
    assert "flyte" == pulled.config["config"]["User"]
    assert "/home/flyte" == pulled.config["config"]["WorkingDir"]
    assert "Union.AI <info@union.ai>" == pulled.config["config"]["Labels"]["org.opencontainers.image.authors"]


async def test_released_base_with_flyte(engine_registry: str, name: str, build: Build, user: Path) -> None:
    """On the released image, whose flyte user is in the base, what is copied belongs to that user."""
    (user / "main.py").write_text("x = 1\n")
    image = Image.from_debian_base(
        python_version=(3, 11), registry=engine_registry, name=name, platform=("linux/amd64",)
    ).with_source_file(user / "main.py", dst="/home/flyte/")

    pulled = await build(image)

    entry = pulled.tree("home/flyte")["home/flyte/main.py"]
    assert (0, 0) != (entry.uid, entry.gid)


async def test_uv_script(engine_registry: str, name: str, build: Build, user: Path) -> None:
    """The packages of a script's header are installed; the script itself is not copied."""
    script = user / "job.py"
    script.write_text('# /// script\n# requires-python = ">=3.11"\n# dependencies = ["six"]\n# ///\nprint(1)\n')
    image = Image.from_uv_script(
        script, name=name, registry=engine_registry, python_version=(3, 11), platform=("linux/amd64",)
    )

    tree = (await build(image)).tree()

    assert "opt/venv/lib/python3.11/site-packages/six.py" in tree
    assert "home/flyte/job.py" not in tree


async def test_dockerfile(engine_registry: str, name: str, build: Build, user: Path) -> None:
    """A Dockerfile with stages and a syntax line that cannot be pulled is built by the daemon's own frontend."""
    (user / "data.txt").write_text("from the context\n")
    (user / "ignored.txt").write_text("no\n")
    (user / ".dockerignore").write_text("ignored.txt\n")
    (user / "Dockerfile").write_text(
        "# syntax=docker/dockerfile:1.10\n"
        "FROM python:3.11-slim-bookworm AS made\n"
        "RUN echo made > /made.txt\n"
        "FROM python:3.11-slim-bookworm\n"
        "COPY --from=made /made.txt /app/made.txt\n"
        "COPY . /app\n"
        "ENV ANSWER=42\n"
        'CMD ["python"]\n'
    )
    image = Image.from_dockerfile(user / "Dockerfile", registry=engine_registry, name=name)

    pulled = await build(image)

    tree = pulled.tree("app")
    assert b"made\n" == tree["app/made.txt"].content
    assert b"from the context\n" == tree["app/data.txt"].content
    assert "app/ignored.txt" not in tree
    assert "42" == pulled.env["ANSWER"]


async def test_secrets_reach_steps_and_nothing_else(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is a variable or a file of the steps that name it, and of no others."""
    monkeypatch.setenv("TOKEN", "s3cret-in-a-variable")
    monkeypatch.setenv("TEAM_KEY", "s3cret-in-a-file")
    show = ['printf "%s" "$TOKEN" | md5sum > /token', "md5sum < /etc/flyte/secrets > /key"]
    image = base.with_commands(
        show, secret_mounts=["TOKEN", Secret(key="key", group="team", mount=Path("/etc/flyte/secrets"))]
    ).with_commands(['printf "%s" "$TOKEN" | wc -c > /after', "ls /etc/flyte > /left 2>&1 || true"])

    pulled = await build(image)

    tree = pulled.tree()
    assert hashlib.md5(b"s3cret-in-a-variable").hexdigest().encode() in tree["token"].content
    assert hashlib.md5(b"s3cret-in-a-file").hexdigest().encode() in tree["key"].content
    assert b"0\n" == tree["after"].content
    assert [] == [path for path, entry in tree.items() if b"s3cret" in entry.content]
    assert "s3cret" not in str(pulled.config)


async def test_a_foreign_platform_is_helped(
    emulator: Engine, user: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing steers the work, wheels are installed by the machine's own programs, and apt has them lent."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    monkeypatch.setenv("FLYTE_BUILDKIT_PLATFORMS", "linux/arm64")
    image = Image.from_base(BASE).clone(
        name=name, registry=emulator.registry, extendable=True, python_version=(3, 11), platform=("linux/arm64",)
    )
    await BuildKitImageBuilder().build_image(image.with_apt_packages("figlet").with_pip_packages("six"), dry_run=False)
    shown = capfd.readouterr().err

    assert "with_apt_packages figlet (scripts emulated)" in shown
    assert "with_pip_packages six (wheels)" in shown
    assert "(emulated)" not in shown
