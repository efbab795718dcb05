user_path=$PATH PATH=/usr/sbin:/usr/bin:/sbin:/bin
install() { PATH=$user_path uv pip install --python $UV_PYTHON six "$@"; }
into=${UV_PYTHON%/bin/*} work=/dev/buildkit-builder cache=/root/.cache/uv builds=/root/.cache/uv/builds-v0
waits() { echo "waits for the steps before it: $1"; exit 75; }
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
attempt install $platform || waits "$(reason)"
