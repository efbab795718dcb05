"""What is needed of Flyte is looked at before anything of it is touched: with every name missing, one by one."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from flyte._internal.imagebuild import image_builder
from flyte._internal.imagebuild.docker_builder import DockerImageBuilder
from flyte.errors import ImageBuildError

from buildkit_builder.cli.main import main
from buildkit_builder.flyte_plugin import activation
from buildkit_builder.flyte_plugin import names as flyte_names
from buildkit_builder.flyte_plugin import settings as flyte_settings
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder

PACKAGE = Path(flyte_names.__file__).parent.parent
ALL = [f"{module}.{name}" for module, names in flyte_names.NEEDED.items() for name in names]
ENGINE = [f"{flyte_names.ENGINE}.{name}" for name in flyte_names.ENGINE_NAMES]


@pytest.fixture(autouse=True)
def _plain(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Flyte as if this package were not installed; nothing was looked at or said before."""
    clean_environ.chdir(tmp_path)
    clean_environ.setattr("flyte._initialize._init_config", None)
    clean_environ.setattr(activation, "_said", set())
    was_active = hasattr(image_builder.ImageBuildEngine._get_builder, activation._MARK)
    activation.deactivate()
    config = tmp_path / "config.yaml"
    config.write_text("{}", encoding="utf-8")
    remembered = list(flyte_settings._command_line)
    flyte_settings.remember_config(config)
    _forget()
    yield
    flyte_settings._command_line[:] = remembered
    activation.deactivate()
    _forget()
    if was_active:
        activation.activate()


def _forget() -> None:
    flyte_names.missing.cache_clear()
    flyte_names.cannot_run.cache_clear()


def take_away(name: str, patch: pytest.MonkeyPatch) -> None:
    """Makes a Flyte that has not this name, as far as this package can see."""
    has = flyte_names._has
    module = next(module for module in flyte_names.NEEDED if name.startswith(f"{module}.") and name in ALL_OF[module])
    rest = name.removeprefix(f"{module}.")
    patch.setattr(
        flyte_names, "_has", lambda found, part: has(found, part) and (found.__name__, part) != (module, rest)
    )


ALL_OF = {module: [f"{module}.{name}" for name in names] for module, names in flyte_names.NEEDED.items()}


def test_this_flyte_has_all_that_is_needed() -> None:
    """So that the other tests here show something."""
    assert () == flyte_names.missing()


@pytest.mark.parametrize("name", ALL)
def test_where_a_name_is_missing_flyte_builds_by_itself(
    name: str, clean_environ: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line names the versions and what is missing; it comes once. `buildkit` by name is an error that says so."""
    take_away(name, clean_environ)
    before = dict(vars(image_builder.ImageBuildEngine)), image_builder._builds_locally
    activation.activate()
    if name in ENGINE:
        assert before == (dict(vars(image_builder.ImageBuildEngine)), image_builder._builds_locally)
    for _ in range(2):
        assert isinstance(image_builder.ImageBuildEngine._get_builder("local"), DockerImageBuilder)
    said = capfd.readouterr().err.splitlines()

    assert 1 == len(said), said
    for text in (f"`{name}`", "flyte 2.", "buildkit-builder 0.", "Flyte's own builder is used"):
        assert text in said[0]
    if name not in ENGINE:
        with pytest.raises(ImageBuildError, match="cannot build"):
            image_builder.ImageBuildEngine._get_builder("buildkit")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [ENGINE[0], ENGINE[2], "flyte._image.PixiScript.script"])
def test_who_does_not_want_this_package_is_told_nothing(
    name: str, clean_environ: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With `enabled: false` it may not fit as much as it likes."""
    take_away(name, clean_environ)
    clean_environ.setenv("FLYTE_BUILDKIT_ENABLED", "false")
    activation.activate()

    assert isinstance(image_builder.ImageBuildEngine._get_builder("local"), DockerImageBuilder)
    assert "" == capfd.readouterr().err


@pytest.mark.parametrize("module", list(flyte_names.NEEDED))
def test_a_module_that_cannot_be_loaded_is_missing(module: str, clean_environ: pytest.MonkeyPatch) -> None:
    """Because it is not there, or for whatever it runs into while it is loaded."""
    load = importlib.import_module

    for error in (ImportError, AttributeError, RuntimeError):

        def fail(name: str, package: str | None = None, error: type[Exception] = error) -> Any:
            if name == module:
                raise error(name)
            return load(name, package)

        clean_environ.setattr(importlib, "import_module", fail)
        _forget()
        assert (module,) == flyte_names.missing()


def test_an_engine_that_is_no_class_any_more(
    clean_environ: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever a later Flyte makes of it, activating raises nothing."""
    for engine in (None, 7, SimpleNamespace(), lambda: None):
        clean_environ.setattr(image_builder, "ImageBuildEngine", engine)
        clean_environ.setattr(activation, "_said", set())
        activation.activate()
        activation.deactivate()
        assert 1 == len(capfd.readouterr().err.splitlines())


def test_a_chooser_that_has_moved(clean_environ: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A module that nobody will ever load is no reason to wait for it without a word."""
    clean_environ.setattr(activation, "_CHOOSER", "flyte._internal.imagebuild.elsewhere")
    activation.activate()

    assert "no `flyte._internal.imagebuild.elsewhere`" in capfd.readouterr().err
    assert not any(isinstance(finder, activation._WhenLoaded) for finder in sys.meta_path)


@pytest.mark.parametrize("error", [OSError, RuntimeError, RecursionError, MemoryError])
def test_activating_raises_nothing(
    clean_environ: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    """Whatever goes wrong in it."""

    def fail(_: object) -> None:
        raise error("no")

    clean_environ.setattr(activation, "_replace", fail)
    activation.activate()

    assert error.__name__ in capfd.readouterr().err


def test_without_a_stream_nothing_is_said(clean_environ: pytest.MonkeyPatch) -> None:
    """A process without a terminal, as of a service, may have no `sys.stderr`."""
    take_away(ENGINE[0], clean_environ)
    clean_environ.setattr(sys, "stderr", None)
    activation.activate()

    assert isinstance(image_builder.ImageBuildEngine._get_builder("local"), DockerImageBuilder)


# --- Windows ---


@pytest.mark.parametrize("how", ["win32", "no fcntl"])
def test_on_windows_flyte_builds_by_itself(
    how: str, clean_environ: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence says so, and `local` is no `ImportError`."""
    if how == "win32":
        clean_environ.setattr(sys, "platform", "win32")
    else:
        clean_environ.setitem(sys.modules, "fcntl", None)
    activation.activate()
    for _ in range(2):
        assert isinstance(image_builder.ImageBuildEngine._get_builder("local"), DockerImageBuilder)
    [line] = capfd.readouterr().err.splitlines()

    assert "it does not run on Windows" in line
    with pytest.raises(ImageBuildError, match="does not run on Windows"):
        image_builder.ImageBuildEngine._get_builder("buildkit")  # type: ignore[arg-type]


def test_a_process_of_windows() -> None:
    """From the start of a process without `fcntl`: Flyte's builder for `local`, one line, no traceback."""
    script = (
        "import sys; sys.modules['fcntl'] = None\n"
        "import flyte; flyte.init()\n"
        "from flyte.extend import ImageBuildEngine\n"
        "print(type(ImageBuildEngine._get_builder('local')).__name__)\n"
        "from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder\n"
        "import asyncio\n"
        "image = flyte.Image.from_base('a').clone(name='b', registry='c.example', extendable=True)\n"
        "try: asyncio.run(BuildKitImageBuilder().build_image(image.with_env_vars({'A': '1'})))\n"
        "except flyte.errors.ImageBuildError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    first, second = done.stdout.splitlines()

    assert "DockerImageBuilder" == first
    assert "it does not run on Windows" in second
    assert 1 == len(done.stderr.splitlines()), done.stderr


def test_the_command_line_on_windows(clean_environ: pytest.MonkeyPatch) -> None:
    """A sentence, and no traceback."""
    clean_environ.setitem(sys.modules, "fcntl", None)
    result = CliRunner().invoke(main, ["doctor"])

    assert 1 == result.exit_code
    assert "it does not run on Windows" in result.output


# --- the table is whole ---


def test_every_name_of_flytes_that_is_imported_is_looked_at() -> None:
    """What the package imports of Flyte, and what it takes from its modules, stands in the table."""
    used = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flyte":
                for alias in node.names:
                    if f"{node.module}.{alias.name}" in flyte_names.NEEDED:
                        aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    else:
                        used.add(f"{node.module}.{alias.name}")
            elif isinstance(node, ast.Import):
                aliases |= {alias.asname or alias.name: alias.name for alias in node.names if alias.name == "flyte"}
        used |= {
            f"{aliases[node.value.id]}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
        }
    known = {name for full in ALL for name in (full, full.rpartition(".")[0])} | set(flyte_names.NEEDED)

    assert set() == used - known


def test_a_builder_got_by_its_name_says_what_is_missing(clean_environ: pytest.MonkeyPatch) -> None:
    """Whoever gets it without activation, as by its entry point, is told the same when building."""
    import asyncio

    from flyte import Image

    take_away("flyte._image.PixiScript.script", clean_environ)
    image = Image.from_base("a").clone(name="b", registry="c.example", extendable=True).with_env_vars({"A": "1"})
    with pytest.raises(ImageBuildError, match=r"no `flyte\._image\.PixiScript\.script`"):
        asyncio.run(BuildKitImageBuilder().build_image(image))
