"""A daemon that asks for everything while it builds an image: it gets what the image names, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from buildkit_builder.buildkit.wire import gateway_pb2, services
from buildkit_builder.buildkit.wire.auth_pb2 import CredentialsRequest, CredentialsResponse
from buildkit_builder.buildkit.wire.secrets_pb2 import GetSecretRequest, GetSecretResponse
from buildkit_builder.config import Settings
from buildkit_builder.errors import CredentialsError
from buildkit_builder.flyte_plugin import image_build
from buildkit_builder.image.spec import (
    CommandsLayer,
    CopyLayer,
    DockerfileSpec,
    ImageSpec,
    Layer,
    LocalFiles,
    SecretRef,
)
from tests.buildkit.session.harness import Daemon, MemoryCall, ending
from tests.fakes.buildkit import FakeBuildKit, Refusal

HUB = "https://index.docker.io/v1/"
NAMES = ("base", "target", "uv", "cache", "mirror", "own")
KNOWN = (*(f"{name}.corp" for name in NAMES), "other.corp:5000", "evil.example", HUB)
DIGEST = "sha256:" + "0" * 64
CONFIG = b'{"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}'
TOKEN = SecretRef(id="token", variable="TOKEN", source_variable="HOSTILE_TOKEN", source_file="/nowhere")


class Prober:
    """Asks for everything when the daemon is given the graph.

    Attributes:
        hosts: The registries whose passwords it got.
        secrets: The secrets it got, by id.
        files: The files it got, by folder.
        refused: How it was answered to everything else.
    """

    def __init__(self, fake: FakeBuildKit, folders: tuple[str, ...]) -> None:
        self.fake = fake
        self.folders = folders
        self.hosts: set[str] = set()
        self.secrets: dict[str, bytes] = {}
        self.files: dict[str, list[str]] = {}
        self.refused: set[grpc.StatusCode] = set()

    async def __call__(self, request: Any) -> Any:
        for build in self.fake.builds.values():
            await self.fake.until_session(build.request.Session)
        for channel in self.fake.sessions.values():
            await self._ask(Daemon(channel, MemoryCall(), ()))
        return gateway_pb2.SolveResponse(result=gateway_pb2.Result(ref=gateway_pb2.Ref(id="made")))

    async def _ask(self, daemon: Daemon) -> None:
        for host in (*KNOWN, "registry-1.docker.io"):
            request = CredentialsRequest(Host=host)
            try:
                answer = await daemon.unary(services.AUTH_CREDENTIALS, request, CredentialsResponse)
            except grpc.aio.AioRpcError:
                continue
            if answer.Secret:
                self.hosts.add(host)
        for name in ("token", "HOSTILE_TOKEN", "other", "buildkit-builder-ca", ""):
            try:
                found = await daemon.unary(services.SECRETS_GET_SECRET, GetSecretRequest(ID=name), GetSecretResponse)
            except grpc.aio.AioRpcError:
                continue
            self.secrets[name] = found.data
        for name in self.folders:
            try:
                tree = await daemon.pull(name, metadata=[("followpaths", "up/secret"), ("include-patterns", "**")])
            except grpc.aio.AioRpcError:
                continue
            self.files[name] = sorted(tree.contents)
        for path in (services.FILESEND_DIFF_COPY, services.SSH_CHECK_AGENT, f"/{services.CONTENT}/List"):
            self.refused.add(await ending(daemon.stream(path)))


@pytest.fixture(autouse=True)
def _machine(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials for many registries, secrets of which the image names one, and a folder with links out of it."""
    config = tmp_path / "docker"
    config.mkdir()
    auths = {host: {"username": "me", "password": "word"} for host in KNOWN}
    (config / "config.json").write_text(json.dumps({"auths": auths}))
    clean_environ.setenv("DOCKER_CONFIG", str(config))
    clean_environ.setenv("HOSTILE_TOKEN", "value")
    clean_environ.setenv("OTHER", "other value")
    (tmp_path / "secret").write_text("secret")
    source = tmp_path / "src"
    source.mkdir()
    (source / "a.py").write_text("a")
    (source / "ignored.txt").write_text("ignored")
    (source / "up").symlink_to("..")


def image(source: Path, *layers: Layer) -> ImageSpec:
    files = LocalFiles(kind="folder", root=source, ignore=("ignored.txt",))
    return ImageSpec(
        reference="target.corp/team/mine:1", push=True, base="base.corp/base:1", platforms=("linux/amd64",),
        python_version=(3, 12), creates_user=False, uv_image="uv.corp/uv:1",
        layers=(CopyLayer(files=files, destination=".", origin="with_source_folder"), *layers),
    )  # fmt: skip


def settings(fake: FakeBuildKit, **more: Any) -> Settings:
    section = {"endpoint": fake.address, "progress": "quiet", **more}
    return Settings.load({"image": {"buildkit": section}}, {})


async def probed(fake: FakeBuildKit, spec: ImageSpec | DockerfileSpec, **more: Any) -> Prober:
    """What a daemon gets that asks for everything while it builds."""
    names = ("context", "dockerfile", "..", "/", "src", "up", *(directory_names(spec)))
    prober = Prober(fake, names)
    fake.images["base.corp/base:1"] = (DIGEST, CONFIG)
    # Not only once: some solves are nothing that the build waits for.
    fake.answer(services.LLBBRIDGE_SOLVE, *[prober] * 5)
    try:
        await image_build.build(spec, settings(fake, **more))
    finally:
        assert fake.called(services.LLBBRIDGE_SOLVE)
    return prober


def directory_names(spec: ImageSpec | DockerfileSpec) -> tuple[str, ...]:
    from buildkit_builder.flyte_plugin.image_build.build_inputs import ImageJob

    if isinstance(spec, DockerfileSpec):
        return ()
    return tuple(directory.name for directory in ImageJob.of(spec, Settings()).directories())


async def test_an_image_of_layers(tmp_path: Path) -> None:
    """The registries of its base, its name, its caches and its mirrors; its secret; the files that it copies."""
    spec = image(tmp_path / "src", CommandsLayer(commands=("true",), secrets=(TOKEN,)))
    async with FakeBuildKit() as fake:
        fake.images["mirror.corp/proxy/base:1"] = (DIGEST, CONFIG)
        prober = await probed(
            fake,
            spec,
            registry_mirrors={"base.corp": "mirror.corp/proxy"},
            cache_from=["type=registry,ref=cache.corp/mine"],
            credentials_for=["own.corp"],
        )

    assert {"base.corp", "target.corp", "uv.corp", "cache.corp", "mirror.corp", "own.corp"} == prober.hosts
    assert {"token": b"value"} == prober.secrets
    assert [["a.py"]] == list(prober.files.values())
    assert {grpc.StatusCode.UNIMPLEMENTED} == prober.refused


async def test_an_image_of_a_dockerfile(tmp_path: Path) -> None:
    """Docker Hub and the registries that stand in the Dockerfile; the folder that it lies in, with links as links."""
    (tmp_path / "src" / "Dockerfile").write_text("ARG FROM=other.corp:5000/base\nFROM ${FROM}\n")
    spec = DockerfileSpec(
        reference="target.corp/team/mine:1", push=True, dockerfile=tmp_path / "src" / "Dockerfile",
        platforms=("linux/amd64",),
    )  # fmt: skip
    async with FakeBuildKit() as fake:
        prober = await probed(fake, spec)

    assert {"other.corp:5000", "target.corp", HUB, "registry-1.docker.io"} >= prober.hosts
    assert {"other.corp:5000", "target.corp", "registry-1.docker.io"} <= prober.hosts
    assert {} == prober.secrets
    assert {"context": ["Dockerfile", "a.py", "ignored.txt"], "dockerfile": ["Dockerfile", "a.py", "ignored.txt"]} == (
        prober.files
    )


async def test_a_name_that_the_daemon_makes_up_brings_no_credentials(tmp_path: Path) -> None:
    """That an image is really one of another registry is the daemon's word, and opens nothing."""
    spec = image(tmp_path / "src")
    async with FakeBuildKit(gateway_caps={"gateway.evaluate": True}) as fake:
        lie = gateway_pb2.ResolveImageConfigResponse(Digest=DIGEST, Config=CONFIG, Ref="evil.example/base:1")
        fake.answer(services.LLBBRIDGE_RESOLVE_IMAGE_CONFIG, lie, lie, lie)
        prober = await probed(fake, spec)

    assert {"base.corp", "target.corp", "uv.corp"} == prober.hosts


async def test_what_was_withheld_is_said_where_it_may_matter(tmp_path: Path) -> None:
    """A build that fails for want of credentials names the registry that was asked for, and the setting for it."""
    async with FakeBuildKit() as fake:
        prober = Prober(fake, ())

        async def refuse(request: Any) -> Refusal:
            await prober(request)
            return Refusal("failed to do request for mirror.corp/base: 401 Unauthorized")

        fake.images["base.corp/base:1"] = (DIGEST, CONFIG)
        fake.answer(services.LLBBRIDGE_SOLVE, *[refuse] * 5)
        with pytest.raises(CredentialsError) as caught:
            await image_build.build(image(tmp_path / "src"), settings(fake))

    assert "It was given no credentials for cache.corp, mirror.corp, own.corp" in str(caught.value)
    assert "`image.buildkit.credentials_for`" in str(caught.value)
