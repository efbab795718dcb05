"""Builds that nobody waits for: `start` hands one to a process of its own, `main` is that process.

That process imports nothing by accident: a folder of the user's may have a `secrets.py` or a `grpc/`, which are meant
for what the user runs. So it looks where Python itself does (`-I`), then where other packages are installed, and this
package is loaded from its very place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import IO

from buildkit_builder import config
from buildkit_builder.config import Settings
from buildkit_builder.errors import ImageError
from buildkit_builder.flyte_plugin import image_build
from buildkit_builder.flyte_plugin.image_build import Spec
from buildkit_builder.image.spec import secrets_of
from buildkit_builder.image.unforeseen import as_ours

_LOGS_MAX = 100
_PACKAGE = Path(__file__).parent.parent / "__init__.py"
# Its arguments: where packages are, where this one is, and the order.
_BEGIN = """
import sys, json, importlib.util
sys.path += json.loads(sys.argv[1])
spec = importlib.util.spec_from_file_location("buildkit_builder", sys.argv[2])
if spec is not None:
    sys.modules["buildkit_builder"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
from pathlib import Path
from buildkit_builder.flyte_plugin.background import main
sys.exit(main(Path(sys.argv[3])))
"""
# Kept, since a process object that is thrown away complains that its process still runs.
_started: list[subprocess.Popen[bytes]] = []


def start(spec: Spec, settings: Settings) -> Path:
    """Starts a process that builds an image and goes on when this one has ended.

    Returns:
        The file that it writes its log to.

    Raises:
        MissingSecretError: A secret has no value; found now, since nobody watches later.
        ImageError: The folder for logs cannot be written.
    """
    from flyte._status import status

    environ = config.environment()
    image_build.secret_values(secrets_of(spec), environ)
    folder = config.state_home(environ) / "buildkit-builder" / "logs"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    order, log = folder / f"{name}.order", folder / f"{name}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_room(folder)
        order.touch(mode=0o600)
        order.write_bytes(pickle.dumps((spec, settings)))
        output = log.open("wb")
    except OSError as error:
        raise ImageError(f"A build in the background keeps its log in {folder}: {error.strerror}.") from error
    with output:
        _lock(output)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BEGIN, json.dumps(_places()), str(_PACKAGE), str(order)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            order.unlink(missing_ok=True)
            raise
    _started.append(process)
    status.info(f"Building {spec.reference} in the background; its log is {log}")
    return log


def _places() -> list[str]:
    """Where packages are installed, for a Python that does not know of `PYTHONPATH` or the user's own packages."""
    places = [os.path.abspath(place) for place in sys.path if place]
    return [place for place in places if any(Path(place).glob("*.dist-info")) or os.path.isfile(place)]


def _lock(log: IO[bytes]) -> bool:
    """Marks a log as in use for as long as it is open: by the process that writes it, when this one has closed it.

    Returns:
        Whether nobody else had.
    """
    import fcntl

    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _make_room(folder: Path) -> None:
    """Removes the oldest logs, but those that are still written to."""
    for log in sorted(folder.glob("*.log"))[: -_LOGS_MAX + 1]:
        with contextlib.suppress(OSError), log.open("rb") as file:
            if _lock(file):
                log.unlink()


def main(order: Path) -> int:
    """Builds what an order says, and removes the order.

    Args:
        order: A pickle of spec and settings, written by `start` for this user alone.

    Returns:
        0 when the image was built, 1 when not; the log says why.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        spec, settings = pickle.loads(order.read_bytes())
    finally:
        order.unlink()
    try:
        asyncio.run(image_build.build(spec, replace(settings, progress="plain")))
    except Exception as error:  # noqa: BLE001 - whatever it is, the log is where it is said
        sys.stdout.write(f"Building {spec.reference} failed: {as_ours(error)}\n")
        return 1
    sys.stdout.write(f"Built {spec.reference}\n")
    return 0
