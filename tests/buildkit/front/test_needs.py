"""What states need of this machine: directories, secrets, agents."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_builder import buildkit as bk
from buildkit_builder.errors import ConfigError, MissingSecretError, MissingSourceError

BASE = bk.image("base")


def test_secrets_come_from_values_variables_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a source, from the variable of the secret's name."""
    (tmp_path / "file").write_bytes(b"\x00three")
    monkeypatch.setenv("TWO", "two")
    monkeypatch.setenv("four", "4")
    secrets = [
        bk.secret("one", value="one"),
        bk.secret("two", env="TWO"),
        bk.secret("three", file=tmp_path / "file"),
        bk.secret("four"),
    ]

    assert {"one": b"one", "two": b"two", "three": b"\x00three", "four": b"4"} == BASE.run(
        ["x"], mounts=secrets
    ).needs().secrets


@pytest.mark.parametrize("secret", [bk.secret("a", env="NOT_SET_1"), bk.secret("a", file="/no/such/file")])
def test_a_secret_without_a_value_is_an_error(secret: bk.Secret) -> None:
    """Which names the secret and the place that was looked at."""
    with pytest.raises(MissingSecretError, match=r"The secret `a` has no value: .*(NOT_SET_1|/no/such/file)"):
        BASE.run(["x"], mounts=[secret]).needs()


def test_two_secrets_of_one_name_must_agree() -> None:
    """The daemon asks by name."""
    one, two = bk.secret("a", value="1"), bk.secret("a", value="2")

    assert {"a": b"1"} == BASE.run(["x"], mounts=[one]).run(["y"], mounts=[one.at("/a")]).needs().secrets
    with pytest.raises(ConfigError, match="Two secrets are called `a`"):
        BASE.run(["x"], mounts=[one]).run(["y"], mounts=[two]).needs()


def test_a_directory_is_served_without_what_its_dockerignore_names(tmp_path: Path) -> None:
    """And without what the caller leaves out."""
    for name in ("kept.py", "a.log", "b.tmp"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".dockerignore").write_text("# logs\n*.log\n.dockerignore\n")

    (served,) = BASE.copy(bk.local(tmp_path, exclude=["*.tmp"]), "/").needs().directories.values()
    (whole,) = BASE.copy(bk.local(tmp_path, dockerignore=False), "/").needs().directories.values()

    assert ["kept.py"] == [entry.path for entry in served.entries()]
    assert [".dockerignore", "a.log", "b.tmp", "kept.py"] == [entry.path for entry in whole.entries()]


def test_a_single_file_is_served_alone(tmp_path: Path) -> None:
    """Nothing else of its directory is sent."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")

    (served,) = BASE.copy(bk.local(tmp_path / "a"), "/a").needs().directories.values()

    assert ["a"] == [entry.path for entry in served.entries()]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """Before anything is connected to."""
    with pytest.raises(MissingSourceError, match="nowhere"):
        BASE.copy(bk.local(tmp_path / "nowhere"), "/").needs()
    with pytest.raises(MissingSourceError, match="nowhere"):
        bk.dockerfile(tmp_path / "nowhere").needs()


def test_an_agent_that_is_no_socket_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, or found in the environment."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    with pytest.raises(ConfigError, match="SSH_AUTH_SOCK is not set"):
        BASE.run(["x"], mounts=[bk.ssh()]).needs()
    with pytest.raises(ConfigError, match="is not a socket"):
        bk.git("git@host.example:a/b.git", ssh=bk.ssh(socket=tmp_path)).needs()


def test_a_dockerfile_has_its_options(tmp_path: Path) -> None:
    """As the daemon's frontend calls them."""
    app = bk.dockerfile(tmp_path, file="docker/app.Dockerfile", target="final", build_args={"V": "1"})

    assert {"filename": "app.Dockerfile", "target": "final", "build-arg:V": "1"} == app.options()
    assert tmp_path / "docker" == app.needs().directories["dockerfile"].root
