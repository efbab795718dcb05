"""Steps that install into the Python environment.

In the written order such a step sees everything before it. Most often it needs nothing of that but the environment:
then only wheels are unpacked. So the step is tried ahead, in a branch of its own, where nothing may be built, and a
check on the daemon tells whether the steps before it would have steered it (`plan.steering`). If something has to be
built, what has wheels is installed ahead all the same, and the step itself runs in the written order. If it would have
been steered, nothing of it is ahead.

The same trick makes environments for a foreign platform without emulation: wheels are unpacked by the machine's own
programs, into the image's environment.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.llb.role import ORDINARY
from buildkit_builder.image.lower.branches import SERVES
from buildkit_builder.image.lower.commands import run
from buildkit_builder.image.lower.draft import Draft
from buildkit_builder.image.lower.steering import going_ahead, is_steered, unknown_places
from buildkit_builder.image.plan import Run
from buildkit_builder.image.plan.steering import AFTER, linked
from buildkit_builder.image.plan.wheels import AHEAD, MACHINES, NO_BUILDS, WORK_FOLDER

_TEXT = "/dev/buildkit-builder-install"
# What would be in the working directory, where that is not there.
_HERE = f"{WORK_FOLDER}/here"
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
    if home is not None and number not in draft.ordered and _can_be_ahead(draft):
        if step.dependencies is not None:
            _install_ahead(draft, number, step.dependencies, home, all_of_it=False)
        is_attempt = number not in draft.waiting
        if _install_ahead(draft, number, step, home, all_of_it=is_attempt) and is_attempt:
            return
    in_order(draft, step, _LOCKS)


def make_environment(draft: Draft, number: int, step: Run) -> None:
    """Makes the environment; for a foreign platform by the machine's own programs, since it is links and text."""
    home = environment_folder(draft.config)
    if home is None or draft.host is None or number in draft.ordered | draft.waiting:
        in_order(draft, step, _NOTES)
        return
    folder = llb.mkdir(home, 0o755, parents=True)
    draft.ahead[number] = going_ahead(draft, step, "")

    def make(state: llb.State) -> llb.State:
        into = state.file(folder, name=draft.named(step.name))
        return _by_host(
            draft, step, into, linked(step.command), home, name=step.name, role=_AHEAD,
            mounts=(llb.Bind(AFTER, state),),
        )  # fmt: skip

    draft.attempts[number] = draft.branches.add(step.name, draft.branches.trunk, make)
    draft.branches.begin_anew()


def environment_folder(config: llb.ImageConfig) -> str | None:
    """The folder of the virtual environment that steps install into; `None` where that is not all they write to."""
    folder, python = config.env.get("VIRTUALENV", ""), config.env.get("UV_PYTHON", "")
    if not folder.startswith("/") or posixpath.normpath(folder) != folder or folder == "/":
        return None
    return folder if python.startswith(f"{folder}/") else None


def in_order(draft: Draft, step: Run, traces: Sequence[str]) -> None:
    """Runs a step after all that is before it; all after it see it."""
    name = draft.emulated(step.name)
    draft.change(step.name, lambda state: run(draft, step, state, step.command, name=name, traces=traces).root)
    draft.branches.begin_anew()
    draft.is_plain = False


def _can_be_ahead(draft: Draft) -> bool:
    """Whether there is somewhere to install that is not simply after all that comes before."""
    if draft.environment.native is not None:
        return draft.host is not None and draft.platform.architecture in MACHINES
    return draft.branches.side_by_side


def _install_ahead(draft: Draft, number: int, step: Run, home: str, *, all_of_it: bool) -> bool:
    """Adds an installation to the branch.

    Where it does not see all that is before it, it does not work in the image's working directory, which a container's
    start would make anew, as root's: what it is given with relative paths is in a directory that no image has.

    Returns:
        Whether it could be.
    """
    wheels = step.wheels
    if wheels is None or is_steered(draft, step, wheels, home):
        return False
    name = step.name + AHEAD
    draft.ahead[number] = ahead = going_ahead(draft, step, home)
    architecture = draft.platform.architecture if draft.host is not None else ""
    unknown = unknown_places(draft, step, wheels)
    mounts = _ahead(wheels.command(all_of_it=all_of_it, architecture=architecture, unknown=unknown))

    here = None if ahead.before is None and draft.cwd != "/" else _HERE
    text = f". {_TEXT}" if here is None else f"mkdir -p {here} && cd {here} && . {_TEXT}"

    def make(state: llb.State) -> llb.State:
        if draft.host is not None:
            return _by_host(
                draft, step, state, text, home, name=name, role=_AHEAD, readable=wheels.reads, mounts=mounts, at=here
            )
        return run(
            draft, step, state, text, name=draft.named(name), role=_AHEAD, readable=wheels.reads,
            cwd=None if here is None else "/", at=here, mounts=mounts, traces=_LOCKS,
        ).root  # fmt: skip

    change = draft.branches.add(name, draft.branches.branch, make, ahead=True)
    if all_of_it:
        draft.attempts[number] = change
    else:
        draft.parts[number] = change
    return True


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
    at: str | None = None,
) -> llb.State:
    """Runs a command on the machine's own platform, with the image's environment where the image has it."""
    assert draft.host is not None
    return run(
        draft, step, draft.host.root, text, name=draft.named(name), role=role, platform=draft.host.platform, cwd="/",
        at=at, readable=readable, mounts=(llb.Bind(home, state, selector=home), *mounts),
    ).output(home)  # fmt: skip
