user_path=$PATH PATH=/usr/sbin:/usr/bin:/sbin:/bin
install() { PATH=$user_path TMPDIR=$tmp uv sync --active --inexact --locked "$@"; }
into=${VIRTUAL_ENV-/opt/venv} work=/dev/buildkit-builder cache=/root/.cache/uv builds=/root/.cache/uv/builds-v0
told() { { echo 1; echo "$1"; cat "$2"; } >"$work/verdict"; rm -rf "$tmp"; exit 0; }
waits() {
  if [ -e "$tmp/log" ] && { ! grep -qF "$builds" "$tmp/log" || grep -qE '^(Uni|I)nstalled ' "$tmp/log"; }; then
    cat "$tmp/log"
    exit 75
  fi
  echo "waits for the steps before it: $1"
  told "none $1" /dev/null
}
tmp=$work/tmp platform=
mkdir -p "$tmp"
grep -q " $builds [^ ]* ro[, ]" /proc/self/mounts || waits "nothing keeps uv from building"
[ "$(PATH=$user_path uv cache dir 2>/dev/null)" = "$cache" ] || waits "uv has its cache elsewhere"
# Of a `uv` that was here before, the cache tells: a look through all of it takes as long as a small installation.
uv=$(PATH=$user_path; command -v uv)
which=$(stat -Lc %s-%Y "$uv" 2>/dev/null)
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
  folder=${folder%/*}
done
! shared "$@" || waits "it builds without isolation"
grep -q '^include-system-site-packages = false' "$into/pyvenv.cfg" 2>/dev/null || "$into/bin/python" -Bc 'import sys; sys.exit("dist-packages" in "".join(sys.path))' 2>/dev/null ||
  waits "the environment takes in packages of the system"
blank='[[:space:]]*'
named="(^|[^[:alpha:]-])path[\"']?$blank=|url[\"']?$blank="
! sed -E "s,url[\"']?$blank=$blank[\"']https?://,," pyproject.toml 2>/dev/null |
  grep -qE "workspace|find-links|$named" || waits "the project may name places in the image"
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
