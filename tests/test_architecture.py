"""What holds the package together: who may import what, what a start costs, and what is shipped."""

from __future__ import annotations

import ast
import configparser
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
# The rooms that may know Flyte, and the one that may know how it keeps an image.
FLYTE_ROOMS = {"activation", "background", "builder", "checker", "cli", "flyte_image", "flyte_settings", "image_build"}
FLYTE_IMAGE_ROOM = "flyte_image"
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


def test_flytes_private_names_stay_in_their_rooms() -> None:
    """Only the Flyte rooms name private parts of Flyte, and only `flyte_image` those of its image."""
    strays = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in MODULES
        for name in imports(path)
        if (name.startswith("flyte._image") and room(path) != FLYTE_IMAGE_ROOM)
        or (
            name.startswith("flyte")
            and any(part.startswith("_") for part in name.split("."))
            and room(path) not in FLYTE_ROOMS
        )
    ]

    assert [] == strays


def test_only_config_reads_the_environment() -> None:
    """Everyone else is handed the environment."""
    readers = {
        room(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    } | {room(path) for path in MODULES for name in imports(path) if name in ("os.environ", "os.getenv")}

    assert {"config"} == readers


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


def test_the_client_works_without_flyte() -> None:
    """`llb`, `client`, `session`, `solve` and `progress` import where there is no Flyte."""
    names = ", ".join(f"buildkit_builder.{room}" for room in ("client", "llb", "progress", "session", "solve"))

    assert "fine\n" == run("-c", f"import sys\nsys.modules['flyte'] = None\nimport {names}\nprint('fine')")


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
