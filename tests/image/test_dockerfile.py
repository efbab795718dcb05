"""Dockerfiles, which the daemon's own frontend reads, so that what ends it ends the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import gateway_pb2, services
from buildkit_builder.errors import ImageError
from buildkit_builder.image.dockerfile import DockerfileFrontend
from tests.buildkit.build.test_run import Bench, Daemon, bench_of, request

AMD64, ARM64 = llb.Platform(), llb.Platform(architecture="arm64")
OLD = {name: True for name, first in llb.FIRST_RELEASE.items() if first in ("0.8", "0.9", "0.10")}


class Building(Daemon):
    """A daemon whose frontend makes an image for each platform that it is asked for."""

    async def _llbbridge_solve(self, request: gateway_pb2.SolveRequest, context: Any) -> Any:
        response = await super()._llbbridge_solve(request, context)
        platforms = request.FrontendOpt.get("platform", "").split(",")
        result, single = response.result, response.result.ref.id
        if request.Frontend and len(platforms) > 1:
            for platform in platforms:
                result.refs.refs[platform].id = f"{single}-{platform}"
        for platform in platforms if request.Frontend else ():
            key = "containerimage.config" + (f"/{platform}" if len(platforms) > 1 else "")
            architecture = platform.partition("/")[2]
            result.metadata[key] = f'{{"architecture": "{architecture}", "os": "linux"}}'.encode()
        return response


@pytest.fixture(params=[OLD, None], ids=["0.10", "0.25"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """A build on an old daemon, and on a new one."""
    async with bench_of(Building(**({} if request.param is None else {"llb_caps": request.param}))) as opened:
        yield opened


def dockerfile(text: str, *platforms: llb.Platform) -> DockerfileFrontend:
    return DockerfileFrontend(filename="Dockerfile", platforms=platforms or (AMD64,), text=text)


@pytest.mark.parametrize(
    "text", ["ARG A=1\n", "# a comment\n", "RUN make\n", "ARG FROM=x\n", "# FROM debian\n", "\ufeffARG A\n"]
)
async def test_a_dockerfile_without_a_stage_is_not_sent(bench: Bench, text: str) -> None:
    """Daemons before 0.15 end of it."""
    with pytest.raises(ImageError, match="has no line `FROM`"):
        await bench.build(request(frontend=dockerfile(text)))

    assert [] == bench.daemon.called(services.LLBBRIDGE_SOLVE)


@pytest.mark.parametrize(
    "text",
    ["FROM debian\n", "from debian", "# x\n\n  FROM\tdebian AS a", "\ufeffFROM debian", "ARG A=debian\r\nFROM $A\r\n",
     "FROM \\\n  debian", ""],
)  # fmt: skip
async def test_a_dockerfile_with_a_stage_is_the_daemons_to_read(bench: Bench, text: str) -> None:
    """However it is written; of an empty one the daemon says what is wrong."""
    await bench.build(request(frontend=dockerfile(text)))

    assert ["dockerfile.v0"] == [
        call.Frontend for call in bench.daemon.called(services.LLBBRIDGE_SOLVE) if call.Frontend
    ]


async def test_several_platforms_are_apart_on_old_daemons(bench: Bench) -> None:
    """A warning would end 0.10 in the second one; the image is of both, on every daemon."""
    await bench.build(request(frontend=dockerfile("FROM debian", AMD64, ARM64)))

    asked = [
        dict(call.FrontendOpt)["platform"] for call in bench.daemon.called(services.LLBBRIDGE_SOLVE) if call.Frontend
    ]
    old = "source.policy" not in bench.daemon.llb_caps
    assert (["linux/amd64", "linux/arm64"] if old else ["linux/amd64,linux/arm64"]) == sorted(asked)
    assert {"linux/amd64", "linux/arm64"} == set(bench.returned.result.refs.refs)
    assert b'"arm64"' in bench.returned.result.metadata["containerimage.config/linux/arm64"]
    assert b"linux/arm64" in bench.returned.result.metadata["refs.platforms"] or not old
