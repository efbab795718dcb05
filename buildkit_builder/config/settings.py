"""Settings: the section `image.buildkit` of Flyte's config.yaml, and the environment.

Every key may be left out. A variable wins over the file; one that is empty counts as not set. In a variable, lists
are comma separated, maps are `key=value,key=value`, and true is any of `1`, `true`, `yes`, `on`.

| Key | Variable | Value | Meaning |
|---|---|---|---|
| `enabled` | `FLYTE_BUILDKIT_ENABLED` | true or false | false leaves Flyte as if this package were not installed, and no other setting is read |
| `endpoint` | `FLYTE_BUILDKIT_ENDPOINT` | text or list | the address of BuildKit, or a list of nodes: see `buildkit/find`; found automatically when not set, or `auto` |
| `tls.ca` | `FLYTE_BUILDKIT_TLS_CA` | file | authorities that may have signed the certificate of a `tcp://` endpoint |
| `tls.cert` | `FLYTE_BUILDKIT_TLS_CERT` | file | the client certificate for the endpoint |
| `tls.key` | `FLYTE_BUILDKIT_TLS_KEY` | file | its private key |
| `tls.server_name` | `FLYTE_BUILDKIT_TLS_SERVER_NAME` | text | the name in the endpoint's certificate, if it is not the name of the host |
| `uv_image` | `FLYTE_BUILDKIT_UV_IMAGE` | text | the image from which `uv` is taken; Flyte's choice when not set |
| `registry_mirrors` | `FLYTE_BUILDKIT_REGISTRY_MIRRORS` | map | registry, or registry and path, to the mirror that is used instead |
| `insecure_registries` | `FLYTE_BUILDKIT_INSECURE_REGISTRIES` | list | `host:port` of registries without TLS, or with a certificate that no authority signed; applies to their token servers too; loopback addresses are always insecure |
| `ca_bundle` | `FLYTE_BUILDKIT_CA_BUNDLE` | file | certificates that build steps trust; they are never in the image; token servers are checked against these and the system's |
| `http_proxy` | `FLYTE_BUILDKIT_HTTP_PROXY` | text | proxy of build steps for `http://`; no proxy setting is ever in the image |
| `https_proxy` | `FLYTE_BUILDKIT_HTTPS_PROXY` | text | proxy of build steps for `https://` |
| `no_proxy` | `FLYTE_BUILDKIT_NO_PROXY` | text | hosts that build steps reach without a proxy |
| `all_proxy` | `FLYTE_BUILDKIT_ALL_PROXY` | text | proxy of build steps for everything else |
| `compression` | `FLYTE_BUILDKIT_COMPRESSION` | gzip, zstd, estargz or uncompressed | how new layers are compressed; gzip when not set |
| `compression_level` | `FLYTE_BUILDKIT_COMPRESSION_LEVEL` | whole number | 0 to 9 for gzip and estargz, 0 to 22 for zstd; 1 for gzip when not set |
| `force_compression` | `FLYTE_BUILDKIT_FORCE_COMPRESSION` | true or false | true recompresses the layers of the base image as well |
| `oci_media_types` | `FLYTE_BUILDKIT_OCI_MEDIA_TYPES` | true or false | OCI's media types in the manifest, or Docker's; BuildKit's choice when not set |
| `annotations` | `FLYTE_BUILDKIT_ANNOTATIONS` | map | annotations of the manifest; `index:NAME` and buildx's other levels go elsewhere |
| `labels` | `FLYTE_BUILDKIT_LABELS` | map | labels of the image |
| `provenance` | `FLYTE_BUILDKIT_PROVENANCE` | false, min, max or attributes | an attestation of how the image was made |
| `sbom` | `FLYTE_BUILDKIT_SBOM` | true, false or image | an attestation of what is in the image, made by a scanner, which is itself an image |
| `source_date_epoch` | `FLYTE_BUILDKIT_SOURCE_DATE_EPOCH` | seconds since 1970 | the time of the image; no file in its layers is newer; the variable `SOURCE_DATE_EPOCH` sets it as well |
| `cache` | `FLYTE_BUILDKIT_CACHE` | registry, gha, off, or registry and path | where builds on other machines find the steps of this one; see the build caches of `image` |
| `cache_from` | `FLYTE_BUILDKIT_CACHE_FROM` | list | caches to read, in buildx's syntax or as maps; in a variable one a line |
| `cache_to` | `FLYTE_BUILDKIT_CACHE_TO` | list | caches to write, in the same form |
| `progress` | `FLYTE_BUILDKIT_PROGRESS` | auto, tty, plain, rawjson or quiet | how a build is shown (auto) |
| `parallel` | `FLYTE_BUILDKIT_PARALLEL` | true or false | false runs the steps one after the other, in the order of the layers (true) |
| `platforms` | `FLYTE_BUILDKIT_PLATFORMS` | list | which of an image's platforms to build; all when not set |
| `docker_config` | `FLYTE_BUILDKIT_DOCKER_CONFIG` | file or directory | Docker's config.json, for registry credentials; Docker's own when not set |
| `credentials_for` | `FLYTE_BUILDKIT_CREDENTIALS_FOR` | list | registries that no image names but whose credentials the daemon may have, such as its own mirrors; `*` means all |
| `connect_timeout` | `FLYTE_BUILDKIT_CONNECT_TIMEOUT` | seconds | how long to wait for a connection (10) |

`FLYTE_DOCKER_*` variables keep the meaning they have in Flyte, see `buildkit_builder.config.buildx`.
"""  # noqa: E501 - rows of a table

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from buildkit_builder.buildkit.annotation import Annotation
from buildkit_builder.buildkit.environment import home
from buildkit_builder.config import buildx, kinds, output
from buildkit_builder.config.cache import CACHE, CACHE_FROM, CACHE_TO, CacheOption
from buildkit_builder.config.endpoint_setting import ENDPOINT, NodeSettings, TLSSettings
from buildkit_builder.errors import ConfigError

SECTION = "image.buildkit"
PREFIX = "FLYTE_BUILDKIT_"
Compression = Literal["gzip", "zstd", "estargz", "uncompressed"]
LEVELS = {"gzip": 9, "estargz": 9, "zstd": 22}
# BuildKit's own level of gzip takes half as much processor time again, for an eighth off an image's size.
QUICK = 1
ProgressMode = Literal["auto", "tty", "plain", "rawjson", "quiet"]
# How keys end whose values may hold a password.
_SECRET = ("_proxy", "cache_from", "cache_to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user set; the module's table says what each field means.

    Paths are absolute, and files exist. Maps are pairs in the order given. `docker_config` names a file config.json.
    Where `endpoint` is a list, it is in `nodes` instead. Annotations, labels, attestations and caches are together
    with those of `buildx`; attestations are as the daemon is told of them, and `None` where there are to be none.
    """

    enabled: bool = True
    endpoint: str | None = None
    nodes: tuple[NodeSettings, ...] = ()
    tls: TLSSettings = field(default_factory=TLSSettings)
    uv_image: str | None = None
    registry_mirrors: tuple[tuple[str, str], ...] = ()
    insecure_registries: tuple[str, ...] = ()
    ca_bundle: Path | None = None
    # A proxy's address often holds a password.
    http_proxy: str | None = field(default=None, repr=False)
    https_proxy: str | None = field(default=None, repr=False)
    no_proxy: str | None = field(default=None, repr=False)
    all_proxy: str | None = field(default=None, repr=False)
    compression: Compression | None = None
    compression_level: int | None = None
    force_compression: bool = False
    oci_media_types: bool | None = None
    annotations: tuple[Annotation, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    provenance: str | None = None
    sbom: str | None = None
    source_date_epoch: int | None = None
    cache: str | None = None
    cache_from: tuple[CacheOption, ...] = ()
    cache_to: tuple[CacheOption, ...] = ()
    progress: ProgressMode = "auto"
    parallel: bool = True
    platforms: tuple[str, ...] = ()
    docker_config: Path | None = None
    credentials_for: tuple[str, ...] = ()
    connect_timeout: float = 10.0
    buildx: buildx.BuildxSettings = field(default_factory=buildx.BuildxSettings)

    @classmethod
    def load(cls, config: Mapping[str, Any] | Path | None, environ: Mapping[str, str]) -> Settings:
        """Reads the settings.

        Args:
            config: Flyte's configuration: its config.yaml, or what that holds, or `None` where there is none. Which
                file that is, Flyte decides.
            environ: The environment, as `environment` returns it.

        Raises:
            ConfigError: The file cannot be read, a key or a `FLYTE_BUILDKIT_*` variable is unknown, a value has the
                wrong type, names a file that is not there, or contradicts another. The message names the key.
        """
        given = _gather(_section(config), environ)
        if "enabled" in given and not _convert("enabled", given["enabled"], environ):
            return cls(enabled=False)
        _refuse_unknown(given, environ)
        read = {key: _convert(key, value, environ) for key, value in given.items()}
        if isinstance(read.get("endpoint"), tuple):
            read["nodes"] = read.pop("endpoint")
        tls = TLSSettings(**{key.removeprefix("tls."): read.pop(key) for key in list(read) if key.startswith("tls.")})
        settings = cls(tls=tls, **_with_flags(read, buildx.read(environ)))
        _check(settings)
        return settings

    @property
    def level(self) -> int | None:
        """How hard layers are compressed: what is set, else quickly; `None` leaves other types to BuildKit."""
        if self.compression_level is None and self.compression in (None, "gzip"):
            return QUICK
        return self.compression_level

    @property
    def epoch(self) -> str | None:
        """The time that nothing in the image is to be younger than, in seconds since 1970; a build argument wins."""
        given = dict(self.buildx.extra.build_args).get(output.SOURCE_DATE_EPOCH)
        return given or (None if self.source_date_epoch is None else str(self.source_date_epoch))


def _with_flags(read: dict[str, Any], flags: buildx.BuildxSettings) -> dict[str, Any]:
    """The settings, with what the flags of buildx say beside them: it comes last, and wins."""
    extra = flags.extra
    added = {
        "annotations": extra.annotations,
        "labels": extra.labels,
        "cache_from": flags.cache_from,
        "cache_to": flags.cache_to,
    }
    merged = {key: tuple(dict.fromkeys((*read.get(key, ()), *values))) for key, values in added.items()}
    return {**read, **merged, **dict(extra.attestations), "buildx": flags}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given: by a variable (always text), or in the file."""

    origin: str
    value: object
    is_text: bool


def variable(key: str) -> str:
    """The environment variable of a setting: `FLYTE_BUILDKIT_TLS_CA` for `tls.ca`."""
    return PREFIX + key.upper().replace(".", "_")


def _section(config: Mapping[str, Any] | Path | None) -> Mapping[Any, Any]:
    whole: object = kinds.read_yaml(config) if isinstance(config, Path) else config
    image = _map("the configuration file", whole).get("image")
    section = _map("`image`", image)
    for key in section:
        # The rest of `image` is Flyte's; only a key that surely means ours is refused there.
        if isinstance(key, str) and key != "buildkit" and re.sub("[^a-z]", "", key.lower()) == "buildkit":
            raise ConfigError(f"`image.{kinds.text_of(key)}` is not a section; did you mean `{SECTION}`?")
    return _map(f"`{SECTION}`", section.get("buildkit"))


def _map(name: str, value: object) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {kinds.shown(value)}, but must be a map.")
    return value


def _gather(section: Mapping[Any, Any], environ: Mapping[str, str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for path, value in _flatten(section):
        if value is not None:
            given[path] = _Given(f"`{SECTION}.{path}`", value, is_text=False)
    if environ.get(output.SOURCE_DATE_EPOCH):
        value = environ[output.SOURCE_DATE_EPOCH]
        given["source_date_epoch"] = _Given(f"`{output.SOURCE_DATE_EPOCH}`", value, is_text=True)
    for key in SETTINGS:
        if environ.get(variable(key)):
            given[key] = _Given(f"`{variable(key)}`", environ[variable(key)], is_text=True)
    return given


def _flatten(section: Mapping[Any, Any]) -> Iterable[tuple[str, object]]:
    for key, value in section.items():
        if key == "tls":
            inner = _map(f"`{SECTION}.tls`", value)
            yield from ((f"tls.{kinds.text_of(name)}", item) for name, item in inner.items())
        else:
            yield kinds.text_of(key), value


def _refuse_unknown(given: Mapping[str, _Given], environ: Mapping[str, str]) -> None:
    for key in given:
        if key not in SETTINGS:
            raise ConfigError(_unknown(f"{SECTION}.{key}", [f"{SECTION}.{name}" for name in SETTINGS], "a setting"))
    known = [variable(key) for key in SETTINGS]
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(_unknown(name, known, "a variable of buildkit-builder"))


def _unknown(name: str, known: list[str], what: str) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.8)
    inner = get_close_matches(name.rpartition(".")[2], [key.rpartition(".")[2] for key in known], n=1, cutoff=0.75)
    if inner and (not near or not near[0].endswith(inner[0])):
        near = [key for key in known if key.rpartition(".")[2] == inner[0]]
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(f'`{key}`' for key in known)}."
    return f"`{kinds.text_of(name)}` is not {what}; {hint}"


def _convert(key: str, given: _Given, environ: Mapping[str, str]) -> Any:
    kind = SETTINGS[key]
    try:
        return kind.convert(given.value, given.is_text, home(environ))
    except kinds.UnfitError as error:
        said = kinds.type_of(given.value) if key.endswith(_SECRET) else kinds.shown(given.value)
        raise ConfigError(f"{given.origin} is {said}, but must be {error}.") from None


def _check(settings: Settings) -> None:
    tls, level = settings.tls, settings.compression_level
    if (tls.cert is None) != (tls.key is None):
        present, absent = ("cert", "key") if tls.key is None else ("key", "cert")
        raise ConfigError(
            f"`{SECTION}.tls.{present}` is set, but `{SECTION}.tls.{absent}` is not; they need each other."
        )
    if level is not None:
        compression = settings.compression or "gzip"
        if compression not in LEVELS:
            raise ConfigError(f"`{SECTION}.compression_level` has no meaning with {compression} layers.")
        if not 0 <= level <= LEVELS[compression]:
            raise ConfigError(
                f"`{SECTION}.compression_level` is {kinds.shown(level)}, but must be 0 to {LEVELS[compression]} "
                f"for {compression}."
            )


SETTINGS: Mapping[str, kinds.Kind] = {
    "enabled": kinds.BOOLEAN,
    "endpoint": ENDPOINT,
    "tls.ca": kinds.FILE,
    "tls.cert": kinds.FILE,
    "tls.key": kinds.FILE,
    "tls.server_name": kinds.TEXT,
    "uv_image": kinds.TEXT,
    "registry_mirrors": kinds.MIRRORS,
    "insecure_registries": kinds.REGISTRIES,
    "ca_bundle": kinds.FILE,
    "http_proxy": kinds.TEXT,
    "https_proxy": kinds.TEXT,
    "no_proxy": kinds.TEXT,
    "all_proxy": kinds.TEXT,
    "compression": kinds.choice(get_args(Compression)),
    "compression_level": kinds.INTEGER,
    "force_compression": kinds.BOOLEAN,
    "oci_media_types": kinds.BOOLEAN,
    "annotations": output.ANNOTATIONS,
    "labels": output.LABELS,
    "provenance": output.PROVENANCE,
    "sbom": output.SBOM,
    "source_date_epoch": output.EPOCH,
    "cache": CACHE,
    "cache_from": CACHE_FROM,
    "cache_to": CACHE_TO,
    "progress": kinds.choice(get_args(ProgressMode)),
    "parallel": kinds.BOOLEAN,
    "platforms": kinds.PLATFORMS,
    "docker_config": kinds.DOCKER_CONFIG,
    "credentials_for": kinds.HOSTS,
    "connect_timeout": kinds.SECONDS,
}
"""Every key, and the kind of value it takes."""
