"""The config of an image: what it runs, as whom, where, and with which environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit_builder.buildkit.llb.arguments import checked, words
from buildkit_builder.buildkit.llb.platforms import Platform
from buildkit_builder.errors import BaseImageError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# They tell how the base was made, and would be untrue of what is built on it.
_OF_THE_BASE_ALONE = frozenset({"created", "id", "parent", "container", "container_config", "docker_version", "rootfs"})
_BUILDKIT_PREFIX = "moby.buildkit."


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """An image config (OCI image specification, with Docker's additions): an immutable value.

    Verbs give a new config and leave the old one as it is. Fields that are not known here stay as they are.

    Attributes:
        document: All of it, as JSON.
    """

    document: str = "{}"

    @classmethod
    def parse(cls, data: bytes) -> ImageConfig:
        """Read a config as a registry or a daemon gives it.

        Raises:
            BaseImageError: If it is not the config of an image.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BaseImageError(f"The config of the base image is not JSON: {error}.") from error
        _check(document, "the config", dict)
        config = _check(document.get("config") or {}, "`config`", dict)
        for name in ("Env", "Entrypoint", "Cmd", "Shell", "OnBuild"):
            for item in _check(config.get(name) or [], f"`config.{name}`", list):
                _check(item, f"an item of `config.{name}`", str)
        for name in ("User", "WorkingDir", "StopSignal"):
            _check(config.get(name) or "", f"`config.{name}`", str)
        for name in ("Labels", "ExposedPorts", "Volumes", "Healthcheck"):
            _check(config.get(name) or {}, f"`config.{name}`", dict)
        for key, value in (config.get("Labels") or {}).items():
            _check(value, f"the label `{key}`", str)
        for name in ("os", "architecture", "variant", "os.version"):
            _check(document.get(name) or "", f"`{name}`", str)
        for item in _check(document.get("history") or [], "`history`", list):
            _check(item, "an item of `history`", dict)
        rootfs = _check(document.get("rootfs") or {}, "`rootfs`", dict)
        _check(rootfs.get("diff_ids") or [], "`rootfs.diff_ids`", list)
        return cls(document=_write(document))

    @classmethod
    @checked
    def empty(cls, platform: Platform) -> ImageConfig:
        """The config that an image made from scratch starts with: the root as working directory, a usual `PATH`."""
        config = cls().with_working_dir("/")
        return config if platform.os == "windows" else config.with_env("PATH", DEFAULT_PATH)

    @checked
    def to_json(self, platform: Platform) -> bytes:
        """The config of an image built on this one, for the daemon to complete.

        The history stays, because the exporter adds an entry for each new layer to it. The list of layers and the
        time of creation go, because the exporter writes them (protocol: BuildKit `exporter/containerimage`).

        Args:
            platform: Platform of the image.
        """
        document = {
            key: value
            for key, value in self._decoded().items()
            if key not in _OF_THE_BASE_ALONE and not key.startswith(_BUILDKIT_PREFIX)
        }
        if self.platform != platform:
            for key in ("os", "architecture", "variant", "os.version", "os.features"):
                document.pop(key, None)
            document |= _platform_fields(platform)
        document["rootfs"] = {"type": "layers", "diff_ids": []}
        return _write(document).encode()

    @property
    def platform(self) -> Platform | None:
        """Platform of the image, or `None` if the config does not say."""
        document = self._decoded()
        if not document.get("os") or not document.get("architecture"):
            return None
        return Platform(
            os=document["os"],
            architecture=document["architecture"],
            variant=document.get("variant") or "",
            os_version=document.get("os.version") or "",
            os_features=tuple(document.get("os.features") or ()),
        )

    @property
    def architecture(self) -> str:
        """Architecture of the image, or empty if the config does not say."""
        return str(self._decoded().get("architecture") or "")

    @property
    def env(self) -> Mapping[str, str]:
        """The environment, in its order."""
        return {key: value for key, _, value in (item.partition("=") for item in self._get("Env", []))}

    @property
    def user(self) -> str:
        """Whom commands run as; empty means root."""
        return str(self._get("User", ""))

    @property
    def working_dir(self) -> str:
        """Directory that commands start in; empty means the root."""
        return str(self._get("WorkingDir", ""))

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """What runs, before `cmd`."""
        return tuple(self._get("Entrypoint", []))

    @property
    def cmd(self) -> tuple[str, ...]:
        """What runs, or its default arguments if there is an `entrypoint`."""
        return tuple(self._get("Cmd", []))

    @property
    def shell(self) -> tuple[str, ...]:
        """The shell of commands that are written as text; empty means Docker's default."""
        return tuple(self._get("Shell", []))

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels, in their order."""
        return dict(self._get("Labels", {}))

    @property
    def exposed_ports(self) -> tuple[str, ...]:
        """Ports that the image listens on, such as `8080/tcp`."""
        return tuple(self._get("ExposedPorts", {}))

    @property
    def volumes(self) -> tuple[str, ...]:
        """Paths that Docker keeps outside the container."""
        return tuple(self._get("Volumes", {}))

    @property
    def stop_signal(self) -> str:
        """Signal that asks the image's process to end; empty means Docker's default."""
        return str(self._get("StopSignal", ""))

    @property
    def on_build(self) -> tuple[str, ...]:
        """Dockerfile instructions for images built on this one."""
        return tuple(self._get("OnBuild", []))

    @property
    def healthcheck(self) -> Mapping[str, Any] | None:
        """How Docker asks whether the container is well, or `None` if the config does not say."""
        found = self._get("Healthcheck", None)
        return None if found is None else dict(found)

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """How the image came to be, oldest first."""
        return tuple(self._decoded().get("history") or ())

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests of the unpacked layers, lowest first. An image without any is as empty as scratch."""
        rootfs = self._decoded().get("rootfs") or {}
        return tuple(rootfs.get("diff_ids") or ())

    @checked
    def with_env(self, key: str, value: str) -> ImageConfig:
        """Set a variable. One that is there keeps its place, as with Docker; a new one comes last.

        Raises:
            ValueError: If the name is empty or has `=` in it.
        """
        if not key or "=" in key:
            raise ValueError(f"`{key}` cannot be the name of a variable.")
        return self._set("Env", [f"{name}={text}" for name, text in {**self.env, key: value}.items()])

    @checked
    def without_env(self, *names: str) -> ImageConfig:
        """Take variables away."""
        return self._set("Env", [f"{name}={text}" for name, text in self.env.items() if name not in names])

    @checked
    def with_user(self, user: str) -> ImageConfig:
        """Set whom commands run as."""
        return self._set("User", user)

    @checked
    def with_working_dir(self, path: str) -> ImageConfig:
        """Set the directory that commands start in."""
        return self._set("WorkingDir", path)

    @checked
    def with_entrypoint(self, args: Sequence[str]) -> ImageConfig:
        """Set what runs before `cmd`; nothing takes it away."""
        return self._set("Entrypoint", list(words(args, "args")))

    @checked
    def with_cmd(self, args: Sequence[str]) -> ImageConfig:
        """Set what runs, or its default arguments; nothing takes it away."""
        return self._set("Cmd", list(words(args, "args")))

    @checked
    def with_shell(self, args: Sequence[str]) -> ImageConfig:
        """Set the shell of commands that are written as text."""
        return self._set("Shell", list(words(args, "args")))

    @checked
    def with_label(self, key: str, value: str) -> ImageConfig:
        """Set a label beside those that are there."""
        return self._set("Labels", {**self.labels, key: value})

    @checked
    def with_exposed_ports(self, *ports: str) -> ImageConfig:
        """Add ports, such as `8080/tcp`."""
        return self._set("ExposedPorts", {port: {} for port in (*self.exposed_ports, *ports)})

    @checked
    def with_volumes(self, *paths: str) -> ImageConfig:
        """Add volumes."""
        return self._set("Volumes", {path: {} for path in (*self.volumes, *paths)})

    @checked
    def with_stop_signal(self, signal: str) -> ImageConfig:
        """Set the signal that asks the image's process to end."""
        return self._set("StopSignal", signal)

    @checked
    def with_history(self, created_by: str) -> ImageConfig:
        """Add a step that made no layer. Steps that did are added by the exporter."""
        document = self._decoded()
        document["history"] = [*(document.get("history") or ()), {"created_by": created_by, "empty_layer": True}]
        return ImageConfig(document=_write(document))

    def _decoded(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.document)
        return decoded

    def _get(self, name: str, default: object) -> Any:
        return (self._decoded().get("config") or {}).get(name) or default

    def _set(self, name: str, value: object) -> ImageConfig:
        document = self._decoded()
        config = dict(document.get("config") or {})
        if value:
            config[name] = value
        else:
            config.pop(name, None)
        document["config"] = config
        return ImageConfig(document=_write(document))


def _platform_fields(platform: Platform) -> dict[str, Any]:
    fields = {
        "architecture": platform.architecture,
        "os": platform.os,
        "variant": platform.variant,
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
    }
    return {key: value for key, value in fields.items() if value}


def _check(value: Any, what: str, kind: type) -> Any:
    if not isinstance(value, kind):
        raise BaseImageError(f"The config of the base image cannot be used: {what} is not of the right type.")
    return value


def _write(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
