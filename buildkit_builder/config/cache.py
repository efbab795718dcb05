"""Caches to read and to write, as buildx writes them (`type=registry,ref=…,mode=max`) or as a YAML map of the same.

Protocol: the attributes are those of buildkit `cache/remotecache`. Which of them a kind of cache has, and what they may
say, is checked here, since a daemon ignores what it does not know.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from buildkit_builder.buildkit import go_words
from buildkit_builder.config import kinds
from buildkit_builder.config.kinds import Kind, UnfitError

# What the setting `cache` takes beside a registry and a path.
DERIVED = ("registry", "gha")
_OFF = ("off", "false", "no", "0")
_LEVELS = {"gzip": 9, "estargz": 9, "zstd": 22}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOption:
    """A cache to import from or export to.

    Attributes:
        type: The kind of cache, such as `registry` or `local`.
        attributes: The kind's own options, in the order given; some are credentials.
    """

    type: str
    attributes: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def get(self, name: str) -> str | None:
        """An attribute, or `None` where it was not given."""
        return dict(self.attributes).get(name)


@dataclass(frozen=True, slots=True)
class _Value:
    """What an attribute may say: `expected` follows "must be"."""

    expected: str
    fits: Callable[[str], object]


def _one_of(*words: str) -> _Value:
    return _Value(f"{', '.join(words[:-1])} or {words[-1]}", lambda text: text in words)


# Go's spelling of durations and truths, since it is Go that reads them.
_TEXT = _Value("some text", lambda text: text.strip() and text.isprintable())
_BOOLEAN = _Value("true or false", lambda text: text in (*go_words.TRUE, *go_words.FALSE))
_COUNT = _Value("a whole number above 0", re.compile(r"0*[1-9][0-9]{0,8}", re.ASCII).fullmatch)
_LEVEL = _Value("a whole number", re.compile(r"[0-9]{1,3}", re.ASCII).fullmatch)
_DURATION = _Value(
    "a duration such as `10m` or `24h`",
    re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII).fullmatch,
)
_DIGEST = _Value("a digest such as `sha256:…`", re.compile(r"sha256:[0-9a-f]{64}").fullmatch)
_ADDRESS = _Value("an address that begins with http:// or https://", re.compile(r"https?://[^\s/]\S*").fullmatch)

_Attributes = Mapping[str, _Value]
_EXPORT: _Attributes = {"mode": _one_of("min", "max"), "ignore-error": _BOOLEAN}
_PACKED: _Attributes = {
    "oci-mediatypes": _BOOLEAN,
    "image-manifest": _BOOLEAN,
    "compression": _one_of("uncompressed", "gzip", "estargz", "zstd"),
    "compression-level": _LEVEL,
    "force-compression": _BOOLEAN,
}
_PLACES: _Attributes = {"prefix": _TEXT, "blobs_prefix": _TEXT, "manifests_prefix": _TEXT, "name": _TEXT}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Type:
    """A kind of cache: the attributes that reading and writing it have, and what they cannot do without."""

    reads: _Attributes = field(default_factory=dict)
    writes: _Attributes = field(default_factory=dict)
    needed_to_read: str = ""
    needed_to_write: str = ""


_REGISTRY: _Attributes = {"ref": _TEXT, "registry.insecure": _BOOLEAN}
_GHA: _Attributes = {
    "scope": _TEXT,
    "url": _ADDRESS,
    "url_v2": _ADDRESS,
    "token": _TEXT,
    "version": _one_of("1", "2"),
    "repository": _TEXT,
    "ghtoken": _TEXT,
    "timeout": _DURATION,
}
_S3: _Attributes = {
    "bucket": _TEXT,
    "region": _TEXT,
    **_PLACES,
    "endpoint_url": _ADDRESS,
    "access_key_id": _TEXT,
    "secret_access_key": _TEXT,
    "session_token": _TEXT,
    "use_path_style": _BOOLEAN,
    "disable_accept_encoding": _BOOLEAN,
    "retry_mode": _one_of("standard", "adaptive"),
    "retry_max_attempts": _COUNT,
}
_AZBLOB: _Attributes = {
    "account_url": _ADDRESS,
    "account_name": _TEXT,
    "container": _TEXT,
    **_PLACES,
    "secret_access_key": _TEXT,
}
TYPES: Mapping[str, _Type] = {
    "registry": _Type(
        reads=_REGISTRY, writes={**_REGISTRY, **_PACKED, **_EXPORT}, needed_to_read="ref", needed_to_write="ref"
    ),
    "inline": _Type(),
    "local": _Type(
        reads={"src": _TEXT, "tag": _TEXT, "digest": _DIGEST},
        writes={"dest": _TEXT, "tag": _TEXT, "reset": _BOOLEAN, **_PACKED, **_EXPORT},
        needed_to_read="src",
        needed_to_write="dest",
    ),
    "gha": _Type(reads=_GHA, writes={**_GHA, **_EXPORT}),
    "s3": _Type(reads=_S3, writes={**_S3, "touch_refresh": _DURATION, "upload_parallelism": _COUNT, **_EXPORT}),
    "azblob": _Type(reads=_AZBLOB, writes={**_AZBLOB, **_EXPORT}),
}
"""Every kind of cache."""


def is_true(text: str | None) -> bool:
    """Whether an attribute says so; one that is not there does not."""
    return text is not None and text not in go_words.FALSE


def parse_lines(text: str, *, writes: bool) -> tuple[CacheOption, ...]:
    """Caches as text, one a line; a line without any `=` is a list of references.

    Args:
        text: In buildx's syntax: fields between commas, where one that holds a comma stands in double quotes.
        writes: Whether they are to be written.

    Raises:
        UnfitError: One cannot be understood. The message never repeats the value of an attribute.
    """
    return _parse_all(text.splitlines(), writes=writes)


def _parse_all(items: list[object] | list[str], *, writes: bool) -> tuple[CacheOption, ...]:
    found: list[CacheOption] = []
    for number, item in enumerate(items, 1):
        which = f"its entry {number} " if len(items) > 1 else "it "
        try:
            found += _parse_one(item, writes=writes)
        except UnfitError as error:
            raise UnfitError(f"{EXPECTED}; {which}{error}") from None
    return tuple(dict.fromkeys(found))


def _parse_one(item: object, *, writes: bool) -> list[CacheOption]:
    if isinstance(item, Mapping):
        return [_checked({str(name): _text_of(str(name), value) for name, value in item.items()}, writes=writes)]
    if not isinstance(item, str):
        raise UnfitError(f"is {kinds.shown(item)}")
    try:
        fields = [part for row in csv.reader([item.strip()], strict=True) for part in row]
    except csv.Error as error:
        raise UnfitError(f"is not a list of fields ({error})") from None
    if "=" not in item:
        references = [part.strip() for part in fields if part.strip()]
        return [_checked({"type": "registry", "ref": reference}, writes=writes) for reference in references]
    given = {}
    for part in fields:
        name, equals, value = part.partition("=")
        if not equals:
            raise UnfitError("has a field that is not NAME=VALUE")
        given[name.strip().lower()] = value
    return [_checked(given, writes=writes)]


def _text_of(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int)):
        return str(value)
    raise UnfitError(f"has in `{name}` {kinds.type_of(value)}, and not text")


def _checked(given: dict[str, str], *, writes: bool) -> CacheOption:
    name = given.pop("type", "")
    if not name:
        raise UnfitError("names no `type`")
    if name not in TYPES:
        raise UnfitError(f"is of the type {kinds.shown(name)}, and the types are {', '.join(TYPES)}")
    kind = TYPES[name]
    if name == "inline" and not writes:
        raise UnfitError("is `inline`, which is read from the image that holds it: `type=registry,ref=IMAGE`")
    known = kind.writes if writes else kind.reads
    for attribute, value in given.items():
        # What says how it was written is often left in a text that is used for both; reading has no use for it.
        if attribute not in {**kind.writes, **kind.reads}:
            raise UnfitError(f"has the attribute {_unknown(attribute, name, tuple(known))}")
        if attribute in known and not known[attribute].fits(value):
            raise UnfitError(f"has an attribute `{attribute}` that must be {known[attribute].expected}")
    needed = kind.needed_to_write if writes else kind.needed_to_read
    if needed and not given.get(needed):
        raise UnfitError(f"is a {name} cache without `{needed}`")
    _refuse_contradictions(given)
    return CacheOption(type=name, attributes=tuple((key, value) for key, value in given.items() if key in known))


def _unknown(attribute: str, name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(attribute, known, n=1)
    hint = f"`{near[0]}` may be meant" if near else f"known are {', '.join(known)}" if known else "it has none"
    return f"`{kinds.text_of(attribute)}`, which a {name} cache does not know: {hint}"


def _refuse_contradictions(given: Mapping[str, str]) -> None:
    compression, level = given.get("compression", "gzip"), given.get("compression-level")
    if level is not None and int(level) > _LEVELS.get(compression, -1):
        limit = f"goes to {_LEVELS[compression]} with" if compression in _LEVELS else "has no meaning with"
        raise UnfitError(f"has a `compression-level`, which {limit} {compression} layers")
    if "oci-mediatypes" in given and not is_true(given["oci-mediatypes"]):
        for attribute in ("image-manifest", "compression"):
            if is_true(given.get(attribute)) and given[attribute] not in ("gzip", "uncompressed"):
                raise UnfitError(f"has an attribute `{attribute}` that needs `oci-mediatypes`, which it turns off")


def _parse_from(value: object, _: Path) -> tuple[CacheOption, ...]:
    return _listed(value, writes=False)


def _parse_to(value: object, _: Path) -> tuple[CacheOption, ...]:
    return _listed(value, writes=True)


def _listed(value: object, *, writes: bool) -> tuple[CacheOption, ...]:
    if isinstance(value, str):
        return parse_lines(value, writes=writes)
    return _parse_all(list(value) if isinstance(value, (list, tuple)) else [value], writes=writes)


def _parse_derived(value: object, _: Path) -> str | None:
    if value is False or (isinstance(value, str) and value.lower() in _OFF):
        return None
    if not isinstance(value, str) or not (value in DERIVED or _PREFIX.fullmatch(value)):
        raise UnfitError
    return value.rstrip("/")


EXPECTED = "a cache or a list of them, each text such as `type=registry,ref=…` or a map of the same"
# A registry has a dot or a port in its name, or is localhost; else the word is meant for something else.
_PREFIX = re.compile(r"(?:localhost|[A-Za-z0-9-]+(?=[.:])(?:\.[A-Za-z0-9-]+)*)(?::[0-9]{1,5})?(?:/[a-z0-9._-]+)*/?")

CACHE = Kind(
    expected="`registry`, `gha`, `off`, or a registry and path such as `registry.example/cache`", parse=_parse_derived
)
"""Where caches go whose names are derived; `None` for nowhere."""
CACHE_FROM = Kind(expected=EXPECTED, parse=_parse_from)
"""Caches to read."""
CACHE_TO = Kind(expected=EXPECTED, parse=_parse_to)
"""Caches to write."""
