"""What goes wrong by the user's or the machine's fault: one clear error each, and nothing under the tag."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from flyte import Image, Secret
from flyte.errors import ImageBuildError

from buildkit_builder import errors
from buildkit_builder.buildkit.connect.connection import Connection
from buildkit_builder.buildkit.wire import services
from buildkit_builder.config import Settings
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.image.destination import Destination
from buildkit_builder.image.spec import ImageSpec
from tests.conftest import Engine
from tests.fakes.buildkit import FakeBuildKit
from tests.fakes.docker_engine import FakeEngine
from tests.integration.command import run, write_project
from tests.integration.conftest import BASE, Private
from tests.integration.registry import tags
from tests.integration.servers import PASSWORD, USER, answering, auth

NOWHERE = "unix:///nowhere/at/all.sock"
# A port of the loopback that the system gives to nobody.
CLOSED = "127.0.0.1:1"

Failure = Callable[[Image, type[errors.BuildKitError]], Awaitable[str]]


@pytest.fixture
def failure(user: Path, engine: Engine, name: str) -> Failure:
    """Builds an image that cannot be built: gives the message, and sees that nothing has a tag."""

    async def failed(image: Image, kind: type[errors.BuildKitError]) -> str:
        with pytest.raises(ImageBuildError) as caught:
            await BuildKitImageBuilder().build_image(image)
        assert kind is type(caught.value.__cause__)
        assert [] == tags(engine.registry, name)
        return str(caught.value)

    return failed


@pytest.fixture
def nowhere(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon: what is wrong with the image itself has to be found without one."""
    monkeypatch.setenv("FLYTE_BUILDKIT_ENDPOINT", NOWHERE)


# --- the daemon ---


@pytest.mark.parametrize("size", [17_000_000, 40_000_000])
async def test_a_graph_that_is_too_large(base: Image, failure: Failure, size: int) -> None:
    """No daemon takes it, be it newer: what is long belongs into a file."""
    said = await failure(base.with_env_vars({"LONG": "x" * size}).with_commands(["true"]), errors.ImageError)

    assert "too large" in said
    assert f"{size >> 20}." in said
    assert "16 MiB" in said
    assert "with_source_file" in said
    assert len(said) < 2000


async def test_no_buildkit(base: Image, failure: Failure, nowhere: None) -> None:
    """Where nothing listens, the error says where that is, why there, and what to do."""
    said = await failure(base, errors.EndpointError)

    assert f"No BuildKit could be reached at {NOWHERE}" in said
    assert "the `endpoint` setting" in said
    assert "No such file or directory" in said


async def test_unknown_scheme(base: Image, failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint of a scheme that is not known is told with those that are."""
    monkeypatch.setenv("FLYTE_BUILDKIT_ENDPOINT", "unxi:///run/buildkit/buildkitd.sock")

    said = await failure(base, errors.EndpointError)

    assert "`unxi:///run/buildkit/buildkitd.sock` (the `endpoint` setting names it) is of no known form" in said
    assert "Did you mean `unix`?" in said


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"FLYTE_BUILDKIT_ENDPOINT": "tcp://127.0.0.1:1", "FLYTE_BUILDKIT_TLS_SERVER_NAME": "buildkitd"},
            "`tls.ca`",
        ),
        ({"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"}, "ca.pem"),
    ],
)
async def test_tls_without_ca(
    base: Image, failure: Failure, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    """TLS without the CA that vouches for the daemon is refused, and the missing setting or file is named."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    said = await failure(base, errors.EndpointError)

    assert "TLS without CA" in said
    assert words in said


async def test_daemon_too_old(base: Image, failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine from before BuildKit could be asked is told with the version that can."""
    async with FakeBuildKit() as buildkit, FakeEngine(buildkit.path, api="1.38") as old:
        monkeypatch.setenv("DOCKER_HOST", old.address)

        said = await failure(base, errors.CapabilityError)

    assert "(API 1.38) is too old to build with" in said
    assert "Docker Engine 20.10 or later" in said


@pytest.mark.parametrize(("lose", "kind"), [("refused", errors.SolveError), ("gone", errors.DaemonLostError)])
async def test_an_engine_that_is_lost_while_the_destination_is_chosen(
    base: Image, failure: Failure, monkeypatch: pytest.MonkeyPatch, lose: str, kind: type[errors.BuildKitError]
) -> None:
    """An engine that is asked what it can do and goes away is told as that, and not in the words of gRPC."""
    async with FakeBuildKit() as buildkit, FakeEngine(buildkit.path) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.address)
        if lose == "refused":
            buildkit.refuse(services.CONTROL_LIST_WORKERS, "gone", code=grpc.StatusCode.UNAVAILABLE)
        else:
            choose = Destination.choose

            async def lost(spec: ImageSpec, settings: Settings, connection: Connection) -> Destination:
                await buildkit.lose()
                return await choose(spec, settings, connection)

            monkeypatch.setattr(Destination, "choose", lost)

        said = await failure(base.with_env_vars({"A": "1"}), kind)

    assert "AioRpcError" not in said
    assert "asking where the daemon can put an image" in said


# --- the base image ---


async def test_missing_base(engine: Engine, name: str, failure: Failure) -> None:
    """A base image that is not in its registry is named."""
    missing = f"{engine.registry}/{name}-base:1"
    image = Image.from_base(missing).clone(name=name, registry=engine.registry, extendable=True)

    said = await failure(image, errors.BaseImageError)

    assert f"There is no image `{missing}`" in said


async def test_base_without_the_platform(engine: Engine, base: Image, name: str, failure: Failure) -> None:
    """A base that is not there for a platform of the image is told with both."""
    only_amd64 = base.clone(name=f"{name}-base").with_env_vars({"BASE": "1"})
    await BuildKitImageBuilder().build_image(only_amd64)
    image = Image.from_base(only_amd64.uri).clone(
        name=name, registry=engine.registry, extendable=True, platform=("linux/amd64", "linux/arm64")
    )

    said = await failure(image, errors.BaseImageError)

    assert only_amd64.uri in said
    assert "linux/arm64" in said


# --- steps ---


async def test_apt_package_that_does_not_exist(base: Image, failure: Failure) -> None:
    """Apt's own words are in the error, under the layer that named the package."""
    image = base.with_apt_packages("no-such-package-anywhere")

    said = await failure(image, errors.StepFailedError)

    assert "The step `with_apt_packages no-such-package-anywhere` failed" in said
    assert "Unable to locate package no-such-package-anywhere" in said


async def test_pip_package_that_does_not_exist(base: Image, failure: Failure) -> None:
    """The installer's own words are in the error, under the layer that named the package."""
    image = base.with_pip_packages("no-such-package-anywhere-7f3a")

    said = await failure(image, errors.StepFailedError)

    assert "The step `with_pip_packages no-such-package-anywhere-7f3a` failed" in said
    assert "no-such-package-anywhere-7f3a was not found" in " ".join(said.split())


async def test_failing_command(base: Image, failure: Failure) -> None:
    """A command that fails is told with its step, its exit code and its last lines, and nothing is pushed."""
    image = base.with_commands(["echo first; echo 'the last words'; exit 42"])

    said = await failure(image, errors.StepFailedError)

    assert "The step `with_commands echo first; echo 'the last words'; exit 42` failed" in said
    assert "exit code 42" in said
    assert "\n  first\n  the last words" in said


def test_failing_command_on_the_command_line(engine: Engine, name: str, user: Path) -> None:
    """`flyte build` ends with an error code and the message, and without a traceback."""
    write_project(
        user,
        image=f"flyte.Image.from_base('{BASE}').clone(name='{name}', registry='{engine.registry}', extendable=True)"
        ".with_commands(['echo \"[red]the last words[/blue]\"; exit 42'])",
    )

    ended = run("flyte", "-c", "config.yaml", "build", "app.py", "env", folder=user)

    assert 0 != ended.code
    assert "exit code 42" in ended.plain
    assert "[red]the last words[/blue]" in ended.plain
    assert "Traceback" not in ended.output
    assert [] == tags(engine.registry, name)


# --- what is missing on this machine ---


@pytest.mark.parametrize("layer", ["with_source_file", "with_source_folder", "with_requirements"])
async def test_missing_source(base: Image, failure: Failure, nowhere: None, user: Path, layer: str) -> None:
    """A file or folder that is gone when the build starts is named with its layer, before any connection."""
    missing = user / "requirements.txt"
    if layer == "with_source_folder":
        missing.mkdir()
        image = base.with_source_folder(missing)
        missing.rmdir()
    else:
        missing.write_text("six\n")
        image = getattr(base, layer)(missing)
        missing.unlink()

    said = await failure(image, errors.MissingSourceError)

    assert layer in said
    assert f"`{missing}` does not exist" in said


async def test_missing_secret(base: Image, failure: Failure, nowhere: None) -> None:
    """A secret without a value is named, with the places it is looked for in, before any connection."""
    image = base.with_commands(["true"], secret_mounts=[Secret(key="absent", group="team")])

    said = await failure(image, errors.MissingSecretError)

    assert "The secret `team/absent` has no value" in said
    assert "TEAM_ABSENT" in said
    assert "/etc/secrets/team_absent" in said


# --- registries ---


async def test_no_credentials(private: Private, name: str, failure: Failure) -> None:
    """A registry that wants credentials where there are none is named, and nothing is in it."""
    said = await failure(private.image, errors.CredentialsError)

    assert private.image.uri in said
    assert f"`docker login {private.registry.address}`" in said
    assert not private.registry.has(name)


async def test_wrong_credentials(private: Private, name: str, failure: Failure) -> None:
    """Credentials that a registry refuses are told as such, never shown, and nothing is in it."""
    private.auths("wrong-password")

    said = await failure(private.image, errors.CredentialsError)

    assert private.image.uri in said
    assert f"`docker login {private.registry.address}`" in said
    assert "wrong-password" not in said
    assert auth(USER, "wrong-password") not in said
    assert not private.registry.has(name)


async def test_private_base(private: Private, engine: Engine, name: str, failure: Failure) -> None:
    """A base image is fetched with the credentials of its registry, and named where there are none."""
    private.auths(PASSWORD)
    await BuildKitImageBuilder().build_image(private.image)
    image = Image.from_base(private.image.uri).clone(name=name, registry=engine.registry, extendable=True)
    private.config()

    said = await failure(image, errors.CredentialsError)

    assert f"`{private.image.uri}`" in said
    assert "while looking up the base image" in said
    private.auths(PASSWORD)
    await BuildKitImageBuilder().build_image(image)
    assert 1 == len(tags(engine.registry, name))


@pytest.mark.parametrize("place", ["auths", "credHelpers", "credsStore"])
async def test_right_credentials(private: Private, name: str, place: str) -> None:
    """Credentials of Docker's config, or of the helper that it names, let the image in."""
    address = private.registry.address
    private.helper(json.dumps({"ServerURL": address, "Username": USER, "Secret": PASSWORD}))
    match place:
        case "auths":
            private.auths(PASSWORD)
        case "credHelpers":
            private.config(credHelpers={address: "test"})
        case _:
            private.config(credsStore="test")

    await BuildKitImageBuilder().build_image(private.image)

    assert private.registry.has(name)


async def test_registry_secret(private: Private, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's own registry secret, in the form of Docker's config, is what the registry is shown."""
    monkeypatch.setenv("REGISTRY", json.dumps({"auths": {private.registry.address: {"auth": auth(USER, PASSWORD)}}}))

    await BuildKitImageBuilder().build_image(private.image.clone(registry_secret="registry", extendable=True))

    assert private.registry.has(name)


async def test_docker_auth_config(private: Private, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_AUTH_CONFIG holds credentials as well."""
    monkeypatch.setenv(
        "DOCKER_AUTH_CONFIG", json.dumps({"auths": {private.registry.address: {"auth": auth(USER, PASSWORD)}}})
    )

    await BuildKitImageBuilder().build_image(private.image)

    assert private.registry.has(name)


async def test_helper_that_fails(private: Private, failure: Failure) -> None:
    """A credential helper that fails is named with what it said."""
    private.helper("the keychain is locked", code=1)
    private.config(credHelpers={private.registry.address: "test"})

    said = await failure(private.image, errors.CredentialsError)

    assert "docker-credential-test failed" in said
    assert "the keychain is locked" in said


async def test_helper_that_is_not_installed(private: Private, failure: Failure) -> None:
    """A credential helper that is not there is named."""
    private.config(credHelpers={private.registry.address: "not-installed"})

    said = await failure(private.image, errors.CredentialsError)

    assert "docker-credential-not-installed, which is not on the PATH" in said


async def test_registry_down(base: Image, failure: Failure) -> None:
    """A registry where nothing listens is named, with the system's own words."""
    image = base.clone(registry=CLOSED)

    said = await failure(image, errors.RegistryError)

    assert f"A registry could not be reached for the image `{image.uri}`" in said
    assert "connection refused" in said


async def test_registry_that_fails(base: Image, failure: Failure) -> None:
    """A registry that answers with an error of its own is named, with its answer."""
    with answering(500) as address:
        image = base.clone(registry=address)

        said = await failure(image, errors.RegistryError)

    assert f"A registry failed at the image `{image.uri}`" in said
    assert "500 Internal Server Error" in said


# --- settings ---


def test_unknown_setting(engine: Engine, user: Path) -> None:
    """A key that is not known is told with the nearest that is."""
    write_project(user, image="flyte.Image.from_debian_base(name='x').with_env_vars({'A': '1'})",
                  config={"registry": engine.registry, "buildkit": "{endpont: docker}"})  # fmt: skip

    ended = run("flyte", "-c", "config.yaml", "build", "app.py", "env", folder=user)

    assert 0 != ended.code
    assert "`image.buildkit.endpont` is not a setting; did you mean `image.buildkit.endpoint`?" in ended.plain
    assert "Traceback" not in ended.output


def test_setting_of_the_wrong_type(engine: Engine, user: Path) -> None:
    """A value of the wrong type is told with its key and the type that it must have."""
    write_project(user, image="flyte.Image.from_debian_base(name='x').with_env_vars({'A': '1'})",
                  config={"registry": engine.registry, "buildkit": "{compression_level: high}"})  # fmt: skip

    ended = run("flyte", "-c", "config.yaml", "build", "app.py", "env", folder=user)

    assert 0 != ended.code
    assert "`image.buildkit.compression_level` is 'high' (text), but must be a whole number" in ended.plain
    assert "Traceback" not in ended.output


def test_no_registry(user: Path) -> None:
    """Where no registry is configured, the error is Flyte's own."""
    write_project(user, image="flyte.Image.from_debian_base(name='x').with_env_vars({'A': '1'})")

    ended = run("flyte", "-c", "config.yaml", "build", "app.py", "env", folder=user, FLYTE_IMAGE_REGISTRY="")

    assert 0 != ended.code
    assert "no container registry is configured to push to" in ended.plain
    assert "Traceback" not in ended.output


def test_nothing_listens_on_the_command_line(engine: Engine, user: Path) -> None:
    """Without a daemon, `flyte build` ends with one message, an error code, and no traceback."""
    write_project(user, image="flyte.Image.from_debian_base(name='x').with_env_vars({'A': '1'})",
                  config={"registry": engine.registry})  # fmt: skip

    ended = run("flyte", "-c", "config.yaml", "build", "app.py", "env", folder=user, DOCKER_HOST=NOWHERE)

    assert 0 != ended.code
    assert f"No BuildKit could be reached at {NOWHERE}" in ended.plain
    assert "Start Docker" in ended.plain
    assert "Traceback" not in ended.output
