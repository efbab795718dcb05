"""What `from buildkit_builder import buildkit as bk` gives."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import pydoc
import subprocess
import sys
import typing

import pytest

from buildkit_builder import buildkit as bk
from buildkit_builder.buildkit import front
from buildkit_builder.buildkit.front.waiting import wait


def python(code: str) -> str:
    """What a Python of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    """Adding or losing a name is a decision, not an accident."""
    names = """
        Bind BuildKitError Cache Compression Dockerfile FileInfo LogEvent Mount Push Result Secret Ssh State StatusEvent
        StatusUpdate Tmpfs VertexEvent WarningEvent abuild bind build cache dockerfile git http image local scratch
        secret ssh tmpfs
    """

    assert names.split() == bk.__all__
    assert bk.__all__ == front.__all__


@pytest.mark.parametrize("name", bk.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    """A docstring that says more than the name."""
    assert len(inspect.getdoc(getattr(bk, name)) or "") > len(name) + 10


def test_help_shows_every_public_name() -> None:
    """People look around with `help(bk)`."""
    text = pydoc.plain(pydoc.render_doc(bk))

    assert [] == [name for name in bk.__all__ if name not in text]
    assert set(bk.__all__) <= set(dir(bk))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'biuld'"):
        _ = bk.biuld  # type: ignore[attr-defined]


def test_build_is_the_function_whatever_was_imported_before() -> None:
    """The sub-package of the same name does not take its place."""
    code = (
        "import buildkit_builder.buildkit.build.run, buildkit_builder.buildkit.find\n"
        "from buildkit_builder import buildkit as bk\n"
        "print(bk.build.__name__, callable(bk.build), bk.find.__name__)"
    )

    assert "build True buildkit_builder.buildkit.find" == python(code)


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The rooms above import its modules where they start."""
    code = (
        "import sys, buildkit_builder.buildkit\n"
        "print(*{'grpc', 'google.protobuf', 'rich', 'asyncio', 'flyte'} & set(sys.modules))"
    )

    assert "" == python(code)


def test_no_generated_type_and_no_grpc_is_at_the_surface() -> None:
    """Neither in what is called, nor in what is returned."""
    seen: set[str] = set()
    for name in bk.__all__:
        found = getattr(bk, name)
        members = inspect.getmembers(found, inspect.isfunction) if inspect.isclass(found) else [(name, found)]
        for function in (member for called, member in members if not called.startswith("_")):
            hints = typing.get_type_hints(function, vars(sys.modules[function.__module__]))
            seen |= set(map(repr, hints.values()))
        if dataclasses.is_dataclass(found):
            seen |= {repr(field.type) for field in dataclasses.fields(found) if not field.name.startswith("_")}

    assert [] == [hint for hint in sorted(seen) if "_pb2" in hint or "grpc" in hint]


def test_both_builds_take_the_same_arguments() -> None:
    """One rule for all twins."""
    assert inspect.signature(bk.build) == inspect.signature(bk.abuild)
    for name in ("read", "ls", "stat"):
        assert inspect.signature(getattr(bk.Result, name)) == inspect.signature(getattr(bk.Result, f"a{name}"))


async def test_waiting_where_an_event_loop_runs_is_refused() -> None:
    """With the call to write instead."""
    with pytest.raises(RuntimeError, match=r"An event loop runs in this thread.*abuild"):
        bk.build(bk.scratch())


def test_waiting_gives_what_the_coroutine_returns() -> None:
    """And no loop stays behind."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert 42 == wait(answer(), "answer")
