"""Ours and Flyte's own builder, in turns, on one daemon: seconds of the builder, from its call to the pushed image.

Flyte's own builder runs as users run it, with two kindnesses: the engine's own BuildKit instead of one in a container,
and without the first line of its Dockerfile, which would fetch a frontend image. Both build from one base that trusts
the machine's certificates. What each case does is its docstring.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import flyte
from flyte import Image
from flyte._internal.imagebuild import docker_builder

from buildkit_builder.builder import BuildKitImageBuilder

REGISTRY = os.environ["BUILDKIT_BUILDER_TEST_REGISTRY"]
BASE = "bench-base:latest"
_PIECE = 16 << 20
Prepare = Callable[[str], Image]


@dataclass(frozen=True)
class Row:
    """One line of the table: a case, the medians of both, and the bar that the ratio is held to."""

    case: str
    ours: float
    theirs: float
    bar: float

    @property
    def text(self) -> str:
        """The line of the table."""
        ratio = self.ours / self.theirs
        met = "met" if ratio <= self.bar else "missed"
        return f"| {self.case} | {self.ours:.2f} s | {self.theirs:.2f} s | {ratio:.3f} | ≤ {self.bar} {met} |"


def base_image() -> None:
    """An image in the engine's store that both build from: Python, and the certificates of this machine."""
    certificates = os.environ.get("BUILDKIT_BUILDER_CA")
    with tempfile.TemporaryDirectory() as folder:
        lines = ["FROM python:3.11-slim-bookworm"]
        if certificates:
            shutil.copy(certificates, Path(folder) / "ca.pem")
            lines += ["COPY ca.pem /etc/ssl/certs/ca-certificates.crt",
                      "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]  # fmt: skip
        (Path(folder) / "Dockerfile").write_text("\n".join(lines) + "\n")
        subprocess.run(["docker", "buildx", "build", "--load", "-q", "-t", BASE, folder], check=True, stdout=-3)


def prepare_theirs() -> None:
    """Flyte's own builder on this engine."""
    os.environ["FLYTE_DOCKER_BUILDKIT_BUILDER_NAME"] = "default"
    template = docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE.template.split("\n", 1)
    if template[0].startswith("# syntax"):
        docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE = Template(template[1])


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps what the builders and their processes print out of the table."""
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(1), os.dup(2)
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)


async def timed(builder: Callable[[Image], Awaitable[object]], image: Image) -> float:
    """Seconds of the builder; the tag, which Flyte has hashed by the time a builder is called, is not counted."""
    assert image.uri
    with silence():
        start = time.perf_counter()
        await builder(image)
        return time.perf_counter() - start


async def ours(image: Image) -> object:
    """Builds with this package."""
    return await BuildKitImageBuilder().build_image(image, force=True)


async def theirs(image: Image) -> object:
    """Builds with Flyte's own builder."""
    return await docker_builder.DockerImageBuilder().build_image(image, force=True)


async def in_turns(
    case: str, bar: float, prepare: Prepare, runs: int, before: Callable[[], None] = lambda: None
) -> Row:
    """Warms both, then measures them one after the other, `runs` times."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    builders = {"ours": ours, "theirs": theirs}
    for who, builder in builders.items():
        await timed(builder, prepare(who))
    for _ in range(runs):
        for who, builder in builders.items():
            before()
            seconds[who].append(await timed(builder, prepare(who)))
    row = Row(case, statistics.median(seconds["ours"]), statistics.median(seconds["theirs"]), bar)
    print(f"{row.case}: {row.ours:.2f} s against {row.theirs:.2f} s", flush=True)
    return row


def on_base(name: str) -> Image:
    """An image for one platform on the common base."""
    machine = f"linux/{'arm64' if platform.machine() == 'aarch64' else 'amd64'}"
    return Image.from_base(BASE).clone(
        name=f"bench-{name}", registry=REGISTRY, extendable=True, python_version=(3, 11), platform=(machine,)
    )


def source_tree(folder: Path, files: int, total: int) -> None:
    """A folder of files that do not compress, 200 to a folder below it."""
    numbers = random.Random(1)
    for number in range(files):
        path = folder / f"part{number // 200:03d}" / f"file{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for begin in range(0, total // files, _PIECE):
                file.write(numbers.randbytes(min(_PIECE, total // files - begin)))


async def cached(runs: int, work: Path) -> list[Row]:
    """Nothing changed, forced: apt, pip, variables and a source folder."""
    folder = work / "src"
    source_tree(folder, 20, 200_000)

    def prepare(who: str) -> Image:
        return (
            on_base(f"cached-{who}")
            .with_apt_packages("figlet")
            .with_pip_packages("requests", "six")
            .with_env_vars({"A": "1"})
            .with_source_folder(folder, dst="/app")
        )

    return [await in_turns("unchanged, forced", 0.2, prepare, runs)]


async def large(runs: int, work: Path) -> list[Row]:
    """A source folder of 1 GB in 20,000 files: unchanged, and with one file changed."""
    folder = work / "large"
    source_tree(folder, 20_000, 1_000_000_000)

    def prepare(who: str) -> Image:
        return on_base(f"large-{who}").with_source_folder(folder, dst="/data")

    def change() -> None:
        (folder / "part000" / "file00000.bin").write_bytes(uuid.uuid4().bytes * 3000)

    return [
        await in_turns("1 GB in 20,000 files, unchanged", 0.15, prepare, runs),
        await in_turns("1 GB in 20,000 files, one changed", 0.8, prepare, max(3, runs // 2), before=change),
    ]


MEMORY = """
import asyncio, json, sys
from pathlib import Path
from flyte import Image
from buildkit_builder import image_build
from buildkit_builder.builder import BuildKitImageBuilder

def status(key):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(key))
    return int(line.split()[1]) / 1024

def image(folder):
    base = Image.from_base(sys.argv[1]).clone(name="bench-memory", registry=sys.argv[2], extendable=True)
    return base.with_source_folder(Path(folder), dst="/data")

async def main():
    await BuildKitImageBuilder().build_image(image(sys.argv[4]))
    idle = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    subject = image(sys.argv[3])
    subject.uri
    await BuildKitImageBuilder().build_image(subject)
    print(json.dumps({"idle": idle, "peak": status("VmHWM")}))

asyncio.run(main())
"""


async def memory(runs: int, work: Path) -> list[Row]:
    """Our process while it sends 1 GB that the daemon has not seen, against the same process idle."""
    small = work / "small"
    source_tree(small, 2, 2000)
    for case, files in (("one file", 1), ("20,000 files", 20_000)):
        folder = work / f"memory-{files}"
        source_tree(folder, files, 1_000_000_000)
        command = [sys.executable, "-c", MEMORY, BASE, REGISTRY, str(folder), str(small)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        grown = figures["peak"] - figures["idle"]
        print(f"memory while sending 1 GB, {case}: {grown:.0f} MB above {figures['idle']:.0f} MB idle (bar: 80)")
        shutil.rmtree(folder)
    return []


async def imports(runs: int, work: Path) -> list[Row]:
    """What `import buildkit_builder` and the entry points add to `import flyte`."""

    def seconds(statement: str) -> float:
        code = f"import flyte, time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        return min(
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
            for _ in range(max(runs, 5))
        )

    for statement in ("import buildkit_builder", "import buildkit_builder.activation as a; a.activate()"):
        print(f"`{statement}` after `import flyte`: {seconds(statement) * 1000:.1f} ms (bar: 60)")
    return []


CASES = {"cached": cached, "large": large, "memory": memory, "imports": imports}


async def main() -> int:
    """Runs the chosen cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--case", action="append", choices=CASES, help="all of them when not given")
    chosen = parser.parse_args()
    os.environ.setdefault("FLYTE_BUILDKIT_PROGRESS", "quiet")
    base_image()
    prepare_theirs()
    rows: list[Row] = []
    for name in chosen.case or CASES:
        with tempfile.TemporaryDirectory() as work:
            rows += await CASES[name](chosen.runs, Path(work))
    ask = ["docker", "version", "-f", "{{.Server.Version}}"]
    engine = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    print(
        f"\n{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"flyte {flyte.__version__}, Docker Engine {engine}; medians of {chosen.runs} runs in turns\n"
    )
    if rows:
        print("| Case | this package | Flyte's own | ratio | bar |\n|---|---|---|---|---|")
        print("\n".join(row.text for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
