"""What Flyte's `FLYTE_DOCKER_*` variables say: they hold arguments of `docker buildx build`.

| Variable | Meaning here |
|---|---|
| `FLYTE_DOCKER_BUILDER_CACHE_FROM` | caches to read, one a line: `type=registry,ref=…`, or only the reference |
| `FLYTE_DOCKER_BUILDER_CACHE_TO` | caches to write, written alike; unlike in Flyte, each of the two works alone |
| `FLYTE_DOCKER_BUILDKIT_BUILDER_NAME` | the buildx builder, or the Docker context, to build on |
| `FLYTE_DOCKER_BUILD_EXTRA_ARGS` | flags of `docker buildx build`, quoted as in a shell |

The flags understood are `--build-arg`, `--label`, `--annotation`, `--no-cache`, `--pull`, `--add-host`, `--network`,
`--secret id=…,env=…` or `id=…,src=…`, `--ssh`, `--provenance` and `--sbom`. Any other flag is a `ConfigError`: dropping
it would build something else than was asked for.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from buildkit_builder.buildkit import go_words
from buildkit_builder.buildkit.annotation import Annotation
from buildkit_builder.config import cache, output
from buildkit_builder.config.cache import CacheOption
from buildkit_builder.config.kinds import UnfitError
from buildkit_builder.errors import ConfigError

CACHE_FROM = "FLYTE_DOCKER_BUILDER_CACHE_FROM"
CACHE_TO = "FLYTE_DOCKER_BUILDER_CACHE_TO"
BUILDER_NAME = "FLYTE_DOCKER_BUILDKIT_BUILDER_NAME"
EXTRA_ARGS = "FLYTE_DOCKER_BUILD_EXTRA_ARGS"

Network = Literal["default", "host", "none"]
NETWORKS = get_args(Network)
ELSEWHERE = {
    "--builder": BUILDER_NAME,
    "--cache-from": CACHE_FROM,
    "--cache-to": CACHE_TO,
    "--output": "`image.buildkit.compression` and the settings beside it",
    "--platform": "`image.buildkit.platforms`",
    "--progress": "`image.buildkit.progress`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretArgument:
    """A secret by its id, and the variable or the file that holds its value.

    Attributes:
        id: The id that steps ask for.
        env: The environment variable that holds the value, or `None`.
        source: The file that holds the value, or `None`.
    """

    id: str
    env: str | None = None
    source: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SshArgument:
    """An ssh agent, or keys, that steps may use.

    Attributes:
        id: The id that steps ask for.
        paths: Agent sockets or key files; none means the agent of `SSH_AUTH_SOCK`.
    """

    id: str = "default"
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraArguments:
    """The flags of `FLYTE_DOCKER_BUILD_EXTRA_ARGS`.

    Attributes:
        build_args: Values for a Dockerfile's `ARG`; what has no value here has it in the environment.
        labels: Labels of the image.
        annotations: Annotations of the image.
        no_cache: Whether every step runs again.
        pull: Whether base images are looked up in the registry although the daemon holds them.
        add_hosts: Names and addresses that steps find in `/etc/hosts`.
        network: `default`, `host` or `none`.
        secrets: Secrets for steps.
        ssh: Agents and keys for steps.
        attestations: By its kind, what the daemon is to be told of an attestation, or `None` where there is to be none.
    """

    build_args: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[Annotation, ...] = ()
    no_cache: bool = False
    pull: bool = False
    add_hosts: tuple[tuple[str, str], ...] = ()
    network: Network = "default"
    secrets: tuple[SecretArgument, ...] = ()
    ssh: tuple[SshArgument, ...] = ()
    attestations: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildxSettings:
    """Everything the `FLYTE_DOCKER_*` variables say.

    Attributes:
        cache_from: Caches to import.
        cache_to: Caches to export to.
        builder: The name of a buildx builder to build on, or `None`.
        extra: The extra arguments.
    """

    cache_from: tuple[CacheOption, ...] = ()
    cache_to: tuple[CacheOption, ...] = ()
    builder: str | None = None
    extra: ExtraArguments = field(default_factory=ExtraArguments)


def read(environ: Mapping[str, str]) -> BuildxSettings:
    """Reads the four variables.

    Raises:
        ConfigError: One of them cannot be understood. The message names the variable and the flag, never a value,
            since build arguments and cache options may hold secrets.
    """
    return BuildxSettings(
        cache_from=_caches(CACHE_FROM, environ, writes=False),
        cache_to=_caches(CACHE_TO, environ, writes=True),
        builder=environ.get(BUILDER_NAME) or None,
        extra=parse_extra_arguments(environ.get(EXTRA_ARGS, ""), environ),
    )


def parse_extra_arguments(text: str, environ: Mapping[str, str]) -> ExtraArguments:
    """Parses flags of `docker buildx build`.

    Args:
        text: The flags, quoted as in a shell.
        environ: Where a `--build-arg NAME` without a value finds it.

    Raises:
        ConfigError: A flag is unknown, incomplete, or asks for what this builder does not do.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{EXTRA_ARGS} is not quoted as a shell would have it: {error}.") from None
    found: dict[str, Any] = {}
    for flag, value in _flags(words):
        if flag in _REPEATED:
            if flag in ("--label", "--annotation") and not output.is_sendable(value or ""):
                raise _bad(flag, "is not UTF-8, and the daemon takes nothing else")
            name, parse = _REPEATED[flag]
            found[name] = (*found.get(name, ()), *parse(flag, value or "", environ))
        else:
            name, convert = _SINGLE[flag]
            found[name] = convert(flag, value)
    return ExtraArguments(**found)


def _flags(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Pairs each flag with its value; a switch has none unless it is written `--switch=value`."""
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag not in _REPEATED and flag not in _SINGLE:
            raise ConfigError(_unknown(flag))
        if equals:
            yield flag, value
        elif flag in _SWITCHES:
            yield flag, None
        else:
            following = next(rest, None)
            if following is None:
                raise _bad(flag, "needs a value")
            yield flag, following


def _unknown(flag: str) -> str:
    if not flag.startswith("-"):
        return (
            f"{EXTRA_ARGS} holds a word that belongs to no flag; only flags of `docker buildx build` may stand there."
        )
    if flag in ELSEWHERE:
        return f"{EXTRA_ARGS}: {flag} is not taken from there; use {ELSEWHERE[flag]}."
    known = sorted((*_REPEATED, *_SINGLE))
    near = get_close_matches(flag, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the flags understood are {', '.join(known)}."
    return f"{EXTRA_ARGS}: the flag {flag[:80]!r} is not understood; {hint}"


def _bad(flag: str, problem: str) -> ConfigError:
    return ConfigError(f"{EXTRA_ARGS}: {flag} {problem}.")


def _boolean(flag: str, value: str | None) -> bool:
    if value is None or value.lower() in go_words.TRUE:
        return True
    if value.lower() in go_words.FALSE:
        return False
    raise _bad(flag, "is a switch, and takes true or false")


def _attestation(flag: str, value: str, _: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    name = flag.removeprefix("--")
    if value.lower() in (*go_words.TRUE, *go_words.FALSE):
        default = "mode=min" if name == "provenance" else ""
        yield name, default if value.lower() in go_words.TRUE else None
        return
    try:
        yield name, output.provenance(value) if name == "provenance" else output.scanner(value)
    except UnfitError:
        wanted = "mode=min or mode=max" if name == "provenance" else "generator=IMAGE"
        raise _bad(flag, f"is true, false, or attributes such as {wanted}") from None


def _network(flag: str, value: str | None) -> str:
    if value is None or value not in NETWORKS:
        raise _bad(flag, f"is one of {', '.join(NETWORKS)}")
    return value


def _build_arg(flag: str, value: str, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name, equals, text = value.partition("=")
    if not name:
        raise _bad(flag, "is NAME=VALUE, or NAME to take the value from the environment")
    if equals:
        yield name, text
    elif name in environ:
        yield name, environ[name]


def _label(flag: str, value: str, _: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name, _equals, text = value.partition("=")
    if not name:
        raise _bad(flag, "is NAME=VALUE")
    yield name, text


def _annotation(flag: str, value: str, _: Mapping[str, str]) -> Iterator[Annotation]:
    name, equals, text = value.partition("=")
    found = Annotation.parse(name, text) if equals else None
    if found is None:
        raise _bad(flag, "is NAME=VALUE, or LEVEL:NAME=VALUE with manifest, index or a descriptor of them as the level")
    yield found


def _add_host(flag: str, value: str, _: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name, separator, address = value.partition("=" if "=" in value else ":")
    if not (name and separator and address):
        raise _bad(flag, "is NAME:ADDRESS or NAME=ADDRESS")
    yield name, address.removeprefix("[").removesuffix("]")


def _secret(flag: str, value: str, _: Mapping[str, str]) -> Iterator[SecretArgument]:
    try:
        given = _comma_separated(value)
    except csv.Error as error:
        raise _bad(flag, f"is not a list of fields: {error}") from None
    if given.get("type") == "env" and "src" in given:
        given["env"] = given.pop("src")
    source = given.get("src") or given.get("source")
    if (
        not given.get("id")
        or given.keys() - {"id", "env", "src", "source", "type"}
        or given.get("type", "file") not in ("file", "env")
        or bool(given.get("env")) == bool(source)
    ):
        raise _bad(flag, "is id=ID,env=VARIABLE or id=ID,src=FILE")
    yield SecretArgument(id=given["id"], env=given.get("env"), source=Path(source) if source else None)


def _ssh(flag: str, value: str, _: Mapping[str, str]) -> Iterator[SshArgument]:
    name, equals, places = value.partition("=")
    if not name or (equals and not places):
        raise _bad(flag, "is ID, or ID=SOCKET, or ID=KEY,KEY")
    yield SshArgument(id=name, paths=tuple(Path(place) for place in places.split(",") if place))


def _comma_separated(text: str) -> dict[str, str]:
    """`a=b,c=d`, where a field may stand in double quotes, as buildx reads it."""
    fields = [item.partition("=") for row in csv.reader([text], strict=True) for item in row]
    return {name.strip().lower(): value for name, _, value in fields}


def _caches(variable: str, environ: Mapping[str, str], *, writes: bool) -> tuple[CacheOption, ...]:
    try:
        return cache.parse_lines(environ.get(variable, ""), writes=writes)
    except UnfitError as error:
        raise ConfigError(f"{variable} must be {error}.") from None


_Repeated = Callable[[str, str, Mapping[str, str]], Iterator[Any]]
_REPEATED: dict[str, tuple[str, _Repeated]] = {
    "--add-host": ("add_hosts", _add_host),
    "--annotation": ("annotations", _annotation),
    "--build-arg": ("build_args", _build_arg),
    "--label": ("labels", _label),
    "--provenance": ("attestations", _attestation),
    "--sbom": ("attestations", _attestation),
    "--secret": ("secrets", _secret),
    "--ssh": ("ssh", _ssh),
}
_SINGLE: dict[str, tuple[str, Callable[[str, str | None], Any]]] = {
    "--network": ("network", _network),
    "--no-cache": ("no_cache", _boolean),
    "--pull": ("pull", _boolean),
}
_SWITCHES = ("--no-cache", "--pull")
