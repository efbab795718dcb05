# Sourced by the other scripts: the virtual environment they run in, from nothing on a bare Debian.
#
# BUILDKIT_BUILDER_VENV    where it is (default: .venv in the repository)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${BUILDKIT_BUILDER_VENV:-$ROOT/.venv}
EXTRAS=flyte,test,lint
# A resolver that loses a question now and then is asked again after a second, and not after five.
export RES_OPTIONS=${RES_OPTIONS:-timeout:1 attempts:5}

# The script that was started, as the first word of what it says.
NAME=$(basename "$0")
say() { printf '%s: %s\n' "$NAME" "$*"; }
die() { printf '%s: %s\n' "$NAME" "$*" >&2; exit 1; }

# Debian packages for the commands (or Python modules) that the machine lacks, and only for those.
need_machine() {
  local missing=()
  command -v python3 >/dev/null || missing+=(python3)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  command -v git >/dev/null || missing+=(git)
  command -v curl >/dev/null || missing+=(curl)
  command -v openssl >/dev/null || missing+=(openssl)
  [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -n "${SSL_CERT_FILE:-}" ] || missing+=(ca-certificates)
  if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "missing on this machine: ${missing[*]}"
    [ "$(id -u)" = 0 ] || die "missing on this machine; as root: apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
  fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "python3 is $(python3 -V); 3.10 is the oldest that does"
}

# What tests make a disk with that knows no case, as those of macOS: a file system of a user's program.
need_disks() {
  if command -v lowntfs-3g >/dev/null; then return; fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "missing on this machine; as root: apt-get install ntfs-3g"
  fi
  say "installing ntfs-3g"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends ntfs-3g >/dev/null
}

# A virtual environment of a Python, with this package, some of its extras, and what else is named; made again when
# pyproject.toml changes.
make_venv() {
  local venv=$1 python=$2 extras=$3 want
  shift 3
  want="$(sha256sum "$ROOT/pyproject.toml" | cut -d' ' -f1) $("$python" -V) $extras $*"
  mkdir -p "$venv"
  # Scripts that start at once wait for the first one.
  (
    flock 8
    if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$want" ] && "$venv/bin/python" -c 'import buildkit_builder' 2>/dev/null; then
      exit 0
    fi
    say "installing into $venv"
    # What an older pyproject.toml named must not linger.
    rm -rf "${venv:?}"/bin "$venv"/lib* "$venv"/include
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable "${ROOT}[$extras]" "$@"
    echo "$want" >"$venv/.stamp"
  ) 8>"$venv/.lock"
}

# The environment of the scripts themselves, first on PATH.
enter_venv() {
  # Who has activated it would otherwise have it made anew by the Python that is about to be removed.
  PATH=${PATH//"$VENV/bin:"/}
  hash -r
  need_machine
  make_venv "$VENV" python3 "$EXTRAS"
  PATH=$VENV/bin:$PATH
  export PATH
}
