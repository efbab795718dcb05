"""Base images of the suite's own, in the engine's store, as images to put layers on."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, field
from typing import Literal

from flyte import Image

from tests.conftest import Engine

PYTHON = "python:3.11-slim-bookworm"
AMD64: tuple[Literal["linux/amd64"]] = ("linux/amd64",)


@dataclass(frozen=True, kw_only=True)
class Bases:
    """Makes base images, and images of Flyte to put layers on.

    Attributes:
        docker: The path of the `docker` command.
        repository: The name that all images of this run are pushed under.
    """

    engine: Engine
    docker: str
    repository: str
    _made: dict[str, str] = field(default_factory=dict)

    def named(self, reference: str) -> Image:
        """An image to put layers on, from a base of this name."""
        return Image.from_base(reference).clone(
            name=self.repository,
            registry=self.engine.registry,
            extendable=True,
            python_version=(3, 11),
            platform=AMD64,
        )

    def of(self, *lines: str, start: str = PYTHON) -> Image:
        """An image to put layers on, from a base that these lines of a Dockerfile make of another."""
        return self.named(self.made(*lines, start=start))

    def made(self, *lines: str, start: str = PYTHON, name: str = "", platforms: str = "") -> str:
        """The name of a base that these lines of a Dockerfile make of another.

        Args:
            lines: Of the Dockerfile, after its first.
            start: The other.
            name: What to call it; something of its own when not given.
            platforms: What it is made for; the daemon's own when not given.
        """
        text = "\n".join([f"FROM {start}", *lines, ""])
        tag = name or f"parity-base:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        if self._made.get(tag) == text:
            return tag
        done = subprocess.run(
            [
                self.docker,
                "buildx",
                "build",
                "--builder=default",
                "--load",
                "--provenance=false",
                "--allow=network.host",
                f"--tag={tag}",
                *([f"--platform={platforms}"] if platforms else []),
                "-",
            ],
            input=text,
            env=dict(self.engine.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        self._made[tag] = text
        return tag

    def forget(self, *patterns: str) -> None:
        """Takes images out of the engine's store, by patterns of their names."""
        self._made.clear()
        for pattern in patterns:
            listed = self._docker("image", "ls", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={pattern}")
            if names := listed.split():
                self._docker("image", "rm", "--force", *names)

    def _docker(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.docker, *arguments], env=dict(self.engine.environ), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
