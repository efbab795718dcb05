"""What a build costs: seconds, bytes, processor time and memory."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from registry import Registry

_TIMED = str(Path(__file__).with_name("timed.py"))
OURS, THEIRS, HAND = "ours", "flyte", "buildx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured build.

    Attributes:
        seconds: From the builder's call to the pushed image; of buildx, of its process.
        cpu: Seconds of processor time on the client's side, its child processes included.
        peak: Megabytes of memory that the client's process had at most; `None` where that is not known.
        pushed_bytes: Of blobs that the registry got.
        pushed: How many those are.
        reused: Blobs that the registry had.
    """

    seconds: float
    cpu: float
    peak: float | None
    pushed_bytes: int
    pushed: int
    reused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        case: What was measured.
        bars: What the ratio to a contestant is held to, by its name.
        samples: In the order of the runs, by contestant.
    """

    case: str
    bars: Mapping[str, float]
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def median(self, who: str, what: str = "seconds") -> float | None:
        """The median of a contestant; `None` where it was not measured."""
        values = [getattr(sample, what) for sample in self.samples.get(who, ())]
        return statistics.median(values) if values and None not in values else None

    def ratio(self, against: str) -> float | None:
        """The median of the ratios run by run, since what else the machine does comes and goes."""
        ours, theirs = ([sample.seconds for sample in self.samples.get(who, ())] for who in (OURS, against))
        if not ours or not theirs:
            return None
        if len(ours) != len(theirs):
            return statistics.median(ours) / statistics.median(theirs)
        return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {
            "case": self.case,
            "bars": dict(self.bars),
            "ratios": {who: self.ratio(who) for who in self.samples if who != OURS},
            "samples": {who: [asdict(sample) for sample in found] for who, found in self.samples.items()},
        }


Work = Callable[[], Coroutine[Any, Any, None]]
Build = Callable[[], Coroutine[Any, Any, "Cost"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a build took on the client's side.

    Attributes:
        seconds: From its call to its end.
        cpu: Seconds of processor time, child processes included.
        peak: Megabytes of memory at most; `None` where that is not known.
    """

    seconds: float
    cpu: float
    peak: float | None


async def measured(build: Build, registry: Registry) -> Sample:
    """Runs a build and measures it.

    Args:
        build: Ready to be called.
        registry: Where it pushes to.
    """
    # What the one before has written is not for this one to wait for.
    os.sync()
    with registry.watched() as traffic, silence():
        cost = await build()
    return Sample(
        seconds=cost.seconds, cpu=cost.cpu, peak=cost.peak,
        pushed_bytes=traffic.pushed_bytes, pushed=traffic.pushed, reused=traffic.reused,
    )  # fmt: skip


def in_process(work: Work, *, alone: bool) -> Build:
    """Work done in this process, as a build that can be measured.

    Args:
        work: What is done.
        alone: Whether no other process works for it on the client's side, so that our own memory is all.
    """

    async def build() -> Cost:
        _forget_peak()
        begun, start = cpu_seconds(), time.perf_counter()
        await work()
        seconds = time.perf_counter() - start
        return Cost(seconds=seconds, cpu=cpu_seconds() - begun, peak=_peak() if alone else None)

    return build


def as_command(command: Sequence[str], environ: Mapping[str, str] = MappingProxyType({})) -> Build:
    """A command, as a build that can be measured.

    Args:
        command: To run.
        environ: Variables beside our own.
    """

    async def build() -> Cost:
        with tempfile.NamedTemporaryFile() as told:
            subprocess.run(
                [sys.executable, "-IS", _TIMED, told.name, *command], env={**os.environ, **environ}, check=True
            )
            seconds, cpu, peak = map(float, told.read().split())
        return Cost(seconds=seconds, cpu=cpu, peak=peak)

    return build


def _forget_peak() -> None:
    """Has the kernel count the most memory of this process anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Megabytes that this process had at most since `_forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def cpu_seconds() -> float:
    """Seconds of processor time of this process and of its children that are over."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps what builders and their processes print out of the table; where they fail, it is told after all."""
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept[1], said.read()[-8000:])
            raise
        finally:
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)


def order(names: Sequence[str], run: int) -> list[str]:
    """Who goes first changes from run to run."""
    first = run % len(names)
    return [*names[first:], *names[:first]]
