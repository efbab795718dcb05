"""The shell text of installing from wheels alone, in pieces; `plan.wheels` says what it is for and puts it together.

Every piece is for a POSIX shell. Before them stand the function `install`, which is the installation, and the variables
`into` (the environment's folder), `work`, `cache` and `builds` (folders); `choose` and `unpack` where there are pins.
"""

from __future__ import annotations

# This text's own tools are the distribution's; the user's PATH is for `uv`.
PATHS = "user_path=$PATH PATH=/usr/sbin:/usr/bin:/sbin:/bin"

# Ends the script where nothing is done ahead: as a failure, or as a verdict.
WAITS_AND_FAILS = """\
waits() { echo "waits for the steps before it: $1"; exit %d; }"""

# What fails for another reason than that something is to be built may have written half of something: it is no good.
WAITS = """\
waits() {
  if [ -e "$tmp/log" ] && { ! grep -qF "$builds" "$tmp/log" || grep -qE '^(Uni|I)nstalled ' "$tmp/log"; }; then
    cat "$tmp/log"
    exit %d
  fi
  echo "waits for the steps before it: $1"
  told "none $1" /dev/null
}"""

TOLD = """\
told() { { echo 1; echo "$1"; cat "$2"; } >"$work/verdict"; rm -rf "$tmp"; exit 0; }"""

# Whether nothing can be built here indeed, and whether the environment is one that system packages are no part of.
CHECKS = """\
tmp=$work/tmp platform=
mkdir -p "$tmp"
grep -q " $builds [^ ]* ro[, ]" /proc/self/mounts || waits "nothing keeps uv from building"
[ "$(PATH=$user_path uv cache dir 2>/dev/null)" = "$cache" ] || waits "uv has its cache elsewhere"
# Of a `uv` that was here before, the cache tells: a look through all of it takes as long as a small installation.
uv=$(PATH=$user_path; command -v uv)
which=$(stat -Lc %%s-%%Y "$uv" 2>/dev/null)
if [ -z "$which" ] || ! [ -e "$cache/${builds##*/}-of-$which" ]; then
  LC_ALL=C grep -qF "${builds##*/}" "$uv" || waits "this version of uv builds elsewhere"
  [ -z "$which" ] || touch "$cache/${builds##*/}-of-$which" 2>/dev/null
fi
# Without isolation uv would first install some packages, to build others with them.
shared() { env | grep -q '^UV_NO_BUILD_ISOLATION' || grep -qs no-build-isolation "$@"; }
set -- /etc/uv/uv.toml /etc/xdg/uv/uv.toml "${XDG_CONFIG_HOME-$HOME/.config}/uv/uv.toml"
folder=$PWD
while :; do
  set -- "$@" "$folder/uv.toml" "$folder/pyproject.toml"
  [ "${folder:-/}" != / ] || break
  folder=${folder%%/*}
done
! shared "$@" || waits "it builds without isolation"
grep -q '^include-system-site-packages = false' "$into/pyvenv.cfg" 2>/dev/null || %s"""

# What a project's file may name besides web addresses, or look for around it, are places in the image. `backend-path`
# matters only where something is built, which is not here.
PROJECT = r"""
blank='[[:space:]]*'
named="(^|[^[:alpha:]-])path[\"']?$blank=|url[\"']?$blank="
! sed -E "s,url[\"']?$blank=$blank[\"']https?://,," pyproject.toml 2>/dev/null |
  grep -qE "workspace|find-links|$named" || waits "the project may name places in the image"
""".strip()

# Secrets that name an index have values which nobody but `uv` is to see.
UNKNOWN = """\
for name in %s; do
  eval "value=\\${$name-}"
  case $value in
  *[[:space:]]*) waits "$name may be a place in the image" ;;
  "" | http://* | https://*) ;;
  *) waits "$name may be a place in the image" ;;
  esac
done"""

SYSTEM_PYTHON = """\
"$into/bin/python" -Bc 'import sys; sys.exit("dist-packages" in "".join(sys.path))' 2>/dev/null ||
  waits "the environment takes in packages of the system\""""

NO_ENVIRONMENT = 'waits "there is no environment of its own"'

# What `uv` calls the platform: the C library is the container's, the machine is not. It knows 2.40 as the newest, which
# is no loss: wheels are made for old ones.
PLATFORM = """\
version=$("$into/bin/python" -BISc 'import sys; print("%%d.%%d.%%d" %% sys.version_info[:3])' 2>/dev/null)
grep -q "^version.* = ${version:-none}" "$into/pyvenv.cfg" || waits "the environment is of another Python"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
minor=${libc##*.}
case $libc in
"glibc 2."*)
  [ "$minor" -le 40 ] || minor=40
  platform="--python-platform %(machine)s-manylinux_2_$minor" ;;
*)
  [ -e "/lib/ld-musl-$(uname -m).so.1" ] || waits "the C library is not known"
  platform="--python-platform %(machine)s-unknown-linux-musl" ;;
esac"""

# Runs an installation and shows what it says, except for the failure that it may end with: the user is told of that by
# the installation itself, if it fails where it can build.
ATTEMPT = r"""
attempt() {
  muted=
  { "$@" 2>&1; echo "$?" >"$tmp/code"; } | while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\n' "$line" >&3
    case $line in error* | *" Failed to "* | *" No solution "*) muted=1 ;; esac
    [ -n "$muted" ] || printf '%s\n' "$line"
  done 3>"$tmp/log"
  return "$(cat "$tmp/code")"
}
culprit() { sed -n 's/.*ailed to [a-z ]*build[^`]*`\([^`@ ]*\).*/\1/p' "$tmp/log" | head -n 1; }
reason() {
  if ! grep -qF "$builds" "$tmp/log"; then echo "uv cannot tell what to install"; return; fi
  name=$(culprit)
  echo "${name:-something} has to be built"
}
added() { sed -n 's/^ [+~] \([^ ]*\).*/+ \1/p' "$tmp/log"; }
""".strip()

WHOLE = """\
attempt install $platform || waits "$(reason)\""""

WHOLE_OR_NOTHING = f"""\
{WHOLE}
added >"$tmp/list"
told all "$tmp/list\""""

# The versions are those of the whole. Their wheels are named by a lock of them, which has a wheel of a distribution
# only if it fits the environment.
PINS = r"""
if attempt install $platform; then
  added >"$tmp/list"
  told all "$tmp/list"
fi
reason=$(reason)
grep -qF "$builds" "$tmp/log" && grep -q '^Resolved' "$tmp/log" || waits "$reason"
install --dry-run $platform >"$tmp/plan" 2>&1 || waits "$reason"
{ options; sed -n 's/^ + \([^ ]*==[^ ]*\)$/\1/p' "$tmp/plan"; } >"$tmp/pins.txt"
choose $platform "$tmp/pins.txt" >"$tmp/pylock.toml" 2>/dev/null || waits "$reason"
awk '
function text(key) {
  return match($0, key " = \"[^\"]*") ? substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 4) : ""
}
function print_one() {
  if (name != "") print (wheels ? "+ " : "- ") name "==" version (wheels == 1 ? " " wheel : "")
}
/^\[\[packages\]\]/ { print_one(); name = ""; wheels = 0; within = 0 }
/^name = / { name = text("name") }
/^version = / { version = text("version") }
/^wheels = / { within = 1 }
within && /url = / {
  url = text("url"); sub(/[?#].*/, "", url); sub(/.*\//, "", url)
  size = match($0, /size = [0-9]+/) ? substr($0, RSTART + 7, RLENGTH - 7) : 0
  wheels++; wheel = url " " size " " text("sha256")
}
END { print_one() }' "$tmp/pylock.toml" >"$tmp/list"
sed -n 's/^ + \([^ ]*==[^ ]*\) .*/- \1/p' "$tmp/plan" >>"$tmp/list"
grep -q '^+' "$tmp/list" && grep -q '^-' "$tmp/list" || waits "$reason"
{ options; sed -n 's/^+ \([^ ]*\).*/\1/p' "$tmp/list"; } >"$tmp/wheels.txt"
attempt unpack $platform --requirement "$tmp/wheels.txt" || waits "$reason"
told "some $reason" "$tmp/list"
""".strip()

# The versions are the lock's, so that leaving one out changes no other.
LOCK = r"""
set --
: >"$tmp/left"
first=
until attempt install $platform "$@"; do
  name=$(culprit)
  [ -n "$first" ] || first=$(reason)
  case " $* " in *" ${name%%==*} "*) name= ;; esac
  if ! grep -qF "$builds" "$tmp/log" || [ -z "$name" ] || [ $# -ge 40 ]; then waits "$first"; fi
  set -- "$@" --no-install-package "${name%%==*}"
  echo "- $name" >>"$tmp/left"
done
added >"$tmp/list"
[ -s "$tmp/left" ] || told all "$tmp/list"
[ -s "$tmp/list" ] || waits "$first"
cat "$tmp/left" >>"$tmp/list"
told "some $first" "$tmp/list"
""".strip()
