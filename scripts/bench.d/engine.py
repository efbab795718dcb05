"""The engine: worlds for the contestants to start from, and taking back what was made of them.

A build is cold when nothing that it makes was made before, and the way to that is not to prune what others have in the
same engine: each contestant gets a base image with a layer that no other has, and a `uv` with bytes of its own, so that
no step can have been run before; and cache mounts of its own namespace, so that packages are downloaded anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from subjects import World

PYTHON = "python:3.11-slim-bookworm"
UV = "ghcr.io/astral-sh/uv:0.13.4"
PLATFORMS = ("linux/amd64", "linux/arm64")
# How the published Debian images set apt and dpkg up, for an engine whose base is a bootstrapped one.
_AS_PUBLISHED = """\
RUN [ -e /etc/apt/apt.conf.d/docker-clean ] || { \
    echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/docker-apt-speedup; \
    cd /etc/apt/apt.conf.d; \
    echo 'Acquire::Languages "none";' >docker-no-languages; \
    echo 'Acquire::GzipIndexes "true";' >docker-gzip-indexes; \
    clean='rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true'; \
    printf 'DPkg::Post-Invoke { "%s"; };\\nAPT::Update::Post-Invoke { "%s"; };\\n' "$clean" "$clean" >docker-clean; \
    echo 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' >>docker-clean; }"""
_MACHINE_PROBE = "uname -m"


class Engine:
    """The engine that everything is built on.

    Args:
        registry: The registry's `host:port`.
        work: For Dockerfiles.
    """

    def __init__(self, registry: str, work: Path) -> None:
        # One folder for all repositories: what is in one of them is linked into another and not sent again.
        self.name = f"bench-{uuid.uuid4().hex[:8]}"
        self.registry = f"{registry}/{self.name}"
        self.work = work
        self.started = time.time()

    @property
    def base(self) -> str:
        """The common base of all worlds."""
        return f"{self.registry}/base:latest"

    def prepare(self) -> None:
        """Puts the common base into the registry, where it is before a project's second image as well."""
        lines = [f"FROM {PYTHON} AS {self.name}", _AS_PUBLISHED]
        if certificates := os.environ.get("BUILDKIT_BUILDER_CA"):
            shutil.copy(certificates, self.work / "ca.pem")
            lines.append("COPY ca.pem /etc/ssl/certs/ca-certificates.crt")
        lines += [
            f"RUN echo {self.name} >/etc/bench",
            # One layer of its own: the engine notes only so many places that a layer is in, and where it is not
            # noted to be in this registry, it is sent again with each repository.
            "FROM scratch",
            f"COPY --from={self.name} / /",
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
            *(["ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"] if certificates else []),
        ]
        self._build(self.base, lines, self.platforms())
        docker("push", "--quiet", self.base)

    def platforms(self) -> tuple[str, ...]:
        """The platforms that both base images have in the engine and that it can run."""
        found = [
            name
            for name in PLATFORMS
            if all(_succeeds("image", "inspect", f"--platform={name}", image) for image in (PYTHON, UV))
            and _succeeds("run", "--rm", "--network=none", f"--platform={name}", PYTHON, *_MACHINE_PROBE.split())
        ]
        return tuple(found)

    def world(self, contestant: str, platforms: Sequence[str], *, caches: str = "") -> World:
        """A new world, whose images are in the engine's store.

        Args:
            contestant: For its name.
            platforms: Of the images.
            caches: A namespace of cache mounts that may have been used; a new one when not given.
        """
        name = f"{contestant}-{uuid.uuid4().hex[:8]}"
        world = World(
            name=name, base=f"bench-base:{name}", uv=f"bench-uv:{name}", caches=caches or name, registry=self.registry
        )
        self._build(world.base, [f"FROM {self.base}", f"RUN echo {name} >/etc/bench-world"], platforms)
        lines = [
            f"FROM {UV} AS uv",
            f"FROM --platform=$BUILDPLATFORM {PYTHON} AS {name}",
            "COPY --from=uv /uv /uv",
            # An ELF file may have anything behind its end.
            f"RUN echo {name} >>/uv",
            "FROM scratch",
            f"COPY --from={name} /uv /uv",
        ]
        self._build(world.uv, lines, platforms)
        return world

    def _build(self, tag: str, lines: Iterable[str], platforms: Sequence[str]) -> None:
        file = self.work / "base.Dockerfile"
        file.write_text("\n".join([*lines, ""]))
        docker(
            "buildx", "build", "--builder=default", "--load", "--quiet", "--provenance=false", f"--tag={tag}",
            f"--platform={','.join(platforms)}", f"--file={file}", str(self.work),
        )  # fmt: skip

    def forget(self, *worlds: World) -> None:
        """Takes out of the engine what was made of worlds."""
        for world in worlds:
            forget_images(f"{self.registry}/{world.name}*", world.base, world.uv)
        records = _records()
        _prune(id for world in worlds for id in _made_of(world.name, records))

    def forget_sources(self, size: int) -> None:
        """Takes the copies of a large source folder out of the engine, which no world's name tells from others'."""
        _prune(
            record.id
            for record in _records().values()
            if record.kind == "source.local" and record.created >= self.started and size <= record.size <= 1.2 * size
        )

    def close(self) -> None:
        """Takes the common base out."""
        forget_images(f"{self.registry}/*")
        _prune(_made_of(self.name, _records()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Something that the engine's cache holds.

    Attributes:
        created: Seconds since 1970.
        size: Bytes, to four digits.
        parents: What it is built upon.
    """

    id: str
    kind: str
    size: float
    description: str
    created: float
    parents: tuple[str, ...]


def _records() -> dict[str, Record]:
    """What `docker buildx du --verbose` tells, in the words that every version of it has."""
    found = []
    # A description is a whole command, empty lines and all.
    for part in re.split(r"\n(?=ID:)", docker("buildx", "du", "--builder=default", "--verbose")):
        if part.startswith("ID:"):
            fields = dict(re.findall(r"^([A-Z][\w ]+):[ \t]+(.*)$", part, re.MULTILINE))
            number, unit = re.fullmatch(r"([\d.]+)\s*(\w+)", fields["Size"]).groups()  # type: ignore[union-attr]
            found.append(
                Record(
                    id=fields["ID"].rstrip("*"),
                    kind=fields["Type"],
                    size=float(number) * 1000 ** ("B", "kB", "MB", "GB", "TB").index(unit),
                    description=part,
                    created=datetime.fromisoformat(fields["Created at"][:19] + "+00:00").timestamp(),
                    parents=tuple(re.findall(r"^ - (\w+)", part, re.MULTILINE)),
                )
            )
    return {record.id: record for record in found}


def _made_of(name: str, records: Mapping[str, Record]) -> set[str]:
    """The records that name something, all that is built upon them, and what was merged with that."""
    above: dict[str, list[str]] = {id: [] for id in records}
    below: dict[str, list[str]] = {id: [] for id in records}
    for record in records.values():
        for parent in record.parents:
            if parent in records:
                above[parent].append(record.id)
                below[record.id].append(parent)
    named = [record.id for record in records.values() if name in record.description]
    others = _closure(named, below) - set(named)
    return _closure(
        _closure(named, above), {id: [one for one in found if one not in others] for id, found in below.items()}
    )


def _closure(start: Iterable[str], steps: Mapping[str, Sequence[str]]) -> set[str]:
    found, waiting = set(start), list(start)
    while waiting:
        new = set(steps[waiting.pop()]) - found
        found |= new
        waiting += new
    return found


def _prune(ids: Iterable[str]) -> None:
    if found := "|".join(ids):
        # All in one go, since the engine takes seconds for each; buildx hands ids on as a regular expression.
        docker("buildx", "prune", "--builder=default", "--force", "--all", f"--filter=id=/{found}/")


def docker(*arguments: str) -> str:
    """Runs `docker` and gives what it printed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _succeeds(*arguments: str) -> bool:
    return subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode == 0


def forget_images(*patterns: str) -> None:
    """Takes images out of the engine's store, by patterns of their names."""
    for pattern in patterns:
        names = docker("image", "ls", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={pattern}").split()
        if names:
            docker("image", "rm", "--force", *names)
