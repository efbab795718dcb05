"""Registry credentials as the `docker` command keeps them: in `config.json`, or with the helpers it names.

The file is docker/cli's `cli/config/configfile`; the helpers are docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildkit_builder.errors import ConfigError, CredentialsError
from buildkit_builder.session.registries import HUB_HOSTS

_HELPER_SECONDS = 60.0
_SAID_LIMIT = 300  # characters of a helper's complaint that are repeated
_VARIABLE = "DOCKER_AUTH_CONFIG"
_TOKEN_USER = "<token>"  # a helper's way to say that the secret is an identity token
_NOT_FOUND = "credentials not found in native keychain"
_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What to show a registry; all empty for an anonymous request.

    Attributes:
        username: The user, empty with an identity token.
        password: The password.
        identity_token: A refresh token, used instead of a password.
        registry_token: A bearer token to send as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def secret(self) -> str:
        """The identity token if there is one, else the password."""
        return self.identity_token or self.password


_ANONYMOUS = Credentials()


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """The credentials part of a Docker config.

    Attributes:
        auths: The credentials that stand in the file, by registry.
        store: The helper for all registries without one of their own, without its `docker-credential-` prefix.
        helpers: The helper of single registries.
        overrides: Credentials that come before all of these, by registry.
        helper_seconds: How long a helper may take.
    """

    auths: Mapping[str, Credentials] = field(default_factory=dict, repr=False)
    store: str = ""
    helpers: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Credentials] = field(default_factory=dict, repr=False)
    helper_seconds: float = _HELPER_SECONDS

    @classmethod
    def load(cls, path: Path | None, *, auth_config: str = "") -> DockerConfig:
        """Reads a config.

        Args:
            path: The file, or the folder that holds its `config.json`; without one, or if it is not there, all
                requests are anonymous.
            auth_config: The value of `DOCKER_AUTH_CONFIG`: JSON with `auths`, which come before the file's.

        Raises:
            ConfigError: The file cannot be read, or either is not JSON of the expected shape.
        """
        content: dict[str, Any] = {}
        if path is not None:
            if path.is_dir():
                path = path / "config.json"
            try:
                content = _parsed(path.read_text(), str(path))
            except FileNotFoundError:
                pass
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"The Docker config {path} cannot be read: {error}.") from error
        return cls(
            auths=_auths(content, str(path)),
            store=_text(content, "credsStore", str(path)),
            helpers=_helpers(content, str(path)),
            overrides=_auths(_parsed(auth_config, _VARIABLE), _VARIABLE) if auth_config else {},
        )

    def lookup(self, host: str) -> Credentials:
        """Finds the credentials for a registry; runs its helper, so it may take a while.

        Args:
            host: The registry's API host, with its port if it has one.

        Returns:
            The credentials, empty ones if there are none.

        Raises:
            CredentialsError: The helper is missing, failed, or took too long.
        """
        found = _of_host(self.overrides, host)
        if found is not None:
            return found
        for key in _keys(host):
            if key in self.helpers:
                return self._ask(self.helpers[key], key)
        if self.store:
            return self._ask(self.store, _keys(host)[0])
        return _of_host(self.auths, host) or _ANONYMOUS

    def _ask(self, helper: str, key: str) -> Credentials:
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, "get"],
                input=key.encode(),
                capture_output=True,
                timeout=self.helper_seconds,
                check=False,
            )
        except FileNotFoundError:
            raise CredentialsError(
                f"The Docker config keeps the credentials for {key} with {program}, which is not on the PATH. "
                "Install it, or run `docker login` again without it."
            ) from None
        except subprocess.TimeoutExpired:
            raise CredentialsError(
                f"{program} did not give the credentials for {key} within {self.helper_seconds:g} seconds."
            ) from None
        except OSError as error:
            raise CredentialsError(f"{program} cannot be run for {key}: {error.strerror}.") from error
        output = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode != 0:
            if _NOT_FOUND in output:
                return _ANONYMOUS
            said = (output or done.stderr.decode("utf-8", "replace").strip() or "nothing").splitlines()[0]
            raise CredentialsError(
                f"{program} failed for {key} (exit code {done.returncode}) and said: {said[:_SAID_LIMIT]}"
            )
        return _of_helper(output, program, key)


def _of_helper(output: str, program: str, key: str) -> Credentials:
    # Errors must not repeat the output: it may hold the secret.
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(f"{program} did not answer as a credential helper does for {key}.") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsError(f"{program} did not answer as a credential helper does for {key}.")
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)


def _keys(host: str) -> tuple[str, ...]:
    """Names under which a registry may stand in the config, the usual one first."""
    return (_HUB_KEY, *HUB_HOSTS) if host in HUB_HOSTS else (host,)


def _of_host(auths: Mapping[str, Credentials], host: str) -> Credentials | None:
    for key in _keys(host):
        if key in auths:
            return auths[key]
    for key, credentials in auths.items():  # old files have addresses for keys
        if key.partition("://")[2].partition("/")[0] == host or key.partition("/")[0] == host:
            return credentials
    return None


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        # Not the error's text with its excerpt: the file holds secrets.
        position = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"{where} is not JSON{position}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{where} is not a JSON object.")
    return content


def _text(content: Mapping[str, Any], key: str, where: str) -> str:
    value = content.get(key) or ""
    if not isinstance(value, str):
        raise ConfigError(f"`{key}` in {where} is not a string.")
    return value


def _helpers(content: Mapping[str, Any], where: str) -> dict[str, str]:
    helpers = content.get("credHelpers") or {}
    if not isinstance(helpers, dict) or not all(isinstance(name, str) for name in helpers.values()):
        raise ConfigError(f"`credHelpers` in {where} is not an object of strings.")
    return helpers


def _auths(content: Mapping[str, Any], where: str) -> dict[str, Credentials]:
    entries = content.get("auths") or {}
    if not isinstance(entries, dict):
        raise ConfigError(f"`auths` in {where} is not an object.")
    return {key: _entry(entry, key, where) for key, entry in entries.items()}


def _entry(entry: Any, key: str, where: str) -> Credentials:
    if not isinstance(entry, dict):
        raise ConfigError(f"The entry of {key} in {where} is not an object.")
    username, password = _text(entry, "username", where), _text(entry, "password", where)
    auth = _text(entry, "auth", where)
    if auth:
        try:
            username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise ConfigError(f"The `auth` of {key} in {where} is not base64 of USER:PASSWORD.")
        password = password.rstrip("\0")
    return Credentials(
        username=username,
        password=password,
        identity_token=_text(entry, "identitytoken", where),
        registry_token=_text(entry, "registrytoken", where),
    )
