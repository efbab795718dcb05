"""Base images of the suite's own, in the engine's store, as images to put layers on."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass

from flyte import Image

from tests.conftest import Engine

PYTHON = "python:3.11-slim-bookworm"
AMD64 = ("linux/amd64",)


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

    def made(self, *lines: str, start: str = PYTHON, name: str = "") -> str:
        """The name of a base that these lines of a Dockerfile make of another; a name of its own unless one is given."""
        text = "\n".join([f"FROM {start}", *lines, ""])
        tag = name or f"parity-base:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        done = subprocess.run(
            [self.docker, "buildx", "build", "--builder=default", "--load", "--provenance=false",
                     "--allow=network.host", f"--tag={tag}", "-"],
            input=text,
            env=dict(self.engine.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return tag
