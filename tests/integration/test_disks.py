"""Results that a real engine sends to other disks than the usual one."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, Exporter, Files, TarArchive, build
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint, Kind
from buildkit_builder.buildkit.progress import choose
from buildkit_builder.errors import BuildKitError
from tests.conftest import Engine
from tests.disks import Mount, caseless, mount

__all__ = ["caseless", "mount"]


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    """To the engine that the tests run against."""
    kind: Kind = "docker" if engine.docker_host else "buildkit"
    async with await connect(Endpoint(address=engine.address, kind=kind)) as connection:
        yield connection


async def export(connection: Connection, names: list[str], exporter: Exporter) -> None:
    """Has files made that hold their own paths, and sent."""
    actions = [action for name in names for action in (
        llb.mkdir(os.path.dirname(name), parents=True), llb.mkfile(name, name),
    )]  # fmt: skip
    frontend = GraphFrontend(state=llb.scratch().file(*actions), platform=llb.Platform())
    display = choose("quiet", io.StringIO(), environ={}, clock=time.monotonic)
    await build(connection, BuildRequest(title="test", frontend=frontend, exporters=(exporter,)), display)


async def test_files_into_a_mount_point(connection: Connection, tmp_path: Path, mount: Mount) -> None:
    """Which other file systems are mounted in."""
    out = mount(tmp_path / "out")
    mount(out / "inner")
    await export(connection, ["/a", "/inner/b", "/inner/deep/c"], Files(path=out))

    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert {"a": "/a", "inner/b": "/inner/b", "inner/deep/c": "/inner/deep/c"} == found
    assert {"a", "inner"} == set(os.listdir(out))


@pytest.mark.parametrize("names", [["/A", "/a"], ["/dir/x", "/DIR/y"], ["/d/Read.me", "/d/READ.ME"]])
async def test_files_that_a_disk_takes_for_one(connection: Connection, caseless: Path, names: list[str]) -> None:
    """The build fails and names both; an archive holds them all."""
    with pytest.raises(BuildKitError, match="which are one name on the disk"):
        await export(connection, names, Files(path=caseless / "out"))
    assert not (caseless / "out").exists()

    await export(connection, names, TarArchive(path=caseless / "out.tar"))
    with tarfile.open(caseless / "out.tar") as archive:
        assert {name.lstrip("/") for name in names} <= set(archive.getnames())
