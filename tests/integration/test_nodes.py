"""One image on several nodes, which are two Docker Engines of the test's own."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from flyte import Image, Secret
from flyte.config import _reader
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker
from tests.buildkit.connect.test_engine import Front
from tests.conftest import Engine
from tests.fakes import certificates
from tests.integration.conftest import BASE
from tests.integration.daemon import Daemon, daemon
from tests.integration.registry import digest_of, exists, manifest, pull
from tests.integration.servers import open_registry

Name = Literal["linux/amd64", "linux/arm64"]
BOTH: tuple[Name, ...] = ("linux/amd64", "linux/arm64")
# Nothing runs, so that a node may build for any platform; what is added comes from the test.
DOCKERFILE = """\
FROM scratch
ARG TARGETARCH
ADD {source}/$TARGETARCH /made
COPY data.txt /data.txt
"""


@dataclass
class Source:
    """A server from which steps have a file, whose content is its path.

    Attributes:
        held: Paths that are not answered, as often as this says.
        asked: Paths that steps asked for.
        ended: Paths whose connection the daemon ended before it had an answer.
    """

    address: str = ""
    held: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    async def until(self, what: Counter[str], path: str) -> None:
        """Waits until a counter has a path; a test's time limit is the limit."""
        while not what[path]:
            await asyncio.sleep(0.02)


@pytest.fixture
def source() -> Iterator[Source]:
    """The server."""
    source = Source()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            source.asked[self.path] += 1
            if source.held[self.path] > 0:
                source.held[self.path] -= 1
                # Returns when the other side closes.
                self.connection.recv(1)
                source.ended[self.path] += 1
                self.close_connection = True
                return
            body = self.path.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        source.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield source
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Pair:
    """The two nodes, `amd` for amd64 and `arm` for arm64.

    Attributes:
        folder: With the Dockerfile.
        registry: Where the image is pushed, and its log.
    """

    amd: Daemon
    arm: Daemon
    source: Source
    folder: Path
    registry: str
    log: Path
    monkeypatch: pytest.MonkeyPatch

    def use(self, *nodes: str) -> None:
        """Sets the `endpoint` setting."""
        self.monkeypatch.setenv("FLYTE_BUILDKIT_ENDPOINT", ",".join(nodes))

    def image(self, name: str, *platforms: Name) -> Image:
        return Image.from_dockerfile(
            self.folder / "Dockerfile", registry=self.registry, name=name, platform=platforms or BOTH
        )


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """A registry of the test's own, whose log can be read."""
    assert engine.registry_bin is not None
    with open_registry(engine.registry_bin, tmp_path / "registry") as address:
        yield address


@pytest.fixture
def pair(engine: Engine, registry: str, source: Source, user: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The two nodes, both up and in the settings."""
    (user / "Dockerfile").write_text(DOCKERFILE.format(source=source.address))
    (user / "data.txt").write_text("hello")
    assert engine.dockerd is not None
    with daemon(engine.dockerd, engine.environ) as amd, daemon(engine.dockerd, engine.environ) as arm:
        pair = Pair(amd, arm, source, user, registry, user.parent / "registry" / "log", monkeypatch)
        pair.use(f"linux/amd64=docker+{amd.address}", f"linux/arm64=docker+{arm.address}")
        yield pair


async def build(image: Image) -> None:
    await BuildKitImageBuilder().build_image(image)


def made(reference: str, platform: str) -> bytes:
    """What the step of a platform made."""
    return pull(reference, platform=platform).tree()["made"].content


async def test_each_platform_on_its_node(pair: Pair, capfd: pytest.CaptureFixture[str]) -> None:
    """Both build at the same time, and their manifests, as they were pushed, are joined under the tag."""
    pair.monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    image = pair.image("two")

    await build(image)

    index, _ = manifest(image.uri)
    assert ["amd64", "arm64"] == [entry["platform"]["architecture"] for entry in index["manifests"]]
    for platform in BOTH:
        assert f"/{platform.partition('/')[2]}".encode() == made(image.uri, platform)
        assert b"hello" == pull(image.uri, platform=platform).tree()["data.txt"].content
    shown = capfd.readouterr().err
    for platform, node in zip(BOTH, (pair.amd, pair.arm), strict=True):
        assert (
            f"[two:{image.uri.rpartition(':')[2][:8]} {platform} on {node.folder}/sock] #1 reading Dockerfile" in shown
        )


async def test_joining_moves_no_layer(pair: Pair) -> None:
    """What the nodes have pushed is in the index byte for byte; to join it, of the blobs only configs are fetched."""
    image = pair.image("moved")

    await build(image)

    requests = re.findall(r'"([A-Z]+ /v2/moved/\S+) HTTP', pair.log.read_text())
    pushed = [
        number for number, request in enumerate(requests) if request.startswith("PUT /v2/moved/manifests/sha256:")
    ]
    index, _ = manifest(image.uri)
    digests = {entry["digest"] for entry in index["manifests"]}
    assert digests == {requests[number].rpartition("/")[2] for number in pushed}
    joining = [request for request in requests[pushed[-1] + 1 :] if "/blobs/" in request and request[:4] != "HEAD"]
    parts = [manifest(f"{pair.registry}/moved@{digest}")[0] for digest in digests]
    assert {f"GET /v2/moved/blobs/{part['config']['digest']}" for part in parts} >= set(joining)


async def test_one_node_is_enough_for_its_platform(pair: Pair) -> None:
    """An image for one platform is built by its node alone, tag and all, whether or not the other is there."""
    pair.arm.kill()
    image = pair.image("one", "linux/amd64")

    await build(image)

    assert b"/amd64" == made(image.uri, "linux/amd64")
    assert "manifests" not in manifest(image.uri)[0]


async def test_other_platforms_of_the_tag_stay(pair: Pair) -> None:
    """What is under the tag for a platform that the nodes do not build now stays there, as with one daemon."""
    pair.use(f"linux/arm64=docker+{pair.arm.address}", f"linux/amd64+linux/386=docker+{pair.amd.address}")
    await build(pair.image("stay", "linux/arm64"))
    image = pair.image("stay", "linux/amd64")

    await build(image)

    index, _ = manifest(image.uri)
    assert {"amd64", "arm64"} == {entry["platform"]["architecture"] for entry in index["manifests"]}


async def test_flyte_finds_what_two_nodes_have_built(pair: Pair) -> None:
    """The existence check asks a node that is up, and knows the image by its label."""
    image = pair.image("found")
    repository, _, tag = image.uri.rpartition(":")
    assert await BuildKitImageChecker.image_exists(repository, tag, BOTH) is None
    await build(image)

    assert image.uri == await BuildKitImageChecker.image_exists(repository, tag, BOTH)
    pair.amd.kill()
    assert image.uri == await BuildKitImageChecker.image_exists(repository, tag, BOTH)


async def test_down_at_the_start(pair: Pair, capfd: pytest.CaptureFixture[str]) -> None:
    """Its platform goes to another node that can, and the progress says so; nothing else changes."""
    pair.monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    pair.use(f"linux/arm64=docker+{pair.arm.address}", f"linux/amd64+linux/arm64=docker+{pair.amd.address}")
    pair.arm.kill()
    image = pair.image("down")

    await build(image)

    assert [b"/amd64", b"/arm64"] == [made(image.uri, platform) for platform in BOTH]
    assert f"The node {pair.arm.folder}/sock is down: No BuildKit could be reached" in capfd.readouterr().err


async def test_all_down_at_the_start(pair: Pair) -> None:
    """One clear error that names each, and nothing is under the tag."""
    pair.amd.kill()
    pair.arm.kill()
    image = pair.image("missing")

    with pytest.raises(ImageBuildError, match=r"None of the nodes can be reached\.") as caught:
        await build(image)

    for node in (pair.amd, pair.arm):
        assert f"The node {node.folder}/sock is down: No BuildKit could be reached" in str(caught.value)
    assert not exists(image.uri)


async def test_killed_in_mid_build(pair: Pair) -> None:
    """The platform that it was building goes to another node, and the image is whole."""
    pair.use(f"linux/arm64=docker+{pair.arm.address}", f"linux/amd64+linux/arm64=docker+{pair.amd.address}")
    pair.source.held["/arm64"] = 1
    image = pair.image("killed")
    building = asyncio.ensure_future(build(image))
    await pair.source.until(pair.source.asked, "/arm64")

    pair.arm.kill()
    await asyncio.wait_for(building, 60)

    assert 2 == pair.source.asked["/arm64"]
    assert [b"/amd64", b"/arm64"] == [made(image.uri, platform) for platform in BOTH]


async def test_all_killed_in_mid_build(pair: Pair) -> None:
    """The error names the nodes, and the tag is what it was before."""
    image = pair.image("lost")
    await build(image)
    before = digest_of(image.uri)
    (pair.folder / "Dockerfile").write_text(DOCKERFILE.format(source=f"{pair.source.address}/again"))
    pair.source.held.update({"/again/amd64": 1, "/again/arm64": 1})
    building = asyncio.ensure_future(build(image))
    for platform in ("amd64", "arm64"):
        await pair.source.until(pair.source.asked, f"/again/{platform}")

    pair.arm.kill()
    pair.amd.kill()
    with pytest.raises(
        ImageBuildError, match=r"None of the nodes can be reached\. The node .* is down: The connection"
    ):
        await asyncio.wait_for(building, 60)

    assert before == digest_of(image.uri)


async def test_a_step_that_fails_on_one_node(pair: Pair) -> None:
    """The error names the node and the platform, the other's work is cancelled, and nothing is under the tag."""
    (pair.folder / "Dockerfile").write_text(f"{DOCKERFILE.format(source=pair.source.address)}COPY $TARGETARCH.txt /\n")
    (pair.folder / "amd64.txt").write_text("")
    pair.source.held["/amd64"] = 1
    image = pair.image("failed")
    building = asyncio.ensure_future(build(image))
    await pair.source.until(pair.source.asked, "/amd64")

    with pytest.raises(ImageBuildError, match=rf"On the node {pair.arm.folder}/sock, for linux/arm64: .*arm64\.txt"):
        await asyncio.wait_for(building, 60)

    await pair.source.until(pair.source.ended, "/amd64")
    assert not exists(image.uri)


async def test_without_a_registry(pair: Pair) -> None:
    """What several nodes build can only meet in a registry, and the error says so; one node's own image is loaded."""
    image = Image.from_dockerfile(pair.folder / "Dockerfile", registry="", name="loaded", platform=BOTH)
    alone = Image.from_dockerfile(pair.folder / "Dockerfile", registry="", name="loaded", platform=("linux/amd64",))
    pair.monkeypatch.delenv("FLYTE_IMAGE_REGISTRY")

    with pytest.raises(ImageBuildError, match=r"names no registry, and what several nodes build can only meet in one"):
        await build(image)
    await build(alone)

    assert alone.uri in pair.amd.images()


@pytest.fixture
async def secured(pair: Pair, tmp_path: Path) -> AsyncIterator[Pair]:
    """The same nodes as buildkitds behind mutual TLS, in a config file."""
    certs = certificates.make(tmp_path)
    async with (
        Front(f"{pair.amd.folder}/sock", upgrade=True, tls=certs.server_context("h2")) as amd,
        Front(f"{pair.arm.folder}/sock", upgrade=True, tls=certs.server_context("h2")) as arm,
    ):
        (pair.folder / "config.yaml").write_text(
            "image:\n  buildkit:\n    endpoint:\n"
            f"    - {{name: intel, address: '{amd.address}', platforms: [linux/amd64]}}\n"
            f"    - {{name: graviton, address: '{arm.address}', platforms: [linux/arm64]}}\n"
            f"    tls: {{ca: {certs.ca}, cert: {certs.client}, key: {certs.client_key}}}\n"
        )
        pair.monkeypatch.delenv("FLYTE_BUILDKIT_ENDPOINT")
        _reader.get_config_file.cache_clear()  # Flyte looks for a file once per process
        yield pair
        _reader.get_config_file.cache_clear()


async def test_nodes_behind_mutual_tls(secured: Pair, capfd: pytest.CaptureFixture[str]) -> None:
    """Nodes of a config file, with names and a certificate for all of them."""
    secured.monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    image = secured.image("secured")

    await build(image)

    assert [b"/amd64", b"/arm64"] == [made(image.uri, platform) for platform in BOTH]
    shown = capfd.readouterr().err
    assert "linux/amd64 on intel] #1 " in shown
    assert "linux/arm64 on graviton] #1 " in shown


async def test_layers_on_two_nodes(
    engine: Engine, name: str, user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, secrets and the caches of an image of layers reach each node; here both are the shared engine."""
    (tmp_path / "again").symlink_to(engine.docker_host.removeprefix("unix://"))
    monkeypatch.setenv(
        "FLYTE_BUILDKIT_ENDPOINT",
        f"linux/amd64=docker+{engine.docker_host},linux/arm64=docker+unix://{tmp_path / 'again'}",
    )
    monkeypatch.setenv("TOKEN", "sesame")
    (user / "main.py").write_text("x = 1\n")
    image = Image.from_base(BASE).clone(
        name=name, registry=engine.registry, extendable=True, python_version=(3, 11), platform=BOTH
    )
    image = image.with_source_file(user / "main.py", dst="/app/").with_commands(
        ['test -n "$TOKEN" && uname -m > /machine'], secret_mounts=[Secret("TOKEN")]
    )

    await build(image)

    for platform, machine in zip(BOTH, (b"x86_64\n", b"aarch64\n"), strict=True):
        tree = pull(image.uri, platform=platform).tree()
        assert machine == tree["machine"].content
        assert b"x = 1\n" == tree["app/main.py"].content
