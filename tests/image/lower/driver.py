"""Drives lowering with answers from a dictionary, in the place of a daemon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2
from buildkit_builder.image.lower import BuildLines, Environment, Lowered, Question, Resolved, lower
from buildkit_builder.image.plan import plan
from buildkit_builder.image.spec import CopyLayer, ImageSpec, Layer, LocalFiles

AMD64 = llb.Platform(architecture="amd64")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE_DIGEST, TOOL_DIGEST = f"sha256:{'b' * 64}", f"sha256:{'e' * 64}"
TOOLS = ("ghcr.io/astral-sh/uv", "ghcr.io/prefix-dev/pixi")


@dataclass(kw_only=True)
class Daemon:
    """What a daemon would know: the base image's config, and what lines of a Dockerfile make.

    Attributes:
        config: The `config` of the base image.
        history: How the base image came to be.
        built: The lines of Dockerfiles that it was asked to carry out.
    """

    config: Mapping[str, Any] = field(default_factory=lambda: {"Env": ["PATH=/usr/bin"]})
    history: str = "RUN useradd flyte"
    built: list[BuildLines] = field(default_factory=list)

    def answer(self, question: Question) -> Any:
        """The answer to a question of lowering."""
        if isinstance(question, BuildLines):
            self.built.append(question)
            # What a Dockerfile frontend would do, told from what lowering does by its name.
            state = question.image.state.run(["lines", *question.lines], name=f"carried out: {question.name}").root
            config = question.image.config.with_env("LINES", str(len(self.built))).with_working_dir("/lines")
            return replace(question.image, state=state, config=config)
        if question.reference.startswith(TOOLS):
            return Resolved(
                name=question.reference,
                reference=f"{question.reference}@{TOOL_DIGEST}",
                resolve_mode="pull",
                config=llb.ImageConfig(),
            )
        document = {
            "os": "linux",
            "architecture": "amd64",
            "config": dict(self.config),
            "history": [{"created_by": self.history}],
        }
        return Resolved(
            name=question.reference,
            reference=f"docker.io/library/debian:12@{BASE_DIGEST}",
            resolve_mode="local",
            config=llb.ImageConfig.parse(json.dumps(document).encode()),
        )


def files(kind: Literal["file", "folder"], root: str) -> LocalFiles:
    """Files of this machine."""
    return LocalFiles(kind=kind, root=Path(root))


def file_layer(root: str, destination: str) -> CopyLayer:
    """A file that is copied."""
    return CopyLayer(files=files("file", root), destination=destination, origin="with_source_file")


def folder_layer(root: str, destination: str) -> CopyLayer:
    """A folder that is copied."""
    return CopyLayer(files=files("folder", root), destination=destination, origin="with_source_folder")


def spec(*layers: Layer, creates_user: bool = False, python_version: tuple[int, int] = (3, 12)) -> ImageSpec:
    """An image with these layers."""
    return ImageSpec(
        reference="reg.example.com/team/mine:1",
        push=True,
        base="debian:12",
        platforms=("linux/amd64",),
        python_version=python_version,
        layers=layers,
        creates_user=creates_user,
        uv_image="ghcr.io/astral-sh/uv:1",
    )


def lowered(
    image: ImageSpec,
    daemon: Daemon | None = None,
    environment: Environment | None = None,
    platform: llb.Platform = AMD64,
    build_args: Mapping[str, str] = MappingProxyType({}),
) -> Lowered:
    """Lowers an image to its end."""
    known = daemon or Daemon()
    lowering = lower(plan(image, build_args), platform, environment or Environment())
    answers: Any = None
    try:
        while True:
            answers = known.answer(lowering.send(answers))
    except StopIteration as done:
        result: Lowered = done.value
        return result


@dataclass(frozen=True)
class Graph:
    """A marshalled image, by the names of its vertices."""

    definition: llb.Definition

    def ops(self, prefix: str) -> list[ops_pb2.Op]:
        """The vertices whose names begin so, in order."""
        names = self.definition.names
        return [self.definition.op(digest) for digest in self.definition.digests
                if names.get(digest, "").startswith(prefix)]  # fmt: skip

    def run(self, prefix: str) -> ops_pb2.ExecOp:
        """The one command whose name begins so."""
        [run] = [op.exec for op in self.ops(prefix) if op.HasField("exec")]
        return run

    def action(self, prefix: str) -> ops_pb2.FileAction:
        """The one action of the one file vertex whose name begins so."""
        [op] = self.ops(prefix)
        [action] = op.file.actions
        return action

    @property
    def images(self) -> list[ops_pb2.SourceOp]:
        """Every image, in order."""
        ops = [self.definition.op(digest) for digest in self.definition.digests]
        return [op.source for op in ops if op.source.identifier.startswith("docker-image://")]

    @property
    def runs(self) -> list[ops_pb2.ExecOp]:
        """Every command."""
        ops = [self.definition.op(digest) for digest in self.definition.digests]
        return [op.exec for op in ops if op.HasField("exec")]

    @property
    def names(self) -> list[str]:
        """The names of all vertices that have one, in order."""
        names = self.definition.names
        return [names[digest] for digest in self.definition.digests if digest in names]

    @property
    def everything(self) -> bytes:
        """All bytes that reach the daemon."""
        return self.definition.to_wire().SerializeToString(deterministic=True)


def graph(result: Lowered) -> Graph:
    """The graph of a lowered image."""
    return Graph(llb.marshal(result.state, platform=AMD64))


def environment_of(run: ops_pb2.ExecOp) -> dict[str, str]:
    """The variables of a command."""
    return dict(item.split("=", 1) for item in run.meta.env)


GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "lower"
