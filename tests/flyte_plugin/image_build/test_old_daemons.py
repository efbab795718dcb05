"""Daemons of old: what they can do is done, and what they would leave out without a word is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import LoadIntoEngine
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.wire import ops_pb2, services
from buildkit_builder.config import Settings
from buildkit_builder.errors import CapabilityError
from buildkit_builder.flyte_plugin.image_build.build import build
from buildkit_builder.image.destination import Destination
from buildkit_builder.image.spec import CopyLayer, ImageSpec, LocalFiles
from tests.fakes.buildkit import SNAPSHOTTER, FakeBuildKit
from tests.fakes.docker_engine import FakeEngine

DIGEST = "sha256:" + "0" * 64
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}}).encode()
SPEC = ImageSpec(
    reference="registry.example/mine:1", push=True, base="base.example/base:1", platforms=("linux/amd64",),
    python_version=(3, 12), creates_user=False, uv_image="uv.example/uv:1", layers=(),
)  # fmt: skip


def capabilities(newest: tuple[int, int]) -> dict[str, bool]:
    """What a release says that it can do."""
    return {name: True for name, first in llb.FIRST_RELEASE.items() if tuple(map(int, first.split("."))) <= newest}


@contextlib.asynccontextmanager
async def daemon(release: tuple[int, int], *, labels: Mapping[str, str] | None = None) -> AsyncIterator[FakeBuildKit]:
    """A BuildKit of a release, which says what it is since 0.11."""
    silent = [services.CONTROL_INFO] if release < (0, 11) else []
    fake = FakeBuildKit(llb_caps=capabilities(release), labels=labels, unimplemented=silent)
    fake.images["base.example/base:1"] = (DIGEST, CONFIG)
    async with fake:
        yield fake


@contextlib.asynccontextmanager
async def engine(release: tuple[int, int], *, store: bool = False) -> AsyncIterator[Connection]:
    """A Docker Engine with such a BuildKit in it."""
    async with daemon(release, labels={SNAPSHOTTER: "overlayfs"} if store else {}) as fake:
        async with FakeEngine(fake.path, api="1.41") as front:
            async with await connect(Endpoint(address=front.address, kind="docker")) as connection:
                yield connection


@pytest.mark.parametrize(("release", "in_own"), [((0, 8), False), ((0, 9), False), ((0, 11), True), ((0, 25), True)])
async def test_local_files_are_where_the_daemon_looks_for_them(
    tmp_path: Path, clean_environ: pytest.MonkeyPatch, release: tuple[int, int], in_own: bool
) -> None:
    """BuildKit 0.8 and 0.9 take the build's own session for them, whichever is named; newer ones the one that is."""
    (tmp_path / "a.txt").write_text("a")
    files = LocalFiles(kind="file", root=tmp_path / "a.txt")
    copy = CopyLayer(files=files, destination="/app/", origin="with_source_file")
    async with daemon(release) as fake:
        await build(replace(SPEC, layers=(copy,)), Settings(endpoint=fake.address, progress="quiet"))

    [own] = [request.Session for request in fake.called(services.CONTROL_SOLVE) if request.Exporters]
    named = {
        op.source.attrs["local.session"]
        for call in fake.called(services.LLBBRIDGE_SOLVE)
        for op in map(ops_pb2.Op.FromString, getattr(call.Definition, "def"))
        if op.source.identifier.startswith("local://")
    }
    serving = {
        name
        for name, metadata in fake.session_metadata.items()
        if ("x-docker-expose-session-grpc-method", services.FILESYNC_DIFF_COPY) in metadata
    }
    assert serving == named
    assert in_own == (named != {own})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"compression": "zstd"}, "pack layers as zstd"),
    ({"compression": "estargz"}, "pack layers as estargz"),
    ({"compression": "uncompressed"}, "pack layers as uncompressed"),
    ({"source_date_epoch": 0}, "set the time of an image"),
    ({"force_compression": True}, "pack the layers of the base anew"),
    ({"oci_media_types": True}, "push OCI media types"),
    ({"provenance": "mode=min"}, "attest an image"),
    ({"sbom": ""}, "attest an image"),
]


@pytest.mark.parametrize(("settings", "what"), REFUSED)
@pytest.mark.parametrize(("release", "can_have_store"), [((0, 8), False), ((0, 10), False), ((0, 13), True)])
async def test_an_engine_without_the_store_says_what_it_cannot(
    settings: dict[str, Any], what: str, release: tuple[int, int], can_have_store: bool
) -> None:
    """Not one of them is left out without a word; the store is recommended to an engine that can have it."""
    async with engine(release) as connection:
        with pytest.raises(CapabilityError, match=f"cannot {what}") as caught:
            await Destination.choose(SPEC, Settings(**settings), connection)

    assert can_have_store == ("containerd-snapshotter" in str(caught.value))
    assert can_have_store != ("too old to have" in str(caught.value))


async def test_several_platforms_without_the_store() -> None:
    """The same sentence, with what to do instead."""
    async with engine((0, 8)) as connection:
        with pytest.raises(CapabilityError, match=r"too old to have[\s\S]*name one platform"):
            await Destination.choose(replace(SPEC, platforms=("linux/amd64", "linux/arm64")), Settings(), connection)


@pytest.mark.parametrize(
    "settings", [{}, {"compression": "gzip"}, {"compression_level": 9}, {"oci_media_types": False}]
)
async def test_what_an_engine_without_the_store_does_anyway(settings: dict[str, Any]) -> None:
    """It packs with gzip, and has Docker's media types; how hard it packs changes nothing but the size."""
    async with engine((0, 8)) as connection:
        chosen = await Destination.choose(SPEC, Settings(**settings), connection)

    assert (LoadIntoEngine(reference=SPEC.reference), True) == (chosen.exporter, chosen.pushed_by_engine)
