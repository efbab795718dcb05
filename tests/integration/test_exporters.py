"""Where results go, on the real engine: the registry, the engine's own store, archives and folders."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import (
    BuildRequest,
    BuildResult,
    DockerArchive,
    Exporter,
    Files,
    OciArchive,
    Push,
    TarArchive,
    build,
)
from buildkit_builder.buildkit.build.exporters import Compression
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.config import Annotation
from buildkit_builder.errors import RegistryError
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.conftest import BASE, Build
from tests.integration.registry import exists, manifest

PLATFORM = llb.Platform(architecture="amd64")
EXTRA = "FLYTE_DOCKER_BUILD_EXTRA_ARGS"


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    """A connection to the shared engine."""
    async with await connect(Endpoint(address=engine.docker_host, kind="docker")) as opened:
        yield opened


@pytest.fixture
def reference(engine: Engine, name: str) -> str:
    """A name in the registry that no other test has."""
    return f"{engine.registry}/{name}:1"


def content() -> bytes:
    """Something that can be compressed, and that no build has seen before."""
    numbers = uuid.uuid4().int
    return b"".join(f"{numbers * number % 1_000_003}\n".encode() for number in range(40_000))


def tree() -> llb.State:
    """A few files of every kind, and one of them never seen before."""
    return llb.scratch().file(
        llb.mkdir("/folder", 0o750),
        llb.mkfile("/folder/text", content(), 0o640),
        llb.mkfile("/tool", b"#!/bin/sh\n", 0o755),
        llb.mkdir("/locked", 0o555),
        llb.symlink("folder/text", "/link"),
    )


async def export(connection: Connection, state: llb.State, *exporters: Exporter) -> BuildResult:
    """Builds a graph, and has it exported."""
    request = BuildRequest(title="test", frontend=GraphFrontend(state=state, platform=PLATFORM), exporters=exporters)
    screen = open_screen("quiet", sys.stderr, environ={}, clock=time.monotonic)
    return await build(connection, request, screen.display())


# --- pushing ---


@pytest.mark.parametrize(
    ("compression", "media_type"),
    [
        (Compression(type="gzip", level=1), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (Compression(type="zstd", level=3), "application/vnd.oci.image.layer.v1.tar+zstd"),
        (Compression(type="uncompressed"), "application/vnd.oci.image.layer.v1.tar"),
    ],
    ids=lambda value: value.type if isinstance(value, Compression) else "",
)
async def test_compression(connection: Connection, reference: str, compression: Compression, media_type: str) -> None:
    """Layers are packed as asked for, and their media types say so.

    Not estargz, which some engines die of: that of Docker 28.5.2+dfsg4 panics in its `gzipFooterBytes`.
    """
    await export(connection, tree(), Push(reference=reference, compression=compression, oci_media_types=True))

    (layer,) = manifest(reference)[0]["layers"]
    assert media_type == layer["mediaType"]


async def test_compression_level(connection: Connection, engine: Engine, name: str) -> None:
    """A higher level makes a smaller layer."""
    # Always the same text, of words that come again far apart: in arbitrary numbers a higher level may find less.
    words = random.Random(9)
    data = b"\n".join(b"%d" % (words.randrange(3000) ** 3) for _ in range(60_000))
    sizes = []
    for level in (1, 9):
        # The daemon keeps what it packed, so that the same tree is not packed twice: the name makes two of it.
        state = llb.scratch().file(llb.mkfile(f"/level-{level}", data))
        reference = f"{engine.registry}/{name}:{level}"
        await export(connection, state, Push(reference=reference, compression=Compression(type="gzip", level=level)))
        sizes.append(manifest(reference)[0]["layers"][0]["size"])

    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("force", [False, True])
async def test_force_compression(connection: Connection, reference: str, force: bool) -> None:
    """The base's layers keep their packing, unless it is forced."""
    base = f"{reference}-base"
    await export(connection, tree(), Push(reference=base, compression=Compression(type="gzip")))
    state = llb.image(base, resolve_mode="pull").file(llb.mkfile("/more", content()))

    await export(connection, state, Push(reference=reference, compression=Compression(type="zstd", force=force)))

    packed = [layer["mediaType"].rpartition(".")[2].removeprefix("tar+") for layer in manifest(reference)[0]["layers"]]
    assert ["zstd" if force else "gzip", "zstd"] == packed


@pytest.mark.parametrize(
    ("oci", "media_type"),
    [
        (True, "application/vnd.oci.image.manifest.v1+json"),
        (False, "application/vnd.docker.distribution.manifest.v2+json"),
    ],
)
async def test_media_types(connection: Connection, reference: str, oci: bool, media_type: str) -> None:
    """The manifest is OCI's, or Docker's."""
    result = await export(connection, tree(), Push(reference=reference, oci_media_types=oci))

    assert media_type == manifest(reference)[1]
    assert manifest(f"{reference.rpartition(':')[0]}@{result.digest}")[0] == manifest(reference)[0]


async def test_annotated(connection: Connection, reference: str) -> None:
    """Annotations of manifests are in the manifest, those for another platform are not."""
    annotations = (
        Annotation(key="org.example.a", value="b = c"),
        Annotation(key="org.example.arm", value="no", platform="linux/arm64"),
    )

    await export(connection, tree(), Push(reference=reference, annotations=annotations))

    assert {"org.example.a": "b = c"} == manifest(reference)[0]["annotations"]


async def test_settings(base: Image, build: Build, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a user decide how a Flyte image is packed."""
    monkeypatch.setenv("FLYTE_BUILDKIT_COMPRESSION", "uncompressed")
    monkeypatch.setenv("FLYTE_BUILDKIT_OCI_MEDIA_TYPES", "false")

    pulled = await build(base.with_commands([f"echo {uuid.uuid4()} > /new"]))

    assert "application/vnd.docker.distribution.manifest.v2+json" == pulled.manifest["mediaType"]
    assert "application/vnd.docker.image.rootfs.diff.tar" == pulled.manifest["layers"][-1]["mediaType"]


# --- into the engine ---


async def test_loaded_image_runs(
    engine: Engine, docker: str, name: str, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that names no registry is in the engine's store, under its name, and runs."""
    monkeypatch.delenv("FLYTE_IMAGE_REGISTRY")
    image = Image.from_base(BASE).clone(name=name, extendable=True, python_version=(3, 11))
    image = image.with_commands(["echo made here > /made"]).with_env_vars({"WHO": "me"})

    result = await BuildKitImageBuilder().build_image(image)

    assert result.uri is not None
    assert result.uri.startswith(f"{name}:")
    command = [docker, "run", "--rm", "--network=none", result.uri, "/bin/sh", "-c", 'cat /made; echo "$WHO"']
    try:
        ran = await asyncio.to_thread(
            subprocess.run, command, env=dict(engine.environ), capture_output=True, text=True, check=False
        )
    finally:
        subprocess.run([docker, "rmi", "-f", result.uri], env=dict(engine.environ), check=True, capture_output=True)
    assert ("made here\nme\n", 0) == (ran.stdout, ran.returncode), ran.stderr


# --- archives and folders ---


async def test_oci_archive(connection: Connection, tmp_path: Path) -> None:
    """An OCI archive holds a layout whose index, manifest and blobs fit together, and is all that is left."""
    data = content()
    path = tmp_path / "made" / "image.tar"
    state = llb.scratch().file(llb.mkfile("/file", data))
    compression = Compression(type="gzip")

    result = await export(
        connection, state, OciArchive(path=path, reference="example.com/a/b:1", compression=compression)
    )

    files = unpacked(path)
    assert {"imageLayoutVersion": "1.0.0"} == json.loads(files["oci-layout"])
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert result.digest == entry["digest"]
    assert "example.com/a/b:1" == entry["annotations"]["io.containerd.image.name"]
    found = json.loads(blob(files, entry))
    assert "amd64" == json.loads(blob(files, found["config"]))["architecture"]
    with tarfile.open(fileobj=io.BytesIO(blob(files, found["layers"][0]))) as layer:
        member = layer.extractfile("file")
        assert member is not None
        assert data == member.read()
    assert ["image.tar"] == os.listdir(path.parent)


async def test_docker_archive(connection: Connection, engine: Engine, docker: str, name: str, tmp_path: Path) -> None:
    """An archive for `docker load` is loaded under its name."""
    path = tmp_path / "image.tar"
    await export(connection, tree(), DockerArchive(path=path, reference=f"{name}:1"))

    done = subprocess.run(
        [docker, "load", "-i", str(path)], env=dict(engine.environ), check=True, capture_output=True, text=True
    )
    subprocess.run([docker, "rmi", f"{name}:1"], env=dict(engine.environ), check=True, capture_output=True)

    assert f"{name}:1" in done.stdout


async def test_tar_archive(connection: Connection, tmp_path: Path) -> None:
    """A tar archive has the files, and replaces the one that was there."""
    path = tmp_path / "files.tar"
    path.write_bytes(b"old")

    await export(connection, tree(), TarArchive(path=path))

    with tarfile.open(path) as archive:
        modes = {member.name.rstrip("/"): member.mode for member in archive}
    assert (0o640, 0o755, 0o750) == (modes["folder/text"], modes["tool"], modes["folder"])


async def test_archive_into_a_pipe(connection: Connection, tmp_path: Path) -> None:
    """A named pipe is written to as it is, and not replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = asyncio.ensure_future(asyncio.to_thread(pipe.read_bytes))

    await export(connection, tree(), TarArchive(path=pipe))

    with tarfile.open(fileobj=io.BytesIO(await reading)) as archive:
        assert "tool" in archive.getnames()
    assert pipe.is_fifo()


async def test_files(connection: Connection, tmp_path: Path) -> None:
    """Files are unpacked with their modes and links into a new folder."""
    path = tmp_path / "deep" / "out"

    await export(connection, tree(), Files(path=path))

    assert ["folder", "link", "locked", "tool"] == sorted(os.listdir(path))
    assert (0o640, 0o750) == (mode(path / "folder" / "text"), mode(path / "folder"))
    assert "folder/text" == os.readlink(path / "link")
    assert ["out"] == os.listdir(path.parent)


async def test_files_are_added_to_a_folder(connection: Connection, tmp_path: Path) -> None:
    """Into a folder that has something in it files are moved, those of the same names replaced, the others left."""
    path = tmp_path / "out"
    (path / "folder").mkdir(parents=True)
    (path / "folder" / "text").write_text("old")
    (path / "folder" / "mine").write_text("mine")
    (path / "link").write_text("no link")

    await export(connection, tree(), Files(path=path))

    assert b"old" != (path / "folder" / "text").read_bytes()
    assert "mine" == (path / "folder" / "mine").read_text()
    assert (path / "link").is_symlink()
    assert ["out"] == os.listdir(tmp_path)


async def test_several_exporters(connection: Connection, reference: str, tmp_path: Path) -> None:
    """One build is pushed, archived and unpacked."""
    result = await export(
        connection,
        tree(),
        Files(path=tmp_path / "out"),
        Push(reference=reference, oci_media_types=True),
        OciArchive(path=tmp_path / "image.tar"),
    )

    (entry,) = json.loads(unpacked(tmp_path / "image.tar")["index.json"])["manifests"]
    assert result.digest == entry["digest"]
    assert json.loads(blob(unpacked(tmp_path / "image.tar"), entry)) == manifest(reference)[0]
    assert (tmp_path / "out" / "tool").exists()
    assert ["image.tar", "out"] == sorted(os.listdir(tmp_path))


async def test_failed_push_leaves_no_archive(connection: Connection, tmp_path: Path) -> None:
    """What another exporter of a failed build had written is not there, and what was there before still is."""
    (tmp_path / "image.tar").write_bytes(b"before")

    with pytest.raises(RegistryError):
        await export(
            connection,
            tree(),
            OciArchive(path=tmp_path / "image.tar"),
            Files(path=tmp_path / "out"),
            Push(reference="127.0.0.1:1/nowhere:1"),
        )

    assert b"before" == (tmp_path / "image.tar").read_bytes()
    assert ["image.tar"] == os.listdir(tmp_path)


# --- flags of `docker buildx build` ---


async def test_labels_and_annotations(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are in the config, annotations in the manifest."""
    monkeypatch.setenv(EXTRA, "--label team=ml --label 'note=a b' --annotation org.example.key=value")

    pulled = await build(base)

    assert {"team": "ml", "note": "a b"}.items() <= pulled.config["config"]["Labels"].items()
    assert {"org.example.key": "value"} == pulled.manifest["annotations"]


async def test_index_annotation_without_an_index(base: Image, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An annotation of the index of an image that has none is the daemon's error, and nothing is pushed."""
    monkeypatch.setenv(EXTRA, "--annotation index:org.example.key=value")

    with pytest.raises(ImageBuildError, match="index"):
        await BuildKitImageBuilder().build_image(base)

    assert not exists(str(base.uri))


async def test_hosts(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is added is known to the steps, and the image knows nothing of it."""
    monkeypatch.setenv(EXTRA, "--add-host db.example:10.1.2.3")

    pulled = await build(base.with_commands(["grep db.example /etc/hosts > /seen"]))

    assert b"10.1.2.3\tdb.example\n" == pulled.tree()["seen"].content
    assert [] == [path for path, entry in pulled.tree("etc/").items() if b"db.example" in entry.content]


@pytest.mark.parametrize("network", ["host", "none"])
async def test_network(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    """Steps have this machine's network, or none."""
    monkeypatch.setenv(EXTRA, f"--network {network}")

    pulled = await build(
        base.with_commands([f"cat /proc/net/dev >/{network} && readlink /proc/self/ns/net >/namespace"])
    )

    if network == "none":
        assert {"lo"} == interfaces(pulled.tree()[network].content.decode())
    else:
        assert os.readlink("/proc/self/ns/net") == pulled.tree()["namespace"].content.decode().strip()


def interfaces(listing: str) -> set[str]:
    """The names in a `/proc/net/dev`."""
    return {line.split(":")[0].strip() for line in listing.splitlines()[2:]}


async def test_no_cache(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are run again when asked for, and only then."""
    image = base.with_commands(["cat /proc/sys/kernel/random/uuid > /made"])
    first = (await build(image)).tree()["made"]
    second = (await build(image)).tree()["made"]
    monkeypatch.setenv(EXTRA, "--no-cache")
    third = (await build(image)).tree()["made"]

    assert first == second
    assert first != third


async def test_place_of_the_environment(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of Flyte's own Dockerfile decide where the Python environment is."""
    monkeypatch.setenv(EXTRA, "--build-arg VIRTUALENV=/srv/py --build-arg UNKNOWN=1")

    pulled = await build(base.with_pip_packages("six"))

    assert ("/srv/py", "/srv/py/bin/python") == (pulled.env["VIRTUALENV"], pulled.env["UV_PYTHON"])
    assert pulled.env["PATH"].startswith("/srv/py/bin:")
    assert "srv/py/lib/python3.11/site-packages/six.py" in pulled.tree()
    assert "opt/venv" not in pulled.tree()


async def test_interpreter_of_the_base(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the interpreter of the base named, no environment is made."""
    monkeypatch.setenv(EXTRA, "--build-arg UV_PYTHON=/usr/bin/python3")

    pulled = await build(base)

    assert "/usr/bin/python3" == pulled.env["UV_PYTHON"]
    assert "opt/venv" not in pulled.tree()


async def test_time_of_the_image(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SOURCE_DATE_EPOCH` is the time that the image says it was made at."""
    monkeypatch.setenv(EXTRA, "--build-arg SOURCE_DATE_EPOCH=1700000000")

    pulled = await build(base)

    assert "2023-11-14T22:13:20Z" == pulled.config["created"]


# --- looking ---


def unpacked(path: Path) -> Mapping[str, bytes]:
    """The files of an archive."""
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: reader.read() for name, reader in files.items() if reader is not None}


def blob(files: Mapping[str, bytes], descriptor: Mapping[str, Any]) -> bytes:
    """A blob of a layout, its size and digest checked."""
    kind, _, digest = descriptor["digest"].partition(":")
    data = files[f"blobs/{kind}/{digest}"]
    assert (descriptor["size"], digest) == (len(data), hashlib.sha256(data).hexdigest())
    return data


def mode(path: Path) -> int:
    """A file's permissions."""
    return path.stat().st_mode & 0o7777
