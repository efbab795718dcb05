"""What holds the package together: who may import what, what a start costs, and what is shipped."""

from __future__ import annotations

import ast
import configparser
import graphlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli
from hypothesis import settings

import buildkit_builder

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "buildkit_builder"
PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "wire" not in path.relative_to(PACKAGE).parts)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# The room that may know Flyte, and what of it may know how Flyte keeps an image.
FLYTE_ROOM = "flyte_plugin"
READER = PACKAGE / "flyte_plugin" / "reader"
HEAVY = ("grpc", "google.protobuf", "rich", "yaml", "asyncio")


def run(*command: str) -> str:
    """What a Python of its own prints, started in the repository."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def room(path: Path) -> str:
    """The room a module belongs to: the first name below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every name that a module imports, wherever in it, as `package.module.name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loaded(statement: str) -> set[str]:
    """Which of the heavy modules a statement loads."""
    return set(run("-c", f"{statement}\nimport sys\nprint(*(set(sys.modules) & set({HEAVY!r})))").split())


def test_import_contracts() -> None:
    """Left may import right, the pure rooms are pure, and Flyte stays at its doors."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"

    assert "0 broken" in run("-c", command, "--no-cache", "--no-logo")


def test_no_module_imports_what_imports_it() -> None:
    """Not even where only types are checked, or within a function; `CycleError` shows the circle."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = {given if given in names else given.rpartition(".")[0] for given in imports(path)}
        graph[name] = (found & set(names)) - {name}

    assert set(names) == set(graphlib.TopologicalSorter(graph).static_order())


def test_flyte_stays_in_its_room() -> None:
    """Only `flyte_plugin` imports Flyte, and only its `reader` how Flyte keeps an image."""
    strays = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in MODULES
        for name in imports(path)
        if (name.startswith("flyte._image") and READER not in path.parents)
        or (name.split(".")[0] in ("flyte", "flyteidl2") and room(path) != FLYTE_ROOM)
    ]

    assert [] == strays


def test_one_module_reads_the_environment() -> None:
    """Everyone else is handed the environment."""
    readers = {
        path
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    } | {path for path in MODULES for name in imports(path) if name in ("os.environ", "os.getenv")}

    assert {PACKAGE / "buildkit" / "environment.py"} == readers


@pytest.mark.parametrize(
    "module", ["buildkit_builder", "buildkit_builder.flyte_plugin.activation", "buildkit_builder.config"]
)
def test_a_start_loads_nothing_heavy(module: str) -> None:
    """Flyte loads these in every process, built image or not."""
    assert set() == loaded(f"import {module}")


@pytest.mark.parametrize("module", ["buildkit_builder.cli.main", "buildkit_builder.flyte_plugin.builder"])
def test_the_front_doors_add_nothing_heavy_to_flyte(module: str) -> None:
    """What stands behind an entry point loads gRPC only when something is built."""
    assert loaded("import flyte, flyte.extend, rich_click") >= loaded(
        f"import flyte, flyte.extend, rich_click, {module}"
    )


def test_the_client_works_without_flyte_and_without_the_other_rooms(tmp_path: Path) -> None:
    """Every module of `buildkit` imports where there is nothing of the package but it and `errors`, and no Flyte."""
    package = tmp_path / "buildkit_builder"
    shutil.copytree(PACKAGE / "buildkit", package / "buildkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "errors.py", package)
    (package / "__init__.py").touch()
    names = [
        str(path.relative_to(tmp_path).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for path in package.rglob("*.py")
    ]
    script = (
        "import importlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "sys.modules['flyte'] = None\n"
        "for name in sys.argv[2:]: print(importlib.import_module(name).__file__)"
    )

    assert {str(path) for path in package.rglob("*.py")} == set(
        run("-c", script, str(tmp_path), *names).split("\n")[:-1]
    )


def test_every_entry_point_leads_somewhere() -> None:
    """Each name in the metadata can be imported and called."""
    groups = {**PROJECT["project"]["entry-points"], "console": PROJECT["project"]["scripts"]}
    targets = sorted({target for group in groups.values() for target in group.values()})
    script = "import pkgutil, sys\nfor target in sys.argv[1:]: print(callable(pkgutil.resolve_name(target)))"

    assert ["True"] * len(targets) == run("-c", script, *targets).split()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_says_what_it_shows(path: Path) -> None:
    """A test has a docstring, so that its failure reads as a sentence, and none is skipped or expected to fail."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and ast.get_docstring(node) is None
    ]
    evasions = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("skip", "skipif", "xfail", "importorskip")
        and isinstance(node.value, (ast.Name, ast.Attribute))
        and ast.unparse(node.value) in ("pytest", "pytest.mark", "mark")
    ]

    assert [] == silent + evasions


def test_modules_keep_their_size() -> None:
    """A module that outgrows 450 lines is two nouns."""
    assert [] == [str(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 450]


def test_no_property_has_a_deadline() -> None:
    """How long an example takes says nothing of the code, least of all on a busy machine."""
    assert settings().deadline is None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "hatchling", "build", "--directory", str(folder))
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """Every module, the typing marker and the license are in the wheel; tests and scripts are not."""
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [entry_points] = [archive.read(name).decode() for name in names if name.endswith("/entry_points.txt")]
    info = f"buildkit_builder-{buildkit_builder.__version__}.dist-info"
    shipped = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.pyi", "py.typed", "README.md")
        for path in PACKAGE.rglob(pattern)
    }
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read_string(entry_points)

    assert shipped == {name for name in names if not name.startswith(info)}
    assert "buildkit_builder/py.typed" in shipped
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} == {
        name.removeprefix(info + "/") for name in names if name.startswith(info)
    }
    assert PROJECT["project"]["entry-points"] == {
        group: dict(parser[group]) for group in parser.sections() if group != "console_scripts"
    }


def test_the_source_distribution_can_be_worked_on(built: Path) -> None:
    """Tests, scripts, the wire contract and the project file come with the sources."""
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}

    assert {"LICENSE", "README.md", "buildkit_builder", "proto", "pyproject.toml", "scripts", "tests"} <= top
