"""Builds that nobody waits for: `start` hands one to a process of its own, `main` is that process."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

from flyte._status import status

from buildkit_builder import config, image_build
from buildkit_builder.config import Settings
from buildkit_builder.errors import BuildKitError, ImageError
from buildkit_builder.image_build import Spec
from buildkit_builder.spec import secrets_of

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
    environ = config.environment()
    image_build.secret_values(secrets_of(spec), environ)
    folder = config.state_home(environ) / "buildkit-builder" / "builds"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    order, log = folder / f"{name}.order", folder / f"{name}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        order.touch(mode=0o600)
        order.write_bytes(pickle.dumps((spec, settings)))
        output = log.open("wb")
    except OSError as error:
        raise ImageError(f"A build in the background keeps its log in {folder}: {error.strerror}.") from error
    with output:
        process = subprocess.Popen(
            [sys.executable, "-m", "buildkit_builder.background", str(order)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    _started.append(process)
    status.info(f"Building {spec.reference} in the background; its log is {log}")
    return log


def main(order: Path) -> int:
    """Builds what an order says, and removes the order.

    Args:
        order: A pickle of spec and settings, written by `start` for this user alone.

    Returns:
        0 when the image was built, 1 when not; the log says why.
    """
    try:
        spec, settings = pickle.loads(order.read_bytes())
    finally:
        order.unlink()
    try:
        asyncio.run(image_build.build(spec, replace(settings, progress="plain")))
    except BuildKitError as error:
        sys.stdout.write(f"Building {spec.reference} failed: {error}\n")
        return 1
    sys.stdout.write(f"Built {spec.reference}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
