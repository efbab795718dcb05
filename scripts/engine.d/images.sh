# shellcheck shell=bash
# The base images, made and put into the engine's own store. Sourced by ../engine.

ca_bundle() {
  local file
  for file in "${SSL_CERT_FILE:-}" "${PIP_CERT:-}" "${REQUESTS_CA_BUNDLE:-}" /etc/ssl/certs/ca-certificates.crt; do
    if [ -s "$file" ]; then echo "$file" && return; fi
  done
}

index_url() { echo "${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}"; }

# bookworm or trixie, with Python or bare, as a tar per platform. Made once.
rootfs() {
  local name=$1 suite=$2 arch=$3 dir=$DIR/rootfs/$1 options=() packages slim
  if [ -f "$dir/$arch.tar" ]; then return; fi
  mkdir -p "$dir" "$DIR/apt/$suite" "$DIR/tmp"
  sources_for "$suite" >"$DIR/apt/$suite/image.list"
  # The machine's proxy, and its leniency towards a mirror's age, hold for the image as well.
  mapfile -t options < <(apt-config dump --format='--aptopt=%F "%v"%n' |
    grep -E '^--aptopt=Acquire::(https?::Proxy|Check-(Date|Valid-Until)) ')
  if [[ $name == python-* ]]; then
    # As in the python images: python and pip in /usr/local/bin, and pip free to install. Where they would be compiled
    # in an emulator, which takes minutes, there is no pip: uv installs.
    packages=python3,ca-certificates
    if [ "$arch" = "$(dpkg --print-architecture)" ]; then packages+=,python3-venv,python3-pip; fi
    # shellcheck disable=SC2016
    options+=("--include=$packages"
      --customize-hook='for name in python python3 pip pip3; do ln -sf "/usr/bin/${name%3}3" "$1/usr/local/bin/$name"; done'
      --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED')
  fi
  # Without manuals and translations, now and for what is installed on top, as in the slim images.
  # shellcheck disable=SC2016
  slim='cd "$1" && printf "path-exclude /usr/share/%s/*\n" man info locale >etc/dpkg/dpkg.cfg.d/slim &&
    rm -rf usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/doc/*/changelog*'
  # An emulated processor's pointer authentication is slow where it is not the emulator's own.
  export QEMU_CPU=max,pauth-impdef=on TMPDIR=$DIR/tmp
  patiently mmdebstrap --quiet --variant=minbase --mode=root --arch="$arch" \
    --skip=check/qemu,output/dev --aptopt='Acquire::Retries "3"' --customize-hook="$slim" "${options[@]}" \
    "$suite" "$dir/$arch.part.tar" "$DIR/apt/$suite/image.list" >"$DIR/log/$name-$arch.log" 2>&1 ||
    { tail -n 20 "$DIR/log/$name-$arch.log" >&2 && die "the bootstrap of $name for $arch failed"; }
  mv "$dir/$arch.part.tar" "$dir/$arch.tar"
}

stamp() { echo "$DIR/images/${1//[\/:]/_}"; }

# The platforms of an image: all for those that builds for a foreign one are tested with, the machine's for the others.
platforms_of() {
  case ${BUILDKIT_BUILDER_ENGINE_PLATFORMS:-}$1 in
    python:3.11-* | "$UV_IMAGE") echo "$PLATFORMS" ;;
    *) echo "${BUILDKIT_BUILDER_ENGINE_PLATFORMS:-${PLATFORMS%% *}}" ;;
  esac
}

# In the engine with all wanted platforms? An engine that is not ours may have pulled it itself.
has_image() {
  local platform
  grep -qxF "$1" <<<"$IMAGES" || return 1
  if [ -n "$BESIDE" ] || ! pid_of dockerd >/dev/null; then return 0; fi
  for platform in $(platforms_of "$1"); do
    grep -qw "$platform" "$(stamp "$1")" 2>/dev/null || return 1
  done
}

build_image() {
  local name=$1 ca started=$SECONDS options=() platforms
  platforms=$(platforms_of "$name")
  shift
  ca=$(ca_bundle)
  INDEX=$(index_url)
  export INDEX
  # Secrets: neither belongs in an image, and the index may carry a password.
  if [ -n "$ca" ]; then options+=(--secret "id=ca,src=$ca"); fi
  if [ -n "$INDEX" ]; then options+=(--secret "id=index,env=INDEX"); fi
  docker buildx build --builder default --quiet --provenance=false --platform "linux/${platforms// /,linux/}" \
    "${options[@]}" --tag "$name" "$@" >"$DIR/log/build.log" 2>&1 ||
    { tail -n 40 "$DIR/log/build.log" >&2 && die "the build of $name failed"; }
  mkdir -p "$DIR/images" && echo "$platforms" >"$(stamp "$name")"
  say "made $name ($((SECONDS - started)) s)"
}

# The bootstrapped Debian under an image: its name, and the suite it is made from.
rootfs_of() {
  case $1 in
    python:3.11-*) echo python-3.11 bookworm ;;
    # Debian 12 has no Python 3.13; trixie has.
    python:3.13-*) echo python-3.13 trixie ;;
    debian:*) echo debian-bookworm bookworm ;;
  esac
}

# The version is read from the package database in the tar.
python_version() {
  tar -xOf "$1" ./var/lib/dpkg/status |
    awk '$1 == "Package:" {p = $2} $1 == "Version:" && p == "python3" {sub(/-.*/, "", $2); print $2}'
}

make_image() {
  local name=$1 python rootfs version=''
  case $name in
    python:* | debian:*)
      read -r rootfs _ < <(rootfs_of "$name")
      if [[ $name == python:* ]]; then version=$(python_version "$DIR/rootfs/$rootfs/${PLATFORMS%% *}.tar"); fi
      build_image "$name" --target "${name%%:*}" --build-arg PYTHON_VERSION="$version" \
        -f "$HERE/engine.d/rootfs.Dockerfile" "$DIR/rootfs/$rootfs"
      ;;
    "$UV_IMAGE") build_image "$name" --build-arg UV_VERSION="$UV_VERSION" - <"$HERE/engine.d/uv.Dockerfile" ;;
    *)
      python=${name##*:py}
      build_image "$name" --build-arg PYTHON="${python%%-*}" --build-arg UV_IMAGE="$UV_IMAGE" \
        --build-arg FLYTE_VERSION="$FLYTE_VERSION" --build-arg IMAGE="$name" - <"$HERE/engine.d/flyte.Dockerfile"
      ;;
  esac
}

image_names() {
  if [ -n "$BESIDE" ]; then beside_names && return; fi
  printf '%s\n' python:3.11-slim-bookworm "$UV_IMAGE" python:3.13-slim-bookworm debian:bookworm-slim \
    "ghcr.io/flyteorg/flyte:py3.11-v$FLYTE_VERSION" "ghcr.io/flyteorg/flyte:py3.13-v$FLYTE_VERSION"
}

images_up() {
  local name arch missing=() jobs=() job
  IMAGES=$(docker image ls --format '{{.Repository}}:{{.Tag}}')
  for name in $(image_names); do
    if has_image "$name"; then continue; fi
    if ! pid_of dockerd >/dev/null && docker pull --quiet "$name" >/dev/null 2>&1; then continue; fi
    missing+=("$name")
  done
  # The bootstraps side by side: each waits for the network and for one core by turns.
  for name in "${missing[@]}"; do
    for arch in $(platforms_of "$name"); do
      # shellcheck disable=SC2046
      if [ -n "$(rootfs_of "$name")" ]; then rootfs $(rootfs_of "$name") "$arch" 9>&- & jobs+=("$! $arch"); fi
    done
  done
  for job in "${jobs[@]}"; do
    if wait "${job% *}"; then continue; fi
    # An emulator that another has registered may be none; whatever else fails is a failure.
    arch=${job#* }
    if [ "$arch" = "$(dpkg --print-architecture)" ]; then exit 1; fi
    grep -qs 'Exec format error' "$DIR"/log/*-"$arch".log || exit 1
    without_emulator
  done
  for name in "${missing[@]}"; do make_image "$name"; done
}
