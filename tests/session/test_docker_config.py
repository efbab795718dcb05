from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from buildkit_builder.errors import ConfigError, CredentialsError
from buildkit_builder.session.docker_config import Credentials, DockerConfig

HUB = "https://index.docker.io/v1/"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(folder: Path, content: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH for credential helpers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": encoded("me:pass:word")}, Credentials(username="me", password="pass:word")),
        ({"username": "me", "password": "word"}, Credentials(username="me", password="word")),
        ({"auth": encoded("me:\0")}, Credentials(username="me")),
        ({"auth": encoded("me:"), "identitytoken": "token"}, Credentials(username="me", identity_token="token")),
        ({"registrytoken": "bearer"}, Credentials(registry_token="bearer")),
        ({}, Credentials()),
    ],
)
def test_entries(tmp_path: Path, entry: dict[str, str], expected: Credentials) -> None:
    """Every form of an entry in the file is understood."""
    config = DockerConfig.load(write(tmp_path, {"auths": {"registry.example:5000": entry}}))

    assert expected == config.lookup("registry.example:5000")


@pytest.mark.parametrize("key", [HUB, "docker.io", "index.docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("host", ["registry-1.docker.io", "docker.io"])
def test_docker_hub(tmp_path: Path, key: str, host: str) -> None:
    """Docker Hub is found under its old address and its names."""
    config = DockerConfig.load(write(tmp_path, {"auths": {key: {"auth": encoded("me:word")}}}))

    assert "me" == config.lookup(host).username


@pytest.mark.parametrize("key", ["https://r.example", "https://r.example/v2/", "r.example/team"])
def test_old_keys(tmp_path: Path, key: str) -> None:
    """Addresses for keys, as old files have them, count by their host."""
    config = DockerConfig.load(write(tmp_path, {"auths": {key: {"auth": encoded("me:word")}}}))

    assert "me" == config.lookup("r.example").username
    assert Credentials() == config.lookup("r.example.org")


def test_no_config(tmp_path: Path) -> None:
    """Without a file, or without an entry, requests are anonymous."""
    assert Credentials() == DockerConfig.load(None).lookup("r")
    assert Credentials() == DockerConfig.load(tmp_path).lookup("r")
    assert Credentials() == DockerConfig.load(tmp_path / "config.json").lookup("r")
    assert Credentials() == DockerConfig.load(write(tmp_path, {"auths": None})).lookup("r")


def test_a_folder_is_enough(tmp_path: Path) -> None:
    """The folder of the config may be named instead of the file."""
    write(tmp_path, {"auths": {"r": {"auth": encoded("me:word")}}})

    assert "me" == DockerConfig.load(tmp_path).lookup("r").username


def test_helpers(tmp_path: Path, helpers: Path) -> None:
    """A registry's own helper comes before the one for all, and each is asked for the registry's key."""
    helper(helpers, "all", """read key; echo '{"Username": "all", "Secret": "'$key'"}'""")
    helper(helpers, "one", """read key; echo '{"Username": "<token>", "Secret": "'$1-$key'"}'""")
    content = {"credsStore": "all", "credHelpers": {"one.example": "one"}, "auths": {"x": {"auth": encoded("me:w")}}}
    config = DockerConfig.load(write(tmp_path, content))

    assert Credentials(identity_token="get-one.example") == config.lookup("one.example")
    assert Credentials(username="all", password="x") == config.lookup("x")
    assert HUB == config.lookup("registry-1.docker.io").secret


def test_helpers_are_asked_each_time(tmp_path: Path, helpers: Path) -> None:
    """Short-lived credentials are never taken from an earlier answer."""
    count = tmp_path / "count"
    helper(helpers, "count", f"""echo x >> {count}; echo '{{"Username": "u", "Secret": "'$(wc -l < {count})'"}}'""")
    config = DockerConfig.load(write(tmp_path, {"credsStore": "count"}))

    assert ["1", "2"] == [config.lookup("r").secret.strip(), config.lookup("r").secret.strip()]


def test_helpers_without_the_credentials(tmp_path: Path, helpers: Path) -> None:
    """A helper that knows nothing of a registry means an anonymous request."""
    helper(helpers, "none", "echo 'credentials not found in native keychain'; exit 1")
    config = DockerConfig.load(write(tmp_path, {"credsStore": "none"}))

    assert Credentials() == config.lookup("r.example")


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (
            "echo 'the keychain is locked'; exit 3",
            r"docker-credential-bad failed for r \(exit code 3\) and said: the key",
        ),
        ("echo oops >&2; exit 1", "said: oops"),
        ("""echo '{"Secret": "hunter2"}'""", "docker-credential-bad did not answer as a credential helper does for r"),
        ("echo hunter2", "did not answer as a credential helper"),
        ("exec sleep 30", r"docker-credential-bad did not give the credentials for r within 0\.2 seconds"),
    ],
)
def test_helpers_that_fail(tmp_path: Path, helpers: Path, script: str, complaint: str) -> None:
    """A helper that fails, hangs or talks nonsense is named, and what it printed is not shown if it may be secret."""
    helper(helpers, "bad", script)
    config = DockerConfig.load(write(tmp_path, {"credsStore": "bad"}))

    with pytest.raises(CredentialsError, match=complaint) as caught:
        DockerConfig(store=config.store, helper_seconds=0.2).lookup("r")
    assert "hunter2" not in str(caught.value)


def test_helpers_that_are_not_installed(tmp_path: Path, helpers: Path) -> None:
    """A missing helper is named, with what to do about it."""
    config = DockerConfig.load(write(tmp_path, {"credHelpers": {"r": "nowhere"}}))

    with pytest.raises(CredentialsError, match="docker-credential-nowhere, which is not on the PATH"):
        config.lookup("r")


def test_auth_config_comes_first(tmp_path: Path, helpers: Path) -> None:
    """`DOCKER_AUTH_CONFIG` wins over file and helpers for the registries it has."""
    path = write(tmp_path, {"credHelpers": {"a": "nowhere"}, "auths": {"b": {"auth": encoded("file:w")}}})
    config = DockerConfig.load(path, auth_config=json.dumps({"auths": {"a": {"auth": encoded("env:w")}}}))

    assert ["env", "file"] == [config.lookup("a").username, config.lookup("b").username]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"auths": hunter2}', r"config\.json is not JSON \(line 1\)"),
        ("[]", "is not a JSON object"),
        ('{"auths": [1]}', "`auths` in"),
        ('{"auths": {"r": 1}}', "The entry of r"),
        ('{"auths": {"r": {"auth": "hunter2"}}}', "The `auth` of r"),
        ('{"credsStore": 1}', "`credsStore`"),
        ('{"credHelpers": {"r": 1}}', "`credHelpers`"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, complaint: str) -> None:
    """A file that is not a Docker config is an error that says where, without its content."""
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(ConfigError, match=complaint) as caught:
        DockerConfig.load(tmp_path)
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither credentials nor a config print what is secret."""
    config = DockerConfig.load(write(tmp_path, {"auths": {"r": {"username": "me", "password": "hunter2"}}}))

    assert "hunter2" not in f"{config} {config!r} {config.lookup('r')!r}"
