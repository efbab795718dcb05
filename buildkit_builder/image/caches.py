"""The build caches of an image: those that the settings name, and those whose names are derived from it.

A derived cache has a place of its own for each image, platform and branch, so that none takes the place of another. A
build reads those of its own branch and of the branches it comes from, and writes its own alone.

```
cache: registry                   registry/image:buildcache-BRANCH-OS-ARCH, beside the image
cache: registry.example/cache     registry.example/cache/image:buildcache-BRANCH-OS-ARCH
cache: gha                        scope image-OS-ARCH; GitHub itself keeps branches apart
```
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildkit_builder.buildkit import go_words, llb
from buildkit_builder.buildkit.build.request import CacheEntry, CacheExport
from buildkit_builder.buildkit.session import oci_layout
from buildkit_builder.buildkit.session.registries import is_insecure
from buildkit_builder.config import CacheOption, Lineage, Settings, git_branches
from buildkit_builder.config.cache import is_true
from buildkit_builder.errors import BuildKitError, ConfigError, ImageError

_TAG = "buildcache"
_LONGEST_BRANCH = 60
_CREDENTIALS = ("token", "ghtoken", "secret_access_key", "session_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """What an image's builds read and write.

    Attributes:
        imports: What is read.
        exports: What is written.
        stores: Folders of this machine that hold local caches, by the name that the daemon knows each by; what may
            only be read is in `read_only`.
        notes: What the user should know of caches that are not used.
        credentials: Values that must not be shown.
    """

    imports: tuple[CacheEntry, ...] = ()
    exports: tuple[CacheExport, ...] = ()
    stores: Mapping[str, Path] = field(default_factory=dict)
    read_only: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    credentials: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        reference: str,
        platforms: tuple[llb.Platform, ...],
        settings: Settings,
        environ: Mapping[str, str],
        folder: Path | None = None,
    ) -> Caches:
        """The caches of an image.

        Args:
            reference: The image's name.
            platforms: What it is built for.
            settings: The settings.
            environ: The environment, where credentials of GitHub's and Amazon's caches may be.
            folder: The working folder, or `None` for the process's own.

        Raises:
            ConfigError: The name of a cache is not a valid reference.
        """
        drawing = _Drawing(reference, platforms, settings, environ)
        drawing.add_named()
        if settings.cache is not None:
            drawing.add_derived(settings.cache, git_branches.find(environ, folder or Path.cwd()))
        return drawing.finished()

    def of_platforms(self, platforms: tuple[llb.Platform, ...]) -> Caches:
        """What a build for some of the platforms has to do with."""
        exports = [
            replace(export, platforms=tuple(one for one in export.platforms if one in platforms))
            for export in self.exports
        ]
        return replace(
            self,
            imports=tuple(entry for entry in self.imports if entry.platform is None or entry.platform in platforms),
            exports=tuple(export for export in exports if export.platforms),
        )


class _Drawing:
    """Caches that are being gathered."""

    def __init__(
        self,
        reference: str,
        platforms: tuple[llb.Platform, ...],
        settings: Settings,
        environ: Mapping[str, str],
    ) -> None:
        self._reference = reference
        self._platforms = platforms
        self._settings = settings
        self._environ = environ
        self._imports: list[CacheEntry] = []
        self._exports: list[CacheExport] = []
        self._sources: dict[str, Path] = {}
        self._targets: dict[str, Path] = {}
        self._notes: list[str] = []

    def finished(self) -> Caches:
        entries = [*self._imports, *(export.entry for export in self._exports)]
        found = [value for entry in entries for key, value in entry.attributes.items() if key in _CREDENTIALS]
        return Caches(
            imports=tuple(self._imports),
            exports=tuple(self._exports),
            stores={**self._sources, **self._targets},
            read_only=frozenset(self._sources.keys() - self._targets.keys()),
            notes=tuple(dict.fromkeys(self._notes)),
            credentials=tuple(dict.fromkeys(found)),
        )

    def add_named(self) -> None:
        """Those that the settings name."""
        for option in self._settings.cache_from:
            attributes = self._completed(option)
            if option.type == "local":
                attributes = self._found(attributes)
            if attributes is not None:
                self._imports.append(CacheEntry(type=option.type, attributes=attributes))
        for option in self._settings.cache_to:
            self._add_export(option)

    def _add_export(self, option: CacheOption) -> None:
        attributes = self._completed(option)
        if attributes is None:
            return
        required = "ignore-error" in attributes and not is_true(attributes.pop("ignore-error"))
        tag, reset = attributes.pop("tag", "latest"), is_true(attributes.pop("reset", None))
        folder = None
        if option.type == "local":
            folder = _folder(attributes["dest"])
            attributes["dest"] = str(folder)
            self._targets[f"local:{folder}"] = folder
        self._exports.append(
            CacheExport(
                entry=CacheEntry(type=option.type, attributes=attributes),
                platforms=self._platforms,
                required=required,
                folder=folder,
                tag=tag,
                reset=reset,
            )
        )

    def _found(self, attributes: dict[str, str] | None) -> dict[str, str] | None:
        """A local cache by its manifest's digest, which is how a daemon asks for it; `None` where there is none."""
        if attributes is None:
            return None
        folder = _folder(attributes["src"])
        tag = attributes.pop("tag", "latest")
        try:
            digest = attributes.get("digest") or oci_layout.digest_of(folder, tag)
        except BuildKitError as error:
            self._notes.append(f"The build cache in {folder} is not read: {error}")
            return None
        if digest is None:
            self._notes.append(f"There is no build cache in {folder} yet.")
            return None
        self._sources[f"local:{folder}"] = folder
        return {**attributes, "src": str(folder), "digest": digest}

    # --- derived ---

    def add_derived(self, where: str, found: Lineage) -> None:
        """Those whose names follow from the image's.

        Args:
            where: `registry`, `gha`, or a registry and a path.
            found: Which branch is built.
        """
        image = llb.ImageReference.parse(self._reference)
        if where == "gha":
            self._derive_gha(image)
        elif where != "registry":
            self._derive_registry(f"{where}/{image.path.rpartition('/')[2]}", found)
        elif "/" in self._reference:
            self._derive_registry(image.repository, found)
        else:
            self._notes.append(
                f"No build cache is used: {self._reference} names no registry. Name one in `image.buildkit.cache`."
            )

    def _derive_registry(self, repository: str, found: Lineage) -> None:
        own = found.own
        if own is None:
            self._notes.append("The build cache is read and not written, since this is not the build of a branch.")
        for platform in self._platforms:
            for name in found.names:
                option = CacheOption(type="registry", attributes=(("ref", _ref(repository, name, platform)),))
                self._imports.append(self._derived(option, platform))
            if own is not None:
                # Registries such as Amazon's take a cache only in the form of an image.
                form = {"mode": "max", "image-manifest": "true", "oci-mediatypes": "true", **self._packing()}
                option = CacheOption(
                    type="registry", attributes=(("ref", _ref(repository, own, platform)), *form.items())
                )
                self._exports.append(self._derived_export(option, platform))

    def _derive_gha(self, image: llb.ImageReference) -> None:
        for platform in self._platforms:
            scope = f"{image.path.rpartition('/')[2]}-{_slug(platform)}"
            option = CacheOption(type="gha", attributes=(("scope", scope),))
            if self._completed(option) is None:
                return
            self._imports.append(self._derived(option, platform))
            option = replace(option, attributes=(*option.attributes, ("mode", "max")))
            self._exports.append(self._derived_export(option, platform))

    def _derived(self, option: CacheOption, platform: llb.Platform) -> CacheEntry:
        return CacheEntry(type=option.type, attributes=self._completed(option) or {}, platform=platform)

    def _derived_export(self, option: CacheOption, platform: llb.Platform) -> CacheExport:
        return CacheExport(entry=self._derived(option, platform), platforms=(platform,), only_if_made=True)

    def _packing(self) -> dict[str, str]:
        """As the image's own layers are packed, so that those are in both, and once."""
        settings = self._settings
        level = settings.level
        return {
            **({"compression": settings.compression} if settings.compression else {}),
            **({"compression-level": str(level)} if level is not None else {}),
        }

    # --- what is not said ---

    def _completed(self, option: CacheOption) -> dict[str, str] | None:
        """A cache's attributes with what follows from the environment; `None` where it cannot be used."""
        attributes = dict(option.attributes)
        if option.type == "registry":
            return self._completed_registry(attributes)
        if option.type == "s3":
            return self._completed_s3(attributes)
        if option.type == "gha":
            return self._completed_gha(attributes)
        return attributes

    def _completed_registry(self, attributes: dict[str, str]) -> dict[str, str]:
        try:
            registry = llb.ImageReference.parse(attributes["ref"]).domain
        except ImageError as error:
            raise ConfigError(f"A build cache has an invalid `ref`: {error}") from None
        if is_insecure(registry, self._settings.insecure_registries):
            attributes.setdefault("registry.insecure", "true")
        return attributes

    def _completed_s3(self, attributes: dict[str, str]) -> dict[str, str]:
        """With the user's keys; a session's token only goes with the keys it was given for."""
        if attributes.keys() >= {"access_key_id", "secret_access_key"}:
            return attributes
        for name in ("access_key_id", "secret_access_key", "session_token"):
            if value := self._environ.get(f"AWS_{name.upper()}"):
                attributes.setdefault(name, value)
        return attributes

    def _completed_gha(self, attributes: dict[str, str]) -> dict[str, str] | None:
        """With what a GitHub runner says, as buildx takes it over."""
        environ = self._environ
        results = environ.get("ACTIONS_RESULTS_URL")
        is_v2 = (
            attributes.get("version", "2" if environ.get("ACTIONS_CACHE_SERVICE_V2") in go_words.TRUE else "1") == "2"
        )
        known = {
            "token": environ.get("ACTIONS_RUNTIME_TOKEN"),
            "url_v2": results if is_v2 else None,
            "url": environ.get("ACTIONS_CACHE_URL") or results,
        }
        attributes = {**{name: value for name, value in known.items() if value}, **attributes}
        if attributes.get("token") and (attributes.get("url") or attributes.get("url_v2")):
            return attributes
        self._notes.append(
            "The build cache of type gha is not used: ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL are not both set. "
            "A workflow's `run` step has them only if an action before it has handed them on, such as "
            "crazy-max/ghaction-github-runtime."
        )
        return None


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _ref(repository: str, branch: str, platform: llb.Platform) -> str:
    return f"{repository}:{_TAG}-{_tag_of(branch)}-{_slug(platform)}"


def _slug(platform: llb.Platform) -> str:
    return str(platform).replace("/", "-")


def _tag_of(branch: str) -> str:
    """A branch as part of a tag: what a tag cannot hold is replaced, and a digest keeps such branches apart."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", branch)[:_LONGEST_BRANCH]
    return safe if safe == branch else f"{safe}-{hashlib.sha256(branch.encode()).hexdigest()[:8]}"
