"""Steps to LLB.

Lowering is a generator: what only the daemon knows (the config of an image, what lines of a Dockerfile make) is asked
for by yielding a question and being sent the answer. So the graph can follow from results while the code stays pure,
and a test, or a dry run, may answer from a dictionary.

```python
lowering = lower(plan, platform, environment)
question = next(lowering)
question = lowering.send(answer)      # … until StopIteration, whose value is the `Lowered`
```

What each step becomes follows the Dockerfile instruction that Flyte's own builder writes for it; protocol: buildkit
`frontend/dockerfile/dockerfile2llb`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from buildkit_builder import llb
from buildkit_builder.errors import ImageError
from buildkit_builder.lower.words import WordError, expand, expand_value
from buildkit_builder.plan import (
    CopyImage,
    CopyLocal,
    DockerfileLines,
    Plan,
    Run,
    SetEnv,
    SetLabels,
    SetShell,
    SetUser,
    Step,
    Workdir,
    WriteFile,
)
from buildkit_builder.spec import SecretRef

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_SHELL = ("/bin/sh", "-c")
# Whom local files are for. Where an image has no such user, or group, the daemon makes them root's.
_FLYTE = llb.Owner(user="flyte", group="flyte")

CA_SECRET = "buildkit-builder/ca"
# Below /dev, which is a file system of the container's own: nothing of the mount can be left in a layer.
_CA_PATH = "/dev/buildkit-builder-ca.pem"
# What the tools that fetch things look at: OpenSSL and uv, requests and pip, curl, git, Node.
_CA_VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResolveImage:
    """Asks for an image's config, for the platform that is lowered. The answer is a `Resolved`."""

    reference: str


@dataclass(frozen=True, slots=True)
class BuildLines:
    """Asks for lines of a Dockerfile to be carried out on an image. The answer is a `Lowered`."""

    image: Lowered
    lines: tuple[str, ...]
    name: str


Question = ResolveImage | BuildLines


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """An image as the daemon found it: as it was named, the name that pins it, how to look it up, and its config."""

    name: str
    reference: str
    resolve_mode: Literal["default", "pull", "local"]
    config: llb.ImageConfig

    def state(self, platform: llb.Platform) -> llb.State:
        """The image's files."""
        return llb.image(self.reference, platform=platform, resolve_mode=self.resolve_mode, name=f"image {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What surrounds a build and is no part of the image.

    Attributes:
        session: The id of the session that serves the local sources.
        shared_keys: By local source, what the daemon files its copy under, so that only changes are sent.
        proxy: Proxies for the steps; ignored by the cache.
        ca_bundle: Whether a CA bundle is to be had as the secret `CA_SECRET`.
        network: `default`, `host` or `none`, for the steps.
        extra_hosts: Names that the steps know besides DNS.
        no_cache: Run every step again.
        build_args: Arguments of a Dockerfile, for lines of one.
    """

    session: str = ""
    shared_keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    proxy: llb.ProxyEnv | None = None
    ca_bundle: bool = False
    network: Literal["default", "host", "none"] = "default"
    extra_hosts: tuple[tuple[str, str], ...] = ()
    no_cache: bool = False
    build_args: tuple[tuple[str, str], ...] = ()

    def dockerfile_options(self) -> dict[str, str]:
        """The same, as far as it can be told to a Dockerfile frontend. Protocol: buildkit `frontend/dockerui`."""
        proxy = self.proxy or llb.ProxyEnv()
        proxies = {"http_proxy": proxy.http, "https_proxy": proxy.https, "no_proxy": proxy.no, "all_proxy": proxy.all}
        return {
            **{f"build-arg:{name}": value for name, value in proxies.items() if value},
            **{f"build-arg:{name}": value for name, value in self.build_args},
            **({"no-cache": ""} if self.no_cache else {}),
            **({"force-network-mode": self.network} if self.network != "default" else {}),
            **({"add-hosts": ",".join(f"{host}={ip}" for host, ip in self.extra_hosts)} if self.extra_hosts else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A platform's image: its files as a graph, and its config."""

    state: llb.State
    config: llb.ImageConfig


def lower(plan: Plan, platform: llb.Platform, environment: Environment) -> Generator[Question, Any, Lowered]:
    """Lowers a plan for one platform; see the module for how it is driven.

    Raises:
        ImageError: A value of a step makes no sense (an unfinished quote, say); names the step.
    """
    base = yield ResolveImage(plan.base)
    image = Lowered(state=base.state(platform), config=_complete(base.config))
    if base.config.on_build:
        # They are lines of a Dockerfile, which its frontend carries out at `FROM`.
        image = yield BuildLines(image, (), f"ONBUILD of {plan.base}")
    lowering = _Lowering(plan, platform, environment, image)
    for step in plan.steps:
        yield from lowering.step(step)
    return lowering.image


def _complete(config: llb.ImageConfig) -> llb.ImageConfig:
    """A base without a PATH gets the one that BuildKit gives its steps."""
    return config if "PATH" in config.env else config.with_env("PATH", _DEFAULT_PATH)


class _Lowering:
    """The image so far, and the step to be added to it."""

    def __init__(self, plan: Plan, platform: llb.Platform, environment: Environment, base: Lowered) -> None:
        self.plan = plan
        self.platform = platform
        self.environment = environment
        self.image = base
        self.sources = {source.name: source for source in plan.sources}

    def step(self, step: Step) -> Generator[Question, Any, None]:
        if isinstance(step, Run):
            self._run(step)
        elif isinstance(step, CopyLocal):
            self._copy_local(step)
        elif isinstance(step, CopyImage):
            yield from self._copy_image(step)
        elif isinstance(step, WriteFile):
            action = llb.mkfile(step.path, step.content, 0o644)
            folder = llb.mkdir(posixpath.dirname(step.path), 0o755, parents=True)
            self.image = replace(self.image, state=self.image.state.file(folder, action, name=step.name))
        elif isinstance(step, DockerfileLines):
            yield from self._lines(step)
        elif isinstance(step, Workdir):
            self._workdir(step)
        else:
            self._configure(step)

    # --- config only ---

    def _configure(self, step: SetEnv | SetLabels | SetUser | SetShell) -> None:
        config = self.image.config
        if isinstance(step, SetEnv):
            before = dict(config.env)
            for key, text in step.variables:
                config = config.with_env(key, self._expanded(f"with_env_vars {key}", expand_value, text, before))
        elif isinstance(step, SetLabels):
            for key, value in step.labels:
                config = config.with_label(key, value)
        elif isinstance(step, SetUser):
            config = config.with_user(step.user)
        else:
            config = config.with_shell(step.shell)
        self.image = replace(self.image, config=config)

    def _expanded(self, step: str, how: Any, text: str, variables: Mapping[str, str]) -> str:
        try:
            return str(how(text, variables))
        except WordError as error:
            raise ImageError(f"{step}: `{text}` is not understood: {error}.") from error

    def _workdir(self, step: Workdir) -> None:
        config = self.image.config
        path = self._expanded(step.name, expand, step.path, config.env)
        path = _absolute(config.working_dir, path)
        config = config.with_working_dir(path)
        state = self.image.state
        if path != "/":
            owner = llb.Owner.parse(config.user) if config.user else None
            state = state.file(llb.mkdir(path, 0o755, parents=True, owner=owner), name=step.name)
        self.image = Lowered(state=state, config=config)

    # --- files ---

    def _copy_image(self, step: CopyImage) -> Generator[Question, Any, None]:
        found = yield ResolveImage(step.image)
        self._copy(found.state(self.platform), step.path, step.destination, owner=None, contents=True, name=step.name)

    def _copy_local(self, step: CopyLocal) -> None:
        source, whole = self._local(step.source), step.path == "/"
        owner = None if step.as_root else _FLYTE
        self._copy(source, step.path, step.destination, owner=owner, contents=whole, name=step.name)

    def _local(self, name: str) -> llb.State:
        return llb.local(
            name,
            session=self.environment.session,
            shared_key=self.environment.shared_keys.get(name, ""),
            display=f"read {self.sources[name].files.root.name}",
        )

    def _copy(
        self, source: llb.State, path: str, destination: str, *, owner: llb.Owner | None, contents: bool, name: str
    ) -> None:
        config = self.image.config
        text = self._expanded(name, expand, destination, config.env)
        target = _absolute(config.working_dir, text)
        if text in ("", ".") or text.endswith(("/", "/.")):
            target = target.rstrip("/") + "/"
        action = llb.copy(
            source, path, target, owner=owner, follow_symlinks=True, contents_only=contents, create_dest=True
        )
        self.image = replace(self.image, state=self.image.state.file(action, name=name))

    # --- commands ---

    def _run(self, step: Run) -> None:
        config = self.image.config
        cwd = _absolute(config.working_dir)
        mounts: list[llb.Mount] = [
            llb.Cache(
                cache.target,
                cache.id.replace("{architecture}", self.platform.architecture),
                sharing="locked" if cache.locked else "shared",
            )
            for cache in step.caches
        ]
        for path, content in step.files.items():
            file = llb.scratch().file(llb.mkfile("/file", content, 0o644), name=f"{step.name}: {path}")
            mounts.append(llb.Bind(posixpath.join(cwd, path), file, selector="/file", readonly=True))
        for mount in step.mounts:
            target, selector = _absolute(cwd, mount.target), mount.path.rstrip("/")
            mounts.append(
                llb.Bind(
                    target, self._local(mount.source), selector=selector, readonly=not mount.writable, output=False
                )
            )
        env = list(config.env.items())
        secret_env: list[llb.SecretEnv] = []
        for secret in step.secrets:
            _add_secret(secret, mounts, secret_env)
        if self.environment.ca_bundle:
            mounts.append(llb.SecretFile(_CA_PATH, CA_SECRET, mode=0o444))
            env += [(name, _CA_PATH) for name in _CA_VARIABLES if name not in config.env]
        ran = self.image.state.run(
            (*(config.shell or _DEFAULT_SHELL), step.command),
            env=env,
            cwd=cwd,
            user=config.user,
            mounts=mounts,
            secret_env=secret_env,
            proxy=self.environment.proxy,
            network=self.environment.network,
            extra_hosts=self.environment.extra_hosts,
            platform=self.platform,
            name=step.name,
            ignore_cache=self.environment.no_cache,
        )
        self.image = replace(self.image, state=ran.root)

    def _lines(self, step: DockerfileLines) -> Generator[Question, Any, None]:
        self.image = yield BuildLines(self.image, step.lines, step.name)


def _absolute(*parts: str) -> str:
    """Joins paths below the root; of two slashes at the start, which POSIX lets mean something else, one is left."""
    return "/" + posixpath.normpath(posixpath.join("/", *parts)).lstrip("/")


def _add_secret(secret: SecretRef, mounts: list[llb.Mount], variables: list[llb.SecretEnv]) -> None:
    if secret.path is not None:
        mounts.append(llb.SecretFile(secret.path, secret.id))
    if secret.variable is not None:
        variables.append(llb.SecretEnv(secret.variable, secret.id))
