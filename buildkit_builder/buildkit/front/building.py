"""`build` and `abuild`: from something to build to its result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build.exporters import Exporter, Files, LoadIntoEngine, OciArchive, Push
from buildkit_builder.buildkit.front.dockerfiles import Dockerfile
from buildkit_builder.buildkit.front.order import Order, Progress, Target
from buildkit_builder.buildkit.front.recipe import Recipe
from buildkit_builder.buildkit.front.result import Result
from buildkit_builder.buildkit.front.state import State, image
from buildkit_builder.buildkit.front.waiting import wait
from buildkit_builder.errors import CapabilityError


def build(
    target: Target,
    *,
    push: str | Push | None = None,
    load: str | None = None,
    oci: str | Path | None = None,
    directory: str | Path | None = None,
    platform: str | Sequence[str] | None = None,
    endpoint: str | None = None,
    docker_config: str | Path | None = None,
    progress: Progress = "auto",
    pull: bool = False,
    connect_timeout: float = 10.0,
) -> Result:
    r"""Build a state or a Dockerfile, wait for it, and bring the result where it belongs.

    Without `push`, `load`, `oci` and `directory` the result stays with the daemon, from where its files can be read.
    `abuild` is the same for coroutines.

    Args:
        target: What to build: a state, or what `dockerfile` returns.
        push: The name to push the image under, or a `Push` with more to say.
        load: The name under which the Docker Engine that builds keeps the image.
        oci: The file to write an OCI archive to.
        directory: The directory to write the image's files to, on this machine.
        platform: The platform, or a list of several; the daemon's own, if it is not given.
        endpoint: Where BuildKit answers, such as `unix:///run/buildkit/buildkitd.sock`; it is looked for, if it is
            not given.
        docker_config: Docker's config.json, for credentials; the usual one, if it is not given.
        progress: How progress is shown on stderr: `auto`, `tty`, `plain`, `rawjson` or `quiet`; or a function that is
            called with each `StatusUpdate`, and whose error is raised when the build is over.
        pull: Ask the registry even for images that a Docker Engine has.
        connect_timeout: Seconds until a daemon that does not answer is an error.

    Raises:
        BuildKitError: It failed; `buildkit_builder.errors` has the kinds.
        TypeError: An argument is of a wrong type.
        RuntimeError: An event loop runs in this thread: use `abuild`.

    Example:
        >>> image = bk.image("debian:bookworm-slim").shell("echo hello > /hello")
        >>> bk.build(image, progress="quiet").read("/hello")
        b'hello\n'
    """
    building = abuild(
        target,
        push=push,
        load=load,
        oci=oci,
        directory=directory,
        platform=platform,
        endpoint=endpoint,
        docker_config=docker_config,
        progress=progress,
        pull=pull,
        connect_timeout=connect_timeout,
    )
    return wait(building, "abuild")


async def abuild(
    target: Target,
    *,
    push: str | Push | None = None,
    load: str | None = None,
    oci: str | Path | None = None,
    directory: str | Path | None = None,
    platform: str | Sequence[str] | None = None,
    endpoint: str | None = None,
    docker_config: str | Path | None = None,
    progress: Progress = "auto",
    pull: bool = False,
    connect_timeout: float = 10.0,
) -> Result:
    """Build a state or a Dockerfile, as `build`, in a coroutine.

    Cancelling the task stops the daemon's work first.

    Args:
        target: As `build`.
        push: As `build`.
        load: As `build`.
        oci: As `build`.
        directory: As `build`.
        platform: As `build`.
        endpoint: As `build`.
        docker_config: As `build`.
        progress: As `build`.
        pull: As `build`.
        connect_timeout: As `build`.

    Raises:
        BuildKitError: It failed; `buildkit_builder.errors` has the kinds.
        TypeError: An argument is of a wrong type.

    Example:
        >>> async def both():
        ...     states = [bk.scratch().write("/x", text) for text in ("one", "two")]
        ...     results = await asyncio.gather(*(bk.abuild(state, progress="quiet") for state in states))
        ...     return [await result.aread("/x") for result in results]
        >>> asyncio.run(both())
        [b'one', b'two']
    """
    _check(target)
    pushed = Push(reference=push) if isinstance(push, str) else push
    exporters = _exporters(pushed, load, oci, directory)
    order = Order(
        target=target,
        platforms=_platforms(platform),
        endpoint=endpoint,
        docker_config=None if docker_config is None else Path(docker_config),
        progress=progress,
        pull=pull,
        connect_timeout=connect_timeout,
    )
    reference = (pushed.reference if pushed else None) or load
    started = time.monotonic()
    result, platforms = await order.run(
        reference or "an image", exporters=exporters, check=partial(_check_store, load=load)
    )
    return Result(
        digest=result.digest,
        platforms=tuple(map(str, platforms)),
        seconds=time.monotonic() - started,
        reference=reference,
        _order=replace(order, target=_pushed(pushed, result.digest) or target, progress="quiet"),
    )


def _exporters(
    push: Push | None, load: str | None, oci: str | Path | None, directory: str | Path | None
) -> tuple[Exporter, ...]:
    """Name the exporters of a build.

    Raises:
        ImageError: A name is malformed.
    """
    exporters: list[Exporter] = []
    if push is not None:
        llb.ImageReference.parse(push.reference)
        exporters.append(push)
    if load is not None:
        llb.ImageReference.parse(load)
        exporters.append(LoadIntoEngine(reference=load))
    if oci is not None:
        name = load if push is None else push.reference
        exporters.append(OciArchive(path=Path(oci).expanduser(), reference=name))
    if directory is not None:
        exporters.append(Files(path=Path(directory).expanduser()))
    return tuple(exporters)


def _platforms(given: str | Sequence[str] | None) -> tuple[llb.Platform, ...]:
    if given is None:
        return ()
    return llb.Platform.parse_each([given] if isinstance(given, str) else given)


def _check(target: object) -> None:
    if isinstance(target, (Recipe, Dockerfile)):
        return
    hint = f' Write `bk.image("{target}")` for an image.' if isinstance(target, str) else ""
    raise TypeError(f"`target` is {target!r}, and has to be a state or what `bk.dockerfile` returns.{hint}")


def _check_store(is_engine: bool, load: str | None) -> None:
    if load is not None and not is_engine:
        raise CapabilityError(
            "A buildkitd keeps no images, so there is nothing to load into. Build with a Docker Engine, or write an "
            "archive with `oci`."
        )


def _pushed(push: Push | None, digest: str | None) -> State | None:
    """Name the image as the registry has it; `None` where it was not pushed, or to an insecure registry."""
    if push is None or digest is None or push.insecure:
        return None
    return image(f"{llb.ImageReference.parse(push.reference).repository}@{digest}")
