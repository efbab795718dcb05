"""The values of secrets, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from buildkit_builder.config import Settings
from buildkit_builder.config.buildx import EXTRA_ARGS
from buildkit_builder.errors import MissingSecretError
from buildkit_builder.image.lower import CA_SECRET
from buildkit_builder.image.spec import SecretRef


def secret_values(secrets: tuple[SecretRef, ...], environ: Mapping[str, str]) -> dict[str, bytes]:
    """The values of secrets, by id, from the environment or from `/etc/secrets`, as Flyte's own builder has them.

    Raises:
        MissingSecretError: One has no value; says where it was looked for.
    """
    values: dict[str, bytes] = {}
    for secret in secrets:
        if environ.get(secret.source_variable):
            values[secret.id] = environ[secret.source_variable].encode(errors="surrogateescape")
            continue
        try:
            values[secret.id] = Path(secret.source_file).read_bytes()
        except OSError as error:
            raise MissingSecretError(
                f"The secret `{secret.id.removeprefix('flyte/')}` has no value: set the variable "
                f"{secret.source_variable}, or put it into the file {secret.source_file} ({error.strerror})."
            ) from error
    return values


def all_secrets(values: Mapping[str, bytes], settings: Settings, environ: Mapping[str, str]) -> dict[str, bytes]:
    """The image's own secrets, those of the extra arguments, and the CA bundle.

    Raises:
        ConfigError: A file of them cannot be read.
    """
    secrets = dict(values)
    for secret in settings.buildx.extra.secrets:
        if secret.source is not None:
            try:
                secrets[secret.id] = secret.source.read_bytes()
            except OSError as error:
                raise MissingSecretError(
                    f"The secret `{secret.id}` of {EXTRA_ARGS} has no value: the file {secret.source} cannot be read "
                    f"({error.strerror})."
                ) from error
        else:
            secrets[secret.id] = environ.get(secret.env or secret.id, "").encode(errors="surrogateescape")
    if settings.ca_bundle is not None:
        secrets[CA_SECRET] = settings.ca_bundle.read_bytes()
    return secrets
