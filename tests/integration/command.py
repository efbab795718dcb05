"""The command lines of Flyte and of this package, as a user would type them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that ended, and all that it said."""

    code: int
    output: str

    @property
    def plain(self) -> str:
        """What it said, without the frames and line breaks that a terminal's width brings."""
        return " ".join(self.output.replace("│", " ").split())


Run = Callable[..., Finished]


def run(*words: str, folder: Path, **variables: str) -> Finished:
    """Runs a program of the environment that the tests run in.

    Args:
        words: The program's name and its arguments.
        folder: Where it runs.
        variables: Added to the environment; an empty one is taken out of it.
    """
    environ: dict[str, str] = {**os.environ, "COLUMNS": "400", "TERM": "dumb", **variables}
    done = subprocess.run(
        [str(Path(sys.executable).parent / words[0]), *words[1:]],
        cwd=folder,
        env={name: value for name, value in environ.items() if value},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Finished(code=done.returncode, output=done.stdout)


def write_project(
    folder: Path, *, image: str, config: Mapping[str, str] | None = None, builder: str = "local", rest: str = ""
) -> None:
    """Writes what a user of Flyte has: `config.yaml`, and `app.py` with the environment `env`.

    Args:
        folder: Where to.
        image: The Python expression of the image.
        config: Lines of the config's section `image`, by key.
        builder: The config's `image.builder`; empty for none.
        rest: More lines of `app.py`.
    """
    lines = {**({"builder": builder} if builder else {}), **(config or {})}
    section = "".join(f"  {key}: {value}\n" for key, value in lines.items())
    (folder / "config.yaml").write_text(
        f"admin:\n  endpoint: dns:///flyte.example.com\ntask:\n  org: o\n  project: p\n  domain: d\nimage:\n{section}"
    )
    (folder / "app.py").write_text(
        "from pathlib import Path\n\nimport flyte\n\n"
        f"image = {image}\nenv = flyte.TaskEnvironment(name='app', image=image)\n{rest}"
    )
