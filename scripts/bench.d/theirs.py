"""Flyte's own builder, as users run it, with two kindnesses: the engine's own BuildKit instead of one in a container,
and without the first line of its Dockerfile, which would fetch a frontend image.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Sequence
from string import Template
from typing import Any

from flyte._internal.imagebuild import docker_builder
from subjects import Subject, flyte_image

_TEMPLATE = docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE.template


def prepare(subjects: Sequence[Subject]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Makes ready to build images of one world, all at once."""
    world = subjects[0].world
    os.environ["FLYTE_DOCKER_BUILDKIT_BUILDER_NAME"] = "default"
    os.environ["FLYTE_DOCKER_BUILD_EXTRA_ARGS"] = f"--build-arg BUILDKIT_CACHE_MOUNT_NS={world.caches}"
    text = re.sub(r"\A# syntax.*\n", "", _TEMPLATE)
    text, found = re.subn(r"^FROM \S+ AS uv$", f"FROM {world.uv} AS uv", text, flags=re.MULTILINE)
    assert found == 1, "Flyte's Dockerfile takes uv from elsewhere now"
    docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE = Template(text)
    images = [flyte_image(subject) for subject in subjects]

    async def build() -> None:
        await asyncio.gather(*(docker_builder.DockerImageBuilder().build_image(image, force=True) for image in images))

    return build
