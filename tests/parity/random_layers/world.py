"""What random images are made from: bases, files to copy, and indexes, of which one belongs to strangers.

Packages of Python are known by their versions: `wa` 1.x is what the index of strangers has, which everybody asks who
was not told otherwise; 2.x is in folders of wheels, 98.0 and 99.0 in indexes of the user's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flyte import Image

from tests.conftest import Engine
from tests.parity.bases import Bases
from tests.parity.packages import BACKEND, Index, Package, project, serve, write_sdist
from tests.parity.random_layers.debs import ALL, COPIED
from tests.parity.random_layers.made import Member, repository, shared_library, simple_index, unpacked, with_parents
from tests.parity.random_layers.signed import signed

# Built from its sources by a program that only a package of the system has.
COMPILED = BACKEND.replace(
    "metadata_directory=None, editable=False):\n",
    "metadata_directory=None, editable=False):\n"
    "    import subprocess\n"
    "    made = subprocess.run(['bkb-cc'], capture_output=True, text=True, check=True).stdout\n"
    "    pathlib.Path('src/wn/made.py').write_text(f'MADE = {made!r}\\n')\n",
    1,
)
# One name for each way in which an index can be told, so that many fit into one image: strangers have 1.0 of all.
WAYS = tuple(f"via-{number}" for number in range(16))
STRANGERS = (
    Package(name="wa", version="1.0"),
    Package(name="wa", version="1.1"),
    Package(name="wa", version="1.2rc1"),
    Package(name="wb", version="1.0", requires=("wa",)),
    Package(name="wc", version="1.0", script="wc-run"),
    *(Package(name=name, version="1.0") for name in WAYS),
)
MINE = (
    Package(name="wa", version="99.0"),
    Package(name="wb", version="99.0", requires=("wa",)),
    *(Package(name=name, version="99.0") for name in WAYS),
)
OLDER = (Package(name="wa", version="98.0"), Package(name="wb", version="98.0", requires=("wa",)))
# A program that says that it was run, and runs the one that it stands before.
WRAPPER = """\
#!/bin/dash
name=${0##*/}
case ${0%/*} in /*) here=${0%/*} ;; *) here=/usr/local/bin ;; esac
mkdir -p "/ran$here" && : >"/ran$here/$name"
rest=
IFS=:
for folder in $PATH; do [ "$folder" = "$here" ] || rest=$rest:$folder; done
unset IFS
PATH=${rest#:} exec "$name" "$@"
"""
SHADOWED = ("apt-get", "bash", "dpkg", "env", "ldconfig", "python", "python3", "sh", "tar", "uv")
PORT = 38431


@dataclass(frozen=True, kw_only=True)
class World:
    """What layers may name.

    Attributes:
        files: The directory of files to copy.
        index: Of strangers.
        bases: Makes the bases.
    """

    files: Path
    index: Index
    bases: Bases

    @classmethod
    def of_files(cls, root: Path) -> World:
        """Files alone: nothing is served, and no base can be made."""
        index = Index(address="127.0.0.1:1", root="none", files={})
        write_files(root, index)
        engine = Engine(
            docker_host="", address="", registry="", ca=None, dockerd=None, registry_bin=None, environ={},
        )  # fmt: skip
        return cls(files=root, index=index, bases=Bases(engine=engine, docker="", repository="none"))

    def base(self, name: str, platform: str = "linux/amd64") -> Image:
        """An image to put layers on.

        Args:
            name: One of `BASES`.
            platform: What is built for.
        """
        lines = (unpacked(_system()), f"ENV UV_DEFAULT_INDEX={self.index.public}", *BASES[name])
        tag = f"parity-random:{name}-{platform[6:]}-{hashlib.sha256(repr(lines).encode()).hexdigest()[:8]}"
        reference = self.bases.made(
            *lines, name=tag, platforms="linux/amd64,linux/arm64" if "arm64" in platform else ""
        )
        return self.bases.named(reference).clone(platform=(platform,))  # type: ignore[arg-type]


def _system() -> list[Member]:
    """What all bases have: a repository, and where Python packages may lie."""
    repo = {f"usr/share/bkb/repo/{name}": data for name, data in repository(ALL).items()}
    wheels = dict(package.wheel() for package in (Package(name="wa", version="2.0"),))
    return with_parents(
        [
            *(Member(path=path, content=data) for path, data in repo.items()),
            *(Member(path=f"usr/share/wheels/{name}", content=data) for name, data in wheels.items()),
            Member(path="etc/apt/sources.list", content="deb [trusted=yes] file:/usr/share/bkb/repo ./\n"),
            Member(path="usr/local/bin/bkb-local", content="#!/bin/sh\necho of the base\n", mode=0o755),
            Member(path="closed", mode=0o700),
            Member(path="etc/constraints.txt", content="wa==1.0\n"),
        ]
    )


# What is special about each base, in lines of a Dockerfile.
_ONLY = "RUN rm -rf /etc/apt/sources.list.d/*"
BASES: Mapping[str, tuple[str, ...]] = {
    "plain": (_ONLY,),
    "user": (_ONLY, "RUN useradd --create-home flyte && rm -rf /srv"),
    "links": (
        _ONLY,
        "RUN mkdir -p /data/apps /data/home /usr/share/simple /opt/settings && mv /srv /data/srv && rmdir /home",
        "RUN ln -s /data/srv /srv && ln -s data/home /home && ln -s /data/apps /app && ln -s /opt /vendor",
        "RUN ln -s /usr/share/simple /opt/simple && ln -s /opt/settings /etc/uv && useradd flyte",
    ),
    "settings": (
        _ONLY,
        "RUN mkdir -p /etc/uv && echo 'find-links = [\"/usr/share/wheels\"]' > /etc/uv/uv.toml",
        "ENV MINE=file:///opt/simple",
    ),
    "constrained": (_ONLY, "ENV UV_CONSTRAINT=/etc/constraints.txt PATH=/shadow:$PATH", 'SHELL ["/bin/bash", "-c"]'),
    "home": (_ONLY, "RUN useradd -d /opt/app -m app && chmod 700 /opt/app", "ENV HOME=/opt/app", "WORKDIR /opt/app"),
    "own": (
        _ONLY,
        "RUN useradd --create-home flyte && python3 -m venv --without-pip /env/own && ln -s own /env/link",
        "ENV VIRTUALENV=/env/link UV_PYTHON=/env/link/bin/python",
    ),
    "spread": (
        _ONLY,
        "RUN useradd --create-home flyte && python3 -m venv --without-pip /env && mkdir /data && mv /env/lib /data/",
        "RUN ln -s /data/lib /env/lib",
        "ENV VIRTUALENV=/env UV_PYTHON=/env/bin/python",
    ),
    "venv": (
        _ONLY,
        "RUN python3 -m venv --without-pip /app/.venv",
        "ENV VIRTUAL_ENV=/app/.venv",
    ),
}


@contextlib.contextmanager
def opened(bases: Bases, folder: Path) -> Iterator[World]:
    """The world, as long as the body runs; files are written into a directory."""
    native = Package(name="wn", version="1.0", requires=("wb", "wc"))
    folder.mkdir(parents=True, exist_ok=True)
    built = write_sdist(folder, native, backend=COMPILED)
    paths = [built]
    for package in STRANGERS:
        name, data = package.wheel()
        (folder / name).write_bytes(data)
        paths.append(folder / name)
    with serve(paths, port=PORT) as index:
        files = folder / "files"
        write_files(files, index)
        yield World(files=files, index=index, bases=bases)


def write_files(root: Path, index: Index) -> None:
    """Writes all that layers copy; files of one name are alike in all but what they hold, times and sizes too."""
    texts: dict[str, str | bytes] = {
        "config-1.ini": "mine, one\n",
        "config-2.ini": "mine, two\n",
        "tool-1": "#!/bin/sh\necho v1\n",
        "tool-2": "#!/bin/sh\necho v2\n",
        "one/main.py": "NAME = 'one'\n",
        "one/sub/data.txt": "one\n",
        "two/main.py": "NAME = 'two'\n",
        "two/sub/data.txt": "two\n",
        "two/plugins/1": "two\n",
        "passwd-1": _passwd("flyte:x:1000:1000::/home/flyte:/bin/sh\nworker:x:1234:1234::/home/worker:/bin/sh\n"),
        "passwd-2": _passwd("flyte:x:2000:2000::/home/flyte:/bin/sh\n"),
        "group-1": _group("flyte:x:1000:\nworker:x:1234:\nftp:x:777:\n"),
        "group-2": _group("flyte:x:2000:\n"),
        "answers": "forty-two\n",
        "license": "yes\n",
        "bkbmod-1.py": "WHERE = 'mod 1'\n",
        "bkbmod-2.py": "WHERE = 'mod 2'\n",
        "sitecustomize.py": "try:\n    open('/ran-sitecustomize', 'w').close()\nexcept OSError:\n    pass\n",
        "patch.py": "VERSION = 'patched'\n",
        "bkbrc": "of the home\n",
        "env.sh": "FROM_BASH_ENV=yes; export FROM_BASH_ENV UV_INDEX=file:///opt/simple\n",
        "hook": "#!/bin/sh\necho hooked\n",
        "lib-1.so": shared_library("libbkb.so.1", "one"),
        "lib-2.so": shared_library("libbkb.so.1", "two"),
        "ld.conf": "/opt/vendor/lib\n",
        "ld.so.preload": "/opt/vendor/lib/libbkb.so.1\n",
        "apt.conf": 'DPkg::Post-Invoke {"touch /opt/post-invoke";};\n',
        "apt-sources.conf": 'Dir::Etc::sourceparts "/opt/sources";\n',
        "dpkg.cfg": "path-exclude=/opt/vendor/plugins/*\n",
        "dpkg-conf.cfg": "force-confnew\n",
        "mine.list": "deb [trusted=yes] file:/srv/repo ./\n",
        "signed.list": "deb [signed-by=/opt/keys/k.gpg] file:/srv/signed ./\n",
        "python-version": "3.12\n",
        "pth": "import sys; open('/ran-pth', 'w').close()\n",
        "unusable.conf": "this is no { configuration\n",
        "empty": "",
        "constraints-1.txt": "wa==1.1\n",
        "constraints-2.txt": "wa<2.0\n",
        "index.toml": '[[index]]\nurl = "file:///opt/simple"\n',
        "links.toml": 'find-links = ["/usr/share/wheels"]\n',
        "pre.toml": '[pip]\nprerelease = "allow"\n',
        "relative.toml": 'find-links = ["wheels"]\n',
        "pyproject.toml": '[project]\nname = "x"\nversion = "1"\n[[tool.uv.index]]\nurl = "file:///opt/simple"\n',
        "netrc": "machine 127.0.0.1 login reader password t0ken-of-the-index\n",
        "r.txt": "wa\n",
        "r-index.txt": "--extra-index-url ${MINE}\nwa\n",
        "r-links.txt": "--find-links /usr/share/wheels\nwa\n",
        "r-more.txt": "-r /opt/more.txt\nwc\n",
        "r-constraint.txt": "-c /etc/constraints.txt\nwa\n",
    }
    for name in SHADOWED:
        texts[f"shadow/{name}"] = WRAPPER
    for name, packages in (("simple-1", MINE), ("simple-2", OLDER)):
        built = dict(package.wheel() for package in packages)
        texts |= {f"{name}/{path}": data for path, data in simple_index(built).items()}
    copied = repository(COPIED)
    by_key, texts["k.gpg"] = signed(copied)
    texts |= {f"repo/{name}": data for name, data in copied.items()}
    texts |= {f"signed/{name}": data for name, data in by_key.items()}
    for number, version in ((1, "2.5"), (2, "2.6")):
        name, data = Package(name="wa", version=version).wheel()
        texts[f"wheels-{number}/{name}"] = data
    texts |= {f"wheels-3/{name}": data for name, data in (package.wheel() for package in MINE)}
    name, data = Package(name="wd", version="1.0", requires=("wa",)).wheel()
    texts[f"dist/{name}"] = data
    texts |= _projects(index)
    for path, text in texts.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        file.chmod(0o755 if path.startswith(("shadow/", "tool-", "hook")) else 0o644)
        os.utime(file, (1, 1))


def _passwd(more: str) -> str:
    nobody = "/nonexistent:/usr/sbin/nologin"
    return (
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
        f"_apt:x:42:65534::{nobody}\nnobody:x:65534:65534::{nobody}\n{more}"
    )


def _group(more: str) -> str:
    return f"root:x:0:\ndaemon:x:1:\nadm:x:4:\nshadow:x:42:\nmail:x:8:\nnogroup:x:65534:\nusers:x:100:\n{more}"


def _projects(index: Index) -> dict[str, str]:
    """Projects for uv: with a lock of what strangers have, without one, and with an index in the image."""
    own = '\n[[tool.uv.index]]\nname = "mine"\nurl = "file:///opt/simple"\n'
    name, data = next(package.wheel() for package in STRANGERS if package.version == "1.0")
    lock = (
        'version = 1\nrequires-python = ">=3.10"\n\n'
        '[[package]]\nname = "app"\nversion = "1.0"\nsource = { editable = "." }\ndependencies = [{ name = "wa" }]\n\n'
        '[package.metadata]\nrequires-dist = [{ name = "wa" }]\n\n'
        f'[[package]]\nname = "wa"\nversion = "1.0"\nsource = {{ registry = "{index.public}" }}\n'
        f'wheels = [{{ url = "{index.url(name)}", hash = "sha256:{hashlib.sha256(data).hexdigest()}" }}]\n'
    )
    files = {}
    for folder, more in (("app", ""), ("locked", ""), ("indexed", own)):
        files[f"{folder}/pyproject.toml"] = project("app", "1.0", dependencies=["wa"], more=more)
        files[f"{folder}/backend.py"] = BACKEND
        files[f"{folder}/src/app/__init__.py"] = "NAME = 'app'\n"
    return {**files, "locked/uv.lock": lock}
