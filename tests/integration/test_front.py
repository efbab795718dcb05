"""The front door for Python on the real engine."""

from __future__ import annotations

import asyncio
import doctest
import functools
import http.server
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder import buildkit as bk
from buildkit_builder.errors import BaseImageError, CapabilityError, CredentialsError, SolveError, StepFailedError
from tests.conftest import REPOSITORY, Engine
from tests.integration.registry import manifest, pull
from tests.integration.servers import PASSWORD, USER, PrivateRegistry, auth

DEBIAN = "debian:bookworm-slim"
PYTHON = "python:3.11-slim-bookworm"


@pytest.fixture(autouse=True)
def _environment(user: Path) -> None:
    """The engine is found as Docker's, from an empty folder."""


def build(target: Any, **options: Any) -> bk.Result:
    """A build that shows nothing."""
    return bk.build(target, progress="quiet", **options)


def documented() -> Iterator[tuple[str, object]]:
    """Every public name with an example in its docstring, and every public method."""
    for name in bk.__all__:
        found = getattr(bk, name)
        yield name, found
        if inspect.isclass(found):
            yield from (
                (f"{name}.{called}", member) for called, member in inspect.getmembers(found, inspect.isfunction)
            )


EXAMPLES = {
    name: found for name, found in documented() if doctest.DocTestParser().get_examples(inspect.getdoc(found) or "")
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_docstring_runs(name: str) -> None:
    """And shows what it says."""
    example = doctest.DocTestParser().get_doctest(
        inspect.getdoc(EXAMPLES[name]) or "", {"bk": bk, "asyncio": asyncio}, name, None, 0
    )

    assert 0 == doctest.DocTestRunner().run(example).failed


README = (REPOSITORY / "buildkit_builder" / "buildkit" / "README.md").read_text(encoding="utf-8")
# What each example of the README leaves in its image, and what it prints.
LEFT = [("hello", b"sha256:"), ("app/a.pyc", b""), ("version", b""), ("app/installed", b""), ("", b"ii ")]


@pytest.mark.parametrize("number", range(len(LEFT)))
def test_the_example_of_the_readme_runs(engine: Engine, name: str, user: Path, number: int) -> None:
    """As it stands, but for the registry."""
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(LEFT) == len(examples)
    Path("a.py").write_text("print(1)")
    Path("Dockerfile").write_text(f"FROM {DEBIAN}\nARG VERSION\nRUN echo $VERSION > /version\n")
    Path("install.sh").write_text('read token; test "$token" = s3cret && touch installed')
    reference = f"{engine.registry}/{name}:1"

    done = subprocess.run(
        [sys.executable, "-c", examples[number].replace("registry.example/app:1", reference)],
        env={**os.environ, "TOKEN": "s3cret", "PYTHONPATH": str(REPOSITORY)}, cwd=user, capture_output=True,
        check=False,
    )  # fmt: skip
    left, printed = LEFT[number]

    assert 0 == done.returncode, done.stderr
    assert printed in done.stdout
    assert not left or left in pull(reference).tree()


def test_an_image_is_built_and_pushed(engine: Engine, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """With progress on stderr, and nothing on stdout."""
    reference = f"{engine.registry}/{name}:1"
    Path("hello.txt").write_text("hello")
    image = bk.image(DEBIAN).env(LANG="C.UTF-8").dir("/app").copy(bk.local("."), "/app").shell("cat hello.txt > out")

    result = bk.build(image, push=reference, progress="plain")
    pushed = pull(reference)

    assert manifest(f"{engine.registry}/{name}@{result.digest}") == manifest(reference)
    assert ("linux/amd64",) == result.platforms
    assert result.reference == reference
    assert 0 < result.seconds < 600
    assert b"hello" == pushed.tree()["app/out"].content
    assert b"hello" == result.read("/app/out")
    shown = capfd.readouterr()
    assert "cat hello.txt > out" in shown.err
    assert "" == shown.out


def test_the_config_of_the_base_is_kept(engine: Engine, name: str) -> None:
    """As after a Dockerfile's `FROM`; and commands run with it."""
    reference = f"{engine.registry}/{name}"
    base = (
        bk.image(DEBIAN).shell("useradd app").env(KEPT="yes").user("app").dir("/srv").cmd(["serve"]).label(made="here")
    )
    build(base, push=f"{reference}:base")

    result = build(
        bk.image(f"{reference}:base").shell('echo "$KEPT $(whoami) $(pwd)" > /tmp/seen'), push=f"{reference}:1"
    )
    config = pull(f"{reference}:1").config["config"]

    assert b"yes app /srv\n" == result.read("/tmp/seen")
    assert "KEPT=yes" in config["Env"]
    assert ("app", "/srv", ["serve"], {"made": "here"}) == tuple(
        config[key] for key in ("User", "WorkingDir", "Cmd", "Labels")
    )


def test_stages_copy_from_each_other() -> None:
    """Only what is copied is in the result."""
    builder = bk.image(PYTHON).write("/src/a.py", "print(1)").shell("python3 -m compileall -b -q /src")
    app = bk.image(DEBIAN).copy(builder, "/src/*.pyc", "/app/")

    result = build(app)

    assert ["a.pyc"] == [file.name for file in result.ls("/app")]
    with pytest.raises(SolveError, match="/src"):
        result.ls("/src")


def test_a_dockerfile_is_built_with_its_arguments_and_secrets() -> None:
    """By the frontend that is part of the daemon."""
    run = "RUN --mount=type=secret,id=token echo $WHO $(wc -c < /run/secrets/token) > /said"
    Path("Dockerfile").write_text(f"FROM {DEBIAN}\nARG WHO\n{run}\n")

    result = build(bk.dockerfile(".", build_args={"WHO": "world"}, secrets=[bk.secret("token", value="12345")]))

    assert b"world 5\n" == result.read("/said")


def test_a_secret_is_seen_by_its_command_alone(engine: Engine, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It is in no file, no config and no line of progress."""
    reference = f"{engine.registry}/{name}:1"
    token = bk.secret("token", value="s3cret-value")
    image = (
        bk.image(DEBIAN)
        .shell("cat /run/secrets/token; wc -c < /run/secrets/token > /size", mounts=[token])
        .shell('test "$TOKEN" = s3cret-value', name="compare", mounts=[token.as_env("TOKEN")])
        .shell("test ! -e /run/secrets/token && test -z $TOKEN")
    )

    result = bk.build(image, push=reference, progress="plain")

    assert b"12\n" == result.read("/size")
    assert "s3cret-value" not in capfd.readouterr().err
    assert "s3cret" not in str(pull(reference).config["config"])


def test_a_cache_mount_is_kept_between_builds(name: str) -> None:
    """And is no part of the result."""
    kept = bk.cache("/kept", id=name)

    build(bk.image(DEBIAN).shell("echo one > /kept/file", mounts=[kept], env={"ONCE": name}))
    result = build(bk.image(DEBIAN).shell("cp /kept/file /copied", mounts=[kept], env={"ONCE": name}))

    assert b"one\n" == result.read("/copied")
    assert "kept" not in [file.name for file in result.ls()]


def test_another_state_is_mounted_for_one_command() -> None:
    """Without becoming a part of the result."""
    tool = bk.scratch().write("/bin/tool", "#!/bin/sh\necho made", mode=0o755)

    result = build(bk.image(DEBIAN).shell("/mnt/tool/bin/tool > /said", mounts=[bk.bind("/mnt/tool", tool)]))

    assert b"made\n" == result.read("/said")


def test_a_file_of_a_web_server_is_copied(tmp_path: Path) -> None:
    """Under the name that it is copied to."""
    (tmp_path / "tool-1.2").write_text("#!/bin/sh\necho fetched")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tool = bk.http(f"http://127.0.0.1:{server.server_port}/tool-1.2", mode=0o755)
        result = build(bk.image(DEBIAN).copy(tool, "/usr/bin/tool").shell("tool > /said"))
        assert b"fetched\n" == result.read("/said")
        server.shutdown()


def test_an_agent_is_forwarded_to_its_command(tmp_path: Path) -> None:
    """By a socket that `SSH_AUTH_SOCK` names."""
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        image = bk.image(DEBIAN).shell('test -S "$SSH_AUTH_SOCK" && echo yes > /said', mounts=[bk.ssh(socket=path)])
        result = build(image)
        assert b"yes\n" == result.read("/said")


def test_results_go_to_a_directory_and_an_archive(tmp_path: Path) -> None:
    """Of the same build."""
    tree = bk.scratch().write("/a/b", "c")

    build(tree, directory=tmp_path / "files")
    build(tree, oci=tmp_path / "image.tar")

    assert "c" == (tmp_path / "files" / "a" / "b").read_text()
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert "index.json" in archive.getnames()


def test_an_image_is_loaded_into_the_engine(engine: Engine, name: str, docker: str) -> None:
    """Under its name."""
    if not engine.docker_host:
        with pytest.raises(CapabilityError, match="keeps no images"):
            build(bk.scratch().write("/x", "y"), load=f"{engine.registry}/{name}:loaded")
        return
    result = build(bk.image(DEBIAN).cmd(["echo", "hi"]), load=f"{engine.registry}/{name}:loaded")

    said = subprocess.run(
        [docker, "run", "--rm", "--network=none", str(result.reference)],
        env=dict(engine.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "hi\n" == said.stdout, said.stderr


def test_several_platforms_are_one_index(engine: Engine, name: str) -> None:
    """Each with the files of its own base."""
    reference = f"{engine.registry}/{name}:1"
    image = bk.image(PYTHON).write("/made", "here").label(a="b")

    result = build(image, push=reference, platform=["linux/amd64", "linux/arm64"])

    assert ("linux/amd64", "linux/arm64") == result.platforms
    assert b"here" == result.read("/made", platform="linux/arm64")
    with pytest.raises(ValueError, match="linux/s390x"):
        result.read("/made", platform="linux/s390x")


def test_a_foreign_platform_runs_its_own_commands(emulator: Engine) -> None:
    """Emulated, where the engine can."""
    result = build(bk.image(PYTHON).shell("uname -m > /machine"), platform="linux/arm64")

    assert (b"aarch64\n", ("linux/arm64",)) == (result.read("/machine"), result.platforms)


def test_files_of_the_result_are_listed_and_described() -> None:
    """In the words of `os.stat`."""
    result = build(bk.scratch().write("/bin/run", "four", mode=0o755).mkdir("/d/e").symlink("/bin/link", "run"))

    link, run = result.ls("/bin")
    assert ("link", True, "run") == (link.name, link.is_symlink, link.link)
    assert ("run", 0o100755, 4, 0) == (run.name, run.mode, run.size, run.uid)
    assert result.stat("/d/e").is_dir
    assert {"bin", "d"} == {file.name for file in result.ls()}


def test_a_failed_command_says_what_it_printed() -> None:
    """As an error of this package."""
    with pytest.raises(StepFailedError, match="no such tool") as failed:
        build(bk.image(DEBIAN).shell("echo no such tool; exit 7"))

    assert 7 == failed.value.exit_code
    assert "echo no such tool; exit 7" == failed.value.command


def test_a_missing_base_names_the_image(engine: Engine, name: str) -> None:
    """And is no step's failure."""
    with pytest.raises(BaseImageError, match=name):
        build(bk.image(f"{engine.registry}/{name}:none").run(["true"]))


def test_a_missing_file_of_the_result_is_an_error() -> None:
    """Which names the path."""
    with pytest.raises(SolveError, match="/nowhere"):
        build(bk.scratch().write("/a", "b")).read("/nowhere")


async def test_coroutines_build_side_by_side() -> None:
    """Each name that begins with `a` waits for nobody else."""
    one, two = await asyncio.gather(
        *(bk.abuild(bk.image(DEBIAN).shell(f"echo {word} > /word"), progress="quiet") for word in ("one", "two"))
    )

    assert [b"one\n", b"two\n"] == [await one.aread("/word"), await two.aread("/word")]
    assert (await one.astat("/word")).name in [file.name for file in await one.als("/")]


async def test_waiting_where_an_event_loop_runs_is_refused() -> None:
    """With the call to write instead."""
    result = await bk.abuild(bk.scratch().write("/a", "b"), progress="quiet")

    with pytest.raises(RuntimeError, match="aread"):
        result.read("/a")


def test_a_function_is_told_of_progress() -> None:
    """Without the values of secrets; what it raises is raised when the build is over."""
    told: list[bk.StatusUpdate] = []
    image = bk.image(DEBIAN).shell(
        f"echo {os.getpid()}; cat /run/secrets/a", mounts=[bk.secret("a", value="hush-hush")], cached=False
    )

    bk.build(image, progress=told.append)

    logged = b"".join(log.data for update in told for log in update.logs)
    assert b"***" in logged
    assert b"hush" not in logged

    def refuse(update: bk.StatusUpdate) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bk.build(image, progress=refuse)


def test_credentials_come_from_a_docker_config(
    private_server: PrivateRegistry, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual one, or the one that is named."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "usual"))
    reference = f"{private_server.address}/{name}:1"
    named = tmp_path / "named.json"
    named.write_text(json.dumps({"auths": {private_server.address: {"auth": auth(USER, PASSWORD)}}}))
    image = bk.scratch().write("/a", "b")

    with pytest.raises(CredentialsError, match=private_server.address):
        build(image, push=reference)
    result = build(image, push=reference, docker_config=named)

    assert b"b" == result.read("/a")


def test_the_endpoint_may_be_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of being found."""
    for variable in ("DOCKER_HOST", "BUILDKIT_HOST"):
        monkeypatch.delenv(variable, raising=False)

    assert b"b" == build(bk.scratch().write("/a", "b"), endpoint=engine.address).read("/a")
