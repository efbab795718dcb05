"""The process that finishes a build which nobody waits for: `python -m buildkit_builder.background ORDER`."""

from __future__ import annotations

import asyncio
import pickle
import sys
from dataclasses import replace
from pathlib import Path

from buildkit_builder import image_build
from buildkit_builder.errors import BuildKitError


def main(order: Path) -> int:
    """Builds what the order says, and removes the order.

    Args:
        order: A pickle of spec and settings, written by `image_build.start_in_background` for this user alone.

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
        print(f"Building {spec.reference} failed: {error}")
        return 1
    print(f"Built {spec.reference}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
