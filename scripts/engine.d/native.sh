#!/bin/sh
# Programs of this machine inside the root filesystem of another architecture, so that only what has to
# be emulated is: unpacking, compression and the small tools of maintainer scripts run at full speed.
# They are in the root's /native, as the part of a Debian that they need.
#
#   native.sh copy ROOT        puts them there, from this machine; Python's byte code, which is the same on every machine,
#                              is then not compiled
#   native.sh link ROOT        lets them find their libraries; again after packages took that away
#   native.sh remove ROOT      takes back what `copy` and `link` did
#   native.sh run COMMAND…     in the root itself, where something is mounted at /native: runs a command with them,
#                              and with its apt-get and uv; where the root is of this machine's architecture, only the
#                              command
#   native.sh python VERSION…  the same for its Python, whose byte code any machine can use
set -eu

TRIPLET=x86_64-linux-gnu
LOADER=ld-linux-x86-64.so.2
# Nothing that speaks of the machine (uname, arch, dpkg), and nothing that runs other programs by absolute paths.
TOOLS='[ basename cat chgrp chmod chown cmp cp cut date diff dirname dpkg-deb dpkg-split env expr find grep gzip head id
  install ln ls md5sum mkdir mktemp mv readlink rm rmdir sed seq sha256sum sort stat tail tar tee test touch tr true
  uniq wc xargs xz'

copy() {
  mkdir -p "$1/native/usr/bin" "$1/native/usr/lib64" "$1/native/usr/lib/$TRIPLET"
  for tool in $TOOLS; do
    file=$(readlink -f "/usr/bin/$tool") && [ -f "$file" ] || file=$(readlink -f "/bin/$tool")
    cp "$file" "$1/native/usr/bin/$tool"
    ldd "$file" | sed -n 's/.* => \(\/[^ ]*\).*/\1/p'
  done | sort -u | while read -r library; do cp -L "$library" "$1/native/usr/lib/$TRIPLET/"; done
  cp -L "/lib64/$LOADER" "$1/native/usr/lib64/"
  # The maintainer scripts ask dpkg what there is to compile.
  printf '#!/bin/sh\nexit 0\n' >"$1/native/usr/bin/py3compile"
  printf '#!/bin/sh\n[ "$1" = -L ] || exec /usr/bin/dpkg "$@"\n' >"$1/native/usr/bin/dpkg"
  chmod 755 "$1/native/usr/bin/py3compile" "$1/native/usr/bin/dpkg"
}

link() {
  mkdir -p "$1/native.bin"
  for tool in $TOOLS; do ln -sf "/native/usr/bin/$tool" "$1/native.bin/$tool"; done
  # A real folder behind the usual link: usr-is-merged would refuse, and takes away, any other.
  mkdir -p "$1/usr/lib64"
  ln -sfn usr/lib64 "$1/lib64"
  ln -sf "/native/usr/lib64/$LOADER" "$1/usr/lib64/$LOADER"
  ln -sfn "/native/usr/lib/$TRIPLET" "$1/usr/lib/$TRIPLET"
}

unlink() {
  rm -rf "$1/lib64" "$1/usr/lib64" "$1/usr/lib/$TRIPLET" "$1/native.bin"
}

here() {
  link ''
  trap 'unlink ""' EXIT
  export QEMU_CPU=max,pauth-impdef=on # see images.sh
}

run() {
  if [ "$(dpkg --print-architecture)" = amd64 ]; then exec "$@"; fi
  here
  ln -s /native/usr/bin/apt-get /native/usr/bin/uv /native.bin/
  cat >/native.bin/apt.conf <<END
APT::Architecture "$(dpkg --print-architecture)";
Dir::Bin::methods "/native/usr/lib/apt/methods";
DPkg::Path "/native.bin:/usr/sbin:/usr/bin:/sbin:/bin";
END
  APT_CONFIG=/native.bin/apt.conf PATH=/native.bin:$PATH "$@"
}

python() {
  version=$1
  shift
  if [ "$(dpkg --print-architecture)" = amd64 ]; then exec "python$version" "$@"; fi
  here
  "/native/usr/bin/python$version" "$@"
}

command=$1
shift
case $command in
  copy) copy "$1" && link "$1" && ln -s /native/usr/bin/py3compile /native/usr/bin/dpkg "$1/native.bin/" ;;
  link) link "$1" ;;
  remove) unlink "$1" && rm -r "$1/native" ;;
  run | python) "$command" "$@" ;;
esac
