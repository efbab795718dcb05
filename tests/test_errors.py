"""Every error of the package can be sent to another process, and copied, with all that it says."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import buildkit_builder
from buildkit_builder.errors import BuildKitError, StepFailedError

VALUES: dict[str, Any] = {
    "message": "It failed. Try again.", "step": "with_commands make", "command": "make", "exit_code": 2,
    "log_tail": ("one", "two"),
}  # fmt: skip


def _every_error() -> Iterator[type[BuildKitError]]:
    """Those of errors.py, and whatever else is derived from them anywhere in the package."""
    for module in pkgutil.walk_packages(buildkit_builder.__path__, "buildkit_builder."):
        importlib.import_module(module.name)
    waiting = [BuildKitError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__.startswith("buildkit_builder"):
            yield kind
        waiting += kind.__subclasses__()


ERRORS = sorted(set(_every_error()), key=lambda kind: kind.__name__)


def _made(kind: type[BuildKitError]) -> BuildKitError:
    """One that says something in every argument there is."""
    parameters = [name for name in inspect.signature(kind).parameters if name != "self"]
    return kind(**{name: VALUES[name] for name in parameters})


def _by_pickle(protocol: int) -> Callable[[BuildKitError], BuildKitError]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {protocol}": _by_pickle(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "twice": lambda error: copy.copy(pickle.loads(pickle.dumps(error))),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("way", WAYS)
def test_an_error_survives(kind: type[BuildKitError], way: str) -> None:
    """Its type, its message, its attributes, and what was noted of it later."""
    error = _made(kind)
    vars(error)["noted"] = ["later"]
    again = WAYS[way](error)

    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


def test_every_attribute_is_among_them() -> None:
    """Those of a failed step, which are no arguments of an exception."""
    error = copy.deepcopy(_made(StepFailedError))

    assert isinstance(error, StepFailedError)
    assert (error.step, error.command, error.exit_code, error.log_tail) == tuple(
        VALUES[name] for name in ("step", "command", "exit_code", "log_tail")
    )


@pytest.mark.parametrize("kind", ERRORS)
def test_a_message_that_was_put_another_way_survives(kind: type[BuildKitError]) -> None:
    """Whoever passes an error on may say more in front of it."""
    error = _made(kind)
    error.args = (f"On the node a: {error}",)

    assert "On the node a: It failed. Try again." == str(pickle.loads(pickle.dumps(error)))


def _fails() -> None:
    raise _made(StepFailedError)


def test_an_error_of_another_process_is_the_error() -> None:
    """As pools of processes hand it over, started anew as on macOS."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        caught = pool.submit(_fails).exception()

    assert isinstance(caught, StepFailedError)
    assert vars(_made(StepFailedError)).items() <= vars(caught).items()
