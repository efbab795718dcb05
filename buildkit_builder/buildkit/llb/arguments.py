"""What is handed in is what is wanted, or one sentence says what to write instead.

Python takes a text for a list of its letters, a mapping for a list of its names, and anything at all for a flag; such
graphs would be marshalled and solved. Functions that take several things gather them here, and every value holds its
fields against their annotations.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, KeysView, Mapping, Sequence, Set
from functools import cache, wraps
from pathlib import PurePath
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_KINDS = {str: "text", int: "a whole number", bool: "True or False", bytes: "bytes", type(None): "None"}
# A mode written as a decimal number, if it is larger than all permission bits together.
_DECIMAL = re.compile(r"[5-7][0-7]{2}")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function hold its arguments against their annotations, as `check` does fields."""
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    further = code.co_varnames[code.co_argcount + code.co_kwonlyargcount :]

    @wraps(function)
    def holding(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = _hints(function)
        for name, value in (*zip(positional, args, strict=False), *kwargs.items()):
            if name in hints and not hints[name].fits(value):
                _hold(value, hints[name].annotation, name)
        for value in args[len(positional) :]:
            if further and further[0] in hints:
                _hold(value, hints[further[0]].annotation, further[0])
        return function(*args, **kwargs)

    return holding


def several(given: Iterable[T], name: str) -> tuple[T, ...]:
    """Gather things whose order counts.

    Args:
        given: A list or the like; an iterator is read once.
        name: Of the argument.

    Raises:
        TypeError: If it is one thing, or has no order.
    """
    if wrong := _no_list(given, name):
        raise wrong
    return tuple(given)


def words(given: Iterable[str], name: str) -> tuple[str, ...]:
    """Gather texts, as `several` does.

    Raises:
        TypeError: If it is a single text, has no order, or has something else in it.
    """
    found = several(given, name)
    _hold(found, tuple[str, ...], name)
    return found


def pairs(given: Mapping[str, str] | Iterable[tuple[str, str]], name: str) -> tuple[tuple[str, str], ...]:
    """Gather names and their values, from a mapping or from pairs, for a field that is held against its annotation.

    Raises:
        TypeError: If it is neither.
    """
    found: list[tuple[str, str]] = []
    items: Iterable[object] = given.items() if isinstance(given, Mapping) else several(given, name)
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(f'`{name}` has {item!r} in it, and wants names and values. Write `{name}={{"A": "b"}}`.')
        found.append((item[0], item[1]))
    return tuple(found)


def content(given: bytes | bytearray | memoryview | str, name: str) -> bytes:
    """The content of a file; a text is written as UTF-8.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is a text that UTF-8 cannot write.
    """
    if isinstance(given, str):
        if not _is_utf8(given):
            raise ValueError(f"`{name}` is text that is not valid Unicode. Give the bytes instead.")
        return given.encode()
    found = bytes(given) if isinstance(given, (bytearray, memoryview)) else given
    _hold(found, bytes | str, name)
    return found


def check(value: Any) -> None:
    """Hold every field of a dataclass against its annotation.

    Raises:
        TypeError: If a field is of another type; says what to write.
        ValueError: If it is a text that cannot be sent, or not one of the words that are allowed.
    """
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        if not hint.fits(found := getattr(value, name)):
            _hold(found, hint.annotation, name)


def check_mode(mode: int, name: str, most: int) -> None:
    """Refuse a number that is no mode.

    Raises:
        ValueError: If it is too large, or was written as a decimal number.
    """
    if mode > 0o777 and _DECIMAL.fullmatch(str(mode)):
        raise ValueError(f"{mode:#o} is not a mode: modes are octal. Write `{name}=0o{mode}`.")
    if not 0 <= mode <= most:
        raise ValueError(f"{mode:#o} is not a mode: BuildKit sets only bits up to {most:#o} here.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Hint:
    """An annotation, and a quick answer for nearly all values that it is right for."""

    annotation: Any
    fits: Callable[[Any], bool]


@cache
def _hints(of: Any) -> Mapping[str, _Hint]:
    """The annotations of a function, or of the fields of a dataclass that it is made of."""
    # Modules of a graph know each other's names only while types are checked; here all of them are there.
    try:
        hints = get_type_hints(of, localns=dict(vars(sys.modules["buildkit_builder.buildkit.llb"])))
    except NameError:
        return {}  # an operation of somebody else's, whose names only its own function knows
    if not isinstance(of, type):
        return {name: _Hint(hint, _fits(hint)) for name, hint in hints.items() if name != "return"}
    return {
        field.name: _Hint(hints[field.name], _fits(hints[field.name])) for field in dataclasses.fields(of) if field.init
    }


def _fits(hint: Any) -> Callable[[Any], bool]:
    origin, args = get_origin(hint), get_args(hint)
    if hint is str:
        return lambda value: type(value) is str and value.isascii() and "\0" not in value
    if hint in (int, bool, bytes, type(None)):
        return lambda value: type(value) is hint
    if origin is Literal:
        return lambda value: type(value) is str and value in args
    if origin in (Union, UnionType):
        any_of = tuple(map(_fits, args))
        return lambda value: any(fits(value) for fits in any_of)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        each = _fits(args[0])
        return lambda value: type(value) is tuple and all(map(each, value))
    if origin is tuple:
        parts = tuple(map(_fits, args))
        return lambda value: (
            type(value) is tuple
            and len(value) == len(parts)
            and all(fits(part) for fits, part in zip(parts, value, strict=True))
        )
    if origin is None and _can_tell(hint):
        return lambda value: isinstance(value, hint)
    return lambda value: False


def _can_tell(kind: Any) -> bool:
    """Whether a value can be asked if it is one: of `Any`, of protocols and of typed dictionaries it cannot."""
    try:
        isinstance(None, kind)
    except TypeError:
        return False
    return True


def _hold(value: object, hint: Any, name: str) -> None:
    wrong = _mismatch(value, hint, name)
    if wrong is not None:
        raise wrong


def _mismatch(value: object, hint: Any, name: str) -> Exception | None:
    """What to raise for a value of this name, if it is not what the annotation says."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        wrong = [_mismatch(value, arg, name) for arg in args]
        # Of several that do not fit, the one that fits in kind tells most.
        found = [each for each in wrong if isinstance(each, ValueError)]
        return None if None in wrong else found[0] if found else _type_error(value, hint, name)
    if origin is Literal:
        choices = ", ".join(f"`{arg}`" for arg in args)
        return None if value in args else ValueError(f"`{name}` is {value!r}, and has to be one of {choices}.")
    if origin is tuple:
        return _mismatch_in_tuple(value, args, hint, name)
    if origin in (Iterable, Sequence):
        return _no_list(value, name)
    kind = origin or hint
    if not _can_tell(kind):
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return _type_error(value, hint, name)
    if isinstance(value, str) and ("\0" in value or not _is_utf8(value)):
        return ValueError(f"`{name}` is {value!r}, which cannot be sent: it has a NUL in it, or is not valid Unicode.")
    return None


def _mismatch_in_tuple(value: object, args: tuple[Any, ...], hint: Any, name: str) -> Exception | None:
    if not isinstance(value, tuple):
        return _type_error(value, hint, name)
    of_any_length = len(args) == 2 and args[1] is Ellipsis
    if not of_any_length and len(value) != len(args):
        return TypeError(f"`{name}` has {len(value)} parts, and wants {len(args)}.")
    hints = [args[0]] * len(value) if of_any_length else list(args)
    found = (_mismatch(item, each, f"{name}[{at}]") for at, (item, each) in enumerate(zip(value, hints, strict=True)))
    return next((wrong for wrong in found if wrong is not None), None)


def _no_list(value: object, name: str) -> TypeError | None:
    """What to raise for a value that is not a list or the like, in an order of its own."""
    if isinstance(value, Set) and not isinstance(value, KeysView):
        return TypeError(f"`{name}` is a set, which has no order: the graph would be another each time. Sort it.")
    if isinstance(value, str):
        listed = shlex.split(value) if name == "args" and value.count("'") % 2 == value.count('"') % 2 == 0 else [value]
        return TypeError(f"`{name}` is a text, and has to be a list. Write `{json.dumps(listed, ensure_ascii=False)}`.")
    if isinstance(value, (bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        return TypeError(f"`{name}` is {_kind(value)}, and has to be a list. Write `[…]`.")
    return None


def _type_error(value: object, hint: Any, name: str) -> TypeError:
    names = {getattr(each, "__name__", "") for each in (get_args(hint) or (hint,))}
    wanted = " or ".join(dict.fromkeys(_named(each) for each in _alternatives(hint)))
    return TypeError(f"`{name}` is {_kind(value)}, and has to be {wanted}.{_advice(value, hint, names, name)}")


def _advice(value: object, hint: Any, names: set[str], name: str) -> str:
    """What to write instead, where it is known what was meant."""
    parsed = next((each for each in ("Platform", "Owner") if each in names), None)
    if type(value).__name__ == "Exec" and names & {"State", "Output"}:
        return " A command is not yet a tree: write `.root` behind it for the root that it leaves, or `.output(…)`."
    if isinstance(value, str) and names & {"State", "Output"}:
        return f' Write `llb.image("{value}")` for an image.'
    if isinstance(value, str) and parsed is not None:
        return f' Write `llb.{parsed}.parse("{value}")`.'
    if isinstance(value, str) and "mode" in name and value.isdigit():
        return f" Write `0o{value.lstrip('0') or 0}`."
    if isinstance(value, PurePath):
        return f' Write `"{value.as_posix()}"`.'
    if isinstance(value, int) and not isinstance(value, bool) and str in _alternatives(hint):
        return f' Write `"{value}"`.'
    return ""


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _named(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "a tuple"
    if get_origin(hint) is Literal:
        return " or ".join(f"`{arg}`" for arg in get_args(hint))
    # What people hold of the outputs of vertexes are states.
    name = getattr(hint, "__name__", hint)
    return _KINDS.get(hint) or f"an `llb.{'State' if name == 'Output' else name}`"


def _kind(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value)
    if kind.__module__.startswith("buildkit_builder.buildkit.llb"):
        return f"an `llb.{kind.__name__}`"
    return f"the {kind.__name__} {_cut(repr(value))}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
