"""The engine that `buildkit-builder engine up` starts for one user: where it is, and whether it runs.

`cli.private_daemon` starts and stops it. What it keeps is in the user's state folder, its sockets are in the user's
runtime folder, and a record of it is beside what it keeps.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from buildkit_builder import config
from buildkit_builder.buildkit.find.endpoint import Endpoint, Kind

PROGRAMS: tuple[tuple[str, Kind], ...] = (("buildkitd", "buildkit"), ("dockerd", "docker"))
"""What can be started, the better first."""

SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where daemons are kept that a user's PATH leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateEngine:
    """A private engine, as it was started.

    Attributes:
        address: Where it answers, `unix://…`.
        kind: Whether it is a Docker Engine or a buildkitd.
        program: The program's path.
        pid: The process.
        started: When that process was started, in the kernel's words; another of the same number has another.
        runtime: The folder of its sockets.
    """

    address: str
    kind: Kind
    program: str
    pid: int
    started: str
    runtime: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a user's private engine keeps what it has.

    Attributes:
        folder: Everything but its sockets.
    """

    folder: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Place:
        """The place of the user of an environment."""
        return cls(config.state_home(environ) / "buildkit-builder" / "engine")

    @property
    def record(self) -> Path:
        """The record of the engine that runs."""
        return self.folder / "engine.json"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "log"

    @property
    def data(self) -> Path:
        """Its cache, and its images."""
        return self.folder / "data"

    def write(self, engine: PrivateEngine) -> None:
        """Keep a record of an engine."""
        part = self.record.with_suffix(".part")
        part.write_text(json.dumps(asdict(engine)), encoding="utf-8")
        part.replace(self.record)

    def read(self) -> PrivateEngine | None:
        """The engine that was recorded, running or not."""
        try:
            return PrivateEngine(**json.loads(self.record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Own:
    """The private engine of an environment's user, as a search for BuildKit looks at it."""

    environ: Mapping[str, str]
    name: ClassVar[str] = "engine of `buildkit-builder engine up`"

    def running(self) -> Endpoint | None:
        """The engine, where it runs."""
        engine = running(self.environ)
        if engine is None:
            return None
        reason = f"`buildkit-builder engine up` has started it (process {engine.pid})"
        return Endpoint(address=engine.address, kind=engine.kind, reason=reason)

    def advice(self) -> str:
        """How to start it, as a sentence; empty where nothing is installed."""
        program = installed(self.environ)
        return f"`{program}` is installed: `buildkit-builder engine up` starts it for you." if program else ""


def running(environ: Mapping[str, str]) -> PrivateEngine | None:
    """The user's private engine, where it runs."""
    engine = Place.of(environ).read()
    return engine if engine and started_at(engine.pid) == engine.started else None


def installed(environ: Mapping[str, str]) -> str | None:
    """The path of a program that could be started, or `None`."""
    return next((found for name, _ in PROGRAMS if (found := find_program(name, environ))), None)


def find_program(name: str, environ: Mapping[str, str]) -> str | None:
    """The path of a program, on the PATH or beyond it."""
    return shutil.which(name, path=os.pathsep.join((environ.get("PATH", ""), *SYSTEM_PATH)))


def started_at(pid: int) -> str:
    """When a process was started, in the kernel's words; empty where there is none, or it is dead."""
    with contextlib.suppress(OSError, IndexError):
        # Protocol: proc_pid_stat(5); the name, field 2, may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    return ""
