"""Steps that install into the Python environment.

In the user's order such a step waits for everything before it, since something might have to be built. Most often
nothing has to be: then only wheels are unpacked, and the step needs the environment and nothing else. So the step is
tried ahead, in a branch of its own, where nothing may be built. If something has to be, the attempt fails, and the step
waits: what has wheels is installed ahead all the same, and the step itself runs in the user's order.

The same trick makes environments for a foreign platform without emulation: wheels are unpacked by the machine's own
programs, into the image's environment.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from buildkit_builder import llb
from buildkit_builder.llb.role import ORDINARY
from buildkit_builder.lower.branches import SERVES
from buildkit_builder.lower.commands import run
from buildkit_builder.lower.draft import Draft
from buildkit_builder.plan import Run
from buildkit_builder.plan.effects import BARRIER, EVERYTHING, INTERPRETER, UV_SETTINGS, Effects
from buildkit_builder.plan.wheels import AHEAD, MACHINES, NO_BUILDS, WORK_FOLDER

_UV = "/usr/bin/uv"
_TEXT = "/dev/buildkit-builder-install"
_AHEAD = llb.Role(attempt=True, script=True)
_LOCKS = ("/tmp/uv-*.lock",)
# With what uv notes of interpreters, their files' times among it, where its cache is no mount.
_NOTES = (*_LOCKS, "${HOME:-/root}/.cache/uv/interpreter-v*")


def install(draft: Draft, number: int, step: Run) -> None:
    """Installs into the environment, ahead of what it might need where that is worth a try.

    Args:
        draft: The image so far.
        number: Of the step.
        step: The installation.
    """
    home = environment_folder(draft.config)
    if home is None:
        # Into the system's own Python: that is anywhere.
        _in_order(draft, step, BARRIER, _LOCKS)
        return
    ordered = Effects.of(reads=(EVERYTHING,), writes=(home,))
    if _can_be_ahead(draft):
        ahead = Effects.of(reads=(_UV, *_configuration(draft)), writes=(home,))
        if step.dependencies is not None:
            _install_ahead(draft, step.dependencies, home, ahead, all_of_it=False)
        if step.wheels is not None:
            is_attempt = number not in draft.waiting
            _install_ahead(draft, step, home, ahead, all_of_it=is_attempt)
            if is_attempt:
                draft.attempts[number] = len(draft.branches.changes) - 1
                return
    _in_order(draft, step, ordered, _LOCKS)


def make_environment(draft: Draft, step: Run) -> None:
    """Makes the environment; for a foreign platform by the machine's own programs, since it is links and text."""
    home = environment_folder(draft.config)
    if home is None or draft.host is None:
        effects = BARRIER if home is None else Effects.of(reads=(EVERYTHING,), writes=(home,))
        _in_order(draft, step, effects, _NOTES)
        return
    folder = llb.mkdir(home, 0o755, parents=True)

    def make(state: llb.State) -> llb.State:
        return _by_host(
            draft, step, state.file(folder, name=draft.named(step.name)), step.command, home, name=step.name
        )

    draft.change(step.name, Effects.of(reads=(_UV,), writes=(home,)), make)


def environment_folder(config: llb.ImageConfig) -> str | None:
    """The folder of the virtual environment that steps install into; `None` where that is not all they write to."""
    folder, python = config.env.get("VIRTUALENV", ""), config.env.get("UV_PYTHON", "")
    if not folder.startswith("/") or posixpath.normpath(folder) != folder or folder == "/":
        return None
    return folder if python.startswith(f"{folder}/") else None


def _in_order(draft: Draft, step: Run, effects: Effects, traces: Sequence[str]) -> None:
    name = draft.emulated(step.name)

    def make(state: llb.State) -> llb.State:
        return run(draft, step, state, step.command, name=name, traces=traces).root

    draft.change(step.name, effects, make)


def _can_be_ahead(draft: Draft) -> bool:
    """Whether there is somewhere to install that is not simply after all that comes before."""
    if draft.environment.native is not None:
        return draft.host is not None and draft.platform.architecture in MACHINES
    return draft.branches.side_by_side


def _install_ahead(draft: Draft, step: Run, home: str, effects: Effects, *, all_of_it: bool) -> None:
    wheels = step.wheels
    if wheels is None:
        return
    name = step.name + AHEAD

    architecture = draft.platform.architecture if draft.host is not None else ""
    mounts = _ahead(wheels.command(all_of_it=all_of_it, architecture=architecture))

    def make(state: llb.State) -> llb.State:
        if draft.host is not None:
            return _by_host(
                draft, step, state, f". {_TEXT}", home, name=name, role=_AHEAD, readable=wheels.reads, mounts=mounts
            )
        return run(
            draft, step, state, f". {_TEXT}", name=draft.named(name), role=_AHEAD, readable=wheels.reads,
            mounts=mounts, traces=_LOCKS,
        ).root  # fmt: skip

    draft.change(name, effects, make)


def _ahead(text: str) -> tuple[llb.Mount, ...]:
    """The text of an installation ahead as a file, and what keeps `uv` from building: where it would, it may not write.

    As a file, so that the command in progress and in errors is one that people can read.
    """
    files = llb.scratch().file(
        llb.mkdir("/nothing"),
        llb.mkfile("/text", text.encode()),
        name="how to install from wheels",
        role=SERVES,
    )
    return (
        llb.Tmpfs(WORK_FOLDER),
        llb.Bind(NO_BUILDS, files, selector="/nothing", readonly=True),
        llb.Bind(_TEXT, files, selector="/text", readonly=True),
    )


def _by_host(
    draft: Draft,
    step: Run,
    state: llb.State,
    text: str,
    home: str,
    *,
    name: str,
    role: llb.Role = ORDINARY,
    readable: Callable[[str], bool] = lambda _: True,
    mounts: Sequence[llb.Mount] = (),
) -> llb.State:
    """Runs a command on the machine's own platform, with the image's environment where the image has it."""
    assert draft.host is not None
    return run(
        draft, step, draft.host.root, text, name=draft.named(name), role=role, platform=draft.host.platform,
        readable=readable, mounts=(llb.Bind(home, state, selector=home), *mounts),
    ).output(home)  # fmt: skip


def _configuration(draft: Draft) -> list[str]:
    """Where `uv` looks for settings of its own."""
    env = draft.config.env
    home = env.get("HOME") or "/root"
    settings = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    folders = [draft.cwd]
    while folders[-1] != "/":
        folders.append(posixpath.dirname(folders[-1]))
    files = [posixpath.join(folder, name) for folder in folders for name in ("uv.toml", "pyproject.toml")]
    return [*files, f"{settings}/uv", f"{home}/.local/share/uv", f"{home}/.netrc", *UV_SETTINGS, INTERPRETER]
