"""A daemon that dies, or stops, in the middle of a build: one clear error, no half image, and the next build works."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Result
from buildkit_builder.buildkit.build import BuildRequest
from buildkit_builder.buildkit.build.request import Bridge, CacheEntry, CacheExport
from buildkit_builder.buildkit.connect.connection import Pool
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session import session as sessions
from buildkit_builder.buildkit.session.filesync import FileSync, LocalDirectory
from buildkit_builder.errors import BuildKitError, DaemonLostError
from tests.conftest import Engine
from tests.integration.daemon import Daemon, daemon
from tests.integration.faults import PLATFORM, fresh, outcome, put_image
from tests.integration.leftovers import Held, left_since
from tests.integration.proxies import RegistryProxy, Silent, Spoiling, healthy, registry_proxy
from tests.integration.registry import exists, forget
from tests.integration.test_faults import DEBIAN, running

UPLOAD = "/blobs/uploads/"


@dataclass(kw_only=True)
class Scene:
    """Where one of the builds happens.

    Attributes:
        own: The daemon that it happens to.
        pool: Whose connections are used before and after.
        proxy: A registry that does not answer all it is asked.
        name: What is built.
        folder: For files.
    """

    own: Daemon
    pool: Pool
    proxy: RegistryProxy
    name: str
    folder: Path

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(address=self.own.address, kind="docker")

    @property
    def reference(self) -> str:
        return f"{self.proxy.address}/{self.name}:1"

    async def tagged(self) -> bool:
        return await asyncio.to_thread(exists, f"{self.proxy.upstream}/{self.name}:1")

    async def forget(self) -> None:
        await asyncio.to_thread(forget, f"{self.proxy.upstream}/{self.name}:1")

    async def build(self, request: BuildRequest) -> BuildKitError | None:
        return await outcome(self.pool, self.endpoint, request)


# --- moments: each begins a build, and returns when the daemon is in the middle of what the row says ---

Moment = Callable[[Scene], Awaitable["asyncio.Future[BuildKitError | None]"]]


def begun(scene: Scene, request: BuildRequest) -> asyncio.Future[BuildKitError | None]:
    return asyncio.ensure_future(scene.build(request))


async def asked(scene: Scene, building: asyncio.Future[BuildKitError | None], method: str, path: str) -> None:
    """Waits until a build has come as far as to ask the registry for something."""
    reached = asyncio.ensure_future(scene.proxy.until(method, path))
    await asyncio.wait((reached, building), return_when=asyncio.FIRST_COMPLETED)
    assert not building.done(), building
    await reached


async def files(scene: Scene) -> asyncio.Future[BuildKitError | None]:
    """It reads a file that takes it some time."""
    with (scene.folder / "large").open("wb") as large:
        large.truncate(1 << 30)
    sync = FileSync([LocalDirectory("src", scene.folder)])
    request = fresh(scene.reference, attachables=(sync,))
    request = replace(request, frontend=Copying(scene.name))
    building = begun(scene, request)
    while not sync.begun:
        assert not building.done(), building
        await asyncio.sleep(0.05)
    return building


async def step(scene: Scene) -> asyncio.Future[BuildKitError | None]:
    """A command runs."""
    marker = f"3600.{uuid.uuid4().int % 10**9}"
    base = llb.image(DEBIAN, resolve_mode="local")
    state = base.run(("sleep", marker), name="the step", network="none", ignore_cache=True).root
    request = fresh(scene.reference)
    building = begun(scene, replace(request, frontend=Cached(state)))
    while not running(marker):
        assert not building.done(), building
        await asyncio.sleep(0.05)
    return building


async def export(scene: Scene) -> asyncio.Future[BuildKitError | None]:
    """It pushes a layer, of which the registry takes nothing."""
    scene.proxy.rule = Spoiling(Silent(), method="PUT", path=UPLOAD)
    building = begun(scene, fresh(scene.reference))
    await asked(scene, building, "PUT", f"{scene.name}{UPLOAD}")
    return building


async def cache_import(scene: Scene) -> asyncio.Future[BuildKitError | None]:
    """It asks for a cache, and the registry does not answer."""
    scene.proxy.rule = Spoiling(Silent(), method="HEAD", path="/absent/manifests/")
    cache = CacheEntry(type="registry", attributes={"ref": f"{scene.proxy.address}/absent:1"})
    state = llb.scratch().file(llb.mkfile("/data", scene.name.encode()))
    building = begun(scene, replace(fresh(scene.reference), frontend=Cached(state, cache)))
    await asked(scene, building, "HEAD", "/absent/manifests/")
    return building


@dataclass(frozen=True)
class Cached:
    """A graph whose steps may be in a cache."""

    state: llb.State
    cache: CacheEntry | None = None

    async def build(self, bridge: Bridge) -> Result:
        await bridge.gateway.ping()
        caches = [(self.cache.type, self.cache.attributes)] if self.cache else []
        definition = llb.marshal(self.state, platform=PLATFORM)
        return await bridge.gateway.solve(definition, cache_imports=caches, evaluate=True)


@dataclass(frozen=True)
class Copying:
    """A graph of local files."""

    key: str

    async def build(self, bridge: Bridge) -> Result:
        await bridge.gateway.ping()
        source = llb.local("src", session=bridge.session_id, shared_key=self.key)
        state = llb.scratch().file(llb.copy(source, "/", "/"))
        return await bridge.gateway.solve(llb.marshal(state, platform=PLATFORM), evaluate=True)


async def cache_export(scene: Scene) -> asyncio.Future[BuildKitError | None]:
    """The image is pushed, and the registry takes nothing of the cache."""
    scene.proxy.rule = Spoiling(Silent(), method="PUT", path="/v2/stuck/")
    attributes = {"ref": f"{scene.proxy.address}/stuck:1", "registry.insecure": "true"}
    entry = CacheEntry(type="registry", attributes=attributes)
    base = await asyncio.to_thread(put_image, scene.proxy.upstream, scene.name)
    base = base.replace(scene.proxy.upstream, scene.proxy.address)
    request = fresh(scene.reference, base=base, cache_exports=(CacheExport(entry=entry, platforms=(PLATFORM,)),))
    building = begun(scene, request)
    await asked(scene, building, "PUT", "/v2/stuck/")
    return building


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        fault: In words.
        moment: Begins a build, and returns in the middle of what the fault is about.
        error: What the build ends with; `None` for an image under its tag.
    """

    fault: str
    moment: Moment
    error: type[BuildKitError] | None = DaemonLostError


# In the order in which they begin: files are read for some seconds only, and a daemon that waits for one build's cache
# begins no other (seen with Docker Engine 28.5).
TABLE = (
    Row(fault="the daemon is killed while it runs a step", moment=step),
    Row(fault="it is killed while it pushes a layer", moment=export),
    Row(fault="it is killed while it writes a cache", moment=cache_export, error=None),
    Row(fault="it is killed while it reads our files", moment=files),
    Row(fault="it is killed while it reads a cache", moment=cache_import),
)


@dataclass(frozen=True, kw_only=True)
class Met:
    """How a build met its fault.

    Attributes:
        error: What it ended with.
        tagged: Whether there was an image under the tag then.
        again: What the next build ended with, when the daemon was there again.
    """

    error: BuildKitError | None
    tagged: bool
    again: BuildKitError | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """Of the whole table: by fault how it was met, and what was left in this process after all of them."""

    met: dict[str, Met]
    left: dict[str, list[str]]


@pytest.fixture(scope="module")
def own_daemon(engine: Engine, docker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An engine that may be killed."""
    archive = tmp_path_factory.mktemp("images") / "debian.tar"
    subprocess.run([docker, "save", "-o", str(archive), DEBIAN], check=True, env=dict(engine.environ))
    assert engine.dockerd is not None
    with daemon(engine.dockerd, engine.environ) as own:
        own.load(archive)
        yield own
        own.kill()  # which is quicker than to wait for it


@asynccontextmanager
async def scene_of(engine: Engine, own: Daemon, pool: Pool, folder: Path) -> AsyncIterator[Scene]:
    """A place for one build."""
    async with registry_proxy(engine.registry) as proxy:
        scene = Scene(own=own, pool=pool, proxy=proxy, name=f"faults-{uuid.uuid4().hex}", folder=folder)
        yield scene
        await scene.forget()


@pytest.fixture(scope="module")
def results(engine: Engine, own_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A daemon in the middle of everything at once is killed, and started again."""

    async def all_at_once() -> Results:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(Pool())
            scenes = [
                await stack.enter_async_context(scene_of(engine, own_daemon, pool, tmp_path_factory.mktemp("files")))
                for _ in TABLE
            ]
            assert await scenes[0].build(fresh(scenes[0].reference)) is None
            await scenes[0].forget()
            before = Held.now()
            building = [await row.moment(scene) for row, scene in zip(TABLE, scenes, strict=True)]
            own_daemon.kill()
            errors = await asyncio.wait_for(asyncio.gather(*building), 20)
            left = await left_since(before)
            tagged = [await scene.tagged() for scene in scenes]
            own_daemon.start()
            for scene in scenes:
                scene.proxy.rule = healthy
            again = await asyncio.gather(*(scene.build(fresh(scene.reference)) for scene in scenes))
        met = [Met(error=e, tagged=t, again=a) for e, t, a in zip(errors, tagged, again, strict=True)]
        return Results(met={row.fault: found for row, found in zip(TABLE, met, strict=True)}, left=left)

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fault)
def test_daemon_that_is_killed(row: Row, results: Results) -> None:
    """The build ends with the loss of the daemon within 20 s and without its tag; the next one of the pool works.

    Where the image is there already, and only its cache is not, the build has succeeded.
    """
    met = results.met[row.fault]

    assert row.error is (None if met.error is None else type(met.error)), met.error
    assert ("build again" in str(met.error)) is (row.error is not None)
    assert met.tagged is (row.error is None)
    assert met.again is None


def test_nothing_is_left_of_a_daemon_that_is_killed(results: Results) -> None:
    """No thread, socket, file, child or task of ours is left by any of the builds."""
    assert {} == results.left


async def test_daemon_that_stops(
    engine: Engine, own_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon of which nothing is heard is lost after a minute, here six seconds, though its socket is open."""
    monkeypatch.setattr(sessions, "_SILENCE_SECONDS", 6)
    async with Pool() as pool, scene_of(engine, own_daemon, pool, tmp_path) as scene:
        building = await export(scene)
        own_daemon.freeze()
        try:
            error = await asyncio.wait_for(building, 20)
        finally:
            own_daemon.thaw()

        assert isinstance(error, DaemonLostError)
        assert "nothing has been heard from it" in str(error)
        assert not await scene.tagged()
        scene.proxy.rule = healthy
        assert await scene.build(fresh(scene.reference)) is None
