"""Which BuildKit is used, what it can do, and what to do where it cannot: `buildkit-builder doctor`.

`examine` asks the daemon; everything else is data and text.
"""

from __future__ import annotations

import asyncio
import json
import textwrap
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_builder.buildkit.api.control import Worker
    from buildkit_builder.buildkit.api.gateway import Pong
    from buildkit_builder.buildkit.connect.connection import Connection
    from buildkit_builder.buildkit.llb import Capabilities, Platform

_WIDTH = 100
_LABEL = "org.mobyproject.buildkit.worker."

# What images may need of the daemon beyond its first releases, and what the daemon cannot do without it.
_WANTED = {
    "exec.secretenv": "give a secret to a step as a variable (`exec.secretenv`)",
    "frontend.inputs.named": "carry out lines of a Dockerfile on what other steps have made",
}
# What a daemon knows, be it switched off, that is new enough for an engine with the containerd image store.
_WITH_STORE = "source.policy"
# The Docker Engine in which a release of BuildKit first came (protocol reference: moby `vendor.mod` by tag).
_ENGINES = {
    "0.8": "20.10",
    "0.9": "23.0",
    "0.10": "23.0",
    "0.11": "24.0",
    "0.12": "25.0",
    "0.13": "26.0",
    "0.14": "27.0",
    "0.17": "27.5",
}
# What a processor runs without help beside its own architecture.
_COMPATIBLE = {"amd64": ("386",), "arm64": ("arm",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is, in two or three words.
        ok: Whether it is as it should be; `None` where that depends on what is to be built.
        detail: What was found.
        advice: What to do about it; empty if nothing is to be done.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A daemon as it presents itself.

    Attributes:
        address: Where it answers.
        kind: `docker` for a Docker Engine, `buildkit` for a buildkitd.
        reason: Why this one: the rest of a sentence that begins with "it was chosen because".
        version: What it calls its version; may be empty.
        release: The newest release of BuildKit, such as `0.25`, whose features it has; empty if it tells none.
        platforms: What it can run, its own platform first.
        labels: What its first worker says of itself, without the common prefix.
        llb: Features of graphs that are switched on.
        gateway: Features of the gateway that are switched on.
        switched_off: Features that it knows but does not have, with the daemon's reason.
        findings: What follows from all that.
    """

    address: str
    kind: str
    reason: str
    version: str = ""
    release: str = ""
    platforms: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    llb: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    switched_off: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


async def examine(connection: Connection, *, timeout: float = 30.0) -> Report:
    """Ask a daemon what it can do, by a build that makes nothing and is kept out of the daemon's history.

    Args:
        connection: To the daemon.
        timeout: Seconds until a daemon that does not answer is an error.

    Raises:
        EndpointError: It stopped answering.
        BuildKitError: It refused.
    """
    import grpc.aio

    from buildkit_builder.buildkit.api import failures
    from buildkit_builder.buildkit.api.control import Control
    from buildkit_builder.errors import EndpointError

    try:
        workers = await asyncio.wait_for(Control(connection.channel).list_workers(), timeout)
        pong = await asyncio.wait_for(_ping(connection), timeout)
    except asyncio.TimeoutError:
        raise EndpointError(
            f"The daemon at {connection.endpoint.address} did not say what it can do within {timeout:g} s. See whether "
            "it is busy or stopped, or point the `endpoint` setting at another."
        ) from None
    except grpc.aio.AioRpcError as error:
        doing = "asking the daemon what it can do"
        raise failures.translate(error, describe=lambda _: None, doing=doing) from error
    endpoint = connection.endpoint
    return report_of(
        address=endpoint.address,
        kind=endpoint.kind,
        reason=endpoint.reason,
        version=connection.daemon.version or next((worker.version for worker in workers if worker.version), ""),
        workers=workers,
        pong=pong,
    )


async def _ping(connection: Connection) -> Pong:
    """The daemon tells its features only to a build, so one is begun, and ended with no result."""
    from buildkit_builder.buildkit.api.control import Control, solve_request
    from buildkit_builder.buildkit.api.gateway import Gateway
    from buildkit_builder.buildkit.api.results import Ref, Result

    ref = uuid.uuid4().hex
    solve = asyncio.ensure_future(Control(connection.channel).solve(solve_request(ref, internal=True)))
    try:
        gateway = Gateway(connection.channel, ref)
        pong = await gateway.ping(closed=solve)
        await gateway.return_result(Result(ref=Ref()))
        await solve
        return pong
    finally:
        solve.cancel()
        await asyncio.gather(solve, return_exceptions=True)


def report_of(*, address: str, kind: str, reason: str, version: str, workers: Sequence[Worker], pong: Pong) -> Report:
    """What follows from a daemon's answers.

    Args:
        address: Where it answers.
        kind: `docker` or `buildkit`.
        reason: Why this daemon was chosen.
        version: What it calls its version, or empty.
        workers: Its workers, the default one first.
        pong: Its features.
    """
    first = workers[0] if workers else None
    platforms = first.platforms if first else ()
    release = _release(pong)
    labels = first.labels if first else {}
    store = kind != "docker" or any(worker.snapshotter for worker in workers)
    can_have_store = _WITH_STORE in pong.llb.enabled
    return Report(
        address=address,
        kind=kind,
        reason=reason,
        version=version,
        release=release,
        platforms=tuple(dict.fromkeys(str(platform) for platform in platforms)),
        labels={name.removeprefix(_LABEL): labels[name] for name in sorted(labels)},
        llb=_enabled(pong.llb),
        gateway=_enabled(pong.frontend),
        switched_off={
            name: capabilities.reasons.get(name, "")
            for capabilities in (pong.llb, pong.frontend)
            for name, on in sorted(capabilities.enabled.items())
            if not on
        },
        findings=(
            _age(kind, version, release, pong.llb),
            _merging(kind, store, can_have_store, pong.llb),
            _by_store(
                store,
                can_have_store,
                "registry cache",
                "the build cache can be kept in a registry, and read from there",
                "the build cache cannot be kept in a registry",
            ),
            _by_store(
                store,
                can_have_store,
                "several platforms",
                "one image can be for several platforms",
                "an image is for one platform only",
            ),
            _by_store(
                store,
                can_have_store,
                "push",
                "the daemon pushes what it built",
                "the daemon cannot push what it built by itself",
            ),
            _emulation(platforms),
        ),
    )


def _age(kind: str, version: str, release: str, llb: Capabilities) -> Finding:
    from buildkit_builder.buildkit.llb.capabilities import FIRST_RELEASE

    detail = _version_text(version, release)
    missing = llb.missing(tuple(_WANTED))
    if not missing:
        return Finding(name="version", ok=True, detail=f"{detail}, with all features that images may need")
    needed = max((FIRST_RELEASE[name] for name in missing), key=_as_numbers)
    return Finding(
        name="version",
        ok=False,
        detail=f"{detail}, too old to {' or to '.join(_WANTED[name] for name in missing)}",
        advice=f"Update to {_newer(kind, needed)}. Until then an image that needs that is refused.",
    )


def _merging(kind: str, store: bool, can_have_store: bool, llb: Capabilities) -> Finding:
    from buildkit_builder.buildkit.api import advice

    if not llb.missing(("mergeop", "diffop")):
        return Finding(
            name="parallel steps", ok=True, detail="steps that do not need each other are built side by side"
        )
    known = "mergeop" in llb.enabled
    return Finding(
        name="parallel steps",
        ok=False,
        detail="this daemon cannot merge layers, so steps are built one after the other",
        advice=advice.of_store(is_there=can_have_store)
        if known and not store
        else f"Update to {_newer(kind, '0.10')}.",
    )


def _by_store(store: bool, can_have_store: bool, name: str, able: str, unable: str) -> Finding:
    """What every buildkitd does, but a Docker Engine only with the containerd image store."""
    from buildkit_builder.buildkit.api import advice

    if store:
        return Finding(name=name, ok=True, detail=able)
    return Finding(
        name=name,
        ok=False,
        detail=f"{unable}, because this Docker Engine{_without_store(can_have_store)}",
        advice=advice.of_store(is_there=can_have_store),
    )


def _without_store(can_have_one: bool) -> str:
    return "'s containerd image store is off" if can_have_one else " has no containerd image store"


def _emulation(platforms: Sequence[Platform]) -> Finding:
    if not platforms:
        return Finding(name="platforms", ok=False, detail="the daemon has no worker", advice="See the daemon's log.")
    own = platforms[0]
    near = {own.architecture, *_COMPATIBLE.get(own.architecture, ())}
    native = _joined(platform for platform in platforms if platform.os == own.os and platform.architecture in near)
    foreign = _joined(platform for platform in platforms if platform.architecture not in near)
    if foreign:
        return Finding(name="platforms", ok=None, detail=f"runs {native} itself, and {foreign} by emulation")
    return Finding(
        name="platforms",
        ok=None,
        detail=f"runs {native} only",
        advice=(
            "Steps that must run on another platform need its emulator on the daemon's machine: the package "
            "`qemu-user-static`, or `docker run --privileged --rm tonistiigi/binfmt --install all`."
        ),
    )


def _joined(platforms: Iterable[Platform]) -> str:
    """The platforms in words; a variant goes without saying where its architecture is listed without one."""
    listed = list(dict.fromkeys(platforms))
    bare = {(platform.os, platform.architecture) for platform in listed if not platform.variant}
    return ", ".join(
        str(platform) for platform in listed if not platform.variant or (platform.os, platform.architecture) not in bare
    )


def _newer(kind: str, release: str) -> str:
    engine = _ENGINES.get(release)
    if kind == "docker" and engine:
        return f"Docker Engine {engine} or newer, which has BuildKit {release} or newer"
    return f"BuildKit {release} or newer"


def _version_text(version: str, release: str) -> str:
    """Builds of distributions often call themselves v0.0.0; then the features tell the age."""
    numbered = version.removeprefix("v")
    if numbered and not numbered.startswith("0.0.0"):
        return f"BuildKit {numbered}"
    said = f" (it calls itself {version})" if version else ""
    return f"BuildKit with the features of {release}{said}" if release else f"BuildKit of an unknown release{said}"


def _release(pong: Pong) -> str:
    """The newest release that has brought a feature which the daemon knows."""
    from buildkit_builder.buildkit.llb.capabilities import FIRST_RELEASE

    known = [FIRST_RELEASE[name] for name in (*pong.llb.enabled, *pong.frontend.enabled) if name in FIRST_RELEASE]
    return max(known, key=_as_numbers, default="")


def _as_numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _enabled(capabilities: Capabilities) -> tuple[str, ...]:
    return tuple(sorted(name for name, on in capabilities.enabled.items() if on))


def render(report: Report) -> str:
    """The report for a person, without a line end at its end."""
    kind = "Docker Engine" if report.kind == "docker" else "buildkitd"
    facts = {
        "chosen because": report.reason,
        "version": _version_text(report.version, report.release),
        "platforms": ", ".join(report.platforms),
        "worker": ", ".join(f"{name}={value}" for name, value in report.labels.items()),
        "features": f"{len(report.llb)} of graphs, {len(report.gateway)} of the gateway",
        "switched off": ", ".join(
            f"{name} ({reason})" if reason else name for name, reason in report.switched_off.items()
        ),
    }
    lines = [f"{kind} at {report.address}"]
    for name, value in facts.items():
        if value:
            lines.append(_hanging(f"  {name:<16}", value))
    lines.append("")
    for finding in report.findings:
        mark = {True: "yes", False: "NO", None: "note"}[finding.ok]
        lines.append(_hanging(f"  {mark:<6}{finding.name:<19}", finding.detail))
        if finding.advice:
            lines.append(_hanging(" " * 27, finding.advice))
    return "\n".join(lines)


def _hanging(head: str, text: str) -> str:
    """The text beside its head, its further lines below its first; words and paths are never torn apart."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def to_json(report: Report) -> str:
    """The report for a program: one JSON object with the attributes of `Report` as keys."""
    return json.dumps(asdict(report), indent=2)
