"""Credentials, as a user has them: against the real `docker`, real registries and a real engine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit.session.docker_config import DockerConfig
from buildkit_builder.errors import CredentialsError
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.fakes import certificates
from tests.fakes.certificates import Certificates
from tests.integration.conftest import Private
from tests.integration.servers import PASSWORD, USER, auth
from tests.integration.token_registry import TokenRegistry, token_registry

# --- what docker does ---


@dataclass
class Registry:
    """A registry that lets nobody in, and keeps what it was shown."""

    address: str = ""
    shown: list[bytes] = field(default_factory=list)


@pytest.fixture(scope="module")
def closed() -> Iterator[Registry]:
    """It serves as long as the module's tests run."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if shown := self.headers.get("Authorization"):
                registry.shown.append(base64.b64decode(shown.removeprefix("Basic ")))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="closed"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815 - the name is the server's

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield registry
        server.shutdown()
        thread.join()


GOOD = '{"auths": {"HOST": {"auth": "bWU6d29yZA=="}}'
ANSWER = '{"ServerURL": "x", "Username": "hu", "Secret": "hs"}'
HELPERS = {
    "line": f"echo '{ANSWER}'; echo bye",
    "lower": f"echo '{ANSWER.lower()}'",
    "nothing": "echo '{}'",
    "null": "echo null",
    "unknown": "echo ' credentials not found in native keychain '; exit 1",
    "big": f"echo '{ANSWER}'; head -c 10000000 /dev/zero | tr '\\0' x",
    "before": f"echo hello; echo '{ANSWER}'",
    "empty": "true",
    "locked": "echo locked; exit 1",
}
# Whether docker's client and ours do the same with it. Where docker warns and goes on without credentials and an entry
# is broken that is asked for, ours is an error; that is in tests/buildkit/session/test_docker_config.py.
STATES = {
    "good": GOOD + "}",
    "empty": "",
    "newline": "\n",
    "null": "null",
    "something after it": GOOD + "} junk",
    "line breaks": GOOD.replace("bWU6", "bWU6\\r\\n") + "}",
    "another entry is null": GOOD[:-1] + ', "o": null}}',
    "another password in Latin-1": GOOD[:-1] + ', "o": {"auth": "bWU65A=="}}}',
    "own password in Latin-1": '{"auths": {"HOST": {"auth": "bWU65A=="}}}',
    "own entry is null": '{"auths": {"HOST": null}}',
    "auths is null": '{"auths": null}',
    "auths is a list": '{"auths": [1]}',
    "no object": "[]",
    "trailing comma": '{"auths": {},}',
    "other case": '{"AUTHS": {"HOST": {"AUTH": "bWU6d29yZA=="}}}',
    "twice": GOOD + ', "auths": {"o": {}}}',
    "an entry twice": GOOD[:-1] + ', "HOST": {"username": "x", "password": "y"}}}',
    "address for a key": '{"auths": {"https://HOST/v1/": {"auth": "bWU6d29yZA=="}}}',
    "path for a key": '{"auths": {"HOST/v1/": {"auth": "bWU6d29yZA=="}}}',
    "headers": GOOD + ', "HttpHeaders": {"X": "y"}}',
    "NUL after the password": '{"auths": {"HOST": {"auth": "bWU6d29yZAAA"}}}',
    "half a character": '{"auths": {"HOST": {"username": "me", "password": "a\\ud800b"}}}',
    "store is empty": GOOD + ', "credsStore": ""}',
    "helper is empty": GOOD + ', "credsStore": "locked", "credHelpers": {"HOST": ""}}',
    "helper is null": GOOD + ', "credsStore": "locked", "credHelpers": {"HOST": null}}',
    "helpers are null": GOOD + ', "credHelpers": null}',
    "no such helper": GOOD + ', "credsStore": "nowhere"}',
    **{f"helper: {name}": GOOD + f', "credsStore": "{name}"}}' for name in HELPERS},
}
VARIABLES = {
    "good": '{"auths": {"HOST": {"auth": "ZW52Onc="}}}',
    "broken": "{",
    "no object": "[]",
    "no auth": '{"auths": {"HOST": {}}}',
    "no base64": '{"auths": {"HOST": {"auth": "!"}}}',
    "another registry's": '{"auths": {"o": {"auth": "ZW52Onc="}}}',
    "blank": " ",
}


@dataclass(frozen=True)
class Docker:
    """A user of the `docker` command, with a Docker config and helpers of their own."""

    program: str
    folder: Path
    closed: Registry
    environ: dict[str, str]

    def write(self, content: str) -> None:
        (self.folder / "config.json").write_text(content.replace("HOST", self.closed.address))

    def shows(self, variable: str = "") -> bytes:
        """What docker shows the registry; nothing for an anonymous request, `error` where there is none."""
        self.closed.shown.clear()
        environ = self.environ | {"DOCKER_AUTH_CONFIG": variable} if variable else self.environ
        image = f"{self.closed.address}/x:1"
        command = [self.program, "buildx", "imagetools", "inspect", "--raw", image]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert 0 != done.returncode
        if self.closed.shown:
            return self.closed.shown[0]
        return b"" if "401" in done.stderr or "authorization failed" in done.stderr else b"error"

    def ours(self, variable: str = "") -> bytes:
        """What we would show it."""
        try:
            found = DockerConfig.load(self.folder, auth_config=variable).lookup(self.closed.address)
        except CredentialsError:
            return b"error"
        pair = f"{found.username}:{found.secret}".encode("utf-8", "surrogateescape")
        return pair if found.secret else b""


@pytest.fixture
def client(docker: str, engine: Engine, closed: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """The command, in an environment of its own."""
    folder = tmp_path / "docker"
    folder.mkdir()
    plugins = Path(engine.environ.get("DOCKER_CONFIG", "/nonexistent")) / "cli-plugins"
    if plugins.is_dir():
        (folder / "cli-plugins").symlink_to(plugins)
    for name, script in HELPERS.items():
        path = folder / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
        path.chmod(0o755)
    environ = {**engine.environ, "DOCKER_CONFIG": str(folder), "HOME": str(tmp_path)}
    environ["PATH"] = f"{folder}{os.pathsep}{environ['PATH']}"
    environ.pop("DOCKER_AUTH_CONFIG", None)
    monkeypatch.setenv("PATH", environ["PATH"])
    return Docker(docker, folder, closed, environ)


@pytest.mark.parametrize("state", STATES)
def test_a_config_is_read_as_docker_reads_it(client: Docker, state: str) -> None:
    """Whatever state the config is in, the registry is shown the same, or there is an error in both."""
    client.write(STATES[state])

    assert client.shows() == client.ours()


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_variable_is_read_as_docker_reads_it(client: Docker, variable: str) -> None:
    """`DOCKER_AUTH_CONFIG` comes before the file where it makes sense, and otherwise does not count."""
    client.write(STATES["good"])
    given = VARIABLES[variable].replace("HOST", client.closed.address)

    assert client.shows(given) == client.ours(given)


# --- builds ---


def helper(folder: Path, script: str) -> None:
    """The helper `test` on the PATH, which notes what it is asked."""
    path = folder / "docker-credential-test"
    path.write_text(f"#!/bin/sh\nread -r key\necho $key >> {folder}/asked\n{script}\n")
    path.chmod(0o755)


async def test_a_helper_is_asked_once_for_a_build(private: Private, name: str) -> None:
    """One process answers all that the daemon asks of a registry in one build, and in the next."""
    address = private.registry.address
    helper(private.folder, f"""echo '{{"Username": "{USER}", "Secret": "{PASSWORD}"}}'""")
    private.config(credHelpers={address: "test"})

    await BuildKitImageBuilder().build_image(private.image)
    await BuildKitImageBuilder().build_image(private.image.with_env_vars({"SECOND": "1"}))

    assert private.registry.has(name)
    assert 1 == (private.folder / "asked").read_text().split().count(address)


async def test_a_password_that_was_wrong_is_asked_for_again(private: Private, name: str) -> None:
    """Where a build failed with what a helper had said, the next one asks it anew."""
    private.config(credHelpers={private.registry.address: "test"})
    helper(private.folder, f"""echo '{{"Username": "{USER}", "Secret": "'$(cat {private.folder}/now)'"}}'""")
    (private.folder / "now").write_text("wrong")
    with pytest.raises(ImageBuildError, match="docker login"):
        await BuildKitImageBuilder().build_image(private.image)
    (private.folder / "now").write_text(PASSWORD)

    await BuildKitImageBuilder().build_image(private.image)

    assert private.registry.has(name)


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"auths": {"other.example": null}}', '{"auths": {"other.example": {"auth": "!"}}}', '{"auths": []}'],
)
async def test_a_config_that_is_not_needed_ends_no_build(
    private: Private, base: Image, engine_registry: str, content: str
) -> None:
    """What is wrong with Docker's config is no matter for registries that want no password."""
    (private.folder / "config.json").write_text(content)

    result = await BuildKitImageBuilder().build_image(base.clone(registry=engine_registry, extendable=True))

    assert result.uri is not None


async def test_a_config_that_makes_no_sense_is_told(
    private: Private,
    base: Image,
    engine_registry: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As docker warns of it: the registries are asked without credentials, and the build says why."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROGRESS", "plain")
    (private.folder / "config.json").write_text("{hunter2")

    await BuildKitImageBuilder().build_image(base.clone(registry=engine_registry, extendable=True))

    said = capfd.readouterr().err
    assert f"The Docker config {private.folder}/config.json is not JSON (line 1)" in said
    assert "hunter2" not in said


async def test_the_broken_entry_is_named(private: Private, name: str) -> None:
    """An entry that makes no sense ends a build that needs it, and is named with its file."""
    private.config(auths={private.registry.address: {"auth": "hunter2"}})

    with pytest.raises(
        ImageBuildError, match=f"The entry of {private.registry.address} in the Docker config"
    ) as caught:
        await BuildKitImageBuilder().build_image(private.image)
    assert "hunter2" not in str(caught.value)
    assert not private.registry.has(name)


async def test_the_variable_comes_after_the_registry_secret(
    private: Private, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image with a registry secret for one registry still has what `DOCKER_AUTH_CONFIG` says of another."""
    monkeypatch.setenv("REGISTRY", json.dumps({"auths": {"other.example": {"auth": auth("x", "y")}}}))
    known = {"auths": {private.registry.address: {"auth": auth(USER, PASSWORD)}}}
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(known))

    await BuildKitImageBuilder().build_image(private.image.clone(registry_secret="registry", extendable=True))

    assert private.registry.has(name)


@pytest.fixture
def certs(tmp_path: Path) -> Certificates:
    """A company's certificates, which no system knows."""
    (tmp_path / "certs").mkdir()
    return certificates.make(tmp_path / "certs")


@pytest.fixture
def guarded(engine: Engine, certs: Certificates, tmp_path: Path) -> Iterator[TokenRegistry]:
    """A registry whose token server has TLS, by that company."""
    assert engine.registry_bin is not None
    with token_registry(engine.registry_bin, tmp_path / "guarded", certs) as registry:
        yield registry


def for_guarded(private: Private, guarded: TokenRegistry) -> Image:
    """An image for that registry, whose password the user knows."""
    private.config(auths={guarded.address: {"auth": auth(USER, PASSWORD)}})
    return private.image.clone(registry=guarded.address, extendable=True)


async def test_a_token_server_of_a_company(
    private: Private, guarded: TokenRegistry, certs: Certificates, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate is not trusted; with the setting `ca_bundle` it is, and the image is pushed."""
    image = for_guarded(private, guarded)
    monkeypatch.delenv("FLYTE_BUILDKIT_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(ImageBuildError, match="its certificate is not trusted") as caught:
        await BuildKitImageBuilder().build_image(image)
    assert "`image.buildkit.ca_bundle`" in str(caught.value)
    assert not guarded.has(name)
    assert [] == guarded.asked

    monkeypatch.setenv("FLYTE_BUILDKIT_CA_BUNDLE", str(certs.ca))
    await BuildKitImageBuilder().build_image(image)

    assert guarded.has(name)
    assert {USER} == set(guarded.asked)


async def test_the_token_server_of_an_insecure_registry(
    private: Private, guarded: TokenRegistry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`insecure_registries` holds at the token server of such a registry as well."""
    image = for_guarded(private, guarded)
    monkeypatch.setenv("FLYTE_BUILDKIT_INSECURE_REGISTRIES", guarded.address)

    await BuildKitImageBuilder().build_image(image)

    assert guarded.has(name)
