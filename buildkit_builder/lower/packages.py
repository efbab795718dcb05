"""Steps that install the distribution's packages."""

from __future__ import annotations

from buildkit_builder import llb
from buildkit_builder.lower.commands import run
from buildkit_builder.lower.draft import Draft
from buildkit_builder.plan import InstallPackages, Run, packages
from buildkit_builder.plan.effects import BARRIER, INTERPRETER, SYSTEM, Effects

_SCRIPT = llb.Role(script=True)
_PACKAGES = Effects.of(writes=(SYSTEM,))
_WITH_PYTHON = Effects.of(writes=(SYSTEM, INTERPRETER))


def install(draft: Draft, step: InstallPackages) -> None:
    """Installs packages, beside all that is no part of the system."""
    # Of a file nobody knows who put it there, nor relative to which folder it is.
    names_files = any(word.startswith((".", "/")) or word.endswith(".deb") for word in step.packages)
    has_python = any(word.startswith("python") for word in step.packages)
    effects, cwd = (BARRIER, None) if names_files else (_WITH_PYTHON if has_python else _PACKAGES, "/")
    name = draft.emulated(step.name, "emulated" if draft.host is None else "scripts emulated")
    command = Run(
        name=step.name,
        command=packages.install(step.packages),
        caches=packages.CACHES,
        files={packages.FILE: packages.FUNCTIONS.encode()},
        secrets=step.secrets,
    )

    lent = () if draft.host is None else (llb.Bind(packages.NATIVE, draft.host.root, readonly=True),)

    def make(state: llb.State) -> llb.State:
        return run(
            draft, command, state, command.command, name=name, role=_SCRIPT, cwd=cwd, mounts=lent,
            traces=packages.TRACES,
        ).root  # fmt: skip

    draft.change(step.name, effects, make)
    draft.lacks_lists = True


def add_lists(draft: Draft) -> None:
    """Puts the package lists where a step that follows may look for them; once, after packages were installed."""
    if not draft.lacks_lists:
        return
    draft.lacks_lists = False
    name = "package lists"
    shown = draft.emulated(name)
    files = {packages.FILE: packages.FUNCTIONS.encode()}
    command = Run(name=name, command=packages.lists(), caches=packages.CACHES, files=files)
    draft.change(
        name,
        _PACKAGES,
        lambda state: run(draft, command, state, command.command, name=shown, role=_SCRIPT, cwd="/").root,
    )
