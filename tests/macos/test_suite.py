"""Tests of everything that touches the system, on a system that is like macOS."""

from __future__ import annotations

import re
import tempfile

import pytest

from tests.macos.conftest import LikeMacOS

# What is gone, and what is there in its place.
LIKENESS = """
import asyncio, fcntl, multiprocessing, os, select, selectors, signal, socket, sys, tempfile
assert sys.platform == "darwin" and multiprocessing.get_start_method() == "spawn"
assert not [name for module in (os, fcntl, select, signal, socket) for name in vars(module)
            if name in ("memfd_create", "pipe2", "F_OFD_SETLK", "epoll", "pidfd_send_signal", "SOCK_CLOEXEC")]
assert not os.path.exists("/proc/self") and len(tempfile.gettempdir()) > 48
asyncio.run(asyncio.sleep(0))
try:
    socket.socket(socket.AF_UNIX).bind(tempfile.gettempdir() + "/" + "x" * 60)
except OSError as error:
    print(error)
"""

FILES = {
    "buildkit/connect": ["test_relay.py"],
    "buildkit/find": ["test_discovery.py", "test_buildx_store.py"],
    "buildkit/session": ["test_auth.py", "test_content.py", "test_filesend.py", "test_filesync.py", "test_follow.py",
                         "test_oci_layout.py", "test_server.py"],
    "buildkit/build": ["test_delivery.py", "test_local_reads.py", "test_cache_export.py"],
    "image": ["test_memory.py"],
    "flyte_plugin": ["test_activation.py"],
    "flyte_plugin/image_build": ["test_local_files.py"],
    ".": ["test_errors.py"],
}  # fmt: skip
# It counts what is in `/dev/fd`, which macOS has of itself and Linux has from `/proc`.
LEFT_OUT = "tests/buildkit/connect/test_relay.py::test_close_leaves_nothing"


def test_it_is_like_macos(like_macos: LikeMacOS) -> None:
    """Nothing of Linux is left that the tests are meant to be without."""
    ended = like_macos("-c", LIKENESS)

    assert ("AF_UNIX path too long\n", "", 0) == (ended.stdout, ended.stderr, ended.returncode)


@pytest.mark.parametrize("room", FILES)
def test_the_package_is_the_same_there(like_macos: LikeMacOS, room: str) -> None:
    """All tests of these files pass but one, and none is skipped."""
    files = [f"tests/{room}/{name}" for name in FILES[room]]
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as own:
        # Tests have sockets of their own, which are not what this is about.
        where = (f"--basetemp={own}/t", f"--deselect={LEFT_OUT}")
        ended = like_macos("-m", "pytest", "-q", "-p", "no:cacheprovider", *where, *files)

    assert 0 == ended.returncode, ended.stdout[-4000:] + ended.stderr[-1000:]
    assert re.search(r"^\d+ passed(, 1 deselected)? in ", ended.stdout, re.MULTILINE), ended.stdout[-1000:]
