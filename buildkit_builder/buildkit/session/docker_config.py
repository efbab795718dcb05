"""Registry credentials as the `docker` command keeps them: in `config.json`, or with the helpers it names.

The file is docker/cli's `cli/config/configfile`; the helpers are docker/docker-credential-helpers. As there, what is
wrong with a file as a whole is worth a warning, and registries are then asked without credentials. What is wrong with
a malformed entry is an error only when credentials of its registry are needed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from buildkit_builder.buildkit.environment import environment
from buildkit_builder.buildkit.find.docker_json import Members, object_of, read_object, text_of
from buildkit_builder.buildkit.session.credential_helpers import HELPERS, Question
from buildkit_builder.buildkit.session.credentials import ANONYMOUS, Credentials
from buildkit_builder.buildkit.session.registries import HUB_HOSTS
from buildkit_builder.errors import ConfigError, CredentialsError

__all__ = ["Credentials", "DockerConfig"]

_HELPER_SECONDS = 60.0
_VARIABLE = "DOCKER_AUTH_CONFIG"
_SECRET = "the image's registry secret"
_HUB_KEY = "https://index.docker.io/v1/"
_HOST_LIMIT = 300  # characters; no registry's name is longer

Entry = Credentials | CredentialsError
"""Credentials, or what is wrong with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """The credentials part of a Docker config.

    Attributes:
        auths: The entries of the file, by registry.
        store: The helper for all registries without one of their own, without its `docker-credential-` prefix.
        helpers: The helper of single registries, empty for none; or what is wrong with it.
        before: Entries that come before all of these, by registry: the first ones first.
        notes: What is wrong with the config as a whole, as sentences.
        is_configured: Whether somebody has chosen `store`, so that it is an error where that fails.
        helper_seconds: How long a helper may take.
    """

    auths: Mapping[str, Entry] = field(default_factory=dict, repr=False)
    store: str = ""
    helpers: Mapping[str, str | CredentialsError] = field(default_factory=dict)
    before: tuple[Mapping[str, Entry], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    is_configured: bool = True
    helper_seconds: float = _HELPER_SECONDS

    @classmethod
    def load(cls, path: Path | None, *, auth_config: str = "", registry_secret: str = "") -> DockerConfig:
        """Reads a config.

        Args:
            path: The file, or the folder that holds its `config.json`; without one, or if it is not there, all
                requests are anonymous.
            auth_config: The value of `DOCKER_AUTH_CONFIG`: JSON with `auths`, which come before the file's.
            registry_secret: The same for one image; its entries come first of all.

        Raises:
            ConfigError: The registry secret is not JSON of the expected shape.
        """
        reading = _Reading()
        secret = reading.auths(reading.text(registry_secret, _SECRET), _SECRET)
        if reading.notes:
            raise ConfigError(reading.notes[0])
        # As in docker: what makes no sense there, the file may say better.
        variable = {
            key: entry
            for key, entry in reading.auths(reading.text(auth_config, _VARIABLE), _VARIABLE).items()
            if isinstance(entry, Credentials)
        }
        if path is not None and path.name != "config.json" and os.path.isdir(path):
            path /= "config.json"
        content = reading.file(path)
        where = f"the Docker config {path}"
        auths, helpers = reading.auths(content, where), reading.helpers(content, where)
        store = reading.store(content, where)
        usual = "" if auths or helpers or store else _usual_store()
        return cls(
            auths=auths,
            store=store or usual,
            helpers=helpers,
            before=(secret, variable),
            notes=tuple(reading.notes),
            is_configured=not usual,
        )

    def lookup(self, host: str, *, since: float | None = None, refused: Credentials | None = None) -> Credentials:
        """Finds the credentials for a registry; may run its helper, so it may take a while.

        Args:
            host: The registry's API host, with its port if it has one.
            since: As `Helpers.ask`.
            refused: Credentials that the registry refused: where a helper gave them some time ago, it is asked again.

        Returns:
            The credentials, empty ones if there are none.

        Raises:
            CredentialsError: The entry makes no sense; or the helper is missing, failed, or took too long.
        """
        if len(host) > _HOST_LIMIT:
            return ANONYMOUS
        for entries in self.before:
            found = _judged(_of_host(entries, host))
            if found is not None and found != ANONYMOUS:
                return found
        helper, key = self._helper_of(host)
        entry = _of_host(self.auths, host)
        if not helper:
            return _judged(entry) or ANONYMOUS
        asked = Question(helper=helper, key=key, seconds=self.helper_seconds)
        try:
            said = HELPERS.ask(asked, since=since, refused=refused)
        except CredentialsError:
            if self.is_configured:
                raise
            return ANONYMOUS
        # Helpers know nothing of these.
        return replace(said, registry_token=entry.registry_token) if isinstance(entry, Credentials) else said

    def forget(self, host: str) -> None:
        """Has the registry's helper asked anew the next time, as after a build that failed."""
        try:
            helper, key = self._helper_of(host)
        except CredentialsError:
            return
        HELPERS.forget(helper, key)

    def _helper_of(self, host: str) -> tuple[str, str]:
        """The helper to ask, empty for none, and what to ask it for."""
        for key in _keys(host):
            if key in self.helpers:
                helper = self.helpers[key]
                if isinstance(helper, CredentialsError):
                    raise CredentialsError(str(helper))
                return helper, key
        return self.store, _keys(host)[0]


def _keys(host: str) -> tuple[str, ...]:
    """Names under which a registry may stand in the config, the usual one first."""
    return (_HUB_KEY, *HUB_HOSTS) if host in HUB_HOSTS else (host,)


def _of_host(auths: Mapping[str, Entry], host: str) -> Entry | None:
    for key in _keys(host):
        if key in auths:
            return auths[key]
    return next((entry for key, entry in auths.items() if _host_in(key) == host), None)


def _host_in(key: str) -> str:
    """The registry that a key means: old files have addresses for keys."""
    if "://" in key:
        with contextlib.suppress(ValueError):
            return urlsplit(key).netloc.rpartition("@")[2]
    return key.partition("/")[0]


def _judged(entry: Entry | None) -> Credentials | None:
    if isinstance(entry, CredentialsError):
        raise CredentialsError(str(entry))
    return entry


def _usual_store() -> str:
    """The helper that docker takes where nothing is configured, if it is installed."""
    path = environment().get("PATH", "")
    name = "secretservice"
    if sys.platform == "darwin":
        name = "osxkeychain"
    elif shutil.which("pass", path=path):
        name = "pass"
    return name if shutil.which(f"docker-credential-{name}", path=path) else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("the ") else text


class _Reading:
    """Reads a config's parts.

    Attributes:
        notes: What was wrong, as sentences.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def file(self, path: Path | None) -> Members:
        """What a config.json holds, nothing where it is not there."""
        if path is None:
            return Members([])
        try:
            return read_object(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Members([])
        except (OSError, ValueError) as error:
            why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
            self.notes.append(f"The Docker config {path} {why}: registries are asked without its credentials.")
            return Members([])

    def text(self, text: str, where: str) -> Members:
        """What a text holds."""
        try:
            return read_object(text.encode("utf-8", "replace"))
        except ValueError as error:
            self.notes.append(f"{_capital(where)} {error}; it is not used.")
            return Members([])

    def auths(self, content: Members, where: str) -> dict[str, Entry]:
        """The entries."""
        return {key: _entry(entry, key, where) for key, entry in self._part(object_of, content, "auths", where).items()}

    def helpers(self, content: Members, where: str) -> dict[str, str | CredentialsError]:
        """The helpers of single registries."""
        found = self._part(object_of, content, "credHelpers", where)
        return {key: _helper(helper, key, where) for key, helper in found.items()}

    def store(self, content: Members, where: str) -> str:
        """The helper for all registries."""
        return str(self._part(text_of, content, "credsStore", where) or "")

    def _part(self, read: Any, content: Members, name: str, where: str) -> Any:
        try:
            return read(content, name)
        except ValueError as error:
            self.notes.append(f"{_capital(where)}: {error}; it is not used.")
            return {}


def _helper(helper: Any, key: str, where: str) -> str | CredentialsError:
    if helper is None or isinstance(helper, str):
        return helper or ""
    return CredentialsError(f"The helper of {key} in {where} is not a string.")


def _entry(entry: Any, key: str, where: str) -> Entry:
    try:
        if entry is None:
            return ANONYMOUS
        if not isinstance(entry, Members):
            raise ValueError("it is not an object")
        user, password = text_of(entry, "username"), text_of(entry, "password")
        if auth := text_of(entry, "auth"):
            user, password = _pair(auth)
        return Credentials(
            username=user,
            password=password,
            identity_token=text_of(entry, "identitytoken"),
            registry_token=text_of(entry, "registrytoken"),
        )
    except ValueError as error:
        return CredentialsError(
            f"The entry of {key} in {where} cannot be used: {error}. `docker login {key}` writes it anew."
        )


def _pair(auth: str) -> tuple[str, str]:
    """User and password of an `auth`, which may have line breaks in it.

    Raises:
        ValueError: It is something else.
    """
    try:
        pair = base64.b64decode(auth.translate({10: None, 13: None}), validate=True)
    except ValueError:
        pair = b""
    # Some old passwords are no UTF-8, and have to come out as they went in.
    user, colon, password = pair.decode("utf-8", "surrogateescape").partition(":")
    if not colon or not user:
        raise ValueError("its `auth` is not base64 of USER:PASSWORD")
    return user, password.strip("\0")
