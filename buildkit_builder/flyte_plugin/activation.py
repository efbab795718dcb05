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

Beside a Flyte that lacks what is needed here (`names`), nothing is touched, and one line says so: nothing here
raises but the choice of a builder that was asked for. A process that builds without `flyte.init…` calls
`buildkit_builder.activate()`; children that `multiprocessing` starts need not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from buildkit_builder.flyte_plugin import names as flyte_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    import click

_CHOOSER = flyte_names.ENGINE
_OURS = ("local", "buildkit")
_FLYTES_OWN = "docker"
_MARK = "_buildkit_builder_original"
# What was said already: once in a process is enough.
_said: set[str] = set()


def activate() -> None:
    """Puts this package in the place of Flyte's `local` builder. Safe to call again; raises nothing.

    Flyte loads the module that chooses a builder when it first builds; until then this waits, and costs nothing.
    """
    try:
        module = sys.modules.get(_CHOOSER)
        if module is not None:
            _replace(module)
        elif not _can_be_loaded(_CHOOSER):
            _step_aside(flyte_names.complaint([_CHOOSER]))
        elif not any(isinstance(finder, _WhenLoaded) for finder in sys.meta_path):
            sys.meta_path.insert(0, _WhenLoaded())
        _hand_down()
    except Exception as error:  # noqa: BLE001 - Flyte starts with or without this package
        _step_aside(f"{type(error).__name__}: {error}")


def deactivate() -> None:
    """Gives Flyte its own builder back."""
    from buildkit_builder.flyte_plugin import engine as flyte_engine

    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _WhenLoaded)]
    module: Any = sys.modules.get(_CHOOSER)
    engine = getattr(module, "ImageBuildEngine", None)
    originals = getattr(getattr(engine, "_get_builder", None), _MARK, None)
    if engine is not None and originals is not None:
        engine._get_builder, module._builds_locally, engine.image_exists, engine.build = originals
    for holder in flyte_engine.hashing():
        holder.filehash_update = getattr(holder.filehash_update, "__wrapped__", holder.filehash_update)


class _WhenLoaded(MetaPathFinder):
    """Replaces Flyte's choice of builders as soon as the module that makes it is loaded, and is then gone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _CHOOSER:
            return None
        with contextlib.suppress(ValueError):  # another thread was quicker
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_replace(module: ModuleType) -> None:
                load(module)
                activate()

            spec.loader.exec_module = load_and_replace  # type: ignore[method-assign]
        return spec


def _can_be_loaded(name: str) -> bool:
    """Whether there is a module, found without loading the packages that it is in."""
    found, path = "", None
    for part in name.split("."):
        found = f"{found}.{part}" if found else part
        package = sys.modules.get(found)
        if package is not None:
            path = getattr(package, "__path__", None)
            continue
        spec = PathFinder.find_spec(found, path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def _replace(image_builder: Any) -> None:
    from buildkit_builder.flyte_plugin import engine as flyte_engine

    engine = getattr(image_builder, "ImageBuildEngine", None)
    if hasattr(getattr(engine, "_get_builder", None), _MARK):
        return
    if lacking := flyte_names.missing_of(_CHOOSER, flyte_names.ENGINE_NAMES):
        _step_aside(flyte_names.complaint(lacking))
        return
    assert engine is not None
    choose_own, builds_locally = engine._get_builder, image_builder._builds_locally

    def _get_builder(cls: type, builder: Any = "local") -> Any:
        name = builder or "local" if builder is None or isinstance(builder, str) else None
        if name == _FLYTES_OWN:
            return choose_own("local")
        chosen = _chosen(name) if name in _OURS else None
        try:
            return chosen or choose_own(builder)
        except ValueError as error:
            raise _unknown(builder) or error from None

    def _builds_locally(builder: Any) -> bool:
        """Images of these builders get a registry to push to, or the error that there is none, from Flyte itself."""
        return str(builder) in (*_OURS, _FLYTES_OWN) or builds_locally(builder)

    own = engine.__dict__
    setattr(_get_builder, _MARK, (own["_get_builder"], builds_locally, own["image_exists"], own["build"]))
    build: Any = flyte_engine.Build(own["build"].__func__, _builds)
    engine.image_exists, engine.build = (
        staticmethod(flyte_engine.ImageExists(engine.image_exists, _builds)),
        classmethod(build),
    )
    engine._get_builder = classmethod(_get_builder)
    image_builder._builds_locally = _builds_locally
    for holder in flyte_engine.hashing():
        holder.filehash_update = flyte_engine.refusing_pipes(holder.filehash_update, _builds)


def _chosen(name: str) -> Any:
    """Our builder; `None` where Flyte's own is to build.

    Raises:
        ImageBuildError: A setting is wrong, or `buildkit` is asked for by name where it cannot be.
    """
    _hand_down()
    why_not = flyte_names.why_not()
    if name == "local" and why_not is None and not _enabled():
        return None
    if why_not is not None:
        if name == "local":
            _step_aside(why_not)
            return None
        from flyte.errors import ImageBuildError

        raise ImageBuildError(flyte_names.cannot_build(why_not))
    from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder

    return BuildKitImageBuilder()


def _unknown(name: object) -> Exception | None:
    """What to say of a builder that nobody has: those that there are, each once."""
    from importlib.metadata import entry_points

    from flyte.errors import ImageBuildError

    others = {entry.name for entry in entry_points(group="flyte.plugins.image_builders")}
    known = {*_OURS, _FLYTES_OWN, "local-podman", "remote", *others}
    if not isinstance(name, str) or name in known:
        return None
    names = ", ".join(f"`{each}`" for each in sorted(known))
    return ImageBuildError(f"There is no image builder `{name}`. Set `image.builder` to one of {names}.")


def _step_aside(reason: str) -> None:
    """Says so, once, unless nobody wants this package anyway."""
    line = flyte_names.steps_aside(" ".join(reason.split()))
    if line in _said or _is_disabled():
        return
    _said.add(line)
    with contextlib.suppress(Exception):  # a process may have no stream to say it to
        sys.stderr.write(f"{line}\n")


def _is_disabled() -> bool:
    """Whether the settings say so, as far as they can be read beside any Flyte."""
    from buildkit_builder.config import Settings, environment

    with contextlib.suppress(Exception):
        from buildkit_builder.flyte_plugin import settings as flyte_settings

        return not flyte_settings.load().enabled
    with contextlib.suppress(Exception):
        return not Settings.load(None, environment()).enabled
    return False


def _builds(builder: Any = None) -> bool:
    """Whether the builder that a call names, else the one that Flyte was told of, is ours."""
    with contextlib.suppress(Exception):
        from flyte._initialize import _get_init_config

        if builder is None and (config := _get_init_config()) is not None:
            builder = config.image_builder
        if builder is not None and not isinstance(builder, str):
            return type(builder).__module__.startswith("buildkit_builder.")
        return flyte_names.why_not() is None and _is_ours(builder)
    return False


def _hand_down() -> None:
    """Has children that `multiprocessing` starts activate, too: they have a Flyte of their own, and may not call it.

    What a process is configured with is handed to its children, and told there by calling this module again.
    """
    process: Any = sys.modules.get("multiprocessing.process")  # where nobody has loaded it, nobody has children of it
    with contextlib.suppress(AttributeError, TypeError):
        process.current_process()._config[_MARK] = _Inherited()


class _Inherited:
    """Activates where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherit, ()


def _inherit() -> _Inherited:
    activate()
    return _Inherited()


def hook(command: click.Command) -> click.Command:
    """Prepares a command of `flyte` that builds images: notes its config file, and keeps its spinner off our view."""
    invoke = command.invoke

    def prepared(context: click.Context) -> Any:
        # Whatever is wrong, the command itself says it, and better.
        with contextlib.suppress(Exception):
            _prepare(context)
        return invoke(context)

    command.invoke = prepared  # type: ignore[assignment,method-assign]
    return command


def _prepare(context: click.Context) -> None:
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    flyte_settings.remember_config(context.obj.config.source if context.obj else None)
    if context.obj is not None and _is_ours(context.obj.image_builder or context.obj.config.image.builder):
        context.obj = context.obj.replace(no_progress=True)


def _is_ours(builder: str | None) -> bool:
    """Whether the command line will build with this package, as far as can be told without failing."""
    from buildkit_builder.errors import ConfigError
    from buildkit_builder.flyte_plugin import settings as flyte_settings

    name = builder or "local"
    if name not in _OURS:
        return False
    try:
        return name != "local" or flyte_settings.load().enabled
    except ConfigError:
        return True  # the build will say so, if there is one


def _enabled() -> bool:
    from flyte.errors import ImageBuildError

    from buildkit_builder.flyte_plugin import settings as flyte_settings
    from buildkit_builder.image.unforeseen import as_ours

    try:
        return flyte_settings.load().enabled
    except Exception as error:
        raise ImageBuildError(str(as_ours(error, doing="reading the settings"))) from error
