"""Random images, each built side by side and in sequence on the real engine: the trees must be equal.

The layers are small and need no network but a package index and a repository of the suite's own, and are such as get
into each other's way: packages that make users and own configuration files, Python packages that are built with what
another layer installs, files copied into folders that others make.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buildkit_builder.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    DockerfileLayer,
    EnvLayer,
    ImageSpec,
    Layer,
    LocalFiles,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    WorkdirLayer,
)
from tests.conftest import Engine
from tests.parity.bases import Bases
from tests.parity.packages import BACKEND, Index, Package, serve, write_sdist
from tests.parity.twice import differences, in_order, in_parallel

# A repository of apt's whose packages do what real ones do to the system.
REPOSITORY = r"""RUN <<'EOF'
set -e
deb() {
    mkdir -p "/tmp/$1/DEBIAN"
    printf 'Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@example.com>\n%sDescription: x\n' \
        "$1" "$2" > "/tmp/$1/DEBIAN/control"
}
file() { mkdir -p "$(dirname "$1")"; echo "$2" > "$1"; }
deb bkb-cc ''
file /tmp/bkb-cc/usr/bin/bkb-cc 'echo compiled'
chmod 755 /tmp/bkb-cc/usr/bin/bkb-cc
deb bkb-user ''
file /tmp/bkb-user/etc/bkb/user.conf 'name = worker'
echo /etc/bkb/user.conf > /tmp/bkb-user/DEBIAN/conffiles
file /tmp/bkb-user/DEBIAN/postinst '#!/bin/sh
set -e
id worker >/dev/null 2>&1 || useradd --system --home-dir /var/lib/bkb --create-home worker
ls /etc/bkb > /var/lib/bkb/seen
chown worker /var/lib/bkb/seen'
chmod 755 /tmp/bkb-user/DEBIAN/postinst
deb bkb-lib 'Depends: bkb-user
'
file /tmp/bkb-lib/usr/lib/bkb/lib.txt 'a library'
ln -s lib.txt /tmp/bkb-lib/usr/lib/bkb/lib.so
file /tmp/bkb-lib/DEBIAN/postinst '#!/bin/sh
update-alternatives --install /usr/bin/bkb bkb /usr/lib/bkb/lib.txt 10'
chmod 755 /tmp/bkb-lib/DEBIAN/postinst
mkdir /repo
for name in bkb-cc bkb-user bkb-lib; do dpkg-deb --root-owner-group -b "/tmp/$name" "/repo/$name.deb" >/dev/null; done
cd /repo
for name in *.deb; do
    dpkg-deb -f "$name"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
        "$name" "$(stat -c %s "$name")" "$(sha256sum < "$name" | cut -c-64)"
done > Packages
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /tmp/bkb-*
echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list
mkdir -p /data/shared && chmod 700 /data
EOF"""

# Built from its sources with a program that only a package of the system has, or the working folder's.
COMPILED = BACKEND.replace(
    "def build_wheel(wheel_directory, config_settings=None, metadata_directory=None, editable=False):\n",
    "def build_wheel(wheel_directory, config_settings=None, metadata_directory=None, editable=False):\n"
    "    import subprocess\n"
    "    made = subprocess.run(['bkb-cc'], capture_output=True, text=True, check=True).stdout\n"
    "    pathlib.Path('src/parity_native/made.py').write_text(f'MADE = {made!r}\\n')\n",
)


def folder(path: Path) -> LocalFiles:
    """A folder of this machine."""
    return LocalFiles(kind="folder", root=path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders and files to copy."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("one", "two"):
        (root / name / "sub").mkdir(parents=True)
        (root / name / "main.py").write_text(f"NAME = {name!r}\n")
        (root / name / "sub" / "data.txt").write_text(name)
    (root / "uv.toml").write_text("[pip]\nno-index = false\n")
    return root


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of a package that has no wheel."""
    native = Package(name="parity-native", version="1.0", requires=("parity-beta",))
    return write_sdist(tmp_path_factory.mktemp("native"), native, backend=COMPILED)


def layers(sources: Path, index: Index) -> dict[str, Layer]:
    """What images are made of here."""

    def copy(name: str, destination: str) -> CopyLayer:
        return CopyLayer(files=folder(sources / name), destination=destination, origin="with_source_folder")

    def pip(*names: str, extra: str | None = None) -> PipLayer:
        return PipLayer(packages=names, options=PipOptions(index_url=index.public, extra_args=extra))

    requirements = RequirementsLayer(
        file=Path("requirements.txt"), content=b"parity-beta<1.1\n", options=PipOptions(index_url=index.public)
    )
    uv_toml = LocalFiles(kind="file", root=sources / "uv.toml")
    return {
        "apt cc": AptLayer(packages=("bkb-cc",)),
        "apt user": AptLayer(packages=("bkb-user",)),
        "apt lib": AptLayer(packages=("bkb-lib",)),
        "pip alpha": pip("parity-alpha"),
        "pip gamma": pip("parity-gamma"),
        "pip beta, the older": requirements,
        "pip upgrade": pip("parity-beta", extra="--upgrade"),
        "pip native": pip("parity-native"),
        "pip delta, from sources": pip("parity-delta"),
        "command": CommandsLayer(commands=("ls /etc/bkb /app /opt > /srv/seen 2>&1 || true; rm -rf /app/sub",)),
        "command pip": CommandsLayer(commands=("uv pip list --python $UV_PYTHON > /srv/pip 2>/dev/null",)),
        "lines": DockerfileLayer(lines=("RUN mkdir -p /app && date -u +%Y > /app/year", "ENV LINES=yes")),
        "env": EnvLayer(variables=(("MODE", "fast"), ("PATH", "/app/bin:$PATH"))),
        "env for uv": EnvLayer(variables=(("UV_NO_BUILD", "1"),)),
        "workdir": WorkdirLayer(path="/app"),
        "workdir in a closed folder": WorkdirLayer(path="/data/shared/deep"),
        "copy here": copy("one", "."),
        "copy app": copy("two", "/app"),
        "copy etc": copy("one", "/etc/bkb"),
        "copy venv": copy("two", "/opt/venv/share/two"),
        "copy opt": copy("two", "/opt/two"),
        "copy root": copy("one", "/root/deep/er"),
        "copy uv.toml": CopyLayer(files=uv_toml, destination=".", origin="with_source_file"),
    }


NAMES = sorted(layers(Path("/nowhere"), Index(address="", root="", files={})))


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(chosen=st.lists(st.sampled_from(NAMES), min_size=2, max_size=7))
@example(chosen=["apt cc", "pip native", "pip alpha", "apt lib"])
@example(chosen=["pip native", "apt cc"])
@example(chosen=["apt user", "pip beta, the older", "pip alpha", "pip upgrade", "copy app", "command", "apt lib"])
@example(
    chosen=["workdir in a closed folder", "apt user", "copy here", "pip delta, from sources", "copy etc", "apt cc"]
)
@example(chosen=["apt cc", "env for uv", "copy uv.toml", "pip gamma", "copy venv", "command pip", "copy opt"])
def test_side_by_side_gives_what_the_users_order_gives(
    chosen: Sequence[str], engine: Engine, bases: Bases, sources: Path, packages: Path
) -> None:
    """Whatever the layers are: every file, its mode, its owner and its content; or both fail."""
    with serve([packages]) as index:
        found = layers(sources, index)
        spec = ImageSpec(
            reference=f"{engine.registry}/twice:1",
            push=True,
            base=bases.made(REPOSITORY, name="parity-twice:1"),
            platforms=("linux/amd64",),
            python_version=(3, 11),
            layers=tuple(found[name] for name in chosen),
            creates_user=False,
            uv_image="ghcr.io/astral-sh/uv:0.13.4",
        )
        assert "" == asyncio.run(differences(spec, engine.address, (in_parallel, in_order)))
