"""Images of whole programs, as users write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flyte import Image, Secret

from tests.conftest import Engine
from tests.parity.bases import AMD64, Bases
from tests.parity.builders import Parity
from tests.parity.packages import TOKEN, USER, Index, write_project
from tests.parity.tools import Tools

SITE = "opt/venv/lib/python3.11/site-packages"


@pytest.fixture
def program(user: Path) -> Path:
    """A program's folder: code, data, tests, what a Python leaves behind, and an ignore file."""
    files = {
        "app/__init__.py": "",
        "app/main.py": "import app.model\n",
        "app/model.py": "x = 1\n",
        "app/__pycache__/main.cpython-311.pyc": "compiled",
        "app/data/table.csv": "a,b\n1,2\n",
        "tests/test_main.py": "",
        ".git/HEAD": "ref: refs/heads/main\n",
        ".venv/bin/python": "",
        "notebooks/try.ipynb": "{}",
        ".dockerignore": ".git\n.venv\n**/__pycache__\n**/*.pyc\ntests\n!tests/test_main.py\n*.ipynb\n**/*.ipynb\n",
        "requirements.txt": "parity-alpha[color]==1.0\nparity-beta\n",
    }
    for path, text in files.items():
        (user / path).parent.mkdir(parents=True, exist_ok=True)
        (user / path).write_text(text)
    return user


async def test_training_job(engine: Engine, repository: str, parity: Parity, index: Index, program: Path) -> None:
    """Flyte's Debian image with system packages, a requirements file, variables, the code, and a command on it."""
    image = (
        Image.from_debian_base(
            python_version=(3, 11), install_flyte=False, registry=engine.registry, name=repository, platform=AMD64
        )
        .with_apt_packages("hello", "sl")
        .with_requirements(program / "requirements.txt", index_url=index.public)
        .with_env_vars({"PYTHONPATH": "/home/flyte:$PYTHONPATH", "MODEL_DIR": "/opt/models", "LOG_LEVEL": "info"})
        .with_dockerignore(program / ".dockerignore")
        .with_source_folder(program / "app", dst="./app", copy_contents_only=True)
        .with_commands(["mkdir -p $MODEL_DIR && python -c 'import app.main' && chown -R flyte:flyte $MODEL_DIR"])
    )

    pulled = await parity.same(image)

    assert {"home/flyte/app/main.py", "opt/models", "opt/venv/bin/parity-greet"} <= set(pulled.tree())
    assert "home/flyte/app/data/table.csv" in pulled.tree()


async def test_whole_repository(with_user: Image, parity: Parity, program: Path) -> None:
    """The folder that the user stands in, whole, less what its ignore file names."""
    image = with_user.with_dockerignore(Path(".dockerignore")).with_source_folder(program, dst="/code")

    tree = (await parity.same(image)).tree("code")

    assert {"code/app/main.py", "code/tests/test_main.py"} <= set(tree)
    assert not [path for path in tree if ".git/" in path or "pycache" in path or path.endswith(".ipynb")]


async def test_company_base(
    bases: Bases, parity: Parity, index: Index, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's base, with a user, certificates' variables and a private index; the code in a folder of its own."""
    monkeypatch.setenv("INDEX_TOKEN", TOKEN)
    image = (
        bases.of(
            "RUN useradd --uid 1001 --create-home app && useradd --uid 1002 --create-home flyte",
            "ENV REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt COMPANY=example",
            'LABEL com.example.base="2026.1"',
            "WORKDIR /srv",
            "USER app",
            'ENTRYPOINT ["/usr/bin/env"]',
        )
        .with_pip_packages(
            "parity-secret", index_url=index.public, extra_index_urls=index.private, secret_mounts="INDEX_TOKEN"
        )
        .with_workdir("app")
        .with_source_folder(program / "app", dst=".", copy_contents_only=True)
        .with_env_vars({"APP_HOME": "/srv/app", "PYTHONPATH": "$APP_HOME"})
    )

    pulled = await parity.same(image)

    assert (1002, b"x = 1\n") == (pulled.tree()["srv/app/model.py"].uid, pulled.tree()["srv/app/model.py"].content)
    assert f"{SITE}/parity_secret/__init__.py" in pulled.tree()


async def test_git_dependency(
    bases: Bases, parity: Parity, index: Index, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package from a git repository that wants a token, which is a secret; the token is not in the image."""
    monkeypatch.setenv("GIT_TOKEN", TOKEN)
    write_project(user / "repository", "from-git")
    commit = index.add_repository("from-git", user / "repository")
    url = f"git+http://{USER}:${{GIT_TOKEN}}@{index.address}/{index.root}/git/from-git.git@{commit}"
    image = bases.of("RUN apt-get update && apt-get install -y --no-install-recommends git").with_pip_packages(
        f"from-git @ {url}", secret_mounts=Secret(key="git_token", as_env_var="GIT_TOKEN")
    )

    pulled = await parity.same(image)

    assert f"{SITE}/from_git/__init__.py" in pulled.tree()
    assert commit.encode() in pulled.tree()[f"{SITE}/from_git-1.0.dist-info/direct_url.json"].content
    assert TOKEN.encode() not in pulled.tree()[f"{SITE}/from_git-1.0.dist-info/direct_url.json"].content


async def test_monorepo(
    with_user: Image, parity: Parity, user: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A uv workspace: dependencies first, then the code of the service and of the library it shares."""
    tools.uv()
    monkeypatch.setenv("PATH", f"{tools.folder}:{os.environ['PATH']}")
    index_table = f'\n[[tool.uv.index]]\nname = "parity"\nurl = "{tools.index.public}"\ndefault = true\n'
    write_project(
        user / "mono", "mono", dependencies=["service"],
        more='\n[tool.uv.workspace]\nmembers = ["services/*", "libs/*"]\n\n[tool.uv.sources]\n'
        'service = { workspace = true }\nshared = { workspace = true }\n' + index_table,
    )  # fmt: skip
    write_project(user / "mono" / "services" / "service", "service", dependencies=["shared", "parity-alpha"])
    write_project(user / "mono" / "libs" / "shared", "shared", dependencies=["parity-gamma"])
    tools.uv_lock(user / "mono")
    image = (
        with_user.with_workdir("/app")
        .with_uv_project(user / "mono" / "pyproject.toml", extra_args="--no-dev --no-editable")
        .with_source_folder(user / "mono" / "services" / "service" / "src", dst="/app/service", copy_contents_only=True)
        .with_source_folder(user / "mono" / "libs" / "shared" / "src", dst="/app/libs")
        .with_env_vars({"PYTHONPATH": "/app/service:/app/libs"})
        .with_commands(["python -c 'import service, shared'"])
    )

    tree = (await parity.same(image)).tree()

    assert {"app/service/service/__init__.py", "app/libs/shared/__init__.py", f"{SITE}/parity_gamma"} <= set(tree)


async def test_poetry_application(with_user: Image, parity: Parity, index: Index, user: Path, tools: Tools) -> None:
    """A Poetry application: its dependencies, then its code, for the user who runs it."""
    folder = user / "application"
    (folder / "application").mkdir(parents=True)
    (folder / "application" / "__init__.py").write_text("x = 1\n")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "application"\nversion = "1.0"\nrequires-python = ">=3.11,<3.14"\n'
        'dependencies = ["parity-alpha[color] (>=1.0)"]\n\n'
        f'[[tool.poetry.source]]\nname = "parity"\nurl = "{index.public}"\npriority = "primary"\n\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    )
    tools.poetry_lock(folder)
    image = (
        with_user.with_env_vars({"UV_DEFAULT_INDEX": index.public})
        .with_workdir("/home/flyte")
        .with_poetry_project(folder / "pyproject.toml")
        .with_source_folder(folder / "application")
        .with_commands(["python -c 'import application, parity_gamma'"])
    )

    tree = (await parity.same(image)).tree()

    assert {"home/flyte/application/__init__.py", f"{SITE}/parity_gamma"} <= set(tree)
