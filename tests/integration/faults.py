"""Builds for faults to happen to: made of nothing but bytes of their own, so that no cache has any of it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
import time
import urllib.request
from typing import Any

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, BuildResult, GraphFrontend, Push, build
from buildkit_builder.buildkit.connect.connection import Pool
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.errors import BuildKitError

PLATFORM = llb.Platform(architecture="amd64")
BOUND_SECONDS = 90
LAYER_BYTES = 300_000


def fresh(reference: str, *, base: str | None = None, **options: Any) -> BuildRequest:
    """A build of a layer that nobody has seen yet, pushed to a name.

    Args:
        reference: The name.
        base: What it is put on; nothing by default.
        options: More of the request.
    """
    state = llb.scratch() if base is None else llb.image(base)
    state = state.file(llb.mkfile("/data", os.urandom(LAYER_BYTES)))
    return BuildRequest(
        title=reference,
        frontend=GraphFrontend(state=state, platform=PLATFORM),
        exporters=(Push(reference=reference, insecure=True),),
        internal=True,
        **options,
    )


async def run(pool: Pool, endpoint: Endpoint, request: BuildRequest) -> BuildResult:
    """Builds, unseen."""
    screen = open_screen("quiet", io.StringIO(), environ={}, clock=time.monotonic)
    connection = await pool.get(endpoint)
    return await asyncio.wait_for(build(connection, request, screen.display()), BOUND_SECONDS)


async def outcome(pool: Pool, endpoint: Endpoint, request: BuildRequest) -> BuildKitError | None:
    """What a build ends with; whatever is no error of ours is let out."""
    try:
        await run(pool, endpoint, request)
    except BuildKitError as error:
        return error
    return None


def put_image(registry: str, name: str) -> str:
    """Puts an image into a registry without any daemon, which then has none of it; returns its reference."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("base")
        member.size = LAYER_BYTES
        archive.addfile(member, io.BytesIO(os.urandom(LAYER_BYTES)))
    layer = gzip.compress(tar.getvalue(), 1)
    rootfs = {"type": "layers", "diff_ids": [_digest(tar.getvalue())]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": _put_blob(registry, name, config, f"{kind}.config.v1+json"),
        "layers": [_put_blob(registry, name, layer, f"{kind}.layer.v1.tar+gzip")],
    }
    headers = {"Content-Type": f"{kind}.manifest.v1+json"}
    _ask("PUT", f"http://{registry}/v2/{name}/manifests/1", json.dumps(manifest).encode(), headers)
    return f"{registry}/{name}:1"


def _put_blob(registry: str, name: str, data: bytes, kind: str) -> dict[str, object]:
    place = _ask("POST", f"http://{registry}/v2/{name}/blobs/uploads/", b"", {})
    digest = _digest(data)
    _ask("PUT", f"{place}&digest={digest}", data, {"Content-Type": "application/octet-stream"})
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _ask(method: str, url: str, body: bytes, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.headers.get("Location", ""))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
