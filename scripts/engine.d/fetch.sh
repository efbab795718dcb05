# shellcheck shell=bash
# Downloading: Debian packages unpacked into the prefix. Sourced by ../engine.

# The machine's own Debian archive as one-line sources for another suite. Both source formats are
# read; a third party's source has other suites or components than Debian's, and falls out.
sources_for() {
  local file files=()
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -f "$file" ]; then files+=("$file"); fi
  done
  [ ${#files[@]} -gt 0 ] || die "apt has no sources on this machine"
  awk -v from="$CODENAME" -v to="$1" '
    function emit(uri, suite, key) {
      if (suite !~ "^" from "(-updates|-security)?$") return
      if (to == "sid" && suite != from) return
      sub(from, to, suite)
      print "deb " (key ? "[signed-by=" key "] " : "") uri, suite, "main"
    }
    function flush(  i, j, u, s) {
      if ((" " f["types"] " ") ~ / deb / && (" " f["components"] " ") ~ / main / && f["enabled"] != "no")
        for (i = split(f["uris"], u, " "); i > 0; i--)
          for (j = split(f["suites"], s, " "); j > 0; j--) emit(u[i], s[j], f["signed-by"] ~ /^\// ? f["signed-by"] : "")
      split("", f)
    }
    FNR == 1 { flush() }
    /^#/ { next }
    FILENAME ~ /\.sources$/ {
      if ($0 ~ /^[ \t]*$/) flush()
      else if (match($0, /^[A-Za-z-]+:/)) {
        name = tolower(substr($0, 1, RLENGTH - 1)); f[name] = substr($0, RLENGTH + 1)
        gsub(/^[ \t]+|[ \t]+$/, "", f[name])
      }
      next
    }
    $1 == "deb" && / main( |$)/ {
      key = match($0, /signed-by=[^] ,]+/) ? substr($0, RSTART + 10, RLENGTH - 10) : ""
      sub(/\[[^]]*\] */, ""); emit($2, $3, key)
    }
    END { flush() }' "${files[@]}" | sort -u
}

# Three times, since a network has its moments; what it prints counts for the last.
patiently() {
  local try
  for try in 1 2; do
    if "$@"; then return; fi
    say "again in $((try * 5)) s: $1 failed"
    sleep $((try * 5))
  done
  "$@"
}

# apt-get with lists and cache of its own; its other settings (proxies, keys) are the machine's.
apt_for() {
  local box=$MAIN/apt/$1
  shift
  apt-get -qq -o Dir::Etc::sourcelist="$box/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::Lists="$box/lists" -o Dir::Cache="$box/cache" \
    -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Acquire::Retries=3 "$@"
}

apt_update() {
  local box=$MAIN/apt/$1
  mkdir -p "$box/lists/partial" "$box/cache/archives/partial" "$box/debs"
  sources_for "$1" >"$box/sources.list"
  [ -s "$box/sources.list" ] || die "no Debian archive among apt's sources"
  patiently apt_for "$1" update
}

# unpack PREFIX DEB…
unpack() {
  local prefix=$1 deb
  shift
  mkdir -p "$prefix"
  for deb in "$@"; do dpkg-deb -x "$deb" "$prefix"; done
}

# Packages of the machine's own suite, with whatever they need that is not installed here.
fetch_own() {
  apt_update "$CODENAME"
  rm -f "$MAIN/apt/$CODENAME/cache/archives"/*.deb # what a running engine may use is not unpacked again
  patiently apt_for "$CODENAME" install -y --download-only --reinstall --no-install-recommends "$@" >/dev/null
  unpack "$PREFIX" "$MAIN/apt/$CODENAME/cache/archives"/*.deb
}

# Packages of any suite, without what they need: fetch_from SUITE PREFIX PACKAGE…
fetch_from() {
  local suite=$1 prefix=$2 debs=$MAIN/apt/$1/debs
  shift 2
  apt_update "$suite" && rm -f "$debs"/*.deb && (cd "$debs" && patiently apt_for "$suite" download "$@") &&
    unpack "$prefix" "$debs"/*.deb
}

# The engine, from the first suite whose binaries run here (they are newer than the machine's).
fetch_engine() {
  local suite
  for suite in $SUITES; do
    if fetch_from "$suite" "$PREFIX" docker.io docker-cli containerd docker-buildx tini-static; then
      if "$PREFIX/usr/sbin/dockerd" --version >/dev/null && "$PREFIX/usr/bin/containerd" --version >/dev/null; then
        return
      fi
    fi
    say "no usable engine in Debian $suite"
  done
  die "no Debian suite of '$SUITES' has an engine for this machine"
}

# wrapper FILE LINE…
wrapper() {
  local file=$1
  shift
  { printf '#!/bin/sh\n'; printf '%s\n' "$@"; } >"$file.part"
  chmod 755 "$file.part"
  mv "$file.part" "$file"
}

# The unpacked programs under their plain names, each finding its libraries in the prefix.
write_wrappers() {
  local usr=$PREFIX/usr lib libs
  lib=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
  libs="LD_LIBRARY_PATH='$usr/lib/$lib:$PREFIX/lib/$lib' XTABLES_LIBDIR='$usr/lib/$lib/xtables'"
  mkdir -p "$BIN" "$DOCKER_CONFIG/cli-plugins"
  ln -sfn "$usr/libexec/docker/cli-plugins/docker-buildx" "$DOCKER_CONFIG/cli-plugins/docker-buildx"
  ln -sfn "$usr/bin/docker" "$BIN/docker"
  ln -sfn "$usr/bin/docker-registry" "$BIN/docker-registry"
  wrapper "$BIN/dockerd" "export PATH='$BIN:$usr/sbin:$usr/bin:'\"\$PATH\"" "exec '$usr/sbin/dockerd' \"\$@\""
  wrapper "$BIN/skopeo" "export $libs" "exec '$usr/bin/skopeo' \"\$@\""
  wrapper "$BIN/mmdebstrap" "export PERL5LIB='$usr/share/perl5:$usr/share/perl/5.36:$usr/lib/$lib/perl/5.36'" \
    "exec '$usr/bin/mmdebstrap' \"\$@\""
  wrapper "$BIN/sshd" "export $libs" "exec '$usr/sbin/sshd' \"\$@\""
  wrapper "$BIN/ssh" "export $libs" "exec '$usr/bin/ssh' \"\$@\""
  wrapper "$BIN/ssh-keygen" "export $libs" "exec '$usr/bin/ssh-keygen' \"\$@\""
  if [ -x "$usr/sbin/dnsmasq" ]; then wrapper "$BIN/dnsmasq" "export $libs" "exec '$usr/sbin/dnsmasq' \"\$@\""; fi
  wrapper "$BIN/ip" "export $libs" "for ip in '$PREFIX/bin/ip' '$PREFIX/sbin/ip' '$usr/sbin/ip' '$usr/bin/ip'; do" \
    "  [ -f \"\$ip\" ] && [ ! -L \"\$ip\" ] && exec \"\$ip\" \"\$@\"" 'done'
  wrapper "$BIN/iptables" "export $libs" "exec '$usr/sbin/xtables-nft-multi' iptables \"\$@\""
  wrapper "$BIN/ip6tables" "export $libs" "exec '$usr/sbin/xtables-nft-multi' ip6tables \"\$@\""
}

# A folder from before the engine had a name server of its own has none.
dns_ready() { [ -x "$BIN/dnsmasq" ]; }

# What a running engine needs beside it.
tools_ready() { if [ -n "$BESIDE" ]; then in_namespace; else ssh_ready && dns_ready && emulator_ready; fi; }

# A folder from before the tests had a machine to reach over ssh has neither.
ssh_ready() { [[ -x $PREFIX/usr/sbin/sshd && -x $BIN/sshd ]]; }

fetch() {
  if [ ! -f "$DIR/fetched" ]; then
    say "downloading the engine and its tools into $DIR"
    mkdir -p "$PREFIX"
    fetch_own runc iptables iproute2 docker-registry skopeo mmdebstrap
    fetch_engine
    write_wrappers
    "$PREFIX/usr/sbin/dockerd" --version >"$DIR/fetched"
  fi
  if ! ssh_ready; then
    say "downloading an ssh server and client"
    fetch_own openssh-server openssh-client
    write_wrappers
  fi
  if ! dns_ready; then
    say "downloading a name server"
    fetch_own dnsmasq-base
    write_wrappers
  fi
  if [[ $PLATFORMS == *arm64* && ! -x $PREFIX/usr/bin/qemu-aarch64-static ]]; then
    say "downloading the arm64 emulator"
    fetch_own qemu-user-static
  fi
}
