"""Installing Python packages ahead of what stands before them: as far as nothing has to be built for it.

In the user's order an installation waits for the system packages before it, since a compiler may be needed. It need
not wait for them where every distribution is there as a wheel. Which ones are wanted only `uv` can say, and if it is
asked for wheels alone it takes an older release for want of one. So it is given the command as it is, in a place where
nothing can be built: the folder that `uv` builds in is read-only there. A command that succeeds did all that it would
have done anywhere; one that comes upon something to build stops before it has installed anything.

What that leaves can be done in part: the distributions that have wheels, at the versions that were chosen. The command
itself, run later where all is there, then finds them installed and adds the rest.

For a foreign platform the same is done by the machine's own programs, in the platform's environment: it is made of
links and text, and bytecode is the same everywhere.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Literal

from buildkit_builder.image.plan import wheel_script as script
from buildkit_builder.image.plan.requirements import objection_to, read_arguments, read_requirements
from buildkit_builder.image.plan.steering import FOLLOWS
from buildkit_builder.image.plan.variables import can_read, named_in
from buildkit_builder.image.spec import PipLayer, PipOptions, RequirementsLayer, UvProjectLayer, WheelLayer

WORK_FOLDER = "/dev/buildkit-builder"
UV_CACHE = "/root/.cache/uv"
NO_BUILDS = f"{UV_CACHE}/builds-v0"
# Ends the name of a step that is tried ahead, for people; its role says so to programs.
AHEAD = " (wheels)"
# By the architecture of a platform, the machine as `uv` names it. For others it knows no platforms.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

_LOCKED = frozenset(["--frozen", "--locked"])

PythonLayer = PipLayer | RequirementsLayer | UvProjectLayer | WheelLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """How an installation can be done ahead.

    The text wants three mounts: a writable folder at `WORK_FOLDER`, an empty read-only folder at `NO_BUILDS`, and the
    cache of the installation at `UV_CACHE`. Without the second nothing is done ahead.

    Attributes:
        install: The installation, as it is run in the user's order.
        parts: How a part of it is found: from the versions that `uv pip` chooses (`pins`), by what `uv sync` may leave
            out (`lock`), or not at all.
        options: Of the installation, where there are `pins`: what decides which distributions are taken.
        lines: The same, of its requirements file.
        places: Variables that stand for a whole place, as that of an index.
        text: All besides the installation that `uv` may put variables into; `None` where that is not known.
    """

    install: str
    parts: Literal["pins", "lock", "none"] = "none"
    options: str = ""
    lines: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    text: str | None = ""

    def command(self, *, all_of_it: bool, architecture: str = "", unknown: tuple[str, ...] = ()) -> str:
        """Text for a POSIX shell that installs what needs nothing but wheels.

        Args:
            all_of_it: Fail with `FOLLOWS`, and nothing installed, if that is not all. Otherwise the text succeeds
                unless `uv` failed for another reason than that something is to be built, and says in the file
                `verdict` in `WORK_FOLDER` what it did, for whoever looks into it.
            architecture: Of the platform, where it is not the container's; one of `MACHINES`.
            unknown: Variables that have to name web addresses, and whose values are secret.
        """
        into = "${VIRTUAL_ENV-/opt/venv}" if self.parts == "lock" else "${UV_PYTHON%/bin/*}"
        pieces = [
            script.PATHS,
            f'install() {{ PATH=$user_path {self.install} "$@"; }}',
            f"into={into} work={WORK_FOLDER} cache={UV_CACHE} builds={NO_BUILDS}",
            script.WAITS_AND_FAILS % FOLLOWS if all_of_it else f"{script.TOLD}\n{script.WAITS % FOLLOWS}",
            script.CHECKS % (script.NO_ENVIRONMENT if architecture else script.SYSTEM_PYTHON),
        ]
        if self.parts == "lock":
            pieces.append(script.PROJECT)
        if unknown:
            pieces.append(script.UNKNOWN % " ".join(unknown))
        if architecture:
            pieces.append(script.PLATFORM % {"machine": MACHINES[architecture]})
        pieces.append(script.ATTEMPT)
        if all_of_it:
            pieces.append(script.WHOLE)
        elif self.parts == "pins":
            pieces += [self._pins(), script.PINS]
        else:
            pieces.append(script.LOCK if self.parts == "lock" else script.WHOLE_OR_NOTHING)
        return "\n".join(pieces)

    def reads(self, variable: str) -> bool:
        """Whether the text, or what it runs, can read a variable of this name."""
        if self.text is None:
            return True
        return can_read(variable) or variable in named_in(self.install, self.text)

    def _pins(self) -> str:
        options = f" {self.options}" if self.options else ""
        lines = " ".join(["printf '%s\\n'", *map(shlex.quote, self.lines)]) if self.lines else ":"
        return (
            f"choose() {{ PATH=$user_path uv pip compile --python $UV_PYTHON{options} --no-deps --no-header --quiet "
            '--format pylock.toml "$@"; }\n'
            f'unpack() {{ PATH=$user_path uv pip install --python $UV_PYTHON{options} --no-deps --no-build "$@"; }}\n'
            f"options() {{ {lines}; }}"
        )


def objection(layer: PythonLayer) -> str | None:
    """Why an installation is not tried ahead, or `None` where it is worth a try.

    It is not where something may be read that other steps put there, where it is certain that something is built, and
    where it cannot be told.
    """
    found = read_arguments(" ".join(layer.options.arguments()), syncs=isinstance(layer, UvProjectLayer)).objection
    if found is not None:
        return found
    if isinstance(layer, PipLayer):
        return next(filter(None, map(objection_to, layer.packages)), None)
    if isinstance(layer, RequirementsLayer):
        return read_requirements(layer.content).objection
    if isinstance(layer, WheelLayer):
        return objection_to(layer.package)
    if layer.project is not None:
        return "a project is always built"
    return "there is no lock" if layer.lock is None else None


def wheels(layer: PythonLayer, install: str) -> Wheels | None:
    """How the installation of a layer can be done ahead, or `None`; see `objection`.

    Args:
        layer: The layer.
        install: The installation, or one of several that the layer consists of, as shell text.
    """
    if objection(layer) is not None:
        return None
    if isinstance(layer, UvProjectLayer):
        # The lock that it leaves in `/tmp` is named by the project's place, which is another one here.
        install = f"TMPDIR=$tmp {install}"
    places = read_arguments(" ".join(layer.options.arguments()), syncs=isinstance(layer, UvProjectLayer)).places
    if isinstance(layer, UvProjectLayer):
        # With a lock that is not up to date, `uv` would ask the indexes that the project's file names, and that may be
        # places in the image. That file may name variables too, and is not known here.
        if not _LOCKED & set((layer.options.extra_args or "").split()):
            install = f"{install} --locked"
        return Wheels(install=install, parts="lock", places=places, text=None)
    if isinstance(layer, WheelLayer):
        return Wheels(install=install, places=places)
    options = " ".join(layer.options.arguments())
    arguments = read_arguments(options)
    if isinstance(layer, PipLayer):
        parts: Literal["pins", "none"] = "pins" if arguments.choosing else "none"
        return Wheels(install=install, parts=parts, options=options, places=arguments.places)
    file = read_requirements(layer.content)
    # Hashes are checked when something is installed, and not of what is there.
    has_pins = arguments.choosing and not file.hashes
    return Wheels(
        install=install,
        parts="pins" if has_pins else "none",
        options=options,
        lines=file.options,
        places=(*arguments.places, *file.places),
        text=layer.content.decode(),
    )


def dependencies(layer: UvProjectLayer) -> UvProjectLayer | None:
    """Of a project that is installed itself, what comes before it: its dependencies, as its lock has them.

    To be installed ahead as a part, and followed by the project in any case. They need the project's file and its lock,
    and so do not change with its sources. `None` without a lock: what is chosen might then be something else.
    """
    if layer.project is None or layer.lock is None:
        return None
    words = [layer.options.extra_args or ""]
    if not _LOCKED & set(words[0].split()):
        words.append("--locked")
    options: PipOptions = replace(layer.options, extra_args=" ".join(filter(None, words)))
    return replace(layer, project=None, options=options)
