"""Whether the steps that an installation ahead did not see would have steered it: a check, as shell text.

An installation that runs beside the steps before it sees a tree without their work. What it does is what the written
order would have made of it only if all that it reads is the same in both trees. What it reads is known: the settings of
`uv`, what its variables name, the programs that are run, the interpreter, the environment itself. The check compares
just these, on the daemon, by content and with links followed in each tree, before anything of the build is used. It
knows nothing of which steps there were, so that a package that brings settings is found as well as a copied file is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from buildkit_builder.image.plan import steering_script as script

# Where the tree is mounted that the written order gives.
AFTER = "/dev/buildkit-builder-after"
# Where that is mounted which the branch forks off from, if the container is of another platform.
BEFORE = "/dev/buildkit-builder-before"
# What the check, and whatever is tried ahead, ends with if it has to follow the steps before it.
FOLLOWS = 75

_LEADS = script.LEADS % FOLLOWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What an installation reads.

    Attributes:
        settings: Files of settings, which may name other places: where there is one, nothing is ahead.
        cwd: The working directory in the written order, which is looked through for settings, and so are all above it.
        is_project: Whether a project is installed: then `uv` reads all of any project's file that it finds there.
        places: Files and directories.
        programs: What is run, by name or by path.
        home: The environment that it writes to; empty where there is none yet.
        mounts: Where its container's start mounts something, by absolute paths.
        files: The same, of files that are mounted into the working directory.
        directories: The same, of directories.
    """

    settings: tuple[str, ...]
    cwd: str
    is_project: bool
    places: tuple[str, ...]
    programs: tuple[str, ...]
    home: str = ""
    mounts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


def check(reads: Reads, *, foreign: bool) -> str:
    """Text for a POSIX shell that ends with `FOLLOWS` if an installation has to follow the steps before it.

    It runs in the tree that the installation sees, without its work, and wants the tree of the written order at
    `AFTER`.

    Args:
        reads: What is compared.
        foreign: Whether the container is of another platform than the trees, and has nothing of the image; what the
            installation sees of the image is then at `BEFORE`.
    """
    lines = ["set -e", script.TOOLS, f"seen={BEFORE if foreign else ''}", _LEADS, script.COMPARE % AFTER]
    # In a project's file any word about `uv` may be a setting.
    mark = "''" if reads.is_project else "uv"
    lines += [
        f"no_settings_above {shlex.quote(reads.cwd)} {mark}",
        *_each("no_settings", reads.settings, " ''"),
        *_each("same", reads.places),
        *_each("no_directory", reads.files),
        *_each("no_file", reads.directories),
    ]
    for program in reads.programs:
        lines += [*_each("same_place" if "/" in program else "same_program", [program]), 'same "$program"']
    if reads.home:
        lines += [script.INTERPRETER, f"home={shlex.quote(reads.home)}", script.PLAIN, 'plain "$after"']
        lines.append(script.ENVIRONMENT)
        lines += _each("above", reads.mounts)
    return "\n".join(lines)


def check_targets(targets: Iterable[str], home: str, *, root: str = "") -> str:
    """Text that ends with `FOLLOWS` if one of the places that are written to is in an environment, or above it.

    What is put there comes after what is installed, so that the directories of both have their owner from the first.

    Args:
        targets: The places, as absolute paths.
        home: The environment.
        root: Where the tree is that the places are in, before anything is written.
    """
    lines = ["set -e", script.TOOLS, _LEADS, f"home={shlex.quote(home)}", script.PLAIN, f"plain {shlex.quote(root)}"]
    return "\n".join([*lines, *_each(f"target {shlex.quote(root)}", targets)])


def linked(command: str) -> str:
    """A command that makes an environment in another platform's container, and what has to hold after it.

    Ends with `FOLLOWS` where the image, which is mounted at `AFTER`, has no interpreter where the environment looks
    for it.
    """
    return "\n".join([f"{{ {command}; }} || exit {FOLLOWS}", script.TOOLS, _LEADS, script.LINKED % AFTER])


def distinct(places: Iterable[str]) -> tuple[str, ...]:
    """Places, each once, in their order."""
    return tuple(dict.fromkeys(places))


def _each(function: str, places: Iterable[str], more: str = "") -> list[str]:
    return [f"{function} {shlex.quote(place)}{more}" for place in places]
