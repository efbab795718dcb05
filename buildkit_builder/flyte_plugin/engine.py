"""What Flyte asks of an image before this package is asked: its name, whether it is there, whether it was built before.

`activation` puts these in the place of Flyte's own functions. Each does what Flyte's does, for our builder without its
memory, and for others as if it were not there.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Build", "ImageExists", "hashing", "refusing_pipes"]


class _Flytes:
    """One of Flyte's own functions, which remembers what it has returned: of ours, it is to remember nothing.

    What it remembers goes by the image's description; files that the image names may have changed since. `is_ours`
    tells whether a builder is ours; of `None`, whether the one is that Flyte was configured with.
    """

    def __init__(self, own: Any, is_ours: Callable[[Any], bool]) -> None:
        self._own = own
        self._forgetful = getattr(own, "__wrapped__", own)
        self._is_ours = is_ours

    def __getattr__(self, name: str) -> Any:
        """Flyte's own is more than a function: it can be asked to forget."""
        return getattr(self._own, name)


class ImageExists(_Flytes):
    """Flyte's own `image_exists`, for the time of which our checker knows the image."""

    async def __call__(self, image: Any) -> str | None:  # noqa: D102 - Flyte's own
        if not self._is_ours(None):
            found: str | None = await self._own(image)
            return found
        from buildkit_builder.flyte_plugin.checker import asked_for

        token = asked_for.set(image)
        try:
            return await self._forgetful(image)  # type: ignore[no-any-return]
        except Exception as error:
            raise _named(image, error) from error
        finally:
            asked_for.reset(token)


class Build(_Flytes):
    """Flyte's own `build`. Equal calls that are made at once share a build; a later call looks at the files again."""

    def __init__(self, own: Any, is_ours: Callable[[Any], bool]) -> None:
        super().__init__(own, is_ours)
        self._not_begun: dict[Any, _Shared] = {}

    async def __call__(self, engine: type, image: Any, *args: Any, **options: Any) -> Any:  # noqa: D102 - Flyte's own
        if not self._is_ours(options.get("builder", args[0] if args else None)):
            return await self._own(engine, image, *args, **options)
        key = (asyncio.get_running_loop(), engine, image, args, frozenset(options.items()))

        async def begin() -> Any:
            # From here on, files are read. A later call may find other files, so it gets a build of its own.
            self._not_begun.pop(key, None)
            try:
                return await self._forgetful(engine, image, *args, **options)
            except Exception as error:
                raise _named(image, error) from error

        shared = self._not_begun.get(key)
        if shared is None:
            shared = self._not_begun[key] = _Shared()
            # Has begun already when it is returned, where the loop's tasks are eager.
            shared.task = asyncio.ensure_future(begin())
        return await shared.result()


class _Shared:
    """A build that several wait for; it ends with the last of them."""

    task: asyncio.Future[Any]

    def __init__(self) -> None:
        self._waiting = 0

    async def result(self) -> Any:
        """Waits for the build; cancels it when nobody waits any more."""
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self.task.cancel()  # of what is done, nothing


def hashing() -> list[Any]:
    """The modules of Flyte that have its digest of a file."""
    found = [sys.modules.get(name) for name in ("flyte._utils", "flyte._utils.file_handling")]
    return [module for module in found if callable(getattr(module, "filehash_update", None))]


def refusing_pipes(own: Any, is_ours: Callable[[Any], bool]) -> Any:
    """Flyte's digest of a file, which would wait for ever for the content of a pipe, and read a device to no end."""

    def filehash_update(path: Any, hasher: Any) -> None:
        mode = os.stat(path).st_mode
        if (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and is_ours(None):
            from flyte.errors import ImageBuildError

            raise ImageBuildError(
                f"{os.fspath(path)!r} is a pipe or a device, and an image is made of files and directories. Remove it, "
                "or name it in an ignore file."
            )
        own(path, hasher)

    filehash_update.__wrapped__ = own  # type: ignore[attr-defined]
    return filehash_update


def _named(image: Any, error: Exception) -> Exception:
    """The error that a build ends with: Flyte names an image by a digest of its files, one of which it may not take."""
    import click
    from flyte.errors import BaseRuntimeError, ImageBuildError

    if isinstance(error, (BaseRuntimeError, click.ClickException, click.Abort, click.exceptions.Exit)):
        return error
    return ImageBuildError(f"Building the image `{image.name}` failed: {_reason(image, error)}")


def _reason(image: Any, error: Exception) -> Exception:
    """Why an image has no name: what is wrong with it, if that is what we would say."""
    from buildkit_builder.flyte_plugin import reader
    from buildkit_builder.image.unforeseen import as_ours

    try:
        reader.read(image)
    except Exception as found:  # noqa: BLE001 - of the two errors, the one that names the layer
        return as_ours(found)
    return as_ours(error)
