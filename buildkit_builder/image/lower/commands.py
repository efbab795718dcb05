"""Steps that run commands in a container."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.role import ORDINARY
from buildkit_builder.image.lower.branches import SERVES
from buildkit_builder.image.lower.draft import Draft, absolute
from buildkit_builder.image.plan import CacheMount, Run, SourceMount
from buildkit_builder.image.spec import SecretRef

# See reproducible-builds.org, "SOURCE_DATE_EPOCH": Python, compilers and packers obey it.
_EPOCH = "SOURCE_DATE_EPOCH"
DEFAULT_SHELL = ("/bin/sh", "-c")

CA_SECRET = "buildkit-builder/ca"
# Below /dev, which is a file system of the container's own: nothing of the mount can be left in a layer.
_CA_PATH = "/dev/buildkit-builder-ca.pem"
# What the tools that fetch things look at: OpenSSL and uv, requests and pip, curl, git, Node.
_CA_VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


def command(draft: Draft, step: Run) -> None:
    """A command of the user's, of which nothing is known: it sees all that was before it, and all after it see it."""
    name = draft.emulated(step.name)
    draft.change(step.name, lambda state: run(draft, step, state, step.command, name=name).root)
    draft.branches.begin_anew()
    draft.is_plain = False


def run(
    draft: Draft,
    step: Run,
    root: llb.State,
    text: str,
    *,
    name: str,
    role: llb.Role = ORDINARY,
    platform: llb.Platform | None = None,
    cwd: str | None = None,
    at: str | None = None,
    readable: Callable[[str], bool] = lambda _: True,
    mounts: Sequence[llb.Mount] = (),
    traces: Sequence[str] = (),
) -> llb.Exec:
    """Runs a command as the image's user, in the image's shell and working directory, with what its step mounts.

    Args:
        draft: The image so far.
        step: Names caches, files, mounts and secrets.
        root: The tree that it runs in.
        text: For the shell.
        name: For progress.
        role: What is known of it beside its name.
        platform: The platform of `root`; the image's when not given.
        cwd: Another working directory than the image's.
        at: Where the step's files and mounts are whose paths are relative, if not in the working directory.
        readable: Which of the image's variables the command can read; the others are no input of it.
        mounts: More mounts.
        traces: What it leaves behind that is different each time and of no use, as patterns for the shell; taken away
            where the image is to be the same each time.
    """
    config, environment = draft.config, draft.environment
    platform = platform or draft.platform
    cwd = draft.cwd if cwd is None else cwd
    every: list[llb.Mount] = [
        *caches(step.caches, draft.platform),
        *_files(step.files, at or cwd, step.name),
        *(_source(draft, mount, at or cwd) for mount in step.mounts),
        *mounts,
    ]
    env = [(key, value) for key, value in config.env.items() if readable(key)]
    secret_env: list[llb.SecretEnv] = []
    for secret in step.secrets:
        _add_secret(secret, every, secret_env)
    if environment.ca_bundle:
        every.append(llb.SecretFile(_CA_PATH, CA_SECRET, mode=0o444))
        env += [(key, _CA_PATH) for key in _CA_VARIABLES if key not in config.env]
    if environment.epoch:
        # Python's byte code, for one, then does not say when its source was written, which the export changes.
        if _EPOCH not in config.env:
            env.append((_EPOCH, environment.epoch))
        if traces:
            text = f"{text} && rm -rf {' '.join(traces)}"
    return root.run(
        (*(config.shell or DEFAULT_SHELL), text),
        env=env,
        cwd=cwd,
        user=config.user,
        mounts=every,
        secret_env=secret_env,
        proxy=environment.proxy,
        network=environment.network,
        extra_hosts=environment.extra_hosts,
        platform=platform,
        name=name,
        role=role,
        ignore_cache=environment.no_cache,
    )


def caches(mounts: Iterable[CacheMount], platform: llb.Platform) -> list[llb.Mount]:
    """Folders that outlive the build, of a platform where they are one's own."""
    return [
        llb.Cache(
            cache.target,
            cache.id.replace("{architecture}", platform.architecture),
            sharing="locked" if cache.locked else "shared",
        )
        for cache in mounts
    ]


def _files(files: Mapping[str, bytes] | MappingProxyType[str, bytes], cwd: str, name: str) -> list[llb.Mount]:
    mounts: list[llb.Mount] = []
    for path, content in files.items():
        file = llb.scratch().file(llb.mkfile("/file", content, 0o644), name=f"{name}: {path}", role=SERVES)
        mounts.append(llb.Bind(posixpath.join(cwd, path), file, selector="/file", readonly=True))
    return mounts


def _source(draft: Draft, mount: SourceMount, cwd: str) -> llb.Mount:
    return llb.Bind(
        absolute(cwd, mount.target),
        draft.local(mount.source),
        selector=mount.path.rstrip("/"),
        readonly=not mount.writable,
        output=False,
    )


def _add_secret(secret: SecretRef, mounts: list[llb.Mount], variables: list[llb.SecretEnv]) -> None:
    if secret.path is not None:
        mounts.append(llb.SecretFile(secret.path, secret.id))
    if secret.variable is not None:
        variables.append(llb.SecretEnv(secret.variable, secret.id))
