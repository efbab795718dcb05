"""Programs that run as on macOS, as far as Linux lets them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.disks import caseless, mount

__all__ = ["caseless", "mount"]

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = Path(__file__).resolve().parent / "site"
# In a mount namespace of its own, so that `/proc` is gone for this program alone. Without it, what closes descriptors
# has to try every number.
WITHOUT_PROC = 'mount -t tmpfs none /proc && ulimit -n 4096 && exec "$@"'

LikeMacOS = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def like_macos() -> Iterator[LikeMacOS]:
    """Runs a Python program without `/proc`, nor what only Linux has, far from the root and without certificates."""
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as short:
        # As long as those of macOS are.
        temporary = Path(short) / "folders" / "zz" / "zyxvpxvq6csfxvn_n0000000000000" / "T"
        temporary.mkdir(parents=True)
        for folder in (Path(short), *temporary.parents, temporary):
            if folder.is_relative_to(short):
                folder.chmod(0o1777)
        nothing = Path(short) / "nothing"
        nothing.touch()

        def run(*arguments: str, environ: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["unshare", "--mount", "bash", "-c", WITHOUT_PROC, "bash", sys.executable, *arguments],
                env={
                    **environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]),
                    "SSL_CERT_FILE": str(nothing), "SSL_CERT_DIR": str(temporary),
                },
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip

        yield run
        assert [] == [entry.name for entry in temporary.iterdir() if entry.name.startswith(("bkb", "buildkit"))]
