"""Flyte's front door: what it prints, what it refuses, and what it leaves to a process of its own."""

from __future__ import annotations

import asyncio
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flyte import Image, ImageBuild, Secret
from flyte.errors import ImageBuildError
from flyte.extend import ImageBuilder
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.session.registries import is_insecure
from buildkit_builder.config import Settings
from buildkit_builder.config.buildx import BuildxSettings, ExtraArguments, SecretArgument
from buildkit_builder.errors import EndpointError, ImageError, MissingSecretError
from buildkit_builder.flyte_plugin import background, image_build
from buildkit_builder.flyte_plugin import settings as flyte_settings
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker
from buildkit_builder.image.spec import DockerfileSpec, SecretRef

REPOSITORY = Path(__file__).resolve().parents[2]
NOWHERE = "unix:///nonexistent/buildkitd.sock"


@pytest.fixture(autouse=True)
def _nowhere(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An endpoint that fails as soon as somebody tries it, and no other configuration."""
    clean_environ.chdir(tmp_path)
    clean_environ.setattr("flyte._initialize._init_config", None)
    clean_environ.setenv("FLYTE_BUILDKIT_ENDPOINT", NOWHERE)
    config = tmp_path / "config.yaml"
    config.write_text("{}", encoding="utf-8")
    remembered = list(flyte_settings._command_line)
    flyte_settings.remember_config(config)
    yield
    flyte_settings._command_line[:] = remembered


@pytest.fixture
def builder() -> BuildKitImageBuilder:
    """The builder, as Flyte makes it."""
    return BuildKitImageBuilder()


def image(**options: Any) -> Image:
    """An image with a command that may have secrets."""
    base = Image.from_base("debian:12").clone(name="mine", registry="reg.example.com/team", extendable=True)
    return base.with_commands(["echo one", "echo two"], **options)


# --- what Flyte asks of a builder ---


def test_it_is_a_builder_of_flytes(builder: BuildKitImageBuilder) -> None:
    """Flyte's protocol is met, and the registry itself is the only one who is asked for an image."""
    given: ImageBuilder = builder

    assert [BuildKitImageChecker] == given.get_checkers()
    assert "buildkit" == builder.builder_type


async def test_a_dry_run_prints_the_plan_and_connects_to_nothing(
    builder: BuildKitImageBuilder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Name, platforms, base, and every step with its command; no secret has to be there for it."""
    planned = image(secret_mounts=["NO_SUCH_SECRET"]).with_pip_packages("numpy<3").with_workdir("/app")
    built = await builder.build_image(planned, dry_run=True)
    lines = capsys.readouterr().out.splitlines()

    assert planned.uri == built.uri
    assert f"{planned.uri} for linux/amd64" == lines[0]
    assert "  base debian:12" == lines[1]
    assert [
        "  with_commands echo one",
        "      echo one",
        "  with_commands echo two",
        "      echo two",
        "  with_pip_packages numpy<3",
        "      uv pip install --python $UV_PYTHON 'numpy<3'",
        "  with_workdir /app",
        "Dry run: nothing was built.",
    ] == lines[-8:]


async def test_a_dry_run_of_a_dockerfile_names_it(
    builder: BuildKitImageBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is in it is the daemon's business."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    planned = Image.from_dockerfile(tmp_path / "Dockerfile", registry="reg.example.com/team", name="mine")
    built = await builder.build_image(planned, dry_run=True)

    assert planned.uri == built.uri
    assert [
        f"{planned.uri} for linux/amd64",
        f"  Dockerfile {tmp_path / 'Dockerfile'}",
        "Dry run: nothing was built.",
    ] == capsys.readouterr().out.splitlines()


async def test_a_daemon_that_is_not_there_is_an_error_of_flytes(builder: BuildKitImageBuilder) -> None:
    """The address and ours as its cause; Flyte shows it without a traceback."""
    with pytest.raises(ImageBuildError, match=r"/nonexistent/buildkitd\.sock") as caught:
        await builder.build_image(image())

    assert isinstance(caught.value.__cause__, EndpointError)


@pytest.mark.parametrize("options", [{}, {"wait": False}, {"dry_run": True}, {"force": True}])
async def test_what_is_wrong_with_an_image_is_said_before_connecting(
    builder: BuildKitImageBuilder, options: dict[str, bool]
) -> None:
    """However it is to be built."""
    with pytest.raises(ImageBuildError, match=r"with_env_vars: `A B` cannot be") as caught:
        await builder.build_image(image().with_env_vars({"A B": "1"}), **options)

    assert isinstance(caught.value.__cause__, ImageError)


@pytest.mark.parametrize("options", [{}, {"wait": False}])
async def test_a_missing_secret_is_said_before_connecting(
    builder: BuildKitImageBuilder, options: dict[str, bool], tmp_path: Path
) -> None:
    """Both places where it was looked for are named, and no process is started for nothing."""
    secret = Secret("no-such-key", group="team")
    with pytest.raises(
        ImageBuildError,
        match=r"`team/no-such-key` has no value: set the variable TEAM_NO-SUCH-KEY, .* /etc/secrets/team_no-such-key",
    ) as caught:
        await builder.build_image(image(secret_mounts=secret), **options)

    assert isinstance(caught.value.__cause__, MissingSecretError)
    assert not (tmp_path / "home" / ".local").exists()


async def test_a_missing_file_of_an_extra_secret_is_said_before_connecting(tmp_path: Path) -> None:
    """The variable that asks for it is named."""
    extra = ExtraArguments(secrets=(SecretArgument(id="npm", source=tmp_path / "gone"),))
    settings = Settings(endpoint=NOWHERE, buildx=BuildxSettings(extra=extra))
    spec = DockerfileSpec(reference="r/x:1", push=True, dockerfile=tmp_path / "Dockerfile", platforms=("linux/amd64",))
    with pytest.raises(MissingSecretError, match=r"`npm` of FLYTE_DOCKER_BUILD_EXTRA_ARGS.*gone"):
        await image_build.build(spec, settings)


async def test_narrowed_platforms_are_obeyed(
    builder: BuildKitImageBuilder, clean_environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The setting reaches the plan."""
    clean_environ.setenv("FLYTE_BUILDKIT_PLATFORMS", "linux/arm64")
    clean_environ.setenv("FLYTE_BUILDKIT_UV_IMAGE", "mirror.example.com/uv:9")
    both = image().clone(platform=("linux/amd64", "linux/arm64"), extendable=True)
    await builder.build_image(both.with_pip_packages("x"), dry_run=True)

    assert capsys.readouterr().out.splitlines()[0].endswith(" for linux/arm64")


# --- is it there already? ---


async def test_a_registry_that_cannot_be_asked_is_no_reason_not_to_build(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not to be able to tell is not to know that it exists: the image counts as missing, and why is said."""
    assert await BuildKitImageChecker.image_exists("reg.example.com/team/mine", "1") is None
    captured = capfd.readouterr()

    assert "Could not look up reg.example.com/team/mine:1" in captured.out + captured.err
    assert "/nonexistent/buildkitd.sock" in captured.out + captured.err


async def test_a_name_without_a_registry_is_not_looked_up(capfd: pytest.CaptureFixture[str]) -> None:
    """Only the engine could have it, and there building again costs nothing."""
    assert await BuildKitImageChecker.image_exists("mine", "1") is None
    assert "" == "".join(capfd.readouterr())


# --- secrets ---


def secret(path: Path) -> SecretRef:
    """A secret that is looked up in `KEY` and in a file of this test."""
    return SecretRef(id="flyte/KEY", variable="KEY", source_variable="KEY", source_file=str(path))


def test_a_secret_is_looked_up_in_the_environment_first(tmp_path: Path) -> None:
    """Then in the file, which a variable without a value does not hide; bytes are taken as they are."""
    file = tmp_path / "KEY"
    file.write_bytes(b"\xffof the file\n")

    assert {"flyte/KEY": b"of the variable "} == image_build.secret_values(
        (secret(file),), {"KEY": "of the variable ", "key": "x"}
    )
    assert {"flyte/KEY": b"\xffof the file\n"} == image_build.secret_values((secret(file),), {"KEY": ""})
    assert {"flyte/KEY": b"\xffof the file\n"} == image_build.secret_values((secret(file),), {})
    assert {"flyte/KEY": b"\xff"} == image_build.secret_values((secret(file),), {"KEY": os.fsdecode(b"\xff")})


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_secret_without_a_value_is_an_error(tmp_path: Path, kind: str) -> None:
    """A folder of the right name is no value."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingSecretError, match=r"`KEY` has no value"):
        image_build.secret_values((secret(tmp_path / kind),), {})


def test_values_of_secrets_are_taken_out_of_texts() -> None:
    """The longest first, so that nothing of one is left where another is a part of it; blanks around do not count."""
    redact = image_build.redactor([b" hunter2\n", b"hunter2-and-more", b"", b" \n", b"\xff\xfe"])

    assert "*** and *** or ***!" == redact("hunter2-and-more and hunter2 or \ufffd\ufffd!")
    assert "nothing here" == redact("nothing here")


def test_a_secret_of_several_lines_is_taken_out_line_by_line() -> None:
    """Logs come by lines; a line as short as a brace stays, since it tells nothing."""
    key = "-----BEGIN KEY-----\n  c2VjcmV0LWtleQ==\n}\n"
    redact = image_build.redactor([key.encode()])

    assert "got c2V: ***" == redact("got c2V: c2VjcmV0LWtleQ==")
    assert "}" == redact("}")
    assert "***" == redact(key.strip())


@given(st.lists(st.text(alphabet="abc", min_size=1), min_size=1))
def test_no_value_survives_redaction(values: list[str]) -> None:
    """Whatever parts the values have in common."""
    redact = image_build.redactor([value.encode() for value in values])

    text = redact("-".join([*values, "".join(values)]))
    assert [] == [value for value in values if value in text]


# --- registries ---


@pytest.mark.parametrize(
    ("registry", "declared", "insecure"),
    [
        ("localhost:30000", (), True),
        ("localhost", (), True),
        ("127.0.0.1:5000", (), True),
        ("127.8.8.8", (), True),
        ("[::1]:5000", (), True),
        ("[::1]", (), True),
        ("127.example.com", (), False),
        ("127.0.0.1.example.com:5000", (), False),
        ("localhost.example.com", (), False),
        ("mylocalhost", (), False),
        ("10.0.0.1:5000", (), False),
        ("[fe80::1]:5000", (), False),
        ("docker.io", (), False),
        ("reg.example.com:5000", ("reg.example.com:5000",), True),
        ("reg.example.com:5000", ("reg.example.com",), True),
        ("reg.example.com:5000", ("reg.example.com:5001",), False),
        ("reg.example.com", ("reg.example.com:5000",), False),
        ("[fe80::1]:5000", ("[fe80::1]:5000",), True),
        ("[fe80::1]:5000", ("[fe80::1]",), True),
    ],
)
def test_which_registries_are_spoken_to_without_tls(registry: str, declared: tuple[str, ...], insecure: bool) -> None:
    """Those of this machine's loopback, by address and not by look, and those that are declared."""
    assert insecure is is_insecure(registry, declared)


# --- without waiting ---


@pytest.fixture
def started(clean_environ: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that are started, which have ended when the test has."""
    processes: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = real(*arguments, **options)
        processes.append(process)
        return process

    clean_environ.setattr("subprocess.Popen", start)
    clean_environ.setenv("PYTHONPATH", str(REPOSITORY))
    yield processes
    for process in processes:
        process.kill()
        process.wait()


async def test_a_build_that_nobody_waits_for(
    builder: BuildKitImageBuilder,
    started: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    clean_environ: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The log is named; the process takes its order away, says in one sentence what failed, and ends with 1."""
    clean_environ.setenv("KEY", "hunter2-hunter2")
    wanted = image(secret_mounts=["KEY"])
    built = await builder.build_image(wanted, wait=False)
    [process] = started
    said = "".join(capfd.readouterr())
    code = await asyncio.to_thread(process.wait, 60)
    folder = tmp_path / "home" / ".local" / "state" / "buildkit-builder" / "logs"
    [log] = folder.iterdir()

    assert ImageBuild(uri=wanted.uri, remote_run=None) == built
    assert str(log) in said.replace("\n", "")
    assert 1 == code
    assert ".log" == log.suffix
    [line] = log.read_text(encoding="utf-8").splitlines()
    assert line.startswith(f"Building {wanted.uri} failed: ")
    assert "/nonexistent/buildkitd.sock" in line
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)


async def test_an_order_holds_no_secret_and_is_for_its_user_alone(
    builder: BuildKitImageBuilder, tmp_path: Path, clean_environ: pytest.MonkeyPatch
) -> None:
    """The process finds secrets in the environment that it inherits."""
    orders: list[Path] = []
    clean_environ.setattr("subprocess.Popen", lambda command, **_: orders.append(Path(command[-1])))
    clean_environ.setenv("KEY", "hunter2-hunter2")
    await builder.build_image(image(secret_mounts=["KEY"]), wait=False)
    [order] = orders
    spec, settings = pickle.loads(order.read_bytes())

    assert 0o600 == stat.S_IMODE(order.stat().st_mode)
    assert b"hunter2" not in order.read_bytes()
    assert image(secret_mounts=["KEY"]).uri == spec.reference
    assert NOWHERE == settings.endpoint


def test_an_order_is_gone_even_if_it_cannot_be_read(tmp_path: Path) -> None:
    """What is left of a broken order helps nobody."""
    order = tmp_path / "x.order"
    order.write_bytes(b"not a pickle")
    with pytest.raises(pickle.UnpicklingError):
        background.main(order)

    assert not order.exists()


def test_the_state_folder_of_the_user_is_obeyed(tmp_path: Path, clean_environ: pytest.MonkeyPatch) -> None:
    """By the XDG rules."""
    clean_environ.setattr("subprocess.Popen", lambda *_, **__: None)
    clean_environ.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spec = DockerfileSpec(reference="r/x:1", push=True, dockerfile=tmp_path / "Dockerfile", platforms=("linux/amd64",))
    log = background.start(spec, Settings())

    assert tmp_path / "state" / "buildkit-builder" / "logs" == log.parent


def test_the_process_is_python_itself(tmp_path: Path, clean_environ: pytest.MonkeyPatch) -> None:
    """The interpreter that Flyte runs in, in a session of its own, so that Ctrl-C does not reach it."""
    calls: list[tuple[list[str], dict[str, Any]]] = []
    clean_environ.setattr("subprocess.Popen", lambda command, **options: calls.append((command, options)))
    spec = DockerfileSpec(reference="r/x:1", push=True, dockerfile=tmp_path / "Dockerfile", platforms=("linux/amd64",))
    background.start(spec, Settings())
    [(command, options)] = calls

    assert [sys.executable, "-I", "-c"] == command[:3]
    assert options["start_new_session"]
