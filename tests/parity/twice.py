"""Builds an image in two ways, and has the daemon itself compare the two trees."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import grpc.aio

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build import BuildRequest, build
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.buildkit.build.result import gather
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.buildkit.session.filesync import FileSync
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.config import Settings
from buildkit_builder.errors import BuildKitError, StepFailedError
from buildkit_builder.flyte_plugin.image_build.build_inputs import ImageJob
from buildkit_builder.image.frontend import ImageFrontend
from buildkit_builder.image.lower import CA_SECRET, Environment, Lowered
from buildkit_builder.image.spec import ImageSpec
from tests.parity.differences import IGNORED, Ignored

AMD64 = llb.Platform(architecture="amd64")
PYTHON = llb.image("docker.io/library/python:3.11-slim-bookworm", platform=AMD64, resolve_mode="local")
Way = Callable[[Environment], Environment]
# Runs in a container that has both trees; what may differ comes from the table of the suite.
COMPARE = """\
import hashlib, json, os, re, stat, sys

IGNORED = json.load(open("/dev/ignored.json"))

def content(path, name):
    with open(path, "rb") as file:
        data = file.read()
    for row in IGNORED:
        if row["what"] == "content" and re.fullmatch(row["pattern"], name):
            if row["line"]:
                lines = data.splitlines(keepends=True)
                data = b"".join(x for x in lines if not re.fullmatch(row["line"].encode(), x.rstrip()))
            else:
                data = data[: row["start"]] + (b"" if row["end"] is None else data[row["end"] :])
    return repr(data) if len(data) <= 100 else hashlib.sha256(data).hexdigest()

def tree(root):
    found = {}
    for folder, folders, files in os.walk(root):
        for entry in [*folders, *files]:
            path = os.path.join(folder, entry)
            name = os.path.relpath(path, root)
            if not any(row["what"] == "path" and re.fullmatch(row["pattern"], name) for row in PATHS):
                found[name] = os.lstat(path)
    return found

def said(root, name, info):
    path = os.path.join(root, name)
    about = [oct(info.st_mode), info.st_uid, info.st_gid]
    for key in os.listxattr(path, follow_symlinks=False):
        about.append((key, os.getxattr(path, key, follow_symlinks=False).hex()))
    if stat.S_ISLNK(info.st_mode):
        about.append(os.readlink(path))
    elif stat.S_ISREG(info.st_mode):
        about.append(content(path, name))
    elif not stat.S_ISDIR(info.st_mode):
        about.append(info.st_rdev)
    return about

def same(info):
    # Of a file that both have from one layer: nobody can set the time of its last change.
    return stat.S_ISREG(info.st_mode) and (info.st_ino, info.st_ctime_ns, info.st_mtime_ns, info.st_size, info.st_mode)

PATHS = [row for row in IGNORED if row["what"] == "path"]
one, other = tree("/dev/one"), tree("/dev/other")
differs = False
for name in sorted({*one, *other}):
    ours, theirs = one.get(name), other.get(name)
    if ours and theirs and same(ours) and same(ours) == same(theirs):
        continue
    left = said("/dev/one", name, ours) if ours else None
    right = said("/dev/other", name, theirs) if theirs else None
    if left != right:
        differs = True
        print(name, left, right)
print(len(one), "files")
sys.exit(differs)
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of building an image both ways.

    Attributes:
        kind: `same`: the trees are equal; `one graph`: they had to be, so that nothing was built; `both failed`: at one
            step; `another step failed`: both did, at two.
        text: What differs, or what was said.
        step: The step at which the last of the ways failed, or else the first; empty where none did.
    """

    kind: Literal["same", "one graph", "differs", "one failed", "another step failed", "both failed", "hung"]
    text: str = ""
    step: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether the two ways did not come to one and the same."""
        return self.kind in ("differs", "one failed")


@dataclass(kw_only=True)
class Twice:
    """A frontend that builds an image both ways and compares.

    Attributes:
        image: What to build.
        ways: What surrounds it, from what would.
        checks: Commands that are to succeed in the first of the trees, on the image's own platform.
        ignored: What may differ beside what the suite's table has.
        unless_alike: Build nothing where both ways are one graph, of which nothing else can come.
        failed: After the build: what each of the ways failed with, or `None`.
        configs: After the build: what the images say of themselves, as far as they were built.
    """

    image: ImageFrontend
    ways: Sequence[Way]
    checks: Sequence[str] = ()
    ignored: Sequence[Ignored] = ()
    unless_alike: bool = False
    failed: list[BuildKitError | None] = field(default_factory=list)
    configs: list[llb.ImageConfig] = field(default_factory=list)

    async def build(self, bridge: Bridge) -> Result:
        """Both ways, one after the other: a step is run once for both wherever it may be."""
        if self.unless_alike and await self._are_alike(bridge):
            return Result(ref=Ref(id=""))
        trees: list[Lowered] = []
        for way in self.ways:
            async with self.image.builds(bridge) as (one,):
                one.environment = way(one.environment)
                try:
                    lowered, ref = await one.settle()
                    await bridge.gateway.evaluate(ref.id)
                except grpc.aio.AioRpcError as error:
                    self.failed.append(bridge.explain(error, doing="building it"))
                except BuildKitError as error:
                    self.failed.append(error)
                else:
                    self.failed.append(None)
                    trees.append(lowered)
                    self.configs.append(lowered.config)
        if len(trees) == 2 and trees[0].config == trees[1].config:
            compared = self._compared(*trees)
            bridge.remember(compared)
            await bridge.gateway.solve(compared, evaluate=True)
            await gather(
                *(bridge.gateway.solve(self._checked(trees[0], command), evaluate=True) for command in self.checks)
            )
        return Result(ref=Ref(id=""))

    async def _are_alike(self, bridge: Bridge) -> bool:
        graphs = []
        for way in self.ways:
            async with self.image.builds(bridge) as (one,):
                one.environment = way(one.environment)
                try:
                    lowered = await one.lower()
                except (grpc.aio.AioRpcError, BuildKitError):
                    return False
                graphs.append((one.solver.head(lowered.state), lowered.config))
        if graphs[0] != graphs[1]:
            return False
        self.configs += [config for _, config in graphs]
        return True

    def _compared(self, one: Lowered, other: Lowered) -> llb.Definition:
        rows = [
            {"pattern": row.pattern, "what": row.what, "start": row.start, "end": row.end, "line": row.line}
            for row in (*IGNORED, *self.ignored)
        ]
        files = llb.scratch().file(
            llb.mkfile("/compare.py", COMPARE.encode()), llb.mkfile("/ignored.json", json.dumps(rows).encode())
        )
        compared = PYTHON.run(
            ["python3", "/dev/compare.py"],
            mounts=[
                llb.Bind("/dev/one", one.state, readonly=True),
                llb.Bind("/dev/other", other.state, readonly=True),
                llb.Bind("/dev/compare.py", files, selector="/compare.py", readonly=True),
                llb.Bind("/dev/ignored.json", files, selector="/ignored.json", readonly=True),
            ],
            name="compare",
        )
        return llb.marshal(compared.root, platform=AMD64)

    def _checked(self, tree: Lowered, command: str) -> llb.Definition:
        (platform,) = self.image.platforms
        env = list(tree.config.env.items())
        return llb.marshal(tree.state.run(["sh", "-ec", command], env=env, name="check").root, platform=platform)


async def differences(
    spec: ImageSpec,
    address: str,
    ways: Sequence[Way],
    *,
    checks: Sequence[str] = (),
    ignored: Sequence[Ignored] = (),
    ca: Path | None = None,
) -> str:
    """In what two ways differ, or what fails; empty where they are equal, or where both cannot be built.

    Args:
        spec: The image.
        address: Of the engine.
        ways: What surrounds the build, from what would.
        checks: Commands that are to succeed in the first of the trees.
        ignored: What may differ beside what the suite's table has.
        ca: The certificates that steps need here.
    """
    outcome = await build_twice(spec, address, ways, checks=checks, ignored=ignored, ca=ca)
    return f"{outcome.kind}:\n{outcome.text}" if outcome.is_fault else ""


async def build_twice(
    spec: ImageSpec,
    address: str,
    ways: Sequence[Way],
    *,
    checks: Sequence[str] = (),
    ignored: Sequence[Ignored] = (),
    ca: Path | None = None,
    unless_alike: bool = False,
) -> Outcome:
    """Builds an image both ways, for its one platform.

    Args:
        spec: The image.
        address: Of the engine.
        ways: What surrounds the build, from what would.
        checks: Commands that are to succeed in the first of the trees.
        ignored: What may differ beside what the suite's table has.
        ca: The certificates that steps need here.
        unless_alike: Build nothing where both ways are one graph.
    """
    job = ImageJob.of(spec, Settings())
    (platform,) = spec.platforms
    image = ImageFrontend(
        plan=job.plan,
        platforms=(llb.Platform.parse(platform),),
        environment=Environment(side_by_side=True, network="host", ca_bundle=ca is not None),
        prefer_local=True,
    )
    twice = Twice(image=image, ways=ways, checks=checks, ignored=ignored, unless_alike=unless_alike)
    secrets = Secrets({CA_SECRET: ca.read_bytes()} if ca is not None else {})
    request = BuildRequest(
        title="twice", frontend=twice, attachables=(FileSync(job.directories()), secrets),
        entitlements=("network.host",),
    )  # fmt: skip
    with (Path("/dev/null")).open("w") as nowhere:
        screen = open_screen("quiet", nowhere, environ={}, clock=lambda: 0.0)
        async with await connect(Endpoint(address=address, kind="docker")) as connection:
            try:
                await build(connection, request, screen.display("twice"))
            except StepFailedError as error:
                lines = error.log_tail if error.step == "compare" else (str(error), *error.log_tail)
                return Outcome(kind="differs", text="\n".join(lines))
    return _outcome(twice)


def _outcome(twice: Twice) -> Outcome:
    if len(twice.configs) == 2:
        one, other = twice.configs
        if twice.failed == []:
            return Outcome(kind="one graph")
        return Outcome(kind="same") if one == other else Outcome(kind="differs", text=f"{one}\n{other}")
    text = "\n".join(f"{number}: {error or 'built'}" for number, error in enumerate(twice.failed))
    # Of a step that is tried ahead, the name has more at its end.
    steps = [
        getattr(error, "step", str(error)).removesuffix(" (wheels)") for error in twice.failed if error is not None
    ]
    if len(steps) == 1:
        return Outcome(kind="one failed", text=text, step=steps[0])
    return Outcome(kind="both failed" if steps[0] == steps[1] else "another step failed", text=text, step=steps[1])


def in_parallel(environment: Environment) -> Environment:
    """As images are built by default."""
    return replace(environment, side_by_side=True)


def in_order(environment: Environment) -> Environment:
    """One step after the other, each by the image's own programs."""
    return replace(environment, side_by_side=False, native=None)
