"""Where an image's secrets come from and where they go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flyte import Secret

from buildkit_builder.errors import ImageError
from buildkit_builder.image.spec import SecretRef, secrets_of
from tests.flyte_plugin.reader.images import TOKEN, base, read


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("TOKEN", TOKEN),
        (Secret("TOKEN"), TOKEN),
        (
            Secret("my-key"),
            SecretRef(
                id="flyte/my-key", variable="MY_KEY", source_variable="MY-KEY", source_file="/etc/secrets/my-key"
            ),
        ),
        (
            Secret("key", group="team"),
            SecretRef(
                id="flyte/team/key",
                variable="TEAM_KEY",
                source_variable="TEAM_KEY",
                source_file="/etc/secrets/team_key",
            ),
        ),
        (Secret("TOKEN", as_env_var="OTHER"), replace(TOKEN, variable="OTHER")),
        (Secret("TOKEN", mount=Path("/etc/flyte/secrets")), replace(TOKEN, variable=None, path="/etc/flyte/secrets")),
        (
            Secret("TOKEN", mount=Path("/etc/flyte/secrets"), as_env_var="OTHER"),
            replace(TOKEN, variable=None, path="/etc/flyte/secrets"),
        ),
    ],
)
def test_where_a_secret_comes_from_and_where_it_goes(secret: Any, expected: SecretRef) -> None:
    """Names and places are those of Flyte's own builder; the id holds neither a value nor anything of this process."""
    assert (expected,) == secrets_of(read(base().with_commands(["true"], secret_mounts=[secret])))


@pytest.mark.parametrize("name", ["a.b", "1x", "a b", "a=b", "\u00e9"])
def test_a_secret_whose_name_makes_no_variable(name: str) -> None:
    """One error that says what to write instead, whichever layer names it."""
    for image in (
        base().with_commands(["true"], secret_mounts=[name]),
        base().with_pip_packages("x", secret_mounts=[name]),
    ):
        with pytest.raises(ImageError, match=r"makes no variable .* `flyte\.Secret\("):
            read(image)


def test_a_secret_asked_for_twice_is_one() -> None:
    """The same secret in one layer is mounted once, and in the image it is looked up once."""
    image = base().with_commands(["true"], secret_mounts=["TOKEN", Secret("TOKEN")]).with_apt_packages(
        "git", secret_mounts=Secret("TOKEN", as_env_var="OTHER")
    )  # fmt: skip
    spec = read(image)

    assert [(TOKEN,), (replace(TOKEN, variable="OTHER"),)] == [layer.secrets for layer in spec.layers]  # type: ignore[union-attr]
    assert ["flyte/TOKEN"] == [secret.id for secret in secrets_of(spec)]


@pytest.mark.parametrize(
    "secrets",
    [
        [Secret("A", mount=Path("/etc/flyte/secrets")), Secret("B", mount=Path("/etc/flyte/secrets"))],
        [Secret("A", as_env_var="X"), Secret("B", as_env_var="X")],
    ],
)
def test_two_secrets_in_one_place_are_an_error(secrets: list[Secret]) -> None:
    """One would silently hide the other, so both are named."""
    with pytest.raises(ImageError, match=r"`A` and `B` of one layer are both to be"):
        read(base().with_commands(["true"], secret_mounts=secrets))  # type: ignore[arg-type]
