"""Secrets: where a step finds them, and that nothing of them stays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte import Image, Secret

from tests.integration.registry import PulledImage
from tests.parity.builders import Parity
from tests.parity.packages import TOKEN, Index

# What a step may leave of a value without giving it away.
SUM = "md5sum | cut -c1-32"


def assert_hidden(image: PulledImage, *values: str) -> None:
    """The values stand in no file and nowhere in the config."""
    found = [
        path
        for layer in image.layers[-3:]
        for path, entry in layer.entries.items()
        if any(value.encode() in entry.content for value in values)
    ]
    assert [] == found
    assert not [value for value in values if value in str(image.config)]


async def test_variable(base: Image, parity: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret by its key is a variable of that name, in its step alone."""
    monkeypatch.setenv("API_KEY", "s3cret-one")
    image = base.with_commands([f'printf %s "$api_key" | {SUM} > /sum'], secret_mounts="api_key").with_commands(
        ['test -z "$api_key"', "env | grep -c -i api_key > /left; true"]
    )

    pulled = await parity.same(image)

    assert b"0\n" == pulled.tree()["left"].content
    assert_hidden(pulled, "s3cret-one")


async def test_variable_of_another_name(base: Image, parity: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of a group, under a name of the user's choice; each command of the layer has it."""
    monkeypatch.setenv("TEAM_API-KEY", "s3cret-two")
    secret = Secret(key="api-key", group="team", as_env_var="MINE")
    image = base.with_commands([f'printf %s "$MINE" | {SUM} > /{name}' for name in ("a", "b")], secret_mounts=[secret])

    pulled = await parity.same(image)

    assert pulled.tree()["a"].content == pulled.tree()["b"].content
    assert_hidden(pulled, "s3cret-two")


async def test_file(base: Image, parity: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret as a file: its content, owner and mode; what is left is an empty file, as its place was not there."""
    monkeypatch.setenv("DEPLOY_KEY", "s3cret-three\n")
    secret = Secret(key="deploy_key", mount=Path("/etc/flyte/secrets"))
    image = base.with_commands(
        [f"cat {secret.mount} | {SUM} > /sum; stat -c '%a %u:%g %F' {secret.mount} >> /sum"], secret_mounts=[secret]
    )

    pulled = await parity.same(image)

    assert_hidden(pulled, "s3cret-three")


async def test_several(base: Image, parity: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several secrets of one layer, by name and as objects, the same one in another layer too."""
    monkeypatch.setenv("FIRST", "s3cret-four")
    monkeypatch.setenv("SECOND", "s3cret-five")
    command = f'printf %s "$first$SECOND" | {SUM} >> /sum'
    image = base.with_commands([command], secret_mounts=["first", Secret(key="second", as_env_var="SECOND")])
    image = image.with_commands([command], secret_mounts=["first"]).with_apt_packages("hello", secret_mounts="first")

    assert_hidden(await parity.same(image), "s3cret-four", "s3cret-five")


@pytest.fixture
def secret_file() -> Iterator[Path]:
    """A file where both builders look for secrets that no variable holds."""
    folder = Path("/etc/secrets")
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    file = folder / f"parity_{uuid.uuid4().hex[:8]}"
    file.write_text("s3cret-six\n")
    yield file
    file.unlink()
    if made:
        folder.rmdir()


async def test_file_of_this_machine(base: Image, parity: Parity, secret_file: Path) -> None:
    """Without a variable the value is that of the file in `/etc/secrets`, its line end included."""
    group, _, key = secret_file.name.partition("_")
    image = base.with_commands(
        [f'printf %s "$VALUE" | wc -c > /sum; printf %s "$VALUE" | {SUM} >> /sum'],
        secret_mounts=Secret(key=key, group=group, as_env_var="VALUE"),
    )

    pulled = await parity.same(image)

    assert pulled.tree()["sum"].content.startswith(b"11\n")
    assert_hidden(pulled, "s3cret-six")


async def test_requirements(
    base: Image, parity: Parity, index: Index, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable in the options of a requirements file is one of the step's."""
    monkeypatch.setenv("INDEX_TOKEN", TOKEN)
    url = index.private.replace("$INDEX_TOKEN", "${INDEX_TOKEN}")
    (user / "requirements.txt").write_text(f"--index-url {url}\nparity-secret\n")

    pulled = await parity.same(base.with_requirements("requirements.txt", secret_mounts=Secret(key="INDEX_TOKEN")))

    assert "opt/venv/lib/python3.11/site-packages/parity_secret/__init__.py" in pulled.tree()
    assert_hidden(pulled, TOKEN)


async def test_missing(base: Image, parity: Parity) -> None:
    """A secret that is nowhere is an error before anything is built."""
    pair = await parity.both_fail(base.with_commands(["true"], secret_mounts="nowhere_to_be_found"))

    assert "NOWHERE_TO_BE_FOUND" in pair.ours.error
    assert "NOWHERE_TO_BE_FOUND" in pair.theirs.error
