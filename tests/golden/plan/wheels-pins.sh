user_path=$PATH PATH=/usr/sbin:/usr/bin:/sbin:/bin
install() { PATH=$user_path uv pip install --python $UV_PYTHON --upgrade --requirement requirements.txt "$@"; }
into=${UV_PYTHON%/bin/*} work=/dev/buildkit-builder cache=/root/.cache/uv builds=/root/.cache/uv/builds-v0
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
grep -q '^include-system-site-packages = false' "$into/pyvenv.cfg" 2>/dev/null || waits "there is no environment of its own"
version=$("$into/bin/python" -BISc 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
grep -q "^version.* = ${version:-none}" "$into/pyvenv.cfg" || waits "the environment is of another Python"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
minor=${libc##*.}
case $libc in
"glibc 2."*)
  [ "$minor" -le 40 ] || minor=40
  platform="--python-platform aarch64-manylinux_2_$minor" ;;
*)
  [ -e "/lib/ld-musl-$(uname -m).so.1" ] || waits "the C library is not known"
  platform="--python-platform aarch64-unknown-linux-musl" ;;
esac
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
choose() { PATH=$user_path uv pip compile --python $UV_PYTHON --upgrade --no-deps --no-header --quiet --format pylock.toml "$@"; }
unpack() { PATH=$user_path uv pip install --python $UV_PYTHON --upgrade --no-deps --no-build "$@"; }
options() { printf '%s\n' '--extra-index-url https://example.com/simple'; }
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
