# shellcheck shell=bash
# Older engines beside the one that runs. Sourced by ../engine.
#
# Engines rewrite each other's packet filter rules, so each of these has a network namespace of its own. slirp4netns
# connects it to the world from outside, so that nothing of the machine's own network changes; `scripts/engine exec` runs a
# command inside, where the engine's registry is on the loopback, as the main engine's is outside. A mount namespace of
# its own, with an empty /run, keeps what the engine mounts and writes there from the others. Both go with their last
# process.
#
# They have the main engine's tools and copies of its base images, so they come up while that is up.

SLIRP_DNS=10.0.2.3

# What is known of an engine before it is there.
know_beside() {
  case $BESIDE in
    26) SUITE=trixie ;;
    26-graph) SUITE=trixie STORE=false ;;
    20) SUITE=bookworm STORE=false ;;
    *) die "BUILDKIT_BUILDER_ENGINE is 26, 26-graph or 20, not '$BESIDE'" ;;
  esac
  ENGINE_PREFIX=$MAIN/beside/$SUITE DOCKERD=$MAIN/beside/$SUITE/bin/dockerd
}

each_beside() {
  local run
  for run in "$MAIN"/beside/*/run; do
    if [ -d "$run" ]; then BUILDKIT_BUILDER_ENGINE=$(basename "$(dirname "$run")") "$HERE/engine" "$@"; fi
  done
}

# The engine's programs; two engines of one suite share them.
fetch_beside() {
  local usr=$ENGINE_PREFIX/usr lib
  if [ -x "$DOCKERD" ]; then return; fi
  # Engines that come up at the same time download one after the other.
  exec 7>"$MAIN/beside/lock"
  flock 7
  if [ ! -x "$DOCKERD" ]; then
    say "downloading the engine of Debian $SUITE"
    fetch_from "$SUITE" "$ENGINE_PREFIX" docker.io containerd || die "Debian $SUITE has no engine for this machine"
    fetch_from "$CODENAME" "$ENGINE_PREFIX" slirp4netns libslirp0 || die "no slirp4netns for this machine"
    lib=$(basename "$(dirname "$usr"/lib/*/libslirp.so.0)")
    mkdir -p "$ENGINE_PREFIX/bin"
    wrapper "$ENGINE_PREFIX/bin/slirp4netns" "export LD_LIBRARY_PATH='$usr/lib/$lib'" "exec '$usr/bin/slirp4netns' \"\$@\""
    # Last, since it says that all is there.
    wrapper "$DOCKERD" "export PATH='$usr/sbin:$usr/bin:$BIN:$PREFIX/usr/sbin:$PREFIX/usr/bin:'\"\$PATH\"" \
      "exec '$usr/sbin/dockerd' \"\$@\""
  fi
  exec 7>&-
}

# The process that holds the namespaces, for `nsenter --target`.
namespace() { pid_of namespace || die "not up: BUILDKIT_BUILDER_ENGINE=$BESIDE scripts/engine up"; }

in_namespace() { pid_of namespace >/dev/null && pid_of slirp >/dev/null; }

enter_namespace() {
  local name
  if in_namespace; then return; fi
  # What still runs in a former one is cut off from the world.
  for name in registry dockerd dnsmasq; do stop $name; done
  sweep
  leave_namespace
  # shellcheck disable=SC2016
  start namespace unshare --net --mount --propagation slave \
    bash -c 'mount -t tmpfs tmpfs /run && exec -a "$0" sleep infinity' "$RUN/namespace"
  # Before it sleeps, its network may still be the machine's own.
  wait_for namespace grep -qx sleep "/proc/$(cat "$RUN/namespace.pid")/comm"
  start slirp "$ENGINE_PREFIX/bin/slirp4netns" --configure --mtu=65520 --disable-host-loopback \
    --api-socket "$RUN/slirp.sock" "$(namespace)" tap0
  wait_for slirp tap_ready
}
tap_ready() { nsenter --target "$(namespace)" --net -- "$BIN/ip" -4 -o addr show dev tap0 | grep -q inet; }

leave_namespace() {
  if [ -z "$BESIDE" ]; then return; fi
  stop slirp
  stop namespace
}

# What runs within the namespaces: the registry and the engine.
inside() {
  registry_up
  if pid_of dockerd >/dev/null && answers "unix://$SOCKET"; then return; fi
  sweep
  dockerd_up
}

up_beside() {
  local main
  main=$(cat "$MAIN/run/host" 2>/dev/null) && [[ $main == DOCKER_HOST=* ]] ||
    die "an engine beside the main one has its tools and base images; first: BUILDKIT_BUILDER_ENGINE= scripts/engine up"
  [ "$(id -u)" = 0 ] || die "an engine beside the main one needs root"
  [ ${#SOCKET} -lt 90 ] || die "the folder's path is too long for a unix socket: $DIR"
  [[ $DIR != /run/* ]] || die "the folder cannot be below /run, where an engine beside the main one has its own: $DIR"
  mkdir -p "$RUN" "$DIR/log"
  fetch_beside
  enter_namespace
  nsenter --target "$(namespace)" --net --mount -- "$HERE/engine" inside
  load_images "${main#DOCKER_HOST=}"
  say_up
}

# Of the base images, those that the tests of all engines build on.
beside_names() { printf '%s\n' python:3.11-slim-bookworm "$UV_IMAGE"; }

# Copies of the main engine's images. Without the containerd store an image is of one platform.
load_images() {
  local main=$1 names id kind archive platform=()
  mapfile -t names < <(beside_names)
  if [ "$STORE" = false ]; then platform=(--platform "linux/$(dpkg --print-architecture)"); fi
  id=$(docker -H "$main" image inspect --format '{{.Id}}' "${names[@]}" | cksum | cut -d' ' -f1)
  if [ "$(cat "$DIR/images" 2>/dev/null)" = "$id" ]; then return; fi
  kind=${platform:+one}
  archive=$MAIN/beside/images-${kind:=all}-$id.tar
  exec 7>"$MAIN/beside/lock"
  flock 7
  if [ ! -f "$archive" ]; then
    rm -f "$MAIN/beside/images-$kind"-*
    docker -H "$main" save "${platform[@]}" --output "$archive.part" "${names[@]}"
    mv "$archive.part" "$archive"
  fi
  exec 7>&-
  docker -H "unix://$SOCKET" load --quiet --input "$archive" >/dev/null
  echo "$id" >"$DIR/images"
}
