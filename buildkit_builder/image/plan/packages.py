"""Installing the distribution's packages: shell text around apt.

Package lists and downloads are kept in a cache mount, so that the next layer, or the next image, only asks whether they
are still the newest. Each step works on a view of its own, made of hard links, and gives back what it has fetched: apt
replaces files and does not write into them. So two steps may install at the same time, and a step that is killed leaves
nothing half-done to others. A lock is held only while links are made.

For a foreign platform the step runs in the image's own tree, so that dpkg and the packages' scripts are the image's and
emulated; but what they and apt run most of the time (apt itself, unpacking, the small tools of scripts) are the
machine's own programs, lent to the tree while the step runs. A program is lent only where the image would have used
the distribution's own, and not one that something has put before it.

The lists are no part of the image: they are large, and out of date when it runs. Where a command of the user's follows
that might read them, `lists` puts them where it would find them, right after the packages: so they are those of the
sources that apt had then.
"""

from __future__ import annotations

from buildkit_builder.image.plan.steps import CacheMount

_CACHE = "/dev/apt"
# One for each architecture; below it, a folder for each distribution with its sources.
CACHES = (CacheMount(target=_CACHE, id="apt-lists-and-archives-{architecture}"),)

# What the packages' scripts and dpkg write down with the time, or the inode numbers, of their run.
TRACES = (
    "/var/cache/ldconfig/aux-cache",
    "/var/log/alternatives.log",
    "/var/log/apt/history.log",
    "/var/log/apt/term.log",
    "/var/log/dpkg.log",
)

# Where the base for the machine's own platform is, while its programs are lent.
NATIVE = "/dev/native"
# Nothing that speaks of the machine, as `uname` and `dpkg` do, and nothing that runs programs by absolute paths.
_LENT = """\
[ apt-config apt-get basename cat chgrp chmod chown cksum cmp cp cut date dash diff dirname dpkg-deb dpkg-split env \
expr find flock gpgv grep gzip head id install ln ls md5sum mkdir mktemp mv readlink rm rmdir sed seq sh sha256sum \
sort stat tail tar tee test touch tr true uniq wc xargs xz"""

# This text's own tools are the distribution's; the user's PATH is for what the user has asked for.
# A program finds its loader by an absolute path, and the loader its libraries: both are put there, and taken away. As
# few programs as can be are run before there are those of the machine.
_LEND = f"""\
user_path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
lent=
lend() {{
  for loader in {NATIVE}/usr/lib/*-linux-gnu/ld-linux-*.so.*; do [ -e "$loader" ] || return 0; done
  libraries=${{loader%/*}}
  libraries=${{libraries#{NATIVE}}}
  case $loader in *x86-64*) place=/lib64 ;; *) place=/lib ;; esac
  if [ -e "$libraries" ] || [ -e "$place/${{loader##*/}}" ]; then return 0; fi
  mkdir -p "/usr$place" /dev/native-bin
  if [ ! -e "$place" ]; then ln -s "usr$place" "$place"; lent="$place /usr$place"; fi
  ln -s "$loader" "$place/"
  ln -s "{NATIVE}$libraries" "$libraries"
  lent="$place/${{loader##*/}} $libraries $lent"
  set --
  for program in {_LENT}; do
    rest=$user_path:
    while [ -n "$rest" ] && [ ! -e "${{rest%%:*}}/$program" ]; do rest=${{rest#*:}}; done
    case ${{rest%%:*}} in /bin | /usr/bin) ;; *) continue ;; esac
    for file in "{NATIVE}/bin/$program" "{NATIVE}/usr/bin/$program"; do
      if [ -e "$file" ]; then set -- "$@" "$file"; break; fi
    done
  done
  {NATIVE}/usr/bin/ln -s "$@" /dev/native-bin/
  PATH="/dev/native-bin:$PATH" user_path="/dev/native-bin:$user_path"
  export PATH APT_CONFIG=/dev/native-bin/apt.conf
  echo "#!{NATIVE}/usr/bin/dash
exec {NATIVE}/usr/bin/dash {NATIVE}/usr/bin/apt-key \"\\$@\"" >/dev/native-bin/apt-key
  chmod 755 /dev/native-bin/apt-key
  echo "APT::Architecture \"$(dpkg --print-architecture)\";
Dir::Bin::methods \"{NATIVE}/usr/lib/apt/methods\";
Dir::Bin::apt-key \"/dev/native-bin/apt-key\";
DPkg::Path \"/dev/native-bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\";" >"$APT_CONFIG"
}}
take_back() {{
  for place in $lent; do if [ -L "$place" ]; then rm "$place"; else rmdir "$place"; fi; done
}}"""

_SHARED = f"""\
key=$(cat /etc/os-release /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | cksum | tr ' ' -)
shared={_CACHE}/$key
mkdir -p "$shared"
locked() {{ if command -v flock >/dev/null; then flock "$shared/lock" sh -ec "$1" sh "$shared" "$run"; fi; }}"""

# Apt remembers the paths that its caches are of, so that all views have the same.
_BEGIN = """\
find "$shared" -maxdepth 1 -name 'run.*' -mmin +1440 -exec rm -rf {} +
run=$(mktemp -d "$shared/run.XXXXXX")
chmod 755 "$run"
ln -sfn "$run" /dev/apt-run
trap 'rm -rf "$run"; PATH=${PATH#/dev/native-bin:}; take_back' EXIT
locked 'for part in lists archives pkgcache.bin srcpkgcache.bin; do
  [ ! -e "$1/$part" ] || cp -al "$1/$part" "$2/"
done'
rm -f "$run/lists/lock" "$run/archives/lock"
mkdir -p "$run/lists/partial" "$run/archives/partial"
apt() {
  PATH=$user_path apt-get -o Dir::State::lists=/dev/apt-run/lists \\
    -o Dir::Cache=/dev/apt-run -o Dir::Cache::archives=archives \\
    -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin \\
    -o APT::Keep-Downloaded-Packages=true -o Acquire::Retries=3 -o Dpkg::Options::=--force-unsafe-io "$@"
}"""

# A thousand packages are enough to keep: then all are fetched anew.
_END = """\
locked 'rm -rf "$1/new" "$2/lists/partial" "$2/archives/partial" "$2/lists/lock" "$2/archives/lock"
mkdir "$1/new"
cp -al "$2/lists" "$1/new/"
rm -rf "$1/lists"
mv "$1/new/lists" "$1/"
mkdir -p "$1/archives"
[ "$(ls "$1/archives" | wc -l)" -lt 1000 ] || rm -rf "$1/archives/"*
find "$2/archives" -name "*.deb" -exec cp -alf {} "$1/archives/" \\;
for part in pkgcache.bin srcpkgcache.bin; do [ ! -e "$2/$part" ] || ln -f "$2/$part" "$1/$part"; done'"""


# What a step sources, so that its command is one that people can read.
FILE = "/dev/buildkit-builder-packages"
FUNCTIONS = "\n".join(
    [
        _LEND,
        "fetch_and_install() {",
        "trap take_back EXIT",
        "lend",
        _SHARED,
        _BEGIN,
        'apt update && apt install -y --no-install-recommends "$@" || return',
        _END,
        "}",
        "add_lists() {",
        "run=",
        _SHARED,
        'if [ -d "$shared/lists" ]; then',
        "locked 'rm -rf /var/lib/apt/lists && cp -a \"$1/lists\" /var/lib/apt/lists'",
        "mkdir -p /var/lib/apt/lists/partial",
        "else",
        # Whoever needs them will say what is wrong.
        "PATH=$user_path apt-get update || :",
        "fi",
        "}\n",
    ]
)


def install(packages: tuple[str, ...]) -> str:
    """Installs packages as Flyte's own builder does; wants `FUNCTIONS` in `FILE`.

    Args:
        packages: As apt's command line takes them; not quoted, since Flyte does not.
    """
    return f". {FILE}; fetch_and_install {' '.join(packages)}"


def lists() -> str:
    """Puts the package lists into the image; wants `FUNCTIONS` in `FILE`."""
    return f". {FILE}; add_lists"
