"""This package beside any Flyte: the newest that is known, where it builds, and older ones, where it steps aside.

A lane of `.ci/run` runs this file, and no other, on an older Flyte.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

FLYTE = importlib.metadata.version("flyte")
# The first that has all that is needed.
KNOWN = tuple(map(int, FLYTE.split(".")[:2])) >= (2, 10)
CHOOSE = """
import sys
import flyte
flyte.init(org="o", project="p", domain="d", {config})
from flyte._internal.imagebuild.image_builder import ImageBuildEngine
builders = {{name: type(ImageBuildEngine._get_builder(name)).__module__ for name in ("local", "remote")}}
assert "flyte" == builders["remote"].partition(".")[0], builders
print(builders["local"].partition(".")[0])
"""


def python(folder: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own, with nothing that steers Flyte or us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLYTE", "UCTL", "BUILD"))}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder, env={**kept, "HOME": str(folder), **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def own_lines(text: str) -> list[str]:
    """What this package says."""
    return [line for line in text.splitlines() if "buildkit-builder" in line]


def test_local_is_ours_or_flytes_with_one_line_why(tmp_path: Path) -> None:
    """Beside a known Flyte `local` is ours; beside another it is Flyte's own, and a line names the versions."""
    ended = python(tmp_path, CHOOSE.format(config="image_builder='local'"))

    assert 0 == ended.returncode, ended.stderr
    assert ("buildkit_builder" if KNOWN else "flyte") == ended.stdout.split()[-1]
    said = own_lines(ended.stdout + ended.stderr)
    assert len(said) == (0 if KNOWN else 1)
    assert all("steps aside" in line and f"flyte {FLYTE}" in line for line in said)


def test_switched_off_nothing_is_said(tmp_path: Path) -> None:
    """With `enabled: false` any Flyte is as without this package, and hears nothing of it."""
    ended = python(tmp_path, CHOOSE.format(config="image_builder='local'"), FLYTE_BUILDKIT_ENABLED="false")

    assert 0 == ended.returncode, ended.stderr
    assert "flyte" == ended.stdout.split()[-1]
    assert [] == own_lines(ended.stdout + ended.stderr)


@pytest.mark.parametrize("builder", ["local", "remote"])
def test_the_command_line_goes_on(tmp_path: Path, builder: str) -> None:
    """What becomes of `flyte build` without an engine and a backend is not this package's doing."""
    (tmp_path / "config.yaml").write_text(
        "admin:\n  endpoint: dns:///localhost:1\ntask:\n  org: o\n  project: p\n  domain: d\n"
        f"image:\n  builder: {builder}\n"
    )
    (tmp_path / "app.py").write_text(
        "import flyte\n\nimage = flyte.Image.from_base('debian').clone(name='x', registry='localhost:1/x')\n"
        "env = flyte.TaskEnvironment(name='app', image=image)\n"
    )
    words = ["flyte", "-c", "config.yaml", "build", "app.py", "env"]
    script = f"import sys; from flyte.cli.main import main; sys.argv = {words}; main()"

    ended = python(tmp_path, script, PATH=str(tmp_path), BUILDKIT_HOST=f"unix://{tmp_path}/none")

    shown = ended.stdout + ended.stderr
    assert "has no attribute" not in shown
    assert len(own_lines(shown)) == (0 if KNOWN else 1), shown
