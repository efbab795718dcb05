"""Build caches on real engines: what one has built, another, which is empty, takes from where it was left."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from flyte import Image

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build import BuildRequest
from buildkit_builder.buildkit.build import build as solve
from buildkit_builder.buildkit.build.graph import Solver
from buildkit_builder.buildkit.build.request import Bridge, CacheEntry, CacheExport
from buildkit_builder.buildkit.build.result import result_of
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.flyte_plugin.reader import default_uv_image
from tests.conftest import REPOSITORY, Engine
from tests.integration.command import run, write_project
from tests.integration.conftest import Private
from tests.integration.daemon import Daemon, daemon
from tests.integration.github_cache import github_cache
from tests.integration.registry import PulledImage, digest_of, exists, forget, manifest, pull, tags
from tests.integration.servers import PASSWORD, USER

DEBIAN = "debian:bookworm-slim"
# These engines have no network for their steps, and the base no Python: a shell stands in for it.
BARE = "--network none --build-arg UV_PYTHON=/bin/sh"
MADE = "made"


@dataclass(frozen=True, kw_only=True)
class Runners:
    """Two engines that share nothing; `second` has not seen what `first` has built.

    Attributes:
        base: An image to build on, in the registry.
        uv: Where uv is taken from, likewise.
    """

    first: Daemon
    second: Daemon
    base: str
    uv: str


@pytest.fixture(scope="module")
def runners(engine: Engine, docker: str) -> Iterator[Runners]:
    """As two machines of a CI system would be."""
    assert engine.dockerd is not None
    there = {}
    for image in (DEBIAN, default_uv_image()):
        there[image] = f"{engine.registry}/there-{uuid.uuid4().hex[:12]}:1"
        for command in (["tag", image, there[image]], ["push", "-q", there[image]], ["rmi", there[image]]):
            subprocess.run([docker, *command], check=True, env=dict(engine.environ), stdout=subprocess.DEVNULL)
    base, uv = there.values()
    with daemon(engine.dockerd, engine.environ) as first, daemon(engine.dockerd, engine.environ) as second:
        yield Runners(first=first, second=second, base=base, uv=uv)


class User:
    """Someone who builds, now on one engine and now on another."""

    def __init__(self, runners: Runners, monkeypatch: pytest.MonkeyPatch, image: Image) -> None:
        self.runners = runners
        self.image = image
        self.registry = str(image.registry)
        self._set = monkeypatch.setenv

    def cache(self, **variables: str) -> None:
        """Settings of the cache: `TO="…"` is `FLYTE_BUILDKIT_CACHE_TO`, and `cache="…"` the one line that is enough."""
        for name, value in variables.items():
            self._set("FLYTE_BUILDKIT_CACHE" if name == "cache" else f"FLYTE_BUILDKIT_CACHE_{name}", value)

    def branch(self, name: str) -> None:
        """Which branch the CI system says is built."""
        for variable, value in {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": name, "CI_DEFAULT_BRANCH": "main"}.items():
            self._set(variable, value)

    async def build(self, where: Daemon, image: Image | None = None) -> PulledImage:
        """Builds and pushes, and fetches what was pushed."""
        self._set("DOCKER_HOST", where.address)
        result = await BuildKitImageBuilder().build_image(image or self.image)
        assert result.uri is not None
        return pull(result.uri)

    async def made(self, where: Daemon, image: Image | None = None) -> bytes:
        """What the step left that leaves something else whenever it runs."""
        return (await self.build(where, image)).tree()[MADE].content


@pytest.fixture
def own(runners: Runners, user: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, name: str) -> User:
    """A user of both engines, with an image whose steps are never seen before."""
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", BARE)
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    monkeypatch.setenv("FLYTE_BUILDKIT_UV_IMAGE", runners.uv)
    (user / "main.py").write_text(f"x = '{name}'\n")
    image = Image.from_base(runners.base).clone(
        name=name, registry=engine.registry, extendable=True, python_version=(3, 11)
    )
    step = f"cat /proc/sys/kernel/random/uuid > /{MADE}; echo {name}"
    return User(runners, monkeypatch, image.with_commands([step]).with_source_file(user / "main.py", dst="/app/"))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What the user was told so far."""
    return capsys.readouterr().err


# --- one line is enough ---


async def test_an_empty_engine_takes_the_steps_of_another(
    own: User, engine: Engine, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the default branch has left, a new branch takes whole; it leaves its own where it makes something itself."""
    caches = f"{engine.registry}/{name}"
    own.cache(cache="registry")
    own.branch("main")
    first = await own.made(own.runners.first)
    told = said(capsys)
    assert f"There is no build cache at {caches}:buildcache-main-linux-amd64 yet." in told
    assert "ERROR" not in told
    left = digest_of(f"{caches}:buildcache-main-linux-amd64")

    own.branch("feature/x")
    second = await own.build(own.runners.second)
    unchanged = [tag for tag in tags(engine.registry, name) if tag.startswith("buildcache")]
    more = await own.build(own.runners.second, own.image.with_commands(["echo more > /more"]))

    assert first == second.tree()[MADE].content == more.tree()[MADE].content
    assert b"more\n" == more.tree()["more"].content
    # Nothing was made at first, so that nothing was written; and never the other branch's.
    assert ["buildcache-main-linux-amd64"] == unchanged
    assert left == digest_of(f"{caches}:buildcache-main-linux-amd64")
    (theirs,) = (tag for tag in tags(engine.registry, name) if tag.startswith("buildcache-feature-x"))
    # Amazon's registry takes what looks like an image, and nothing else.
    found, kind = manifest(f"{caches}:{theirs}")
    assert "application/vnd.oci.image.manifest.v1+json" == kind
    assert "application/vnd.buildkit.cacheconfig.v0" == found["config"]["mediaType"]


async def test_a_place_of_its_own(own: User, engine: Engine, name: str) -> None:
    """With a registry and a path the cache is there, under the image's name."""
    own.cache(cache=f"{engine.registry}/caches-{name}")
    own.branch("main")

    await own.build(own.runners.first)

    assert exists(f"{engine.registry}/caches-{name}/{name}:buildcache-main-linux-amd64")
    assert 1 == len(tags(engine.registry, name))


async def test_platforms_do_not_take_each_others_place(engine: Engine, name: str) -> None:
    """Each platform of one build has a cache of its own, with its own steps in it."""
    platforms = {arch: llb.Platform(architecture=arch) for arch in ("amd64", "arm64")}
    exports = [
        CacheExport(
            entry=CacheEntry(type="registry", attributes={"ref": f"{engine.registry}/{name}:{arch}", "mode": "max"}),
            platforms=(platform,),
        )
        for arch, platform in platforms.items()
    ]

    class Both:
        async def build(self, bridge: Bridge) -> Result:
            pong = await bridge.gateway.ping()
            made = {}
            for platform in platforms.values():
                state = llb.scratch().file(llb.mkdir("/a")).file(llb.mkfile("/a/b", f"{name} {platform}".encode()))
                made[platform] = (await Solver(bridge, pong.llb, platform).solve(state), b"{}")
            return result_of(made)

    async with await connect(Endpoint(address=engine.docker_host, kind="docker")) as connection:
        display = open_screen("quiet", sys.stderr, environ={}, clock=time.monotonic).display()
        await solve(connection, BuildRequest(title="", frontend=Both(), cache_exports=tuple(exports)), display)

    found = [manifest(f"{engine.registry}/{name}:{arch}")[0] for arch in platforms]
    layers = [{layer["digest"] for layer in one["layers"]} for one in found]
    assert layers[0]
    assert layers[1]
    assert layers[0] != layers[1]


# --- every kind of cache ---


async def test_another_registry_with_other_credentials(own: User, private: Private) -> None:
    """The image goes to one registry without a password, and the cache to another with one."""
    reference = f"{private.registry.address}/cache:1"
    private.auths(PASSWORD)
    own.cache(TO=f"type=registry,ref={reference},mode=max", FROM=f"type=registry,ref={reference}")

    first = await own.made(own.runners.first)

    assert private.registry.has("cache")
    assert first == await own.made(own.runners.second)


@pytest.mark.parametrize("password", [None, "wrong-password"])
async def test_credentials_that_are_refused(
    own: User, private: Private, password: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image is built and pushed; that its cache could be neither read nor written takes a line each."""
    reference = f"{private.registry.address}/refused:1"
    if password is not None:
        private.config(auths={private.registry.address: {"username": USER, "password": password}})
    own.cache(TO=f"type=registry,ref={reference}", FROM=f"type=registry,ref={reference}")

    assert await own.made(own.runners.first)

    told = said(capsys)
    assert f"build cache was not saved to {reference}" in told
    assert f"The build cache at {reference} could not be read" in told
    assert "wrong-password" not in told
    assert not private.registry.has("refused")


async def test_a_registry_that_is_down(own: User, capsys: pytest.CaptureFixture[str]) -> None:
    """It costs a line each, and no build."""
    own.cache(TO="127.0.0.1:1/cache:1", FROM="127.0.0.1:1/cache:1")

    assert await own.made(own.runners.first)

    told = said(capsys)
    assert "build cache was not saved to 127.0.0.1:1/cache:1" in told
    assert "The build cache at 127.0.0.1:1/cache:1 could not be read" in told


async def test_a_folder(own: User, user: Path) -> None:
    """A folder of this machine is written and read through the session, and can be moved elsewhere as it is."""
    own.cache(TO=f"type=local,dest={user / 'written'},mode=max,tag=mine")
    first = await own.made(own.runners.first)
    (user / "written").rename(user / "moved")

    own.cache(TO="", FROM=f"type=local,src={user / 'moved'},tag=mine")
    second = await own.made(own.runners.second)

    assert first == second
    (entry,) = json.loads((user / "moved" / "index.json").read_bytes())["manifests"]
    assert "mine" == entry["annotations"]["org.opencontainers.image.ref.name"]


async def test_inside_the_image(own: User) -> None:
    """An image that holds its own cache is where the next build finds it."""
    own.cache(TO="type=inline")
    first = await own.build(own.runners.first)

    own.cache(TO="", FROM=first.reference)
    second = await own.build(own.runners.second, own.image.with_env_vars({"MORE": "1"}))

    assert first.tree()[MADE].content == second.tree()[MADE].content


async def test_githubs_service(own: User, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service that a runner names is asked with the runner's token, under a scope of the image's own."""
    with github_cache() as service:
        monkeypatch.setenv("ACTIONS_RESULTS_URL", service.url)
        monkeypatch.setenv("ACTIONS_RUNTIME_TOKEN", service.token)
        monkeypatch.setenv("ACTIONS_CACHE_SERVICE_V2", "True")
        own.cache(cache="gha")
        first = await own.made(own.runners.first)
        second = await own.made(own.runners.second)

    assert first == second
    assert {service.token} == {token for _, token, _ in service.asked}
    written = [call["key"] for call in service.called("FinalizeCacheEntryUpload")]
    # What the second engine built nothing for, it did not write again.
    (index,) = (key for key in written if key.startswith("index-"))
    assert index.startswith(f"index-{name}-linux-amd64-1-")
    assert {"index", "buildkit"} == {key.partition("-")[0] for key in written}


async def test_what_an_engine_does_not_know(own: User, capsys: pytest.CaptureFixture[str]) -> None:
    """Amazon's and Microsoft's stores are not for the BuildKit inside an engine: that is said, and who knows them."""
    own.cache(
        TO="type=s3,bucket=b,region=r,access_key_id=id,secret_access_key=hush",
        FROM="type=azblob,account_url=http://127.0.0.1:1,secret_access_key=aHVzaA==",
    )

    assert await own.made(own.runners.first)

    told = said(capsys)
    assert "This daemon knows no build cache of type s3" in told
    assert "This daemon knows no build cache of type azblob" in told
    assert "hush" not in told
    assert "aHVzaA" not in told


# --- the pages of the README of `flyte_plugin` ---

PAGES = {
    "github": (
        "# .github/workflows/images.yml",
        {"GITHUB_ACTIONS": "true", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"},
    ),
    "gitlab": ("# .gitlab-ci.yml", {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"}),
}


def job_of(page: str) -> tuple[str, dict[str, str]]:
    """The line of a page that builds, and the variables that the page sets for us."""
    text = (REPOSITORY / "buildkit_builder" / "flyte_plugin" / "README.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if block.startswith(page))
    job = yaml.safe_load(block)
    job = job["jobs"]["images"] if "jobs" in job else job["images"]
    steps = job.get("steps") or [{"run": line, "env": job["variables"]} for line in job["script"]]
    (step,) = (step for step in steps if "flyte -c" in step.get("run", ""))
    return step["run"], {name: value for name, value in step["env"].items() if name.startswith("FLYTE_")}


@pytest.mark.parametrize(("page", "variables"), PAGES.values(), ids=PAGES)
def test_the_page_of_a_ci_system(own: User, user: Path, name: str, page: str, variables: dict[str, str]) -> None:
    """The line that builds, with what its page and the CI system set, finds on a new machine what another has built."""
    line, settings = job_of(page)
    expression = f"flyte.Image.from_base('{own.runners.base}').clone(name='{name}', extendable=True)"
    step = f"cat /proc/sys/kernel/random/uuid > /{MADE}; echo {name}"
    write_project(user, image=f"{expression}.with_commands([{step!r}])")
    made = []
    for where in (own.runners.first, own.runners.second):
        # As on a new machine, the image is not there; only its cache is.
        for tag in tags(own.registry, name):
            if not tag.startswith("buildcache"):
                forget(f"{own.registry}/{name}:{tag}")
        done = run(*shlex.split(line), folder=user, DOCKER_HOST=where.address, **variables, **settings)
        assert 0 == done.code, done.output
        (tag,) = (tag for tag in tags(own.registry, name) if not tag.startswith("buildcache"))
        made.append(pull(f"{own.registry}/{name}:{tag}").tree()[MADE].content)

    assert "buildcache-main-linux-amd64" in tags(own.registry, name)
    assert made[0] == made[1]
