"""A base image with packages of the suite's own in it, for apt and for uv: no step needs a network."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.parity.packages import Package

APT, PIP = "bkb-tool", "bkb-wheel"
# What the one puts on the PATH, and the other into the environment.
APT_FILE = f"usr/bin/{APT}"
PIP_FILE = f"opt/venv/lib/python3.11/site-packages/{Package(name=PIP, version='1.0').module}/__init__.py"
PIP_ARGS = "--no-index --find-links /wheels"

_CONTROL = f"""\
Package: {APT}
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example.com>
Description: a tool
"""


def write_context(folder: Path, base: str) -> None:
    """Writes a Dockerfile that puts the packages on a base, and what it copies."""
    (folder / "repo").mkdir()
    (folder / "wheels").mkdir()
    deb = _write_deb(folder)
    content = deb.read_bytes()
    (folder / "repo" / "Packages").write_text(
        f"{_CONTROL}Filename: ./{deb.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    )
    (folder / "sources.list").write_text("deb [trusted=yes] file:/repo ./\n")
    name, wheel = Package(name=PIP, version="1.0").wheel()
    (folder / "wheels" / name).write_bytes(wheel)
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nCOPY repo /repo\nCOPY wheels /wheels\nCOPY sources.list /etc/apt/sources.list\n"
    )


def _write_deb(folder: Path) -> Path:
    root = folder / "deb"
    program = root / APT_FILE
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho tool\n")
    program.chmod(0o755)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(_CONTROL)
    deb = folder / "repo" / f"{APT}_1.0_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(root), str(deb)], check=True, stdout=subprocess.DEVNULL
    )
    return deb


def build_base(folder: Path, base: str, *, docker: str, tag: str, platforms: str, environ: Mapping[str, str]) -> None:
    """Has buildx put it into the engine's own store."""
    write_context(folder, base)
    # The one that belongs to the engine, and none that the machine has chosen.
    command = [docker, "buildx", "build", "--builder", "default", "--quiet", "--provenance=false"]
    subprocess.run(
        [*command, "--platform", platforms, "--tag", tag, str(folder)],
        check=True,
        env=dict(environ),
        stdout=subprocess.DEVNULL,
    )
