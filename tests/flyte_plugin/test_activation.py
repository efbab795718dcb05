"""Which builder Flyte chooses, in this process and in fresh ones."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from flyte import Image
from flyte._internal.imagebuild import image_builder
from flyte._internal.imagebuild.docker_builder import DockerImageBuilder, PodmanImageBuilder
from flyte._internal.imagebuild.remote_builder import RemoteImageBuilder
from flyte.config import Config, _reader
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin import activation
from buildkit_builder.flyte_plugin import settings as flyte_settings
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder

with warnings.catch_warnings():
    # rich_click imports names of click that are going away; it is neither ours nor tested here.
    warnings.simplefilter("ignore", DeprecationWarning)
    from flyte.cli._common import CLIConfig

# Flyte's engine remembers builds, and a test has a loop of its own.
ANOTHER_LOOP = "ignore:alru_cache detected event loop change"
NOWHERE = "unix:///nonexistent/buildkitd.sock"


@pytest.fixture(autouse=True)
def _plain_flyte(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Flyte as if this package were not installed, and without any configuration; afterwards as it was."""
    clean_environ.chdir(tmp_path)
    clean_environ.setattr("flyte._initialize._init_config", None)
    was_active = hasattr(image_builder.ImageBuildEngine._get_builder, activation._MARK)
    remembered = list(flyte_settings._command_line)
    activation.deactivate()
    flyte_settings.remember_config(None)
    _reader.get_config_file.cache_clear()  # Flyte looks for a file once per process
    yield
    _reader.get_config_file.cache_clear()
    activation.deactivate()
    if was_active:
        activation.activate()
    flyte_settings._command_line[:] = remembered


@pytest.fixture
def active() -> None:
    """Flyte with this package activated."""
    activation.activate()


def write(path: Path, text: str) -> Path:
    """A new file."""
    path.write_text(text, encoding="utf-8")
    return path


def chosen(name: Any) -> type:
    """The class of the builder that Flyte takes for a name."""
    builder: object = image_builder.ImageBuildEngine._get_builder(name)
    return type(builder)


# --- the choice ---


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("local", BuildKitImageBuilder),
        (None, BuildKitImageBuilder),
        ("buildkit", BuildKitImageBuilder),
        ("docker", DockerImageBuilder),
        ("local-podman", PodmanImageBuilder),
        ("remote", RemoteImageBuilder),
    ],
)
def test_what_a_builders_name_means(active: None, name: str | None, builder: type) -> None:
    """`local`, which is what Flyte takes when nothing is said, is ours; `docker` is what it was before."""
    assert builder is chosen(name)


def test_a_builder_that_is_passed_as_an_object_is_used(active: None) -> None:
    """Flyte takes objects, too; they are left alone."""
    builder = DockerImageBuilder()

    assert builder is image_builder.ImageBuildEngine._get_builder(builder)


@pytest.mark.parametrize("value", ["false", "0", "no", "off"])
def test_a_variable_turns_it_off(active: None, clean_environ: pytest.MonkeyPatch, value: str) -> None:
    """`local` is Flyte's own then; whoever asks for `buildkit` by name still gets it."""
    clean_environ.setenv("FLYTE_BUILDKIT_ENABLED", value)

    assert DockerImageBuilder is chosen("local")
    assert DockerImageBuilder is chosen(None)
    assert BuildKitImageBuilder is chosen("buildkit")
    assert PodmanImageBuilder is chosen("local-podman")


def test_a_config_file_turns_it_off(active: None, tmp_path: Path, clean_environ: pytest.MonkeyPatch) -> None:
    """The file that Flyte finds by itself counts, and the one that the command line was given before it."""
    off = write(tmp_path / "off.yaml", "image: {buildkit: {enabled: false}}\n")
    on = write(tmp_path / "on.yaml", "image: {buildkit: {enabled: true}}\n")

    clean_environ.setenv("FLYTECTL_CONFIG", str(off))
    assert DockerImageBuilder is chosen("local")

    flyte_settings.remember_config(on)
    assert BuildKitImageBuilder is chosen("local")

    flyte_settings.remember_config(None)
    assert DockerImageBuilder is chosen("local")


def test_the_file_that_flyte_was_initialized_from_comes_first(
    active: None, tmp_path: Path, clean_environ: pytest.MonkeyPatch
) -> None:
    """Whatever the command line said, Flyte itself says in the end which file it read."""
    off = write(tmp_path / "off.yaml", "image: {buildkit: {enabled: false}}\n")
    clean_environ.setattr("flyte._initialize._init_config", SimpleNamespace(source_config_path=off))
    flyte_settings.remember_config(write(tmp_path / "on.yaml", "{}"))

    assert DockerImageBuilder is chosen("local")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("image: {buildkit: {endpiont: x}}", r"`image\.buildkit\.endpiont` is not a setting; did you mean"),
        ("image: {buildkit: {enabled: maybe}}", r"`image\.buildkit\.enabled` is"),
        ("image: {buildkit: [1]}", r"`image\.buildkit` is"),
    ],
)
def test_a_broken_config_is_one_error_that_names_the_key(active: None, tmp_path: Path, text: str, named: str) -> None:
    """It is of the class that Flyte's users know, and comes when a builder is chosen."""
    flyte_settings.remember_config(write(tmp_path / "c.yaml", text))
    with pytest.raises(ImageBuildError, match=named):
        chosen("local")


async def test_a_broken_config_is_an_error_of_the_builder_too(tmp_path: Path) -> None:
    """Whoever gets the builder by its own name learns of it when building."""
    flyte_settings.remember_config(write(tmp_path / "c.yaml", "image: {buildkit: {progress: loud}}"))
    with pytest.raises(ImageBuildError, match=r"`image\.buildkit\.progress` is"):
        await BuildKitImageBuilder().build_image(Image.from_base("debian").clone(name="mine"))


# --- coming and going ---


def test_activating_twice_is_activating_once() -> None:
    """Flyte may load plugins more than once; one step back is then still all the way back."""
    before = image_builder.ImageBuildEngine.__dict__["_get_builder"]
    activation.activate()
    once = image_builder.ImageBuildEngine.__dict__["_get_builder"]
    activation.activate()

    assert once is image_builder.ImageBuildEngine.__dict__["_get_builder"]
    activation.deactivate()
    assert before is image_builder.ImageBuildEngine.__dict__["_get_builder"]


def test_deactivating_puts_back_the_very_objects() -> None:
    """Nothing of ours stays behind in Flyte; without activation there is nothing to do."""
    names = image_builder.ImageBuildEngine.__dict__["_get_builder"], image_builder._builds_locally
    activation.deactivate()
    assert names == (image_builder.ImageBuildEngine.__dict__["_get_builder"], image_builder._builds_locally)

    activation.activate()
    assert names[0] is not image_builder.ImageBuildEngine.__dict__["_get_builder"]
    assert names[1] is not image_builder._builds_locally

    activation.deactivate()
    assert names[0] is image_builder.ImageBuildEngine.__dict__["_get_builder"]
    assert names[1] is image_builder._builds_locally
    assert DockerImageBuilder is chosen("local")


# --- the registry ---


@pytest.mark.parametrize(
    ("name", "locally"),
    [
        ("local", True),
        ("buildkit", True),
        ("docker", True),
        ("local-podman", True),
        ("remote", False),
        ("kaniko", False),
        (None, False),
    ],
)
def test_who_builds_on_this_machine(active: None, name: str | None, locally: bool) -> None:
    """These builders push from here, so Flyte gives their images a registry."""
    assert locally is image_builder._builds_locally(name)  # type: ignore[arg-type]


@pytest.mark.filterwarnings(ANOTHER_LOOP)
@pytest.mark.parametrize("name", ["local", "buildkit", "docker"])
async def test_an_image_without_a_registry_is_flytes_own_error(active: None, name: Any) -> None:
    """Flyte says how to name one, before anything is connected to."""
    image = Image.from_base("debian").clone(name=f"no-registry-{name}", extendable=True).with_env_vars({"A": "1"})
    with pytest.raises(ImageBuildError, match=r"no container registry is configured to push to"):
        await image_builder.ImageBuildEngine.build(image, builder=name, force=True)


@pytest.mark.filterwarnings(ANOTHER_LOOP)
async def test_a_registry_of_the_config_reaches_the_builder(active: None, clean_environ: pytest.MonkeyPatch) -> None:
    """An image that was made before there was a configuration gets the registry when it is built."""
    image = Image.from_base("debian").clone(name="late-registry", extendable=True).with_env_vars({"A": "1"})
    clean_environ.setenv("FLYTE_IMAGE_REGISTRY", "reg.example.com/team")
    built = await image_builder.ImageBuildEngine.build(image, dry_run=True)

    assert built.uri is not None
    assert built.uri.startswith("reg.example.com/team/late-registry:")


# --- the command line ---


def invoked(
    tmp_path: Path, *, config: str = "{}", builder: str | None = None, from_config: str | None = None
) -> CLIConfig:
    """What a command of Flyte's finds in its context, after the hook."""
    seen: list[CLIConfig] = []

    @click.command()
    @click.pass_obj
    def command(found: CLIConfig) -> None:
        seen.append(found)

    source = write(tmp_path / "given.yaml", config)
    parsed = Config(source=source)
    given = CLIConfig(config=parsed.with_params(image=parsed.image), ctx=None, image_builder=builder)  # type: ignore[arg-type]
    if from_config is not None:
        object.__setattr__(given.config, "image", type(parsed.image)(builder=from_config))
    result = CliRunner().invoke(activation.hook(command), obj=given, catch_exceptions=False)
    assert 0 == result.exit_code
    [found] = seen
    return found


def test_the_hook_remembers_the_config_file(tmp_path: Path) -> None:
    """Flyte gives its own initialization a parsed config, so the path would be lost."""
    invoked(tmp_path, config=f"image: {{buildkit: {{endpoint: '{NOWHERE}'}}}}")

    assert NOWHERE == flyte_settings.load().endpoint


@pytest.mark.parametrize(
    ("options", "quiet"),
    [
        ({}, True),
        ({"builder": "local"}, True),
        ({"builder": "buildkit"}, True),
        ({"from_config": "buildkit"}, True),
        ({"builder": "remote"}, False),
        ({"builder": "docker"}, False),
        ({"from_config": "remote"}, False),
        ({"from_config": "local-podman"}, False),
        ({"builder": "local", "from_config": "remote"}, True),
        ({"config": "image: {buildkit: {enabled: false}}"}, False),
        ({"config": "image: {buildkit: {enabled: false}}", "builder": "buildkit"}, True),
        ({"config": "image: {buildkit: {enabled: maybe}}"}, True),
    ],
)
def test_flytes_spinner_gives_way_only_to_our_view(tmp_path: Path, options: dict[str, str], quiet: bool) -> None:
    """Two of them on one terminal would write over each other; where we do not build, it stays."""
    assert quiet is invoked(tmp_path, **options).no_progress


def test_the_hook_works_without_a_context() -> None:
    """A command that is called by itself, as tests of Flyte's do, has no configuration to look at."""
    result = CliRunner().invoke(activation.hook(click.Command("x", callback=lambda: click.echo("ran"))))

    assert (0, "ran\n") == (result.exit_code, result.output)


# --- fresh processes ---

HELLO = """\
import flyte

image = flyte.Image.from_base("debian:12").clone(name="hello", registry="localhost:1/team", extendable=True)
env = flyte.TaskEnvironment("hello", image=image.with_env_vars({"A": "1"}))


@env.task
async def hello() -> str:
    return "hello"
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program where the only `docker` command is one that knows nothing."""
    docker = write(cwd / "docker", "#!/bin/sh\necho not found >&2\nexit 1\n")
    docker.chmod(0o755)
    environ = {**os.environ, "PATH": str(cwd), "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=120)


def flyte_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs Flyte's command line."""
    return run(sys.executable, "-c", "from flyte.cli.main import main; main()", *arguments, cwd=cwd)


def test_the_help_of_the_commands_that_build_is_there(tmp_path: Path) -> None:
    """The hook changes nothing but what happens when they run."""
    for command in ("build", "run", "deploy"):
        done = flyte_cli(command, "--help", cwd=tmp_path)
        assert 0 == done.returncode, done.stderr
        assert f"flyte {command} " in done.stdout


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (f"buildkit: {{endpoint: '{NOWHERE}'}}", "/nonexistent/buildkitd.sock"),
        ("buildkit: {enabled: false}", "Docker buildx is not available"),
        ("buildkit: {endpiont: x}", "`image.buildkit.endpiont` is not a setting"),
        ("builder: docker", "Docker buildx is not available"),
        (f"builder: buildkit, buildkit: {{endpoint: '{NOWHERE}'}}", "/nonexistent/buildkitd.sock"),
    ],
)
def test_flyte_build_goes_by_the_config_it_was_given(tmp_path: Path, section: str, said: str) -> None:
    """In a process of its own, `flyte -c FILE build` ends where the file leads, with an error and no traceback."""
    write(tmp_path / "hello.py", HELLO)
    write(tmp_path / "other.yaml", f"image: {{{section}}}\n")
    done = flyte_cli("-c", "other.yaml", "build", "--all", "hello.py", cwd=tmp_path)
    output = " ".join((done.stdout + done.stderr).replace("│", " ").split())

    assert 0 != done.returncode, output
    assert said in output
    assert "Traceback" not in output


def test_initializing_flyte_activates(tmp_path: Path) -> None:
    """Flyte calls the entry point by itself; its own files and the import alone change nothing."""
    write(tmp_path / "off.yaml", "image: {buildkit: {enabled: false}}\n")
    script = (
        "import flyte\n"
        "from flyte._internal.imagebuild.image_builder import ImageBuildEngine as engine\n"
        "print(type(engine._get_builder('local')).__name__)\n"
        "flyte.init()\n"
        "print(type(engine._get_builder('local')).__name__)\n"
        "flyte.init_from_config('off.yaml')\n"
        "print(type(engine._get_builder('local')).__name__)\n"
    )
    done = run(sys.executable, "-c", script, cwd=tmp_path)

    assert ["DockerImageBuilder", "BuildKitImageBuilder", "DockerImageBuilder"] == done.stdout.split(), done.stderr


def test_activating_loads_nothing_of_flytes_builders() -> None:
    """Until Flyte builds, activating has cost nothing; when it does, `local` means this package."""
    script = (
        "import sys, flyte\n"
        "from buildkit_builder.flyte_plugin import activation\n"
        "before = set(sys.modules)\n"
        "activation.activate()\n"
        "print(sorted(set(sys.modules) - before))\n"
        "from flyte.extend import ImageBuildEngine\n"
        "print(type(ImageBuildEngine._get_builder('local')).__name__)\n"
    )

    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert "[]\nBuildKitImageBuilder\n" == said


CHILDREN = """\
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

import flyte


def builder(_: object = None) -> str:
    from flyte.extend import ImageBuildEngine

    return type(ImageBuildEngine._get_builder("local")).__name__


def child(connection) -> None:
    connection.send(builder())


def grandchild(connection) -> None:
    process = multiprocessing.get_context("spawn").Process(target=child, args=(connection,))
    process.start()
    process.join()


if __name__ == "__main__":
    BEGIN
    for method in ("spawn", "forkserver", "fork"):
        context = multiprocessing.get_context(method)
        for target in (child, grandchild):
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(theirs,))
            process.start()
            print(ours.recv())
            process.join()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(*pool.map(builder, [1]))
"""


@pytest.mark.parametrize(
    "begin",
    ["import buildkit_builder; buildkit_builder.activate()", "flyte.init()", "flyte.init_from_config('on.yaml')"],
)
def test_children_build_as_their_parent_does(tmp_path: Path, begin: str) -> None:
    """A process that `multiprocessing` starts has a Flyte of its own, which nobody initializes there."""
    write(tmp_path / "on.yaml", "image: {buildkit: {enabled: true}}\n")
    write(tmp_path / "app.py", CHILDREN.replace("BEGIN", begin))
    done = run(sys.executable, "app.py", cwd=tmp_path)

    assert ["BuildKitImageBuilder"] * 7 == done.stdout.split(), done.stderr


def test_children_are_flytes_own_where_this_package_is_not_wanted(tmp_path: Path) -> None:
    """The variable that turns it off is theirs, too."""
    write(
        tmp_path / "app.py",
        CHILDREN.replace("BEGIN", "import os; os.environ['FLYTE_BUILDKIT_ENABLED'] = '0'; flyte.init()"),
    )
    done = run(sys.executable, "app.py", cwd=tmp_path)

    assert ["DockerImageBuilder"] * 7 == done.stdout.split(), done.stderr


def test_a_process_that_initializes_nothing(tmp_path: Path) -> None:
    """One documented call makes its builds ours; it reads the configuration that Flyte finds by itself."""
    write(tmp_path / "config.yaml", f"image: {{registry: localhost:1/team, buildkit: {{endpoint: '{NOWHERE}'}}}}\n")
    script = (
        "import flyte, buildkit_builder\n"
        "buildkit_builder.activate()\n"
        "image = flyte.Image.from_base('debian:12').clone(name='x', registry='localhost:1/team', extendable=True)\n"
        "try: flyte.build(image.with_env_vars({'A': '1'}))\n"
        "except flyte.errors.ImageBuildError as error: print(error)\n"
    )
    done = run(sys.executable, "-c", script, cwd=tmp_path)

    assert "/nonexistent/buildkitd.sock" in done.stdout, done.stderr


def test_a_builder_that_nobody_has(active: None) -> None:
    """Those that there are, are listed once each."""
    known = "`buildkit`, `docker`, `local`, `local-podman`, `remote`"
    with pytest.raises(
        ImageBuildError, match=f"There is no image builder `loca`. Set `image.builder` to one of {known}"
    ):
        chosen("loca")


def test_flytes_own_is_asked_as_it_was(active: None) -> None:
    """Flyte remembers what it was told of an image, and can be asked to forget."""
    assert callable(image_builder.ImageBuildEngine.image_exists.cache_clear)
    image_builder.ImageBuildEngine.image_exists.cache_clear()


@pytest.mark.parametrize("error", [OSError, RuntimeError, UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), SystemError])
def test_the_hook_keeps_no_command_from_running(clean_environ: pytest.MonkeyPatch, error: Any) -> None:
    """Whatever goes wrong in it."""

    def fail(*_: object) -> None:
        raise error

    clean_environ.setattr(flyte_settings, "remember_config", fail)
    result = CliRunner().invoke(activation.hook(click.Command("x", callback=lambda: click.echo("ran"))))

    assert (0, "ran\n") == (result.exit_code, result.output)
