"""What all tests of this room need."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _fresh(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of this machine, none of another test, and a working directory of the test's own."""
    clean_environ.chdir(tmp_path)
    clean_environ.setattr("flyte._initialize._init_config", None)
