"""The kinds of values that settings take, each from a variable's text and from YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit_builder.errors import ConfigError

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
LONGEST_SHOWN = 80
REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
MIRROR = re.compile(rf"({REGISTRY.pattern})(/[a-z0-9._-]+)*")
# An architecture alone means Linux.
_ARCHITECTURE = (
    "386|i386|amd64|x86_64|x86-64|arm|armhf|armel|arm64|aarch64|loong64|mips64|mips64le|ppc64le|riscv64|s390x|wasm"
)
PLATFORM = re.compile(rf"(?i:{_ARCHITECTURE})|[A-Za-z0-9_-]+/[A-Za-z0-9_-]+(?:/[A-Za-z0-9_.-]+)?")


class UnfitError(Exception):
    """A value is not of the kind wanted. The message says what is, to follow "must be"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of value.

    Attributes:
        expected: What a value must be, in words that follow "must be".
        parse: Makes the setting's value of the file's, given the user's home directory; `UnfitError` where it is unfit.
        split: From a variable's text to what the file would hold.
    """

    expected: str
    parse: Callable[[object, Path], Any]
    split: Callable[[str], object] = str

    def convert(self, value: object, is_text: bool, home: Path) -> Any:
        """The setting's value.

        Args:
            value: A variable's text, or what the file holds.
            is_text: Whether it is a variable's text.
            home: What `~` in a path means.

        Raises:
            UnfitError: The value is not of this kind.
        """
        try:
            return self.parse(self.split(value) if is_text and isinstance(value, str) else value, home)
        except UnfitError as error:
            raise UnfitError(str(error) or self.expected) from None


def read_yaml(path: Path) -> object:
    """What a YAML file holds.

    Raises:
        ConfigError: The file cannot be read, or is not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error.strerror}.") from None
    except yaml.MarkedYAMLError as error:
        where = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"the configuration file {path} is not YAML{where}: {error.problem}.") from None
    # The loader does not catch Python's errors for an invalid date, or for nesting that is too deep.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise ConfigError(f"the configuration file {path} is not YAML that can be read.") from None


def text_of(value: object) -> str:
    """A key or a value in one short line, whatever it is."""
    if isinstance(value, str):
        shown = value if value.isprintable() else repr(value)[1:-1]
    elif isinstance(value, int) and abs(value) >= 10**20:
        # Python refuses to write out the longest ones.
        shown = "a very large number"
    elif isinstance(value, (Mapping, list, tuple, set)):
        shown = type_of(value)
    else:
        shown = repr(value)
    return shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 1] + "…"


def shown(value: object) -> str:
    """A value and its type, for a message: `'ture' (text)`."""
    kind, text = type_of(value), text_of(value)
    return kind if kind == text else f"{text!r} (text)" if isinstance(value, str) else f"{text} ({kind})"


def type_of(value: object) -> str:
    """A value's type in the words of YAML."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        (str, "text"),
        ((int, float), "a number"),
        (Mapping, "a map"),
        ((list, tuple, set), "a list"),
    )
    for types, name in names:
        if isinstance(value, types):
            return name
    return "nothing" if value is None else f"a {type(value).__name__}"


def choice(names: tuple[str, ...]) -> Kind:
    """One of several words."""

    def parse(value: object, _: Path) -> str:
        if not isinstance(value, str) or value not in names:
            raise UnfitError
        return value

    return Kind(expected=f"{', '.join(names[:-1])} or {names[-1]}", parse=parse)


def _boolean(value: object, _: Path) -> bool:
    if not isinstance(value, bool):
        raise UnfitError
    return value


def _boolean_of(text: str) -> object:
    word = text.strip().lower()
    return True if word in TRUE else False if word in FALSE else text


def _text(value: object, _: Path) -> str:
    # A block of YAML, or a variable that a program's output was put into, ends with a line break.
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isprintable():
        raise UnfitError
    return text


def _integer(value: object, _: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnfitError
    return value


def _integer_of(text: str) -> object:
    return int(text) if re.fullmatch(r"\s*-?[0-9]{1,9}\s*", text, re.ASCII) else text


def _seconds(value: object, _: Path) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 3600:
        raise UnfitError
    return float(value)


def _seconds_of(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _path(value: object, home: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise UnfitError
    path = Path(value)
    return (home.joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path).absolute()


def _exists(value: object, home: Path, *, folder: bool) -> Path:
    path = _path(value, home)
    try:
        if path.is_file():
            return path
        if folder and path.is_dir():
            return path / "config.json"
        missing = not path.exists()
    except (OSError, ValueError):
        missing = True
    raise UnfitError("a file, and there is none of that name" if missing else "")


def _file(value: object, home: Path) -> Path:
    return _exists(value, home, folder=False)


def _docker_config(value: object, home: Path) -> Path:
    return _exists(value, home, folder=True)


def _list_of(pattern: re.Pattern[str], hint: str) -> Callable[[object, Path], tuple[str, ...]]:
    def parse(value: object, _: Path) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)):
            raise UnfitError
        for item in value:
            if not isinstance(item, str) or not pattern.fullmatch(item):
                raise UnfitError(f"{hint}; {shown(item)} is not one")
        return tuple(dict.fromkeys(value))

    return parse


def _split_list(text: str) -> object:
    return [item.strip() for item in text.split(",") if item.strip()]


def _mirrors(value: object, _: Path) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise UnfitError
    for name in (*value.keys(), *value.values()):
        if not isinstance(name, str) or not MIRROR.fullmatch(name):
            raise UnfitError(f"{_MIRRORS_EXPECTED}; {shown(name)} is neither")
    return tuple(value.items())


def split_map(text: str) -> object:
    """A variable's text as a map, where it is `key=value,key=value`."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(equals for _, equals, _ in pairs):
        return text
    return {name.strip(): value.strip() for name, _, value in pairs}


_MIRRORS_EXPECTED = "a map from host or host/path to host or host/path, without a scheme"
_REGISTRIES_EXPECTED = "a list of host or host:port, without a scheme"
_HOSTS_EXPECTED = f"{_REGISTRIES_EXPECTED}, or `*`"
_PLATFORMS_EXPECTED = "a list of platforms such as linux/amd64 or linux/arm64/v8"

BOOLEAN = Kind(expected="true or false", parse=_boolean, split=_boolean_of)
TEXT = Kind(expected="one line of text", parse=_text)
INTEGER = Kind(expected="a whole number", parse=_integer, split=_integer_of)
SECONDS = Kind(expected="a number of seconds above 0 and up to 3600", parse=_seconds, split=_seconds_of)
FILE = Kind(expected="a file", parse=_file)
DOCKER_CONFIG = Kind(expected="a file, or a folder that holds config.json", parse=_docker_config)
REGISTRIES = Kind(expected=_REGISTRIES_EXPECTED, parse=_list_of(REGISTRY, _REGISTRIES_EXPECTED), split=_split_list)
HOSTS = Kind(
    expected=_HOSTS_EXPECTED,
    parse=_list_of(re.compile(rf"\*|{REGISTRY.pattern}", REGISTRY.flags), _HOSTS_EXPECTED),
    split=_split_list,
)
PLATFORMS = Kind(expected=_PLATFORMS_EXPECTED, parse=_list_of(PLATFORM, _PLATFORMS_EXPECTED), split=_split_list)
MIRRORS = Kind(expected=_MIRRORS_EXPECTED, parse=_mirrors, split=split_map)
