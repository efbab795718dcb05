"""What the suite fetches once, and the tools that make its lock files."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.parity.bases import Bases
from tests.parity.packages import Index

UV_IMAGE = "ghcr.io/astral-sh/uv:0.13.4"


def download(folder: Path, *packages: str) -> list[Path]:
    """Wheels of packages, and of all they need, for Python 3.11 in a container; fetched when the folder has none."""
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        machine = platform.machine()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", f"--dest={folder}"]
        command += [f"--platform=manylinux{version}_{machine}" for version in ("2014", "_2_17", "_2_28")]
        done = subprocess.run([*command, *packages], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "complete").touch()
    return sorted(folder.glob("*.whl"))


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Runs uv here, and Poetry in a container.

    Attributes:
        index: Where Poetry, and what it locks, comes from.
        folder: Where uv is put; to be on the PATH of Flyte's own builder.
    """

    bases: Bases
    index: Index
    folder: Path

    def uv(self) -> Path:
        """The uv of Flyte's image."""
        program = self.folder / "uv"
        if not program.exists():
            container = self._docker("create", UV_IMAGE, "/uv").strip()
            self._docker("cp", f"{container}:/uv", str(program))
            self._docker("rm", container)
        return program

    def uv_lock(self, project: Path, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        """Writes `uv.lock`, with these variables set."""
        command = [
            str(self.uv()),
            "lock",
            "--quiet",
            f"--cache-dir={self.folder / 'cache'}",
            f"--python={sys.executable}",
        ]
        self._run([*command, f"--directory={project}"], variables)

    def poetry_lock(self, project: Path, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        """Writes `poetry.lock`, with the index's Poetry and these variables set."""
        poetry = self.bases.made(
            f"COPY --from={UV_IMAGE} /uv /bin/uv",
            f"RUN --network=host uv pip install --system --index-url {self.index.public} poetry",
            name="parity-poetry:latest",
        )
        options = [f"--volume={project}:/project", *(f"--env={name}={value}" for name, value in variables.items())]
        command = ["run", "--rm", "--network=host", "--workdir=/project", *options, poetry]
        self._docker(*command, "poetry", "lock")

    def _docker(self, *arguments: str) -> str:
        return self._run([self.bases.docker, *arguments])

    def _run(self, command: list[str], variables: Mapping[str, str] = MappingProxyType({})) -> str:
        environ = {**self.bases.engine.environ, **variables}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
