"""Projects of uv and Poetry, local wheels, scripts, and code that Flyte bundles."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import flyte._image
import pytest
from flyte import Image, Secret
from flyte._image import resolve_code_bundle_layer

from tests.conftest import Engine
from tests.parity.bases import AMD64
from tests.parity.builders import Parity
from tests.parity.packages import TOKEN, USER, Index, Package, write_project
from tests.parity.tools import Tools

SITE = "opt/venv/lib/python3.11/site-packages"


@pytest.fixture(autouse=True)
def with_uv(user: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flyte's own builder asks uv, on this machine, what a project depends on."""
    tools.uv()
    monkeypatch.setenv("PATH", f"{tools.folder}:{os.environ['PATH']}")


def uv_index(index: Index) -> str:
    """Where uv finds packages, for a `pyproject.toml`."""
    return f'\n[[tool.uv.index]]\nname = "parity"\nurl = "{index.public}"\ndefault = true\n'


async def test_uv_dependencies(base: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """What a locked project depends on, without the project."""
    pyproject = write_project(user / "app", "app", dependencies=["parity-alpha<1.1"], more=uv_index(index))
    tools.uv_lock(user / "app")

    tree = (await parity.same(base.with_uv_project(pyproject))).tree()

    assert f"{SITE}/parity_alpha-1.0.dist-info/METADATA" in tree
    assert f"{SITE}/app" not in tree


async def test_uv_dependencies_without_a_lock(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """Without a lock file, uv resolves in the step, by the options of the layer, and leaves its lock beside it."""
    pyproject = write_project(user / "app", "app", dependencies=["parity-alpha", "parity-epsilon"])
    image = base.with_workdir("/srv").with_uv_project(
        Path("app/pyproject.toml"), index_url=index.public, extra_index_urls=(index.extra,), pre=True
    )
    assert pyproject.exists()

    # Flyte's own builder lets uv find out what is local, for which there must be an index here too.
    os.environ["UV_INDEX"] = f"{index.public} {index.extra}"
    try:
        tree = (await parity.same(image)).tree()
    finally:
        del os.environ["UV_INDEX"]

    assert f"{SITE}/parity_alpha-2.0rc1.dist-info/METADATA" in tree
    assert f"{SITE}/parity_epsilon-1.0.dist-info/METADATA" in tree
    assert "srv/uv.lock" in tree


async def test_uv_groups(base: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """A group of dependencies alone, and then all with an extra."""
    more = (
        '\n[project.optional-dependencies]\ncolor = ["parity-gamma"]\n'
        '\n[dependency-groups]\njob = ["parity-beta==1.0"]\n' + uv_index(index)
    )
    pyproject = write_project(user / "app", "app", dependencies=["parity-alpha"], more=more)
    tools.uv_lock(user / "app")
    image = base.with_uv_project(pyproject, extra_args="--only-group job --frozen")

    assert f"{SITE}/parity_alpha" not in (await parity.same(image)).tree()
    both = await parity.same(image.with_uv_project(pyproject, extra_args="--extra color --no-install-project"))
    assert f"{SITE}/parity_gamma" in both.tree()


async def test_uv_install_project(base: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """The project itself, copied for the step, less what a `.dockerignore` names."""
    pyproject = write_project(user / "app", "app", dependencies=["parity-beta"], more=uv_index(index))
    (user / "app" / "src" / "app" / "secret.py").write_text("no\n")
    tools.uv_lock(user / "app")
    (user / "ignore").write_text("**/secret.py\nuv.lock\n")
    image = base.with_dockerignore(user / "ignore").with_uv_project(pyproject, project_install_mode="install_project")

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/app/__init__.py" in tree
    assert f"{SITE}/app/secret.py" not in tree


async def test_uv_install_relative_project(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """A project by a relative path, without a lock file, less what a `.dockerignore` names from where the user is."""
    write_project(user / "app", "app", dependencies=["parity-beta"], more=uv_index(index))
    (user / "app" / "src" / "app" / "secret.py").write_text("no\n")
    (user / ".dockerignore").write_text("app/src/app/secret.py\n")
    image = base.with_dockerignore(Path(".dockerignore")).with_uv_project(
        Path("app/pyproject.toml"), project_install_mode="install_project"
    )

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/app/__init__.py" in tree
    assert f"{SITE}/app/secret.py" not in tree


async def test_uv_workspace(base: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """A workspace: what its members depend on, the members being used in place."""
    more = (
        '\n[tool.uv.workspace]\nmembers = ["libs/*"]\n\n[tool.uv.sources]\nlib-one = { workspace = true }\n'
        + uv_index(index)
    )
    pyproject = write_project(user / "mono", "mono", dependencies=["lib-one"], more=more)
    write_project(
        user / "mono" / "libs" / "one", "lib-one", dependencies=["lib-two", "parity-gamma"],
        more="\n[tool.uv.sources]\nlib-two = { workspace = true }\n",
    )  # fmt: skip
    write_project(user / "mono" / "libs" / "two", "lib-two", dependencies=["parity-beta<1.1"])
    tools.uv_lock(user / "mono")

    tree = (await parity.same(base.with_uv_project(pyproject))).tree()

    assert {f"{SITE}/lib_one.pth", f"{SITE}/lib_two.pth", f"{SITE}/parity_gamma"} <= set(tree)


async def test_uv_workspace_installed(base: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """A workspace with all its members in the image."""
    more = (
        '\n[tool.uv.workspace]\nmembers = ["libs/*"]\n\n[tool.uv.sources]\nlib-one = { workspace = true }\n'
        + uv_index(index)
    )
    pyproject = write_project(user / "mono", "mono", dependencies=["lib-one"], more=more)
    write_project(user / "mono" / "libs" / "one", "lib-one", dependencies=["parity-gamma"])
    tools.uv_lock(user / "mono")

    tree = (await parity.same(base.with_uv_project(pyproject, project_install_mode="install_project"))).tree()

    assert {f"{SITE}/mono/__init__.py", f"{SITE}/lib_one/__init__.py"} <= set(tree)


async def test_uv_path_dependency(base: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """A project used in place, from a folder inside the project."""
    more = '\n[tool.uv.sources]\nshared = { path = "vendor/shared", editable = true }\n' + uv_index(index)
    pyproject = write_project(user / "app", "app", dependencies=["shared"], more=more)
    write_project(user / "app" / "vendor" / "shared", "shared", dependencies=["parity-beta"])
    (user / "app" / "vendor" / "shared" / "left.log").write_text("no\n")
    tools.uv_lock(user / "app")

    assert f"{SITE}/shared.pth" in (await parity.same(base.with_uv_project(pyproject))).tree()


async def test_uv_path_dependency_outside(base: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """A project used in place, from a folder beside the project, and a wheel file."""
    more = '\n[tool.uv.sources]\nshared = { path = "../shared", editable = true }\n' + uv_index(index)
    pyproject = write_project(user / "app", "app", dependencies=["shared"], more=more)
    write_project(user / "shared", "shared", dependencies=["parity-beta"])
    tools.uv_lock(user / "app")

    tree = (await parity.same(base.with_workdir("/srv/app").with_uv_project(pyproject))).tree()

    assert f"{SITE}/shared.pth" in tree


async def test_uv_private_index(
    base: Image, parity: Parity, user: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked project with a package of a private index, whose password is a secret."""
    index = tools.index
    monkeypatch.setenv("INDEX_TOKEN", TOKEN)
    monkeypatch.setenv("UV_INDEX_PRIVATE_USERNAME", USER)
    monkeypatch.setenv("UV_INDEX_PRIVATE_PASSWORD", TOKEN)
    more = (
        f'\n[tool.uv.sources]\nparity-secret = {{ index = "private" }}\n\n[[tool.uv.index]]\nname = "private"\n'
        f'url = "{index.simple("private")}"\n' + uv_index(index)
    )
    pyproject = write_project(user / "app", "app", dependencies=["parity-secret"], more=more)
    tools.uv_lock(user / "app", {"UV_INDEX_PRIVATE_USERNAME": USER, "UV_INDEX_PRIVATE_PASSWORD": TOKEN})
    secret = Secret(key="index_token", as_env_var="UV_INDEX_PRIVATE_PASSWORD")
    image = base.with_env_vars({"UV_INDEX_PRIVATE_USERNAME": USER})

    tree = (await parity.same(image.with_uv_project(pyproject, secret_mounts=secret))).tree()

    assert f"{SITE}/parity_secret/__init__.py" in tree


def poetry_project(
    folder: Path, index: Index, *, more: str = "", dependencies: str = 'parity-alpha = "<1.1"\n'
) -> Path:
    """Writes a project of Poetry's, with one module."""
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "__init__.py").write_text("NAME = 'app'\n")
    (folder / "pyproject.toml").write_text(
        '[tool.poetry]\nname = "app"\nversion = "1.0"\ndescription = ""\nauthors = []\n\n'
        f'[tool.poetry.dependencies]\npython = ">=3.11,<3.14"\n{dependencies}\n'
        '[tool.poetry.group.dev.dependencies]\nparity-gamma = "*"\n\n'
        f'[[tool.poetry.source]]\nname = "parity"\nurl = "{index.public}"\npriority = "primary"\n{more}\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    )
    return folder / "pyproject.toml"


@pytest.mark.parametrize("mode", ["dependencies_only", "install_project"])
async def test_poetry(base: Image, parity: Parity, user: Path, tools: Tools, mode: str) -> None:
    """A project of Poetry's in both modes, with an option."""
    index = tools.index
    pyproject = poetry_project(user / "app", index)
    tools.poetry_lock(user / "app")
    image = base.with_env_vars({"UV_DEFAULT_INDEX": index.public}).with_poetry_project(
        pyproject,
        extra_args="--without dev",
        project_install_mode=mode,  # type: ignore[arg-type]
    )

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/parity_alpha-1.0.dist-info/METADATA" in tree
    assert f"{SITE}/parity_gamma" not in tree
    assert (mode == "install_project") == (f"{SITE}/app.pth" in tree)


async def test_poetry_secrets(
    base: Image, parity: Parity, user: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private index of a Poetry project, whose password is a secret."""
    index = tools.index
    monkeypatch.setenv("INDEX_TOKEN", TOKEN)
    more = f'\n[[tool.poetry.source]]\nname = "private"\nurl = "{index.simple("private")}"\npriority = "explicit"\n'
    dependencies = 'parity-secret = { version = "*", source = "private" }\n'
    pyproject = poetry_project(user / "app", index, more=more, dependencies=dependencies)
    variables = {"POETRY_HTTP_BASIC_PRIVATE_USERNAME": USER, "POETRY_HTTP_BASIC_PRIVATE_PASSWORD": TOKEN}
    tools.poetry_lock(user / "app", variables)
    image = base.with_env_vars(
        {"UV_DEFAULT_INDEX": index.public, "POETRY_HTTP_BASIC_PRIVATE_USERNAME": USER}
    ).with_poetry_project(
        pyproject, secret_mounts=Secret(key="index_token", as_env_var="POETRY_HTTP_BASIC_PRIVATE_PASSWORD")
    )

    pair = await parity.better("poetry-secrets", image)

    assert pair.theirs.image is None
    assert f"{SITE}/parity_secret/__init__.py" in pair.ours.pulled.tree()


def write_wheel(folder: Path, name: str, *requires: str) -> None:
    """Writes a wheel of a version that no index has."""
    folder.mkdir(exist_ok=True)
    filename, content = Package(name=name, version="99.0", requires=requires).wheel()
    (folder / filename).write_bytes(content)


async def test_local_wheels(
    base: Image, parity: Parity, index: Index, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wheels of Flyte, of plugins and of the controller, from folders of a developer."""
    write_wheel(user / "dist", "flyte", "parity-beta<1.1")
    write_wheel(user / "dist", "flyteplugins-parity", "parity-gamma")
    write_wheel(user / "rs", "flyte-controller-base")
    monkeypatch.setattr(flyte._image, "DIST_FOLDER", user / "dist")
    monkeypatch.setattr(flyte._image, "RS_CONTROLLER_DIST_FOLDER", user / "rs")
    image = base.with_env_vars({"UV_DEFAULT_INDEX": index.public}).with_local_v2()
    image = image.with_local_v2_plugins("flyteplugins-parity").with_local_rs_controller()

    tree = (await parity.same(image)).tree()

    assert {f"{SITE}/flyte", f"{SITE}/flyteplugins_parity", f"{SITE}/flyte_controller_base"} <= set(tree)
    assert {f"{SITE}/parity_beta-1.0.dist-info", f"{SITE}/parity_gamma"} <= set(tree)


@pytest.mark.parametrize("style", ["all", "loaded_modules"])
async def test_code_bundle(
    with_user: Image, parity: Parity, user: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    """The code of a program, all of it or the modules that were imported."""
    root = user / "program"
    (root / "parity_pkg").mkdir(parents=True)
    (root / "parity_pkg" / "__init__.py").write_text("import parity_pkg.used\n")
    (root / "parity_pkg" / "used.py").write_text("x = 1\n")
    (root / "parity_pkg" / "unused.py").write_text("x = 2\n")
    (root / "notes.md").write_text("notes\n")
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import_module("parity_pkg")
    image = with_user.with_workdir("/app").with_code_bundle(copy_style=style, dst="code")  # type: ignore[arg-type]
    try:
        tree = (await parity.same(resolve_code_bundle_layer(image, "none", root))).tree("app")
    finally:
        for name in ("parity_pkg", "parity_pkg.used"):
            del sys.modules[name]

    assert "app/code/parity_pkg/used.py" in tree
    assert (style == "all") == ("app/code/notes.md" in tree)


async def test_code_bundle_left_out(with_user: Image, parity: Parity, user: Path) -> None:
    """Where Flyte ships the code by itself, the layer is none."""
    image = with_user.with_code_bundle().with_commands(["true"])

    await parity.same(resolve_code_bundle_layer(image, "loaded_modules", user))


def write_script(path: Path, *dependencies: str) -> Path:
    """Writes a script with a header."""
    listed = "".join(f'#   "{item}",\n' for item in dependencies)
    path.write_text(
        f'# /// script\n# requires-python = ">=3.10"\n# dependencies = [\n{listed}# ]\n# ///\nprint("hello")\n'
    )
    return path


async def test_uv_script(engine: Engine, repository: str, parity: Parity, index: Index, user: Path) -> None:
    """The packages of a script's header, with every option; the script itself is not copied."""
    image = Image.from_uv_script(
        write_script(user / "job.py", "parity-alpha[color]", "parity-epsilon"),
        name=repository,
        registry=engine.registry,
        python_version=(3, 11),
        index_url=index.public,
        extra_index_urls=[index.extra],
        pre=True,
        extra_args="--no-deps",
        platform=AMD64,
    )

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/parity_alpha-2.0rc1.dist-info/METADATA" in tree
    assert "home/flyte/job.py" not in tree


async def test_uv_script_with_projects(
    engine: Engine, repository: str, parity: Parity, index: Index, user: Path
) -> None:
    """A script whose header names a project of this machine, by its address."""
    write_project(user / "lib", "lib", dependencies=["parity-beta"], more=uv_index(index))
    image = Image.from_uv_script(
        write_script(user / "job.py", "parity-gamma", f"lib @ file://{user / 'lib'}"),
        name=repository,
        registry=engine.registry,
        python_version=(3, 11),
        index_url=index.public,
        platform=AMD64,
    )

    tree = (await parity.same(image)).tree()

    assert {f"{SITE}/lib/__init__.py", f"{SITE}/parity_gamma", "usr/bin/git"} <= set(tree)
