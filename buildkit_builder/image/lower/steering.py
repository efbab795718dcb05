"""What an installation reads of the image so far, and the step that checks whether it was right to run ahead."""

from __future__ import annotations

import re
from dataclasses import replace

from buildkit_builder.buildkit import llb
from buildkit_builder.image.lower.branches import SERVES
from buildkit_builder.image.lower.commands import DEFAULT_SHELL, run
from buildkit_builder.image.lower.draft import Ahead, Draft, absolute
from buildkit_builder.image.plan import Run
from buildkit_builder.image.plan.steering import AFTER, BEFORE, Reads, check, check_targets, distinct
from buildkit_builder.image.plan.variables import is_remote, leads_into_image, named_in
from buildkit_builder.image.plan.wheels import Wheels

_TEXT = "/dev/buildkit-builder-check"
_CHECK = llb.Role(quiet=True, attempt=True, script=True)
_READ = frozenset(["HOME", "PATH", "UV_PYTHON", "VIRTUALENV"])
# Whose home is known without asking the image.
_ROOT = ("", "root", "0", "root:root", "0:0")
# Shells, and options of theirs, with which no file is read before a command is run.
_SHELLS = frozenset(f"{folder}/{name}" for folder in ("/bin", "/usr/bin") for name in ("sh", "dash", "bash"))
_IS_PLAIN = re.compile(r"-[ceuxo]+|pipefail").fullmatch
# The dynamic linker's settings; its cache changes with any library.
_LINKER = ("/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d")


def is_steered(draft: Draft, step: Run, wheels: Wheels, home: str) -> bool:
    """Whether what the image has set may lead an installation to places in the image.

    Then it is not tried ahead at all, so that an index that is not to be asked is not asked.

    Args:
        draft: The image so far.
        step: The installation.
        wheels: How it would be done ahead.
        home: The environment that it is to write to.
    """
    env = draft.config.env
    shell = draft.config.shell or DEFAULT_SHELL
    if draft.config.user not in _ROOT or shell[0] not in _SHELLS or not all(map(_IS_PLAIN, shell[1:])):
        return True
    if wheels.parts == "lock" and env.get("VIRTUAL_ENV", "/opt/venv") != home:
        return True
    if any(not entry.startswith("/") for entry in env.get("PATH", "").split(":")):
        return True
    if any(leads_into_image(name, value) for name, value in env.items() if wheels.reads(name)):
        return True
    if any(not is_remote(env[name]) for name in wheels.places if name in env):
        return True
    if any(len(env[name].split()) > 1 for name in named_in(step.command) if name in env):
        return True
    if any(".." in mount.target.split("/") for mount in step.mounts):
        return True
    files = (*_settings(draft), *_places(draft))
    return any(
        secret.path is not None and _is_one_of(absolute(draft.cwd, secret.path), files) for secret in step.secrets
    )


def unknown_places(draft: Draft, step: Run, wheels: Wheels) -> tuple[str, ...]:
    """Variables whose values only the build's session knows, and that may name places in the image."""
    secret = {secret.variable for secret in step.secrets if secret.variable is not None}
    named = {name for name in secret if leads_into_image(name, "anything")}
    return tuple(sorted(named | (set(wheels.places) - set(draft.config.env))))


def going_ahead(draft: Draft, step: Run, home: str) -> Ahead:
    """Notes what a step that is about to run ahead could have seen."""
    branches = draft.branches
    sees_all = draft.host is None and branches.trunk <= branches.branch
    mounts = {mount.target: mount.path == "/" for mount in step.mounts} | dict.fromkeys(step.files, False)
    here = {absolute(draft.cwd, target): kind for target, kind in mounts.items() if not target.startswith("/")}
    return Ahead(
        name=step.name,
        change=len(branches.changes),
        config=draft.config,
        # An environment is made from the base alone, and only settings could steer that.
        before=None if sees_all else branches.tree(branches.fork if home else branches.trunk),
        after=branches.tree(branches.trunk),
        reads=Reads(
            settings=_settings(draft), cwd=draft.cwd,
            is_project=step.wheels is not None and step.wheels.parts == "lock",
            places=distinct([*_LINKER, *_places(draft)]), programs=("uv", (draft.config.shell or DEFAULT_SHELL)[0]),
            home=home,
            mounts=distinct([*(cache.target for cache in step.caches), *(t for t in mounts if t.startswith("/"))]),
            files=tuple(target for target, is_directory in here.items() if not is_directory),
            directories=tuple(target for target, is_directory in here.items() if is_directory),
        ),
    )  # fmt: skip


def check_of(draft: Draft, ahead: Ahead) -> llb.State | None:
    """What fails if a step may not be ahead, or `None` where nothing could be wrong with it."""
    texts, mounts = [], []
    root, platform, place = ahead.after, draft.platform, ""
    if ahead.before is not None:
        texts.append(check(ahead.reads, foreign=draft.host is not None))
        # Files are compared by the text; of mounts that can be written to, the daemon does not read all of them itself.
        mounts.append(llb.Bind(AFTER, ahead.after))
        root, place = ahead.before, AFTER
        if draft.host is not None:
            root, platform = draft.host.root, draft.host.platform
            mounts.append(llb.Bind(BEFORE, ahead.before))
    if ahead.targets:
        texts.append(check_targets(ahead.targets, ahead.reads.home, root=place))
    if not texts:
        return None
    file = llb.scratch().file(llb.mkfile("/text", "\n".join(texts).encode()), name="what is compared", role=SERVES)
    shown = f"check that {ahead.name} may be ahead"
    return run(
        replace(draft, config=ahead.config), Run(name=shown, command=""), root, f". {_TEXT}", name=draft.named(shown),
        role=_CHECK, platform=platform, cwd="/", readable=lambda variable: variable in _READ,
        mounts=(*mounts, llb.Bind(_TEXT, file, selector="/text", readonly=True)),
    ).root  # fmt: skip


def _settings(draft: Draft) -> tuple[str, ...]:
    """Where `uv` looks for settings besides the working directory. Protocol: uv `concepts/configuration-files`."""
    return f"{_home(draft)}/.config/uv/uv.toml", "/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml"


def _places(draft: Draft) -> tuple[str, ...]:
    """What else `uv`, the linker and the interpreter read by name."""
    home, env = _home(draft), draft.config.env
    named = [
        absolute(draft.cwd, entry)
        for variable in ("LD_LIBRARY_PATH", "PYTHONPATH")
        for entry in env.get(variable, "").split(":")
        if entry
    ]
    return distinct([f"{home}/.netrc", f"{home}/.local/share/uv/credentials", *named])


def _home(draft: Draft) -> str:
    return draft.config.env.get("HOME") or "/root"


def _is_one_of(path: str, files: tuple[str, ...]) -> bool:
    return any(path == file or file.startswith(path.rstrip("/") + "/") for file in files)
