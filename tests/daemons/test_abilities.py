"""What not every engine can do: done where it can be, and else refused by one sentence before anything runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.daemons.conftest import Command, build, refused
from tests.daemons.lanes import Lane
from tests.daemons.packages import PIP, PIP_ARGS, PIP_FILE
from tests.integration.registry import manifest, pull, tags

SLSA = "https://slsa.dev/provenance/v0.2"


def check_advice(said: str, lane: Lane) -> None:
    """A store that an engine can have is recommended, and one that it cannot have is not."""
    assert lane.can_have_store == ("containerd-snapshotter" in said), said


@pytest.mark.usefixtures("emulator")
async def test_two_platforms(base: Image, lane: Lane, user: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An image for two platforms has packages and commands for both."""
    (user / "one.py").write_text("y = 1\n")
    image = base.clone(platform=("linux/amd64", "linux/arm64")).with_source_file(user / "one.py", dst="/app/")
    image = image.with_pip_packages(PIP, extra_args=PIP_ARGS).with_commands(["uname -m > /machine"])

    if not lane.store:
        check_advice(await refused(image, capfd), lane)
        return
    here = await build(image)

    there = pull(here.reference, platform="linux/arm64")
    assert [b"x86_64\n", b"aarch64\n"] == [pulled.tree()["machine"].content for pulled in (here, there)]
    for pulled in (here, there):
        assert b"y = 1\n" == pulled.tree()["app/one.py"].content
        assert PIP_FILE in pulled.tree()


async def test_labels(base: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine labels."""
    monkeypatch.setenv("FLYTE_BUILDKIT_LABELS", "team=ml")

    assert "ml" == (await build(base.with_env_vars({"A": "1"}))).config["config"]["Labels"]["team"]


async def test_annotations(
    base: Image, lane: Lane, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An annotation is in the manifest, and never dropped without a word."""
    monkeypatch.setenv("FLYTE_BUILDKIT_ANNOTATIONS", "org.example.a=1")
    image = base.with_commands(["true"])

    if lane.store:
        assert {"org.example.a": "1"} == (await build(image)).manifest["annotations"]
    else:
        said = await refused(image, capfd)
        assert "cannot annotate" in said
        check_advice(said, lane)


async def test_provenance(
    base: Image, lane: Lane, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attested or refused."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROVENANCE", "min")
    image = base.with_commands(["true"])

    if lane.store:
        index, _ = manifest((await build(image)).reference)
        assert ["attestation-manifest"] == [
            entry["annotations"]["vnd.docker.reference.type"] for entry in index["manifests"] if "annotations" in entry
        ]
    else:
        said = await refused(image, capfd)
        assert "cannot attest" in said
        check_advice(said, lane)


async def test_zstd(
    small: Image, lane: Lane, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New layers are packed as was asked for, and never as something else without a word."""
    monkeypatch.setenv("FLYTE_BUILDKIT_COMPRESSION", "zstd")

    if lane.store:
        result = await BuildKitImageBuilder().build_image(small)
        [layer] = manifest(str(result.uri))[0]["layers"]
        assert layer["mediaType"].endswith("zstd")
    else:
        said = await refused(small, capfd)
        assert "zstd" in said
        check_advice(said, lane)


async def test_the_time_of_an_image(
    base: Image, lane: Lane, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an epoch the config is as old as that, and never younger without a word."""
    monkeypatch.setenv("FLYTE_BUILDKIT_SOURCE_DATE_EPOCH", "1700000000")
    image = base.with_commands(["echo 1 > /made"])

    if lane.store:
        assert "2023-11-14T22:13:20Z" == (await build(image)).config["created"]
    else:
        assert "the time of an image" in await refused(image, capfd)


async def test_a_cache_in_the_registry(
    base: Image, lane: Lane, command: Command, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine has forgotten it takes from the cache; one that cannot write a cache says so, and builds."""
    monkeypatch.setenv("FLYTE_BUILDKIT_CACHE", "registry")
    for variable, value in {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"}.items():
        monkeypatch.setenv(variable, value)
    image = base.with_commands([f"cat /proc/sys/kernel/random/uuid > /made; : {base.name}"])
    first = await build(image)
    said = capfd.readouterr().err
    cached = [tag for tag in tags(str(base.registry), str(base.name)) if tag.startswith("buildcache-")]
    assert lane.store == bool(cached)
    if not lane.store:
        assert "build cache" in said
        assert "has only registry" not in said
        check_advice(said, lane)
        return
    [kept] = json.loads(command("buildkit-builder", "du", "--json", "--filter", f"description~={base.name}").output)
    [record] = kept["records"]
    # Older engines prune by nothing but an id.
    forgot = command("buildkit-builder", "prune", "--force", "--filter", f"id={record['id']}")
    assert "deleted 1 record" in forgot.output

    again = await build(image)

    assert first.tree()["made"].content == again.tree()["made"].content


@pytest.fixture
def mirrored(engine: Engine, docker: str, furnished: str, name: str) -> str:
    """A folder of the registry that has the base under `deep/base:1`."""
    reference = f"{engine.registry}/{name}/deep/base:1"
    for words in (["tag", furnished, reference], ["push", "-q", reference], ["rmi", reference]):
        subprocess.run([docker, *words], check=True, env=dict(engine.environ), stdout=subprocess.DEVNULL)
    return f"{engine.registry}/{name}"


@pytest.fixture
def far(mirrored: str, engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch) -> Image:
    """An image on a base of a registry that does not exist, and has a mirror."""
    monkeypatch.setenv("FLYTE_BUILDKIT_REGISTRY_MIRRORS", f"example.invalid={mirrored}")
    image = Image.from_base("example.invalid/deep/base:1")
    return image.clone(name=f"{name}-built", registry=engine.registry, extendable=True, python_version=(3, 11))


async def test_mirrors(far: Image, user: Path, name: str) -> None:
    """The base comes from the mirror, and a file of the user's goes on top of it."""
    (user / "one.py").write_text("y = 1\n")

    pulled = await build(far.with_source_file(user / "one.py", dst="/app/").with_commands([f"echo {name} > /made"]))

    assert f"{name}\n".encode() == pulled.tree()["made"].content
    assert b"y = 1\n" == pulled.tree()["app/one.py"].content


async def test_a_failing_step_with_mirrors(far: Image, user: Path, name: str) -> None:
    """A step that fails has its name and its last lines with mirrors, too."""
    with pytest.raises(ImageBuildError) as caught:
        await BuildKitImageBuilder().build_image(far.with_commands([f"echo last {name}; exit 7"]))

    assert f"with_commands echo last {name}" in str(caught.value)
    assert "exit code 7" in str(caught.value)
    assert f"\nlast {name}" in str(caught.value).replace("  ", "")


def test_doctor(lane: Lane, command: Command) -> None:
    """It says which engine it found and what that can do, and gives no advice that cannot be followed."""
    ended = command("buildkit-builder", "doctor")
    [report] = json.loads(command("buildkit-builder", "doctor", "--json").output)["daemons"]

    assert 0 == ended.code, ended.output
    assert report["release"].startswith(lane.buildkit)
    assert ("docker", lane.store) == (report["kind"], "snapshotter" in report["labels"])
    able = {finding["name"]: finding["ok"] for finding in report["findings"]}
    assert lane.merges == able["parallel steps"]
    assert [lane.store] * 3 == [able[name] for name in ("registry cache", "several platforms", "push")]
    assert (not lane.store and lane.can_have_store) == ("containerd-snapshotter" in ended.plain)
    # This suite builds with all of the features that an image may need.
    assert "do not build" not in ended.plain


def test_housekeeping(lane: Lane, command: Command) -> None:
    """What it keeps is listed; what it remembers too, or it is said that it remembers nothing."""
    kept = command("buildkit-builder", "du")
    remembered = command("buildkit-builder", "history", "ls")

    assert 0 == kept.code, kept.output
    assert "Traceback" not in remembered.output
    assert lane.remembers == (0 == remembered.code), remembered.output
    assert lane.remembers or "0.11" in remembered.plain
