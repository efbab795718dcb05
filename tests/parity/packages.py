"""Python packages of the suite's own, made byte for byte the same every time, and the index they are served from."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

USER, TOKEN = "reader", "t0ken-of-the-index"

# A build backend that needs nothing, for sources that are built in a step: PEP 517 in a few lines.
BACKEND = """\
import base64, hashlib, pathlib, re, zipfile

def _project():
    text = pathlib.Path("pyproject.toml").read_text()
    return [re.search(rf'^{key} = "(.+)"', text, re.M).group(1) for key in ("name", "version")]

def _dependencies():
    text = pathlib.Path("pyproject.toml").read_text()
    found = re.search(r"^dependencies = \\[(.*?)\\]", text, re.M | re.S)
    return re.findall(r'"([^"]+)"', found.group(1)) if found else []

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None, editable=False):
    name, version = _project()
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {item}\\n" for item in _dependencies())
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{requires}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\\nGenerator: parity\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    root = pathlib.Path("src")
    if editable:
        files[f"{module}.pth"] = f"{root.resolve()}\\n".encode()
    else:
        files |= {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.py"))}
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\\n"
        for path, data in files.items()
    )
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\\n".encode()
    filename = f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / filename, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return filename

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return build_wheel(wheel_directory, editable=True)

def get_requires_for_build_wheel(config_settings=None):
    return []

get_requires_for_build_editable = get_requires_for_build_wheel
"""


def project(name: str, version: str = "1.0", *, dependencies: Sequence[str] = (), more: str = "") -> str:
    """The `pyproject.toml` of a project that is built by the backend beside it.

    Args:
        name: Of the project.
        version: Of the project.
        dependencies: As PEP 508 has them.
        more: Further tables.
    """
    listed = "".join(f'    "{item}",\n' for item in dependencies)
    return (
        f'[project]\nname = "{name}"\nversion = "{version}"\nrequires-python = ">=3.10"\n'
        f"dependencies = [\n{listed}]\n\n"
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n' + more
    )


def write_project(folder: Path, name: str, *, dependencies: Sequence[str] = (), more: str = "") -> Path:
    """Writes a project with one module, in `src`, and its backend; returns the path of its `pyproject.toml`."""
    module = folder / "src" / name.replace("-", "_")
    module.mkdir(parents=True)
    (module / "__init__.py").write_text(f"NAME = {name!r}\n")
    (folder / "backend.py").write_text(BACKEND)
    pyproject = folder / "pyproject.toml"
    pyproject.write_text(project(name, dependencies=dependencies, more=more))
    return pyproject


@dataclass(frozen=True, kw_only=True)
class Package:
    """A pure package with one module.

    Attributes:
        requires: Lines of `Requires-Dist`.
        extras: Names of its extras.
        script: The name of a console script, or empty.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    script: str = ""

    @property
    def module(self) -> str:
        """The name it is imported by."""
        return self.name.replace("-", "_")

    def metadata(self) -> str:
        """What stands in `METADATA` and `PKG-INFO`."""
        return "".join(
            [
                f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n",
                *(f"Provides-Extra: {extra}\n" for extra in self.extras),
                *(f"Requires-Dist: {requirement}\n" for requirement in self.requires),
            ]
        )

    def code(self) -> str:
        """The module's text."""
        return f"VERSION = {self.version!r}\n\n\ndef main() -> None:\n    print({self.name!r}, VERSION)\n"

    def wheel(self) -> tuple[str, bytes]:
        """Name and bytes of its wheel."""
        info = f"{self.module}-{self.version}.dist-info"
        files = {
            f"{self.module}/__init__.py": self.code(),
            f"{self.module}/data.txt": "data of the package\n",
            f"{info}/METADATA": self.metadata(),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: parity\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        if self.script:
            files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{self.script} = {self.module}:main\n"
        lines = [f"{path},sha256={_hash(text)},{len(text)}" for path, text in files.items()]
        files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, text in files.items():
                archive.writestr(zipfile.ZipInfo(path), text)
        return f"{self.module}-{self.version}-py3-none-any.whl", buffer.getvalue()

    def sdist(self, backend: str = BACKEND) -> tuple[str, bytes]:
        """Name and bytes of its sources, which bring their own backend."""
        top = f"{self.module}-{self.version}"
        files = {
            "PKG-INFO": self.metadata(),
            "pyproject.toml": project(self.name, self.version, dependencies=self.requires),
            "backend.py": backend,
            f"src/{self.module}/__init__.py": self.code(),
        }
        buffer = io.BytesIO()
        # Compressed, gzip would write the time into it.
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, text in files.items():
                member = tarfile.TarInfo(f"{top}/{path}")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        return f"{top}.tar.gz", gzip.compress(buffer.getvalue(), mtime=0)


def write_sdist(folder: Path, package: Package, *, backend: str) -> Path:
    """Writes the sources of a package, with a backend of its own, as they would be served."""
    name, data = package.sdist(backend)
    (folder / name).write_bytes(data)
    return folder / name


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


PUBLIC = (
    Package(
        name="parity-alpha",
        version="1.0",
        requires=("parity-beta>=1", 'parity-gamma; extra == "color"'),
        extras=("color",),
    ),
    Package(
        name="parity-alpha",
        version="1.1",
        requires=("parity-beta>=1", 'parity-gamma; extra == "color"'),
        extras=("color",),
    ),
    Package(name="parity-alpha", version="2.0rc1"),
    Package(name="parity-beta", version="1.0"),
    Package(name="parity-beta", version="1.2"),
    Package(name="parity-gamma", version="0.3", script="parity-greet"),
)
SOURCES = (Package(name="parity-delta", version="1.0", requires=("parity-beta<1.1",)),)
EXTRA = (Package(name="parity-epsilon", version="1.0", requires=("parity-beta",)),)
PRIVATE = (Package(name="parity-secret", version="1.0"),)


@dataclass(frozen=True, kw_only=True)
class Index:
    """A package index on loopback.

    Attributes:
        address: `127.0.0.1:port`.
        root: The first folder of every URL; it changes with what is served, so that no cache holds an older package.
        files: What is served, by file name, by index.
        seen: The path of every request.
        repositories: Files of git repositories, by path.
    """

    address: str
    root: str
    files: Mapping[str, Mapping[str, bytes]]
    seen: list[str] = field(default_factory=list)
    repositories: dict[str, bytes] = field(default_factory=dict)

    @property
    def public(self) -> str:
        """The URL of the index that all may read."""
        return self.simple("public")

    @property
    def extra(self) -> str:
        """The URL of a second index that all may read."""
        return self.simple("extra")

    @property
    def private(self) -> str:
        """The URL of the index that wants `USER` and `TOKEN`, with the variable `INDEX_TOKEN` in it."""
        return self.simple("private").replace("://", f"://{USER}:$INDEX_TOKEN@")

    def simple(self, index: str) -> str:
        """The URL of an index."""
        return f"http://{self.address}/{self.root}/{index}/simple/"

    def url(self, filename: str) -> str:
        """The URL of a file of the public index."""
        return f"http://{self.address}/{self.root}/public/files/{filename}"

    def add_repository(self, name: str, folder: Path) -> str:
        """Serves the content of a folder as a git repository that wants `USER` and `TOKEN`; returns its commit."""
        bare = folder.with_name(f"{name}.git")
        options = ["-c", "user.name=parity", "-c", "user.email=parity@example.com", "-c", "init.defaultBranch=main"]
        for command in (
            ["-C", str(folder), *options, "init", "--quiet"],
            ["-C", str(folder), "add", "."],
            ["-C", str(folder), *options, "commit", "--quiet", "--message=first"],
            ["clone", "--quiet", "--bare", str(folder), str(bare)],
            # A git without a server of its own reads the files themselves.
            ["-C", str(bare), "update-server-info"],
        ):
            subprocess.run(["git", *command], capture_output=True, check=True, timeout=60)
        for path in bare.rglob("*"):
            if path.is_file():
                self.repositories[f"{bare.name}/{path.relative_to(bare)}"] = path.read_bytes()
        found = subprocess.run(
            ["git", "-C", str(bare), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=60
        )
        return found.stdout.strip()

    def sha256(self, filename: str, index: str = "public") -> str:
        """The SHA-256 of a file."""
        return hashlib.sha256(self.files[index][filename]).hexdigest()


@contextmanager
def serve(wheels: Sequence[Path] = (), *, port: int = 38417) -> Iterator[Index]:
    """Serves the packages, and further wheels on the public index.

    Args:
        wheels: The further ones.
        port: Where, if it can be had, so that another run finds in the cache what has not changed.
    """
    files = {
        "public": {
            **dict(package.wheel() for package in PUBLIC),
            **dict(package.sdist() for package in SOURCES),
            **{path.name: path.read_bytes() for path in wheels},
        },
        "extra": dict(package.wheel() for package in EXTRA),
        "private": dict(package.wheel() for package in PRIVATE),
    }
    digest = hashlib.sha256()
    for index in files.values():
        for name, data in sorted(index.items()):
            digest.update(name.encode() + hashlib.sha256(data).digest())
    seen: list[str] = []
    repositories: dict[str, bytes] = {}
    server = _server(_handler(files, repositories, seen), port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Index(
            address=f"127.0.0.1:{server.server_port}",
            root=digest.hexdigest()[:12],
            files=files,
            seen=seen,
            repositories=repositories,
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: a step that is ended lets go of its connections."""


def _server(handler: type[BaseHTTPRequestHandler], port: int) -> ThreadingHTTPServer:
    try:
        return _Server(("127.0.0.1", port), handler)
    except OSError:
        return _Server(("127.0.0.1", 0), handler)


def _handler(
    files: Mapping[str, Mapping[str, bytes]], repositories: Mapping[str, bytes], seen: list[str]
) -> type[BaseHTTPRequestHandler]:
    expected = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append(self.path)
            _, _, index, *rest = [*self.path.split("?")[0].split("/"), "", ""]
            if index in ("private", "git") and self.headers.get("Authorization") != expected:
                self.answer(401, b"", {"WWW-Authenticate": 'Basic realm="private"'})
            elif rest[:1] == ["simple"]:
                self.page(files.get(index, {}), rest[1])
            else:
                self.file(repositories.get("/".join(rest).rstrip("/")) or files.get(index, {}).get(unquote(rest[1])))

        def do_HEAD(self) -> None:
            self.do_GET()

        def file(self, content: bytes | None) -> None:
            self.answer(200 if content is not None else 404, content or b"", {})

        def page(self, index: Mapping[str, bytes], name: str) -> None:
            links = "".join(
                f'<a href="../../files/{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>\n'
                for file, data in index.items()
                if file.split("-")[0].replace("_", "-").replace(".", "-").lower() == name
            )
            if links:
                self.answer(200, f"<!DOCTYPE html><html><body>\n{links}</body></html>".encode(),
                            {"Content-Type": "text/html"})  # fmt: skip
            else:
                self.answer(404, b"", {})

        def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler
