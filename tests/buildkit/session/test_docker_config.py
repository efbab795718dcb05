from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from buildkit_builder.buildkit.session.docker_config import Credentials, DockerConfig
from buildkit_builder.errors import ConfigError, CredentialsError

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
        (
            """echo '{"Secret": ["hunter2"]}'""",
            "bad did not answer as a credential helper does for r: its answer `Secret`",
        ),
        ("echo hunter2", "did not answer as a credential helper"),
        ("echo hunter2; echo '{}'", r"did not answer as a credential helper does for r: its answer is not JSON"),
        ("echo '[1]'", "its answer is not a JSON object"),
        ("true", "its answer is empty"),
        ("""echo '{"Secret": "hunter2"}'; exit 1""", "exit code 1"),
        ("""printf '\n{"Secret": "hunter2"}'; echo oops >&2; exit 1""", "exit code 1.*said: oops"),
        ("exec yes hunter2", "it never ends"),
        ("kill -9 $$", r"exit code -9"),
        ("exec sleep 30", r"docker-credential-bad did not give the credentials for r within 0\.3 seconds"),
        ("sleep 30", r"docker-credential-bad did not give the credentials for r within 0\.3 seconds"),
    ],
)
def test_helpers_that_fail(tmp_path: Path, helpers: Path, script: str, complaint: str) -> None:
    """A helper that fails, hangs or talks nonsense is named, and what it printed is not shown if it may be secret."""
    helper(helpers, "bad", script)
    config = DockerConfig.load(write(tmp_path, {"credsStore": "bad"}))

    with pytest.raises(CredentialsError, match=complaint) as caught:
        DockerConfig(store=config.store, helper_seconds=0.3 if "sleep" in script else 60).lookup("r")
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


def test_the_registry_secret_comes_before_the_variable(tmp_path: Path) -> None:
    """An image's registry secret comes first, then `DOCKER_AUTH_CONFIG`, then the file: each for what it has."""

    def auths(user: str, *hosts: str) -> dict[str, object]:
        return {"auths": {host: {"auth": encoded(f"{user}:w")} for host in hosts}}

    path = write(tmp_path, auths("file", "a", "b", "c", "docker.io"))
    config = DockerConfig.load(
        path,
        auth_config=json.dumps(auths("env", "a", "b", HUB)),
        registry_secret=json.dumps({"auths": {**auths("secret", "a", "docker.io")["auths"], "b": {}}}),  # type: ignore[dict-item]
    )

    found = {host: config.lookup(host).username for host in ("a", "b", "c", "registry-1.docker.io")}
    assert {"a": "secret", "b": "env", "c": "file", "registry-1.docker.io": "secret"} == found


GOOD = json.dumps({"auths": {"r": {"auth": encoded("me:word")}}}).encode()
ME = Credentials(username="me", password="word")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", Credentials()),
        (b"\n", Credentials()),
        (b" \t\r\n", Credentials()),
        (b"null", Credentials()),
        (GOOD + b"\n}", ME),
        (GOOD + GOOD.replace(b"r", b"s"), ME),
        (b"\xef\xbb\xbf" + GOOD, ME),
        (b"\n\n" + GOOD, ME),
        (GOOD.replace(b"auth", b"AUTH"), ME),
        (GOOD.replace(b"bWU6d29yZA==", b"bWU6\\nd29y\\r\\nZA==\\n"), ME),
        (GOOD[:-1] + b', "auths": {"s": null}}', ME),
        (GOOD[:-1] + b', "auths": null, "HttpHeaders": {"X": "y"}, "credsStore": "", "credHelpers": null}', ME),
        (GOOD[:-1] + b', "credsStore": null, "credHelpers": {"r": ""}}', ME),
        (GOOD[:-1] + b', "credsStore": "nowhere", "credHelpers": {"r": ""}}', ME),
        (GOOD[:-1] + b', "credsStore": "nowhere", "credHelpers": {"r": null}}', ME),
        (GOOD[:-1] + b', "credHelpers": {"s": 1}}', ME),
        (GOOD[:-2] + b', "s": null, "t": 1, "u": {"auth": "!"}, "v": {"auth": "cDrk"}, "w": {"username": 1}}}', ME),
        (GOOD[:-2] + b', "s": {"password": "p\xe4ss"}}}', ME),
        (b'{"auths": {"r": null}}', Credentials()),
        (b'{"auths": {"r": {"auth": "bWU65A=="}}}', Credentials(username="me", password="\udce4")),
        (b'{"auths": {"r": {"username": "me", "password": "\xe4"}}}', Credentials(username="me", password="\ufffd")),
        (b'{"auths": {"r": {"username": "me", "password": "\\ud800"}}}', Credentials(username="me", password="\ufffd")),
        (b'{"auths": {"r": {"auth": "eDp5", "username": null}, "r": {"auth": "bWU6d29yZA=="}}}', ME),
        (b'{"auths": {"https://r/v1/": {"auth": "bWU6d29yZA=="}}}', ME),
        (b'{"auths": {"https://u:p@r?x": {"auth": "bWU6d29yZA=="}}}', ME),
        (b'{"auths": {"http://[bad": {}, "r/v1/": {"auth": "bWU6d29yZA=="}}}', ME),
        (GOOD[:-1] + b', "x": ' + b"9" * 5000 + b"}", ME),
    ],
)
def test_what_works_with_docker_works_here(tmp_path: Path, content: bytes, expected: Credentials) -> None:
    """Docker takes the first value of the file, names in any case, and nothing for what is missing or `null`."""
    (tmp_path / "config.json").write_bytes(content)
    config = DockerConfig.load(tmp_path)

    assert ((), expected) == (config.notes, config.lookup("r"))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b'{"auths": hunter2}', r"config\.json is not JSON \(line 1\): registries are asked without its credentials"),
        (b"{\n'", "is not JSON"),
        (GOOD.decode().encode("utf-16"), "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"7", "is not a JSON object"),
        (b'{"auths": ["hunter2"]}', r"The Docker config .*config\.json: `auths` is not an object; it is not used"),
        (b'{"credsStore": 1}', "`credsStore` is not a string"),
        (b'{"credHelpers": []}', "`credHelpers` is not an object"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, content: bytes, note: str) -> None:
    """As in docker, a file that cannot be used is worth a warning, and registries are asked without credentials."""
    (tmp_path / "config.json").write_bytes(content)
    config = DockerConfig.load(tmp_path)

    assert 1 == len(config.notes)
    assert re.search(note, config.notes[0])
    assert "hunter2" not in config.notes[0]
    assert Credentials() == config.lookup("r")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    """A container engine makes a folder of a file that it was to mount and that was not there."""
    (tmp_path / "config.json").mkdir()

    for path in (tmp_path, tmp_path / "config.json"):
        config = DockerConfig.load(path)
        assert Credentials() == config.lookup("r")
        assert "config.json cannot be read (Is a directory)" in config.notes[0]
    assert () == DockerConfig.load(Path("/dev/null/config.json")).notes


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (1, "it is not an object"),
        ([], "it is not an object"),
        ({"auth": "hunter2"}, "its `auth` is not base64 of USER:PASSWORD"),
        ({"auth": "hünter2"}, "its `auth` is not base64"),
        ({"auth": encoded("hunter2")}, "its `auth` is not base64"),
        ({"auth": encoded(":hunter2")}, "its `auth` is not base64"),
        ({"auth": encoded("me:word")[:-2]}, "its `auth` is not base64"),
        ({"auth": 7}, "`auth` is not a string"),
        ({"identitytoken": ["hunter2"]}, "`identitytoken` is not a string"),
    ],
)
def test_an_entry_is_judged_when_it_is_asked_for(tmp_path: Path, entry: object, complaint: str) -> None:
    """An entry that makes no sense is an error for its own registry, and names itself and the file."""
    config = DockerConfig.load(write(tmp_path, {"auths": {"bad": entry, "r": {"auth": encoded("me:word")}}}))

    assert ((), ME, Credentials()) == (config.notes, config.lookup("r"), config.lookup("other"))
    with pytest.raises(
        CredentialsError, match=f"The entry of bad in the Docker config .*/config.json .*: {complaint}"
    ) as caught:
        config.lookup("bad")
    assert "hunter2" not in str(caught.value)


def test_a_helper_is_judged_when_it_is_asked_for(tmp_path: Path) -> None:
    """A registry's helper that has no name is an error for that registry alone."""
    config = DockerConfig.load(write(tmp_path, {"credHelpers": {"bad": 1}}))

    assert Credentials() == config.lookup("r")
    with pytest.raises(
        CredentialsError, match=r"The helper of bad in the Docker config .*config\.json is not a string"
    ):
        config.lookup("bad")
    config.forget("bad")


@pytest.mark.parametrize(
    "text", ["{", "[]", "hunter2", '{"auths": {"r": {"auth": "!"}}}', '{"auths": {"r": {}}}', '{"auths": 1}', " "]
)
def test_a_broken_variable_is_not_used(tmp_path: Path, text: str) -> None:
    """What makes no sense in `DOCKER_AUTH_CONFIG` leaves the file as it is."""
    config = DockerConfig.load(write(tmp_path, json.loads(GOOD)), auth_config=text)

    assert ME == config.lookup("r")
    assert not [note for note in config.notes if not note.startswith("DOCKER_AUTH_CONFIG") or "hunter2" in note]


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 1}'])
def test_a_registry_secret_has_to_make_sense(text: str) -> None:
    """The secret was named for this image: one that is no Docker config is an error."""
    with pytest.raises(ConfigError, match="The image's registry secret"):
        DockerConfig.load(None, registry_secret=text)


@pytest.mark.parametrize("name", ["pass", "secretservice"])
def test_the_usual_helper_where_nothing_is_configured(tmp_path: Path, helpers: Path, name: str) -> None:
    """Where nothing is configured docker asks the usual helper, if it is installed; here it may fail."""
    if name == "pass":
        (helpers / "pass").touch(mode=0o755)
    helper(helpers, name, """echo '{"Username": "me", "Secret": "word"}'""")

    assert ME == DockerConfig.load(None).lookup("r")
    assert Credentials() == DockerConfig.load(write(tmp_path, {"auths": {"x": {}}})).lookup("r")
    helper(helpers, name, "echo 'no D-Bus'; exit 1")
    assert Credentials() == DockerConfig.load(None).lookup("other")


def test_names_that_are_too_long_are_asked_of_nobody(tmp_path: Path, helpers: Path) -> None:
    """No registry has such a name, and a helper that does not read would hold us up."""
    helper(helpers, "all", """echo '{"Username": "me", "Secret": "word"}'""")
    config = DockerConfig.load(write(tmp_path, {"credsStore": "all"}))

    assert Credentials() == config.lookup("r" * 100_000)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither credentials nor a config print what is secret."""
    config = DockerConfig.load(write(tmp_path, {"auths": {"r": {"username": "me", "password": "hunter2"}}}))

    assert "hunter2" not in f"{config} {config!r} {config.lookup('r')!r}"
