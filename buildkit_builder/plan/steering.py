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

# Where the tree is mounted that the written order gives.
AFTER = "/dev/buildkit-builder-after"
# Where that is mounted which the branch forks off from, if the container is of another platform.
BEFORE = "/dev/buildkit-builder-before"
# What the check, and whatever is tried ahead, ends with if it has to follow the steps before it.
FOLLOWS = 75

# This text's own tools are the distribution's, whatever is on the user's PATH.
_TOOLS = "path=${path-$PATH} PATH=/usr/sbin:/usr/bin:/sbin:/bin"
# `leads ROOT PATH` sets `found` to where a path leads to in a tree, without the root.
_LEADS = (
    r"""
follows() { echo "follows the steps before it: $1"; exit %d; }
leads() {
  rest=$2 at= hops=0
  while :; do
    while [ "${rest#/}" != "$rest" ]; do rest=${rest#/}; done
    [ -n "$rest" ] || break
    part=${rest%%%%/*}
    case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
    case $part in
    .) continue ;;
    ..) at=${at%%/*}; continue ;;
    esac
    if [ -L "$1$at/$part" ]; then
      hops=$((hops + 1))
      [ "$hops" -lt 40 ] || follows "$2 is a link without end"
      link=$(readlink "$1$at/$part")
      case $link in /*) at= ;; esac
      rest=$link/$rest
    else
      at=$at/$part
    fi
  done
  found=${at:-/}
}
""".strip()
    % FOLLOWS
)

_COMPARE = rf"""
after={AFTER}
same() {{
  leads "$seen" "$1"
  here=$found
  leads "$after" "$1"
  [ "$here" = "$found" ] || follows "$1 leads to another place"
  case $found in / | /dev | /dev/* | /proc | /proc/* | /sys | /sys/*) follows "$1 is more than can be compared" ;; esac
  if [ -f "$seen$here" ] && [ -f "$after$found" ]; then
    cmp -s "$seen$here" "$after$found" || follows "$1"
  elif [ -d "$seen$here" ] && [ -d "$after$found" ]; then
    diff -rq --no-dereference "$seen$here" "$after$found" >/dev/null || follows "$1"
  elif [ -e "$seen$here" ] || [ -e "$after$found" ]; then
    follows "$1"
  fi
}}
# What settings name cannot be told without reading them as uv does.
no_settings() {{
  leads "$after" "$1"
  if [ -e "$after$found" ] && grep -qs "$2" "$after$found"; then follows "$1 has settings"; fi
}}
directory() {{
  leads "$after" "$1"
  [ -d "$after$found" ] || follows "the working directory is not there"
}}
program() {{
  rest_of_path=$path:
  program=
  while [ -n "$rest_of_path" ] && [ -z "$program" ]; do
    leads "$1" "${{rest_of_path%%:*}}/$2"
    if [ -f "$1$found" ] && [ -x "$1$found" ]; then program=$found; fi
    rest_of_path=${{rest_of_path#*:}}
  done
}}
same_program() {{
  program "$seen" "$1"
  here=$program
  program "$after" "$1"
  [ "$here" = "$program" ] || follows "another $1"
}}
leads_same() {{
  leads "$seen" "$1"
  here=$found
  leads "$after" "$1"
  [ "$here" = "$found" ] || follows "$1 leads to another place"
  program=$found
}}
root() {{ sed -n '/^[^:]*:[^:]*:0:/p' "$1/etc/passwd" 2>/dev/null | head -n 1; }}
[ "$(root "$seen")" = "$(root "$after")" ] || follows "root is another user"
""".strip()

_INTERPRETER = r"""
same "$UV_PYTHON"
library=${found%/bin/*}/lib
for file in "$library"/python3.*/sitecustomize.py "$library"/python3.*/usercustomize.py "$library"/python3.*/site.py \
  "$after$library"/python3.*/sitecustomize.py "$after$library"/python3.*/usercustomize.py; do
  same "${file#"$after"}"
done
""".strip()

# A container's start makes the directories of its mounts; and a layer says whose every directory above its files is.
_ENVIRONMENT = r"""
owner() { stat -c '%F %a %u %g' "$1${2:-/}" 2>/dev/null || :; }
above() {
  place=$1
  while :; do
    [ "$(owner "$before" "$place")" = "$(owner "$after" "$place")" ] || follows "the owner or mode of ${place:-/}"
    [ -n "$place" ] || break
    place=${place%/*}
  done
}
tree() {
  cd "$1$home"
  find . '(' -type d -printf '%p %m %U %G\n' ')' -o -printf '%p %y %m %U %G %s %T@ %l\n' | sort | cksum
}
leads "$after" "$home"
[ "$found" = "$home" ] || follows "$home is a link"
above "$home"
above /tmp
[ "$(tree "$before")" = "$(tree "$after")" ] || follows "what is in $home"
""".strip()

_TARGET = r"""
target() {
  leads "$1" "$2"
  case $found/ in "$home"/*) follows "$2 leads into $home" ;; esac
  case $home/ in "${found%/}"/*) follows "$2 leads to a folder of $home" ;; esac
}
""".strip()

# An environment that another platform's container has made is of use only if the image has the interpreter, too.
_LINKED = rf"""
leads "" "$UV_PYTHON"
[ -f "{AFTER}$found" ] || follows "the image has no interpreter at $found"
""".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What an installation reads.

    Attributes:
        settings: Files of settings, which may name other places: where there is one, nothing is ahead.
        is_project: Whether a project is installed: then `uv` reads all of any project's file above it.
        cwd: The working directory in the written order, which a container's start makes where it is missing.
        places: Files and directories.
        programs: What is run, by name or by path.
        home: The environment that it writes to; empty where there is none yet.
        mounts: What its container's start mounts, which must be as well possible there as in the written order.
    """

    settings: tuple[str, ...]
    is_project: bool
    cwd: str
    places: tuple[str, ...]
    programs: tuple[str, ...]
    home: str = ""
    mounts: tuple[str, ...] = ()


def check(reads: Reads, *, foreign: bool) -> str:
    """Text for a POSIX shell that ends with `FOLLOWS` if an installation has to follow the steps before it.

    It runs in the tree that the installation sees, without its work, and wants the tree of the written order at
    `AFTER`. Where a tool is missing that it needs, it fails as well.

    Args:
        reads: What is compared.
        foreign: Whether the container is of another platform than the trees, so that programs differ in any case; the
            image's own tree is then at `BEFORE`.
    """
    lines = ["set -e", _TOOLS, "seen= before=" + (BEFORE if foreign else ""), _LEADS, _COMPARE]
    # In a project's file any word about `uv` may be a setting.
    marks = {
        file: "uv" if file.endswith("pyproject.toml") and not reads.is_project else "''" for file in reads.settings
    }
    lines += [f"no_settings {shlex.quote(file)} {mark}" for file, mark in marks.items()]
    lines.append(f"directory {shlex.quote(reads.cwd)}")
    lines += [f"same {shlex.quote(place)}" for place in reads.places]
    for program in reads.programs:
        lines.append(f"{'leads_same' if '/' in program else 'same_program'} {shlex.quote(program)}")
        if not foreign:
            lines.append('same "$program"')
    if not foreign:
        lines.append(_INTERPRETER)
    if reads.home:
        lines += [f"home={shlex.quote(reads.home)}", _ENVIRONMENT]
        lines += [f"above {shlex.quote(target)}" for target in reads.mounts]
    return "\n".join(lines)


def check_targets(targets: Iterable[str], home: str, *, root: str = "") -> str:
    """Text that ends with `FOLLOWS` if one of the places that are written to is in an environment, or above it.

    What is put there comes after what is installed, so that the folders of both have their owner from the first.

    Args:
        targets: The places, as absolute paths.
        home: The environment.
        root: Where the tree is that the places are in, before anything is written.
    """
    lines = ["set -e", _TOOLS, _LEADS, f"home={shlex.quote(home)}", _TARGET]
    return "\n".join([*lines, *(f"target {shlex.quote(root)} {shlex.quote(target)}" for target in targets)])


def linked(command: str) -> str:
    """A command that makes an environment in another platform's container, and what has to hold after it.

    Ends with `FOLLOWS` where the image, which is mounted at `AFTER`, has no interpreter where the environment looks
    for it.
    """
    return "\n".join([f"{{ {command}; }} || exit {FOLLOWS}", _TOOLS, _LEADS, _LINKED])


def distinct(places: Iterable[str]) -> tuple[str, ...]:
    """Places, each once, in their order."""
    return tuple(dict.fromkeys(places))
