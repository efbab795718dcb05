"""Makes `image.builder: local` mean this package, and steps aside when told.

Flyte 2.12.1 answers `local` before it looks at entry points, so what registers a builder under that name is not
enough. Flyte does load two other kinds of plugin before it chooses a builder: those of `flyte.plugins.types`, called by
every `flyte.init…`, and those of `flyte.plugins.cli.hooks`. Both lead here. Nothing of Flyte's own files is changed:
without this package, Flyte is as it was; with `image.buildkit.enabled: false` it is, too.

| `image.builder` | builds with |
|---|---|
| `local` (Flyte's default), `buildkit` | this package |
| `docker` | Flyte's own builder, what `local` means without this package |
| `local-podman`, `remote`, others | as without this package |
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    import click

_CHOOSER = "flyte._internal.imagebuild.image_builder"
_OURS = ("local", "buildkit")
_FLYTES_OWN = "docker"
_MARK = "_buildkit_builder_original"


def activate() -> None:
    """Puts this package in the place of Flyte's `local` builder. Safe to call again.

    Flyte loads the module that chooses a builder when it first builds; until then this waits, and costs nothing.
    """
    module = sys.modules.get(_CHOOSER)
    if module is not None:
        _replace(module)
    elif not any(isinstance(finder, _WhenLoaded) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenLoaded())


def deactivate() -> None:
    """Gives Flyte its own builder back."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _WhenLoaded)]
    module: Any = sys.modules.get(_CHOOSER)
    originals = getattr(module.ImageBuildEngine._get_builder, _MARK, None) if module is not None else None
    if originals is not None:
        engine = module.ImageBuildEngine
        engine._get_builder, module._builds_locally, engine.image_exists = originals


class _WhenLoaded(MetaPathFinder):
    """Replaces Flyte's choice of builders as soon as the module that makes it is loaded, and is then gone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _CHOOSER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_replace(module: ModuleType) -> None:
                load(module)
                _replace(module)

            spec.loader.exec_module = load_and_replace  # type: ignore[method-assign]
        return spec


def _replace(image_builder: Any) -> None:
    engine = image_builder.ImageBuildEngine
    if hasattr(engine._get_builder, _MARK):
        return
    choose_own, builds_locally = engine._get_builder, image_builder._builds_locally
    exists = engine.image_exists

    def _get_builder(cls: type, builder: Any = "local") -> Any:
        name = builder or "local"
        if name == _FLYTES_OWN:
            return choose_own("local")
        if name in _OURS and (name != "local" or _enabled()):
            from buildkit_builder.builder import BuildKitImageBuilder

            return BuildKitImageBuilder()
        return choose_own(builder)

    def _builds_locally(builder: Any) -> bool:
        """Images of these builders get a registry to push to, or the error that there is none, from Flyte itself."""
        return str(builder) in (*_OURS, _FLYTES_OWN) or builds_locally(builder)

    async def image_exists(image: Any) -> str | None:
        from buildkit_builder.checker import asked_for

        token = asked_for.set(image)
        try:
            found: str | None = await exists(image)
        finally:
            asked_for.reset(token)
        return found

    setattr(_get_builder, _MARK, (engine.__dict__["_get_builder"], builds_locally, engine.__dict__["image_exists"]))
    engine._get_builder = classmethod(_get_builder)
    engine.image_exists = staticmethod(image_exists)
    image_builder._builds_locally = _builds_locally


def hook(command: click.Command) -> click.Command:
    """Prepares a command of `flyte` that builds images: notes its config file, and keeps its spinner off our view."""
    invoke = command.invoke

    def prepared(context: click.Context) -> Any:
        from buildkit_builder import flyte_settings

        flyte_settings.remember_config(context.obj.config.source if context.obj else None)
        if context.obj is not None and _is_ours(context.obj.image_builder or context.obj.config.image.builder):
            context.obj = context.obj.replace(no_progress=True)
        return invoke(context)

    command.invoke = prepared  # type: ignore[assignment,method-assign]
    return command


def _is_ours(builder: str | None) -> bool:
    """Whether the command line will build with this package, as far as can be told without failing."""
    from buildkit_builder import flyte_settings
    from buildkit_builder.errors import ConfigError

    name = builder or "local"
    if name not in _OURS:
        return False
    try:
        return name != "local" or flyte_settings.load().enabled
    except ConfigError:
        return True  # the build will say so, if there is one


def _enabled() -> bool:
    from flyte.errors import ImageBuildError

    from buildkit_builder import flyte_settings
    from buildkit_builder.errors import ConfigError

    try:
        return flyte_settings.load().enabled
    except ConfigError as error:
        raise ImageBuildError(str(error)) from error
