"""Steps that install the distribution's packages.

Their scripts read and write anything, so that they see all that is before them.
"""

from __future__ import annotations

from buildkit_builder.buildkit import llb
from buildkit_builder.image.lower.commands import run
from buildkit_builder.image.lower.draft import Draft
from buildkit_builder.image.plan import DockerfileLines, InstallPackages, Run, packages

# Variables, or their beginnings, by which the programs that are lent could be told to do something else.
_STEERING = (
    "APT_", "BASH", "DEB", "DPKG", "GLIBC_", "GREP_", "GZIP", "LD_", "PERL", "POSIXLY_", "TAR_", "TMP", "XZ_", "ZSTD_",
)  # fmt: skip
# What plans set themselves, for the drivers that a node mounts.
_OWN = ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64")
_SCRIPT = llb.Role(script=True)


def install(draft: Draft, number: int, step: InstallPackages) -> None:
    """Installs packages, and leaves their lists where a step that follows may look for them."""
    is_lent = _is_lent(draft)
    name = draft.emulated(step.name, "scripts emulated" if is_lent else "emulated")
    command = Run(
        name=step.name,
        command=packages.install(step.packages),
        caches=packages.CACHES,
        files={packages.FILE: packages.FUNCTIONS.encode()},
        secrets=step.secrets,
    )
    lent = (llb.Bind(packages.NATIVE, draft.host.root, readonly=True),) if draft.host is not None and is_lent else ()

    def make(state: llb.State) -> llb.State:
        return run(
            draft, command, state, command.command, name=name, role=_SCRIPT, mounts=lent, traces=packages.TRACES
        ).root  # fmt: skip

    draft.change(step.name, make)
    if _are_lists_read(draft, number):
        _add_lists(draft)


def _is_lent(draft: Draft) -> bool:
    """Whether the machine's own programs may do the work for a foreign platform: if nothing could steer them."""
    if draft.host is None or not draft.is_plain:
        return False
    env = draft.config.env.items()
    return not any((name == "ENV" or name.startswith(_STEERING)) and (name, value) != _OWN for name, value in env)


def _are_lists_read(draft: Draft, number: int) -> bool:
    """Whether a step comes that may read package lists, before the next that makes others."""
    for step in draft.plan.steps[number + 1 :]:
        if isinstance(step, InstallPackages):
            return False
        if isinstance(step, DockerfileLines) or (isinstance(step, Run) and step.scope == "anything"):
            return True
    return False


def _add_lists(draft: Draft) -> None:
    name = "package lists"
    shown = draft.emulated(name)
    files = {packages.FILE: packages.FUNCTIONS.encode()}
    command = Run(name=name, command=packages.lists(), caches=packages.CACHES, files=files)
    draft.change(name, lambda state: run(draft, command, state, command.command, name=shown, role=_SCRIPT).root)
