"""Secrets that an image names: where their values come from, and where they stand in a step."""

from __future__ import annotations

from typing import Any

from flyte import Secret

from buildkit_builder.errors import ImageError
from buildkit_builder.image.spec import SecretRef


def layer_secrets(layer: Any) -> tuple[SecretRef, ...]:
    """A layer's secrets, each once, and each in a place of its own.

    Raises:
        ImageError: Two are to be in the same place, or the name of one makes no variable.
    """
    secrets = tuple(dict.fromkeys(secret_ref(_secret(item)) for item in layer.secret_mounts or ()))
    places: dict[str, SecretRef] = {}
    for secret in secrets:
        place = secret.path or secret.variable or ""
        if place in places:
            raise ImageError(
                f"The secrets `{_shown(places[place])}` and `{_shown(secret)}` of one layer are both to be `{place}`. "
                "Give one of them another name with `as_env_var`."
            )
        places[place] = secret
    return secrets


def _secret(item: Secret | str) -> Secret:
    """A secret that is given by its name is one that Flyte makes of that name, if it can."""
    try:
        return Secret(key=item) if isinstance(item, str) else item
    except ValueError as error:
        raise ImageError(
            f"The name of the secret `{item}` makes no variable ({error}). Give it one: "
            f"`flyte.Secret({item!r}, as_env_var=…)`."
        ) from error


def _shown(secret: SecretRef) -> str:
    return secret.id.removeprefix("flyte/")


def secret_ref(secret: Secret) -> SecretRef:
    """Where a secret's value is looked up, and where it stands in the step, as Flyte's own builder has it."""
    parts = [part for part in (secret.group, secret.key) if part]
    path = str(secret.mount) if secret.mount else None
    variable = None if path else secret.as_env_var or "_".join(parts)
    return SecretRef(
        id="flyte/" + "/".join(parts),
        variable=variable,
        path=path,
        source_variable="_".join(part.upper() for part in parts),
        source_file="/etc/secrets/" + "_".join(parts),
    )
