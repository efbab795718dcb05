"""A registry that fails in mid-build: one clear error, or none where it comes round, and never half an image."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from buildkit_builder.buildkit.connect.connection import Pool
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.session import auth as auths
from buildkit_builder.buildkit.session.auth import Auth
from buildkit_builder.buildkit.session.docker_config import Credentials, DockerConfig
from buildkit_builder.errors import BuildKitError, CredentialsError, RegistryError
from tests.conftest import Engine
from tests.integration.faults import fresh, outcome, put_image
from tests.integration.leftovers import Held, left_since
from tests.integration.proxies import (
    Answered,
    Broken,
    Fault,
    Guard,
    RegistryProxy,
    Rule,
    Silent,
    Slow,
    Spoiling,
    healthy,
    registry_proxy,
)
from tests.integration.registry import exists, forget

UPLOAD, BLOB, MANIFEST = "/blobs/uploads/", "/blobs/sha256:", "/manifests/"
CLOSED = "127.0.0.1:1"
FAILS = Answered(status=500)
FULL = Answered(
    status=429,
    headers=("Retry-After: 1",),
    body=b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}',
)
BREAKS = Broken(after=100_000)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        fault: In words.
        rule: What spoils the requests, made anew for each run.
        error: What the build ends with; `None` for an image under its tag.
        words: What the error says.
        pulls: Whether what is spoilt is a base image's registry, and not the one that is pushed to.
    """

    fault: str
    rule: Callable[[], Rule]
    error: type[BuildKitError] | None = None
    words: str = ""
    pulls: bool = False


def spoiling(fault: Fault, method: str, path: str, times: int = 1_000_000) -> Callable[[], Rule]:
    return lambda: Spoiling(fault, method=method, path=path, times=times)


TABLE = (
    Row(
        fault="the registry refuses connections",
        rule=lambda: healthy,
        error=RegistryError,
        words="could not be reached",
    ),
    Row(fault="it is slow", rule=spoiling(Slow(seconds=0.05), "PUT", UPLOAD)),
    Row(fault="it answers an upload with 500 once", rule=spoiling(FAILS, "PUT", UPLOAD, 1)),
    Row(
        fault="it answers every upload with 500",
        rule=spoiling(FAILS, "PUT", UPLOAD),
        error=RegistryError,
        words="A registry failed",
    ),
    Row(
        fault="it answers the manifest with 500",
        rule=spoiling(FAILS, "PUT", MANIFEST),
        error=RegistryError,
        words="A registry failed",
    ),
    Row(fault="it answers with 429 and Retry-After twice", rule=spoiling(FULL, "POST", UPLOAD, 2)),
    Row(
        fault="it answers with 429 and Retry-After always",
        rule=spoiling(FULL, "POST", UPLOAD),
        error=RegistryError,
        words="log in, use a mirror, or wait",
    ),
    Row(fault="it closes in mid-blob once", rule=spoiling(BREAKS, "PUT", UPLOAD, 1)),
    Row(
        fault="it closes in mid-blob always",
        rule=spoiling(BREAKS, "PUT", UPLOAD),
        error=RegistryError,
        words="could not be reached",
    ),
    Row(fault="the base image's registry closes in mid-blob once", rule=spoiling(BREAKS, "GET", BLOB, 1), pulls=True),
    Row(
        fault="the base image's registry answers its layer with 500",
        rule=spoiling(FAILS, "GET", BLOB),
        error=RegistryError,
        words="A registry failed",
        pulls=True,
    ),
)


@dataclass(kw_only=True)
class Met:
    """How a build met a fault.

    Attributes:
        error: What it ended with.
        tagged: Whether there was an image under the tag then.
        again: What the next build ended with, when the fault was over.
        spoilt: How often the registry failed.
    """

    error: BuildKitError | None = None
    tagged: bool = False
    again: BuildKitError | None = None
    spoilt: int = 0


@dataclass
class Bench:
    """Where faults happen: a daemon and a registry that are well.

    Attributes:
        used: Names that were used in the registry.
    """

    engine: Engine
    pool: Pool
    used: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(address=self.engine.docker_host, kind="docker")

    def name(self) -> str:
        """A name that nobody used before."""
        self.used.append(f"faults-{uuid.uuid4().hex}")
        return self.used[-1]

    async def tagged(self, name: str) -> bool:
        return await asyncio.to_thread(exists, f"{self.engine.registry}/{name}:1")

    async def build(self, reference: str, **options: Any) -> BuildKitError | None:
        return await outcome(self.pool, self.endpoint, fresh(reference, **options))

    async def meet(self, row: Row) -> Met:
        """Has a fault happen, and builds once more when it is over."""
        async with registry_proxy(self.engine.registry, row.rule()) as proxy:
            name = self.name()
            target = CLOSED if row.rule() is healthy else proxy.address
            met = Met()
            base = None
            if row.pulls:
                target = self.engine.registry
                base = (await asyncio.to_thread(put_image, self.engine.registry, self.name())).replace(
                    self.engine.registry, proxy.address
                )
            met.error = await self.build(f"{target}/{name}:1", base=base)
            met.tagged = await self.tagged(name)
            met.spoilt = proxy.rule.spoilt if isinstance(proxy.rule, Spoiling) else 1
            proxy.rule = healthy
            met.again = await self.build(f"{proxy.address}/{self.name()}:1", base=base)
        return met

    def clean(self) -> None:
        """Takes everything out of the registry again."""
        for name in self.used:
            forget(f"{self.engine.registry}/{name}:1")


@dataclass(frozen=True, kw_only=True)
class Results:
    """Of the whole table: by fault how it was met, and what was left in this process after all of them."""

    met: dict[str, Met]
    left: dict[str, list[str]]


@pytest.fixture(scope="module")
def results(engine: Engine) -> Results:
    """All faults at once, in one process on one connection: the daemon's patience is the time that each takes."""

    async def all_at_once() -> Results:
        async with Pool() as pool:
            bench = Bench(engine, pool)
            assert await bench.build(f"{engine.registry}/{bench.name()}:1") is None
            before = Held.now()
            met = await asyncio.gather(*(bench.meet(row) for row in TABLE))
            left = await left_since(before)
            await asyncio.to_thread(bench.clean)
        return Results(met={row.fault: found for row, found in zip(TABLE, met, strict=True)}, left=left)

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fault)
def test_registry_that_fails(row: Row, results: Results) -> None:
    """The build ends with one clear error and without its tag, or with its tag; the next one works."""
    met = results.met[row.fault]

    assert met.spoilt > 0
    assert row.error is (None if met.error is None else type(met.error)), met.error
    assert row.words in str(met.error)
    assert met.tagged is (row.error is None)
    assert met.again is None


def test_nothing_is_left_after_all_of_them(results: Results) -> None:
    """No thread, socket, file, child or task of ours is left by any of the faults."""
    assert {} == results.left


async def test_registry_that_never_answers(engine: Engine) -> None:
    """A build that waits for such a registry can be cancelled, and leaves nothing."""
    async with Pool() as pool, registry_proxy(engine.registry, lambda *_: Silent()) as proxy:
        bench = Bench(engine, pool)
        await pool.get(bench.endpoint)
        before, name = Held.now(), bench.name()
        building = asyncio.ensure_future(bench.build(f"{proxy.address}/{name}:1"))
        await proxy.until("HEAD", "/v2/")

        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(building, 30)

        assert not await bench.tagged(name)
        assert {} == await left_since(before)


# --- tokens that expire ---


class Expiring:
    """Every token has expired when the registry is asked for something the first time."""

    def __init__(self, guard: Guard, method: str, path: str, then: Callable[[], None] = lambda: None) -> None:
        self.guard, self.method, self.path, self.then = guard, method, path, then
        self.over = False

    def __call__(self, method: str, path: str) -> Fault | None:
        if not self.over and (method, self.path in path) == (self.method, True):
            self.over = True
            self.guard.revoke()
            self.then()
        return None


@pytest.fixture
def guard() -> Guard:
    return Guard(password="first")


def auth_for(proxy: RegistryProxy, guard: Guard) -> Auth:
    """A session's service that knows the first password."""
    return Auth(DockerConfig(auths={proxy.address: Credentials(username="me", password=guard.password)}))


@pytest.mark.parametrize(("method", "path"), [("POST", UPLOAD), ("PUT", UPLOAD), ("PUT", MANIFEST)])
async def test_tokens_that_expire(engine: Engine, guard: Guard, method: str, path: str) -> None:
    """A token that is no longer good in mid-push is fetched anew through the session; nobody notices."""
    async with Pool() as pool, registry_proxy(engine.registry, Expiring(guard, method, path), guard) as proxy:
        bench = Bench(engine, pool)
        name = bench.name()

        assert await bench.build(f"{proxy.address}/{name}:1", attachables=(auth_for(proxy, guard),)) is None
        assert await bench.tagged(name)
        # Two uploads at once may each fetch one.
        assert guard.granted > 1
        bench.clean()


async def test_credentials_that_change_while_a_build_runs(
    engine: Engine, guard: Guard, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper's short-lived password is asked for anew with each token, as a cloud's are good for hours only."""
    helper = tmp_path / "docker-credential-cloud"
    helper.write_text(f'#!/bin/sh\necho "{{\\"Username\\": \\"me\\", \\"Secret\\": \\"$(cat {tmp_path}/now)\\"}}"\n')
    helper.chmod(0o755)
    (tmp_path / "now").write_text("first")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def rotate() -> None:
        guard.password = "second"
        (tmp_path / "now").write_text("second")

    rule = Expiring(guard, "PUT", MANIFEST, rotate)
    async with Pool() as pool, registry_proxy(engine.registry, rule, guard) as proxy:
        bench = Bench(engine, pool)
        name = bench.name()
        auth = Auth(DockerConfig(helpers={proxy.address: "cloud"}))

        assert await bench.build(f"{proxy.address}/{name}:1", attachables=(auth,)) is None
        assert await bench.tagged(name)
        bench.clean()


@pytest.mark.parametrize(("method", "path"), [("POST", UPLOAD), ("PUT", MANIFEST)])
async def test_credentials_that_are_withdrawn(
    engine: Engine, guard: Guard, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no new ones the build ends with an error that says to log in, and without its tag.

    Of a manifest the daemon itself would wait forever.
    """
    monkeypatch.setattr(auths, "_REFUSED_SECONDS", 1)

    def withdraw() -> None:
        guard.password = "nobody knows"

    rule = Expiring(guard, method, path, withdraw)
    async with Pool() as pool, registry_proxy(engine.registry, rule, guard) as proxy:
        bench = Bench(engine, pool)
        name = bench.name()
        error = await bench.build(f"{proxy.address}/{name}:1", attachables=(auth_for(proxy, guard),))

        assert isinstance(error, CredentialsError)
        assert f"docker login {proxy.address}" in str(error)
        assert not await bench.tagged(name)
