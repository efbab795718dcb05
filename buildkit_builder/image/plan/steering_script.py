"""The shell text of the check of an installation ahead, in pieces; `plan.steering` says what it is for.

Every piece is for a POSIX shell with the tools of a distribution; where one is missing, the text fails, and the
installation is not ahead.
"""

from __future__ import annotations

# This text's own tools are the distribution's, whatever is on the user's PATH.
TOOLS = "path=${path-$PATH} PATH=/usr/sbin:/usr/bin:/sbin:/bin"

# `leads ROOT PATH` sets `found` to where a path leads to in a tree, without the root.
LEADS = r"""
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

# `seen` is the root of the tree that the installation saw of the image, `after` that of the written order.
COMPARE = r"""
after=%s
for tool in cksum cmp diff find grep head readlink sed sort stat; do
  command -v "$tool" >/dev/null || follows "there is no $tool to compare with"
done
find / -maxdepth 0 -printf '' 2>/dev/null || follows "find cannot say what it finds"
same() {
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
}
same_place() {
  leads "$seen" "$1"
  here=$found
  leads "$after" "$1"
  [ "$here" = "$found" ] || follows "$1 leads to another place"
  program=$found
}
first_program() {
  rest_of_path=$path:
  program=
  while [ -n "$rest_of_path" ] && [ -z "$program" ]; do
    leads "$1" "${rest_of_path%%%%:*}/$2"
    if [ -f "$1$found" ] && [ -x "$1$found" ]; then program=$found; fi
    rest_of_path=${rest_of_path#*:}
  done
}
same_program() {
  first_program "$seen" "$1"
  here=$program
  first_program "$after" "$1"
  [ "$here" = "$program" ] || follows "another $1"
}
# What settings name cannot be told without reading them as uv does; and those that are gone would have been read.
no_settings() {
  for tree in '' "$seen" "$after"; do
    leads "$tree" "$1"
    case $1 in
    */uv.toml) [ ! -e "$tree$found" ] || follows "$1 has settings" ;;
    *) if [ -e "$tree$found" ] && grep -qs "$2" "$tree$found"; then follows "$1 has settings"; fi ;;
    esac
  done
}
no_settings_above() {
  leads "$after" "$1"
  [ -d "$after$found" ] || follows "the working directory is not there"
  place=${found%%/}
  while :; do
    no_settings "$place/uv.toml" ''
    no_settings "$place/pyproject.toml" "$2"
    [ -n "$place" ] || break
    place=${place%%/*}
  done
}
listed() {
  cd "$1" 2>/dev/null || return 0
  find . '(' -type d -printf '%%p %%m %%U %%G\n' ')' -o -printf "%%p %%y %%m %%U %%G %%s %%T@ %%l$2\\n" | sort | cksum
}
contents() { cd "$1" && find . -type f -exec cksum {} + | sort | cksum; }
# The same inodes are the same files; others may be.
same_tree() {
  [ "$(listed "$1" '')" = "$(listed "$2" '')" ] || follows "what is in $3"
  [ "$(listed "$1" ' %%i')" = "$(listed "$2" ' %%i')" ] ||
    [ "$(contents "$1")" = "$(contents "$2")" ] || follows "what is in $3"
}
no_file() { leads "$after" "$1"; [ ! -e "$after$found" ] || [ -d "$after$found" ] || follows "$1 is a file"; }
no_directory() { leads "$after" "$1"; [ ! -d "$after$found" ] || follows "$1 is a directory"; }
root() { sed -n '/^[^:]*:[^:]*:0:/p' "$1/etc/passwd" 2>/dev/null | head -n 1; }
[ "$(root "$seen")" = "$(root "$after")" ] || follows "root is another user"
""".strip()

INTERPRETER = r"""
same "$UV_PYTHON"
blank=$IFS IFS='
'
library=${found%/bin/*}/lib
for directory in "$seen$library"/python3.* "$after$library"/python3.*; do
  directory=${directory#"$after"}
  directory=${directory#"$seen"}
  same_place "$directory"
  same_tree "$seen$program" "$after$program" "$directory"
  # As Debian has what Python loads at its start in /etc.
  for link in $(find "$after$program" -type l); do
    same "${link#"$after"}"
  done
done
IFS=$blank
""".strip()

# A container's start makes the directories of its mounts, and a layer says whose every directory above its files is.
ENVIRONMENT = r"""
owner() { stat -c '%F %a %u %g' "$1${2:-/}" 2>/dev/null || :; }
above() {
  place=$1
  while :; do
    [ "$(owner "$seen" "$place")" = "$(owner "$after" "$place")" ] || follows "the owner or mode of ${place:-/}"
    [ -n "$place" ] || break
    place=${place%/*}
  done
}
above "$home"
above /tmp
same_tree "$seen$home" "$after$home" "$home"
# A line in such a file may name a directory, or run anything, in each start of the interpreter.
for file in "$after$home"/lib/python*/site-packages/*.pth; do
  case ${file##*/} in _virtualenv.pth | distutils-precedence.pth | '*.pth') continue ;; esac
  ! grep -qs '[^[:space:]]' "$file" || follows "${file#"$after"} names what the interpreter reads"
done
""".strip()

# All of an environment is in its directory, and that is no link: so what is written to either is known by its path.
PLAIN = r"""
plain() {
  leads "$1" "$home"
  [ "$found" = "$home" ] || follows "$home is a link"
  find "$1$home" -type l >/dev/buildkit-builder-links
  while IFS= read -r link; do
    leads "$1" "${link#"$1"}"
    case $found in "$home"/*) continue ;; esac
    [ ! -d "$1$found" ] || follows "${link#"$1"} leads out of $home"
  done </dev/buildkit-builder-links
}
target() {
  leads "$1" "$2"
  case $found/ in "$home"/*) follows "$2 leads into $home" ;; esac
  case $home/ in "${found%/}"/*) follows "$2 leads to a directory above $home" ;; esac
}
""".strip()

# An environment that another platform's container has made is of use only if the image has the interpreter, too.
LINKED = r"""
leads "" "$UV_PYTHON"
[ -f "%s$found" ] || follows "the image has no interpreter at $found"
""".strip()
