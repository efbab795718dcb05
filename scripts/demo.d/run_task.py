"""Runs the demo's task inside the image that `flyte build` pushed, as a step that BuildKit runs; prints what it says.

The image is pulled from the registry by the daemon, so that nothing but what was pushed is looked at.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import flyte
import hello

from buildkit_builder import config
from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build import BuildRequest, build
from buildkit_builder.buildkit.build.request import Bridge
from buildkit_builder.buildkit.connect.connection import connect
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.config import Settings
from buildkit_builder.flyte_plugin import image_build
from buildkit_builder.image.lookup import resolve_image

CODE = "import hello; open('/result', 'w').write(hello.describe.func(100))"


class RunTask:
    """Runs the task function in a container of the image, and reads the file it leaves."""

    def __init__(self, reference: str, platform: llb.Platform) -> None:
        self.reference, self.platform, self.said = reference, platform, ""

    async def build(self, bridge: Bridge) -> Result:
        """Solves the one step, never from the cache."""
        await bridge.gateway.ping()
        found = await resolve_image(bridge, self.reference, self.platform, "pull")
        image = llb.ImageConfig.parse(found.config)
        pinned = llb.ImageReference.parse(found.ref).with_digest(found.digest)
        base = llb.image(str(pinned), platform=self.platform, resolve_mode="pull")
        ran = base.run(
            ["python", "-c", CODE], env=list(image.env.items()), cwd=image.working_dir, ignore_cache=True,
            name="the task, inside the image",
        )  # fmt: skip
        solved = await bridge.gateway.solve(llb.marshal(ran.root, platform=self.platform), evaluate=True)
        self.said = (await bridge.gateway.read_file((solved.ref or Ref()).id, "/result")).decode()
        return Result(ref=Ref(id=""))


async def main() -> None:
    """Finds the image that the config leads to and runs its task."""
    config_file = Path(sys.argv[1])
    await flyte.init_from_config.aio(str(config_file))
    registry = config_file.read_text().split("registry: ")[1].split()[0]
    reference = hello.image.clone(registry=registry).uri
    settings = Settings.load(config_file, config.environment())
    task = RunTask(reference, llb.Platform.parse(settings.platforms[0]))
    endpoint = image_build.find_endpoint(settings, config.environment())
    screen = open_screen("quiet", sys.stderr, environ=config.environment(), clock=time.monotonic)
    async with await connect(endpoint) as connection:
        await build(connection, BuildRequest(title=reference, frontend=task), screen.display(reference))
    print(f"inside {reference}:")
    print(task.said)


asyncio.run(main())
