"""The best Dockerfile that can be written by hand for the same image, built and pushed by `docker buildx`.

What it does about speed: apt and pip are stages of their own, which BuildKit runs side by side; what does not depend
on what is below it is put there by `COPY --link`, so that a layer stays when one below it changes; apt's lists and
archives and uv's wheels are in cache mounts that all its images share; an added package is a line after those that
were there; the sources are the last layer, taken from where they are and not from a copy; no attestations are made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from measure import Build, as_command
from subjects import Subject

_APT_CACHES = (
    "--mount=type=cache,id=apt-$TARGETARCH,target=/var/cache/apt,sharing=locked "
    "--mount=type=cache,id=apt-lists-$TARGETARCH,target=/var/lib/apt/lists,sharing=locked"
)
# What Docker's own documentation tells to do where /var/cache/apt is a cache mount.
_KEEP_ARCHIVES = (
    "RUN rm -f /etc/apt/apt.conf.d/docker-clean; "
    """echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' >/etc/apt/apt.conf.d/keep-cache"""
)
_UV_CACHE = "--mount=type=cache,id=uv,target=/root/.cache/uv"


def dockerfile(subject: Subject) -> str:
    """The Dockerfile of an image; its context is the folder of sources."""
    lines = [
        f"FROM {subject.world.uv} AS uv",
        f"FROM {subject.world.base} AS base",
        "ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUALENV=/opt/venv UV_PYTHON=/opt/venv/bin/python",
        "ENV PATH=$VIRTUALENV/bin:$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin",
        "ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64",
        "",
        "FROM base AS apt",
        "ARG TARGETARCH",
    ]
    if subject.apt:
        lines.append(_KEEP_ARCHIVES)
    for packages in subject.apt:
        install = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
        lines.append(f"RUN {_APT_CACHES} apt-get update && {install}")
    lines += [
        "",
        "FROM base AS python",
        "COPY --link --from=uv /uv /usr/bin/uv",
        "RUN uv venv $VIRTUALENV --python=3.11 && uv run --python=$UV_PYTHON python -m compileall -q $VIRTUALENV",
        *map(_install, subject.pip[:1]),
        "",
        "FROM apt",
        "COPY --link --from=uv /uv /usr/bin/uv",
        "COPY --link --from=python /opt/venv /opt/venv",
        *map(_install, subject.pip[1:]),
        "ENV BENCH=1",
        *(["COPY --link . /app"] if subject.source is not None else []),
        'SHELL ["/bin/bash", "-c"]',
    ]
    return "\n".join([*lines, ""])


def _install(packages: Sequence[str]) -> str:
    return f"RUN {_UV_CACHE} uv pip install --python $UV_PYTHON {' '.join(packages)}"


class ByHand:
    """Builds Dockerfiles, one with `docker buildx build` and several with `docker buildx bake`.

    Args:
        work: For Dockerfiles.
        push_only: Whether the engine neither keeps nor unpacks what it pushes: no flag has a name for that, but the
            exporter has attributes.
    """

    def __init__(self, work: Path, *, push_only: bool) -> None:
        self._work = work
        attributes = "push=true,store=false,unpack=false" if push_only else "push=true"
        self._output = f"type=image,{attributes}"

    def prepare(self, subjects: Sequence[Subject]) -> Build:
        """Makes ready to build images of one world, all at once."""
        command = self._one(subjects[0]) if len(subjects) == 1 else self._several(subjects)
        # The files named are outside the working folder, which bake would ask about.
        return as_command(command, {"BUILDX_BAKE_ENTITLEMENTS_FS": "0"})

    def _one(self, subject: Subject) -> list[str]:
        file, context = self._written(subject)
        cache = f"type=registry,ref={subject.cache}/{subject.name}:buildcache"
        return [
            "docker", "buildx", "build", "--builder=default", f"--output={self._output}", "--provenance=false",
            f"--platform={','.join(subject.platforms)}", f"--build-arg=BUILDKIT_CACHE_MOUNT_NS={subject.world.caches}",
            *([f"--cache-from={cache}", f"--cache-to={cache},mode=max"] if subject.cache else []),
            *(["--network=host", "--allow=network.host"] if subject.host_network else []),
            f"--tag={subject.repository}:latest", f"--file={file}", str(context),
        ]  # fmt: skip

    def _several(self, subjects: Sequence[Subject]) -> list[str]:
        targets = {}
        for subject in subjects:
            file, context = self._written(subject)
            targets[subject.name] = {
                "context": str(context),
                "dockerfile": str(file),
                "platforms": subject.platforms,
                "args": {"BUILDKIT_CACHE_MOUNT_NS": subject.world.caches},
                "output": [self._output],
                "tags": [f"{subject.repository}:latest"],
            }
        bake = self._work / "bake.json"
        bake.write_text(json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}))
        return ["docker", "buildx", "bake", "--builder=default", f"--file={bake}", "--provenance=false"]

    def _written(self, subject: Subject) -> tuple[Path, Path]:
        folder = self._work / subject.name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "Dockerfile"
        file.write_text(dockerfile(subject))
        empty = folder / "context"
        empty.mkdir(exist_ok=True)
        return file, subject.source or empty
