"""Images on engines of all ages: what is in them."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

import pytest
from flyte import Image, Secret

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker
from tests.conftest import Engine
from tests.daemons.conftest import Command, build, refused
from tests.daemons.lanes import Lane
from tests.daemons.packages import APT, APT_FILE, PIP, PIP_ARGS, PIP_FILE
from tests.integration.command import write_project
from tests.integration.registry import PulledImage, digest_of, tags

SECRETS = "/etc/flyte/secrets"


def packaged(base: Image, folder: Path) -> Image:
    """The main job: packages of both kinds, sources, a variable and a command."""
    (folder / "src").mkdir(exist_ok=True)
    (folder / "src" / "main.py").write_text("x = 1\n")
    (folder / "one.py").write_text("y = 1\n")
    image = base.with_apt_packages(APT).with_pip_packages(PIP, extra_args=PIP_ARGS)
    image = image.with_source_folder(folder / "src", dst="/app/src").with_source_file(folder / "one.py", dst="/app/")
    return image.with_env_vars({"WHO": "me"}).with_commands([f"{APT} > /said && cat /app/src/main.py >> /said"])


def check_packaged(pulled: PulledImage) -> None:
    tree = pulled.tree()
    assert 0o755 == tree[APT_FILE].mode
    assert b"VERSION = '1.0'" in tree[PIP_FILE].content
    assert b"x = 1\n" == tree["app/src/main.py"].content
    assert b"y = 1\n" == tree["app/one.py"].content
    assert b"tool\nx = 1\n" == tree["said"].content
    assert "me" == pulled.env["WHO"]


def contents(pulled: PulledImage) -> dict[str, object]:
    """What a container would see; of files that name times, as logs do, only that they are there."""
    dated = ("var/log/", "var/cache/ldconfig/", "var/lib/dpkg/")
    return {path: path.startswith(dated) or path.endswith(".pyc") or entry for path, entry in pulled.tree().items()}


def run_image(image: str, *words: str) -> str:
    """What a command says in a container of an image, on the user's engine, which then forgets the image."""
    ran = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", image, *words], check=True, capture_output=True, text=True
    )
    subprocess.run(["docker", "rmi", "--force", image], check=True, capture_output=True)
    return ran.stdout.strip()


def test_the_engine_is_the_one_meant(engine: Engine, docker: str, lane: Lane) -> None:
    """The suite is not run against another engine by mistake."""
    asked = ["version", "--format", "{{.Server.Version}}"], ["info", "--format", "{{.DriverStatus}}"]
    version, driver = (
        subprocess.run([docker, *words], check=True, env=dict(engine.environ), capture_output=True, text=True).stdout
        for words in asked
    )

    assert version.startswith(lane.engine)
    assert lane.store == ("io.containerd.snapshotter" in driver)


async def test_the_main_job(base: Image, user: Path) -> None:
    """Packages of apt and of an index, a folder, a file, a variable and a command are all in the image."""
    check_packaged(await build(packaged(base, user)))


async def test_one_after_another(base: Image, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `parallel: false` it is the same image, file by file, as with what the engine can do side by side."""
    image = packaged(base, user)
    side_by_side = await build(image)
    monkeypatch.setenv("FLYTE_BUILDKIT_PARALLEL", "false")

    in_order = await build(image.with_env_vars({"AGAIN": "1"}))

    assert contents(side_by_side) == contents(in_order)


def test_the_command_line(engine: Engine, furnished: str, name: str, user: Path, command: Command) -> None:
    """`flyte build` builds and pushes an image, and running it on that engine finds what it should."""
    (user / "one.py").write_text("y = 1\n")
    write_project(
        user,
        image=f"flyte.Image.from_base('{furnished}').clone(name='{name}', registry='{engine.registry}',"
        f" extendable=True, python_version=(3, 11)).with_pip_packages('{PIP}', extra_args='{PIP_ARGS}')"
        ".with_source_file(Path('one.py').absolute(), dst='/app/')",
        rest="print('URI', image.uri)\n",
    )

    ended = command("flyte", "-c", "config.yaml", "build", "app.py", "env")

    assert 0 == ended.code, ended.output
    [uri] = [line.split()[1] for line in ended.output.splitlines() if line.startswith("URI ")]
    script = "import bkb_wheel; print(bkb_wheel.VERSION, open('/app/one.py').read())"
    assert "1.0 y = 1" == run_image(uri, "python", "-c", script)


async def test_a_changed_file_arrives(base: Image, user: Path) -> None:
    """A file that has changed, and is as long as before, is in the next image, and so is one that was added."""
    (user / "src").mkdir()
    changed = user / "src" / "main.py"
    changed.write_text("x = 1\n")
    image = base.with_source_folder(user / "src", dst="/app")
    first = await build(image)
    changed.write_text("x = 2\n")
    (user / "src" / "added.py").write_text("")

    second = await build(image.with_env_vars({"AGAIN": "1"}))

    assert b"x = 1\n" == first.tree()["app/main.py"].content
    assert b"x = 2\n" == second.tree()["app/main.py"].content
    assert "app/added.py" in second.tree()


async def test_what_is_ignored_stays_where_it_is(base: Image, user: Path) -> None:
    """Of a folder, files arrive with their modes, links as what they lead to, and nothing that is ignored."""
    (user / "src").mkdir()
    (user / ".dockerignore").write_text("**/*.log\n")
    (user / "src" / "run.sh").write_text("#!/bin/sh\n")
    (user / "src" / "run.sh").chmod(0o750)
    (user / "src" / "big.log").write_text("log")
    os.symlink("run.sh", user / "src" / "link")
    image = base.with_dockerignore(user / ".dockerignore").with_source_folder(user / "src", dst="/app")

    tree = (await build(image)).tree("app/")

    assert {"app/run.sh": 0o750, "app/link": 0o750} == {path: entry.mode for path, entry in tree.items()}
    assert b"#!/bin/sh\n" == tree["app/link"].content


async def test_unchanged_it_is_the_same_image(base: Image, user: Path, name: str) -> None:
    """Built again by force, no step runs again; what was pushed is found to be there, and what was not is not."""
    step = f"cat /proc/sys/kernel/random/uuid > /made; : {name}"
    image = base.with_commands([step]).with_env_vars({"A": "1"})
    first = await build(image)
    digest = digest_of(first.reference)

    second = await build(image)

    assert first.tree()["made"].content == second.tree()["made"].content
    assert digest == digest_of(second.reference)
    repository, _, tag = first.reference.rpartition(":")
    assert first.reference == await BuildKitImageChecker.image_exists(repository, tag)
    assert await BuildKitImageChecker.image_exists(repository, "never") is None


async def test_a_dockerfile(engine: Engine, furnished: str, user: Path, name: str) -> None:
    """A Dockerfile of several stages is built with its own context."""
    (user / "a.txt").write_text("a")
    (user / "Dockerfile").write_text(
        f"FROM {furnished} AS made\nCOPY a.txt /\nRUN cat a.txt a.txt > /twice\n"
        f"FROM {furnished}\nARG WHO=you\nCOPY --from=made /twice /twice\nENV WHO=$WHO\n"
    )

    pulled = await build(Image.from_dockerfile(user / "Dockerfile", registry=engine.registry, name=name))

    assert b"aa" == pulled.tree()["twice"].content
    assert "you" == pulled.env["WHO"]


async def test_lines_of_a_dockerfile(base: Image, lane: Lane, capfd: pytest.CaptureFixture[str]) -> None:
    """A command in the syntax of a Dockerfile's `RUN` is a step between the others."""
    image = base.with_commands(["echo 1 > /one"])
    image = image.with_commands(["--mount=type=tmpfs,target=/scratch cp /one /scratch/ && cat /scratch/one > /two"])
    image = image.with_commands(["cat /one /two > /three"])

    if not lane.inputs:
        assert "lines of a Dockerfile" in await refused(image, capfd)
        return
    tree = (await build(image)).tree()

    assert b"1\n1\n" == tree["three"].content
    assert "scratch/one" not in tree


@pytest.mark.parametrize("kind", ["file", "variable"])
async def test_a_secret_is_not_in_the_image(
    base: Image, lane: Lane, kind: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has a secret as a file or as a variable; image, config and progress have not."""
    value = f"{kind}-{base.name}"
    monkeypatch.setenv("KEY", value)
    secret, read = (Secret("KEY", mount=Path(SECRETS)), f"$(cat {SECRETS})") if kind == "file" else ("KEY", "$KEY")
    step = f"echo {read}; echo {read} | wc -c > /length; : {uuid.uuid4()}"
    image = base.with_commands([step], secret_mounts=[secret])

    if kind == "variable" and not lane.secret_variables:
        assert "a secret to a command as a variable" in await refused(image, capfd)
        return
    pulled = await build(image)

    assert str(len(value) + 1) == pulled.tree()["length"].content.decode().strip()
    shown = "".join(capfd.readouterr())
    assert "***" in shown
    assert value not in shown
    assert value not in f"{pulled.config}{pulled.manifest}"
    assert not [path for path, entry in pulled.tree().items() if value.encode() in entry.content]


async def test_certificates_are_not_in_the_image(
    base: Image, user: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps trust the bundle that the settings name; the image has nothing of it."""
    (user / "ca.pem").write_text(f"# {name}\n")
    monkeypatch.setenv("FLYTE_BUILDKIT_CA_BUNDLE", str(user / "ca.pem"))

    pulled = await build(base.with_commands([f'grep -c {name} "$SSL_CERT_FILE" > /found']))

    assert b"1\n" == pulled.tree()["found"].content
    assert not [path for path, entry in pulled.tree().items() if f"# {name}\n".encode() in entry.content]
    assert "SSL_CERT_FILE" not in pulled.env


async def test_loaded_without_a_registry(
    furnished: str, engine: Engine, user: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that names no registry stays in the engine, which runs it; the registry has none of it."""
    monkeypatch.delenv("FLYTE_IMAGE_REGISTRY")
    image = Image.from_base(furnished).clone(name=name, extendable=True, python_version=(3, 11))

    result = await BuildKitImageBuilder().build_image(image.with_commands([f"echo {name} > /made"]))

    assert result.uri is not None
    assert name == run_image(result.uri, "cat", "/made")
    assert [] == tags(engine.registry, name)
