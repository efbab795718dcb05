"""Installing from wheels alone, on the real engine: what it leaves must be what the installation itself leaves."""

from __future__ import annotations

import io
import shlex
import sys
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.build import BuildRequest, TarArchive, build
from buildkit_builder.buildkit.build.graph import GraphFrontend
from buildkit_builder.buildkit.connect.connection import Connection, connect
from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.progress.display import open_screen
from buildkit_builder.buildkit.session.secrets import Secrets
from buildkit_builder.errors import StepFailedError
from buildkit_builder.image.plan.steering import FOLLOWS
from buildkit_builder.image.plan.wheels import (
    NO_BUILDS,
    UV_CACHE,
    WORK_FOLDER,
    PythonLayer,
    Wheels,
    dependencies,
    wheels,
)
from buildkit_builder.image.spec import LocalFiles, PipLayer, PipOptions, RequirementsLayer, UvProjectLayer
from tests.conftest import Engine
from tests.integration.conftest import BASE
from tests.integration.verdict import Distribution, Verdict, read_verdict
from tests.parity.packages import Index, Package, project, serve, write_project
from tests.parity.tools import UV_IMAGE

PLATFORM = llb.Platform(architecture="amd64")
CA = "/dev/ca.pem"
ENV = (
    ("PATH", "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"),
    ("UV_COMPILE_BYTECODE", "1"),
    ("UV_LINK_MODE", "copy"),
    ("VIRTUALENV", "/opt/venv"),
    ("UV_PYTHON", "/opt/venv/bin/python"),
    ("SSL_CERT_FILE", CA),
)
SITE = "lib/python3.11/site-packages"
# By path: kind, mode, owner, where a link leads, content.
Tree = Mapping[str, tuple[bytes, int, int, str, bytes]]

# A release that is newer and there only as sources: asked for wheels alone, uv would take the older one.
OLD, NEW = Package(name="wheels-zeta", version="1.0"), Package(name="wheels-zeta", version="1.1")
# What it needs is known only to its backend.
UNTOLD = Package(name="wheels-untold", version="1.0")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Runs installations in an environment that nothing has been installed into.

    Attributes:
        index: Packages with wheels, and packages without.
        ca: What steps trust.
        mark: In every step, so that none is taken from the daemon's cache.
    """

    connection: Connection
    index: Index
    ca: bytes
    mark: str

    @property
    def environment(self) -> llb.State:
        """The base, uv, and an empty environment."""
        base = llb.image(f"docker.io/library/{BASE}").file(llb.copy(llb.image(UV_IMAGE), "/uv", "/usr/bin/uv"))
        return base.run(
            ("/bin/sh", "-c", "uv venv --quiet --python=3.11 $VIRTUALENV"), env=ENV, cwd="/", name="environment"
        ).root

    def pip(self, *packages: str, pre: bool = False, args: str | None = None) -> tuple[PipLayer, str]:
        """A layer of packages of the index, and its installation."""
        options = PipOptions(index_url=self.index.public, pre=pre, extra_args=args)
        install = " ".join(["uv pip install --python $UV_PYTHON", *options.arguments(), *map(shlex.quote, packages)])
        return PipLayer(packages=packages, options=options), install

    def run(self, root: llb.State, text: str, *mounts: llb.Mount, cache: str = "test-wheels") -> llb.Exec:
        """Runs a text where a step of an image would be run."""
        every = (llb.SecretFile(CA, "ca", mode=0o444), llb.Cache(UV_CACHE, cache), *mounts)
        env = (*ENV, ("MARK", self.mark))
        return root.run(("/bin/sh", "-c", text), env=env, cwd="/", mounts=every, network="host", name=text[:40])

    def ahead(
        self,
        root: llb.State,
        how: Wheels | None,
        *mounts: llb.Mount,
        architecture: str = "",
        all_of_it: bool = False,
        cache: str = "test-wheels",
    ) -> llb.Exec:
        """Runs an installation as far as it needs nothing but wheels."""
        assert how is not None
        nothing = llb.scratch().file(llb.mkdir("/nothing"))
        own = (llb.Bind(NO_BUILDS, nothing, selector="/nothing", readonly=True), llb.Bind(WORK_FOLDER, llb.scratch()))
        return self.run(root, how.command(all_of_it=all_of_it, architecture=architecture), *own, *mounts, cache=cache)

    async def trees(self, **states: llb.State) -> dict[str, Tree]:
        """The files of several trees, bytecode without the time of its source."""
        result = llb.scratch()
        for name, state in states.items():
            result = result.file(llb.copy(state, "/", f"/{name}/", contents_only=True, create_dest=True))
        tar = Path(self.mark)
        request = BuildRequest(
            title="test",
            frontend=GraphFrontend(state=result, platform=PLATFORM),
            exporters=(TarArchive(path=tar),),
            attachables=(Secrets({"ca": self.ca}),),
            entitlements=("network.host",),
        )
        await build(
            self.connection, request, open_screen("quiet", sys.stderr, environ={}, clock=time.monotonic).display()
        )
        found: dict[str, dict[str, tuple[bytes, int, int, str, bytes]]] = {name: {} for name in states}
        with tarfile.open(tar) as archive:
            for member in archive:
                name, _, path = member.name.strip("/").partition("/")
                opened = archive.extractfile(member) if member.isfile() else None
                content = opened.read() if opened is not None else b""
                content = content[:8] + content[12:] if path.endswith(".pyc") else content
                found[name][path] = (member.type, member.mode, member.uid, member.linkname, content)
        return dict(found)

    async def compared(
        self, layer: PythonLayer, install: str, *mounts: llb.Mount, start: llb.State | None = None
    ) -> tuple[Verdict, Tree, Tree]:
        """What is done ahead; then what there is in the end, once the installation came after it if need be, and when
        there was nothing but the installation.
        """
        root = start or self.environment
        ahead = self.ahead(root, wheels(layer, install), *mounts)
        plain = self.run(root, install, *mounts, cache="test-wheels-plain")
        files = await self.trees(
            verdict=ahead.output(WORK_FOLDER), one=llb.diff(root, ahead.root), other=llb.diff(root, plain.root)
        )
        verdict, end = read_verdict(files["verdict"]["verdict"][-1]), files["one"]
        if verdict.done != "all":
            after = self.run(ahead.root, install, *mounts, cache="test-wheels-plain")
            end = (await self.trees(end=llb.diff(root, after.root)))["end"]
        return verdict, end, files["other"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The packages of the parity suite, and some that have no wheel."""
    folder = tmp_path_factory.mktemp("packages")
    files = [OLD.wheel(), NEW.sdist(), _untold()]
    for name, data in files:
        (folder / name).write_bytes(data)
    with serve([folder / name for name, _ in files]) as served:
        yield served


def _untold() -> tuple[str, bytes]:
    """Sources that say of their requirements that they are dynamic."""
    name, data = UNTOLD.sdist()
    changed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=changed, mode="w:gz") as new:
        for member in old:
            opened = old.extractfile(member)
            assert opened is not None
            text = opened.read().replace(b"dependencies = [\n]", b'dynamic = ["dependencies"]')
            member.size = len(text)
            new.addfile(member, io.BytesIO(text))
    return name, changed.getvalue()


@pytest.fixture
async def bench(engine: Engine, index: Index, tmp_path: Path) -> AsyncIterator[Bench]:
    """An engine to run installations on."""
    ca = engine.ca.read_bytes() if engine.ca is not None else b""
    async with await connect(Endpoint(address=engine.docker_host, kind="docker")) as opened:
        yield Bench(connection=opened, index=index, ca=ca, mark=str(tmp_path / uuid.uuid4().hex))


def names(distributions: Iterable[Distribution]) -> list[str]:
    """Names and versions."""
    return [f"{found.name}=={found.version}" for found in distributions]


def lines(text: str, at: str) -> llb.Mount:
    """A file that is there while a step runs."""
    file = llb.scratch().file(llb.mkfile("/file", text.encode()))
    return llb.Bind(at, file, selector="/file", readonly=True)


async def test_all_wheels(bench: Bench) -> None:
    """Where everything has a wheel all is installed, and the whole tree is that of the installation."""
    verdict, end, plain = await bench.compared(*bench.pip("parity-alpha[color]", "wheels-zeta==1.0"))

    assert "all" == verdict.done
    installed = ["parity-alpha==1.1", "parity-beta==1.2", "parity-gamma==0.3", "wheels-zeta==1.0"]
    assert installed == names(verdict.installed)
    assert plain == end
    assert f"opt/venv/{SITE}/parity_alpha/__pycache__/__init__.cpython-311.pyc" in end
    assert "opt/venv/bin/parity-greet" in end


async def test_some_wheels(bench: Bench) -> None:
    """What has wheels is installed at the versions of the whole, and the installation adds what has none."""
    verdict, end, plain = await bench.compared(*bench.pip("parity-alpha", "wheels-zeta", "parity-delta"))

    assert "some" == verdict.done
    assert "has to be built" in verdict.reason
    assert ["parity-alpha==1.1", "parity-beta==1.0"] == names(verdict.installed)
    assert ["parity-delta==1.0", "wheels-zeta==1.1"] == names(verdict.left)
    wheel, data = Package(name="parity-beta", version="1.0").wheel()
    expected = Distribution(name="parity-beta", version="1.0", wheel=wheel, sha256=bench.index.sha256(wheel))
    assert expected in verdict.installed
    assert data
    assert plain == end


async def test_what_is_needed_is_not_told(bench: Bench) -> None:
    """Where something would have to be built only to know what it needs, nothing is installed."""
    verdict, end, plain = await bench.compared(*bench.pip("parity-alpha", "wheels-untold"))

    assert ("none", "wheels-untold==1.0 has to be built") == (verdict.done, verdict.reason)
    assert f"opt/venv/{SITE}/wheels_untold/__init__.py" in end
    assert plain == end


@pytest.mark.parametrize("packages", [("wheels-zeta",), ("parity-beta>7",)], ids=["to build", "impossible"])
async def test_all_or_failure(bench: Bench, packages: tuple[str, ...]) -> None:
    """Where all is wanted a step that cannot do all fails, and says neither how uv failed nor that it did."""
    layer, install = bench.pip(*packages)
    ahead = bench.ahead(bench.environment, wheels(layer, install), all_of_it=True)

    with pytest.raises(StepFailedError) as caught:
        await bench.trees(one=ahead.root)

    assert f"exit code {FOLLOWS}" in str(caught.value)
    assert "waits for the steps before it" in str(caught.value)
    assert "rror" not in str(caught.value).partition("waits")[0].partition("Using Python")[2]


async def test_nothing_keeps_uv_from_building(bench: Bench) -> None:
    """Nothing is done where something could be built after all, or where uv may install in two goes."""
    how = wheels(*bench.pip("wheels-zeta"))
    assert how is not None
    text = how.command(all_of_it=False)
    open_to_all = bench.run(bench.environment, text, llb.Bind(WORK_FOLDER, llb.scratch()))
    settings = lines("[pip]\nno-build-isolation = true\n", "/uv.toml")
    shared = bench.ahead(bench.environment, how, settings)

    files = await bench.trees(
        open=open_to_all.output(WORK_FOLDER),
        shared=shared.output(WORK_FOLDER),
        one=llb.diff(bench.environment, open_to_all.root),
        other=llb.diff(bench.environment, shared.root),
    )

    verdicts = [read_verdict(files[name]["verdict"][-1]) for name in ("open", "shared")]
    assert [("none", "nothing keeps uv from building"), ("none", "it builds without isolation")] == [
        (verdict.done, verdict.reason) for verdict in verdicts
    ]
    assert not any("wheels_zeta" in path for path in (*files["one"], *files["other"]))


async def test_uv_that_may_build_elsewhere(bench: Bench) -> None:
    """A `uv` that does not name the folder is not trusted, and one that does is known to the cache from then on."""
    layer, install = bench.pip("wheels-zeta==1.0")
    other = llb.mkfile("/opt/venv/bin/uv", b'#!/bin/sh\nexec /usr/bin/uv "$@"\n', 0o755)
    start, cache = bench.environment.file(other), f"test-wheels-{uuid.uuid4().hex}"
    mark = f"{NO_BUILDS}-of-$(stat -Lc %s-%Y $(command -v uv))"
    how = wheels(layer, install)
    real = bench.ahead(bench.environment, how, cache=cache)
    strange = bench.ahead(start, how, cache=cache)
    verdicts = await bench.trees(real=real.output(WORK_FOLDER), strange=strange.output(WORK_FOLDER))

    marked = bench.run(bench.environment, f'[ -e "{mark}" ] && touch /marked', cache=cache)
    unmarked = bench.run(start, f'[ ! -e "{mark}" ] && touch /unmarked', cache=cache)
    files = await bench.trees(marked=llb.diff(bench.environment, marked.root), unmarked=llb.diff(start, unmarked.root))

    assert "all" == read_verdict(verdicts["real"]["verdict"][-1]).done
    verdict = read_verdict(verdicts["strange"]["verdict"][-1])
    assert ("none", "this version of uv builds elsewhere") == (verdict.done, verdict.reason)
    assert "marked" in files["marked"]
    assert "unmarked" in files["unmarked"]


async def test_installed_packages_are_kept(bench: Bench) -> None:
    """What is installed already and satisfies the requirements stays, whatever there is that is newer."""
    layer, install = bench.pip("parity-beta==1.0", "parity-alpha==1.0")
    start = bench.ahead(bench.environment, wheels(layer, install)).root

    verdict, end, plain = await bench.compared(*bench.pip("parity-alpha", "parity-gamma"), start=start)

    assert ("all", ["parity-gamma==0.3"]) == (verdict.done, names(verdict.installed))
    assert plain == end


async def test_prereleases(bench: Bench) -> None:
    """Options of the installation hold: prereleases are taken when they are asked for."""
    verdict, end, plain = await bench.compared(*bench.pip("parity-alpha", pre=True, args="--no-deps"))

    assert ("all", ["parity-alpha==2.0rc1"]) == (verdict.done, names(verdict.installed))
    assert plain == end


async def test_hashes(bench: Bench) -> None:
    """Hashes of a requirements file are checked; where they fail, nothing of it is kept, since half may be written."""
    wheel, _ = Package(name="parity-beta", version="1.2").wheel()

    async def installed(digest: str) -> tuple[str, bool]:
        text = f"--index-url {bench.index.public}\nparity-beta==1.2 --hash=sha256:{digest}\n"
        layer = RequirementsLayer(file=Path("requirements.txt"), content=text.encode())
        how = wheels(layer, "uv pip install --python $UV_PYTHON --requirement requirements.txt")
        ahead = bench.ahead(bench.environment, how, lines(text, "/requirements.txt"))
        files = await bench.trees(verdict=ahead.output(WORK_FOLDER), one=llb.diff(bench.environment, ahead.root))
        return read_verdict(files["verdict"]["verdict"][-1]).done, f"opt/venv/{SITE}/parity_beta" in files["one"]

    assert ("all", True) == await installed(bench.index.sha256(wheel))
    with pytest.raises(StepFailedError, match=f"exit code {FOLLOWS}"):
        await installed("0" * 64)


async def test_options_of_a_requirements_file(bench: Bench) -> None:
    """The part that has wheels is looked for where the file says."""
    text = f"--extra-index-url {bench.index.extra}\nparity-epsilon  # there\nparity-delta\n"
    layer = RequirementsLayer(
        file=Path("requirements.txt"), content=text.encode(), options=PipOptions(index_url=bench.index.public)
    )
    install = f"uv pip install --python $UV_PYTHON --index-url {bench.index.public} --requirement requirements.txt"

    verdict, end, plain = await bench.compared(layer, install, lines(text, "/requirements.txt"))

    assert ["parity-beta==1.0", "parity-epsilon==1.0"] == names(verdict.installed)
    assert ["parity-delta==1.0"] == names(verdict.left)
    assert plain == end


async def test_lock(bench: Bench) -> None:
    """Of a project's lock everything is installed but what has to be built, and then that too."""
    text = project("wheels-project", dependencies=("parity-alpha", "wheels-zeta", "parity-delta"))
    text += f'[[tool.uv.index]]\nurl = "{bench.index.public}"\ndefault = true\n'
    folder = llb.scratch().file(llb.mkfile("/pyproject.toml", text.encode()))
    locking = bench.run(bench.environment, "cd /project && uv lock", llb.Bind("/project", folder))
    mounts = [
        llb.Bind(f"/{name}", locking.output("/project"), selector=name, readonly=True)
        for name in ("pyproject.toml", "uv.lock")
    ]
    layer = UvProjectLayer(pyproject=Path("pyproject.toml"), lock=Path("uv.lock"))
    install = "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv} uv sync --active --inexact --no-install-project"

    verdict, end, plain = await bench.compared(layer, install, *mounts)

    assert ("some", ["parity-alpha==1.1", "parity-beta==1.0"]) == (verdict.done, names(verdict.installed))
    assert {"parity-delta==1.0", "wheels-zeta==1.1"} == set(names(verdict.left))
    assert plain == end


async def test_project(bench: Bench, tmp_path: Path) -> None:
    """The dependencies of a project are installed ahead of it, from its file and its lock."""
    index = f'[[tool.uv.index]]\nurl = "{bench.index.public}"\ndefault = true\n'
    write_project(tmp_path, "wheels-project", dependencies=("parity-alpha",), more=index)
    files = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    folder = llb.scratch().file(
        *(llb.mkdir(f"/{path.parent}", parents=True) for path in files if path.parent != Path()),
        *(llb.mkfile(f"/{path}", content) for path, content in files.items()),
    )
    made = bench.run(bench.environment, "cd /project && uv lock", llb.Bind("/project", folder)).output("/project")
    layer = UvProjectLayer(
        pyproject=Path("pyproject.toml"), lock=Path("uv.lock"), project=LocalFiles(kind="folder", root=Path("project"))
    )
    before = dependencies(layer)
    assert before is not None
    two = [llb.Bind(f"/{name}", made, selector=name, readonly=True) for name in ("pyproject.toml", "uv.lock")]
    sync = "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv} uv sync --active --inexact"
    install = f"{sync} --no-install-project {before.options.extra_args}"
    ahead = bench.ahead(bench.environment, wheels(before, install), *two)
    whole = (f"{sync} --no-editable --project /root/.flyte/p", llb.Bind("/root/.flyte/p", made, output=False))

    found = await bench.trees(
        verdict=ahead.output(WORK_FOLDER),
        one=llb.diff(bench.environment, bench.run(ahead.root, *whole, cache="test-wheels-plain").root),
        other=llb.diff(bench.environment, bench.run(bench.environment, *whole, cache="test-wheels-plain").root),
    )

    verdict = read_verdict(found["verdict"]["verdict"][-1])
    assert ("all", ["parity-alpha==1.1", "parity-beta==1.2"]) == (verdict.done, names(verdict.installed))
    assert f"opt/venv/{SITE}/wheels_project/__init__.py" in found["one"]
    assert found["other"] == found["one"]


async def test_foreign_wheels(bench: Bench) -> None:
    """Wheels of another machine go into the environment, which is otherwise as it was; they are found there later."""
    layer = PipLayer(packages=("markupsafe==3.0.2",))
    more = PipLayer(packages=("markupsafe", "jinja2==3.1.6"))
    first = bench.ahead(
        bench.environment, wheels(layer, "uv pip install --python $UV_PYTHON markupsafe==3.0.2"), architecture="arm64"
    )
    second = bench.ahead(
        first.root, wheels(more, "uv pip install --python $UV_PYTHON markupsafe jinja2==3.1.6"), architecture="arm64"
    )

    files = await bench.trees(
        first=first.output(WORK_FOLDER), second=second.output(WORK_FOLDER), end=llb.diff(bench.environment, second.root)
    )

    assert ["markupsafe==3.0.2"] == names(read_verdict(files["first"]["verdict"][-1]).installed)
    assert ["jinja2==3.1.6"] == names(read_verdict(files["second"]["verdict"][-1]).installed)
    tags = files["end"][f"opt/venv/{SITE}/MarkupSafe-3.0.2.dist-info/WHEEL"][-1]
    assert b"Tag: cp311-cp311-manylinux_2_17_aarch64" in tags
    binary = files["end"][f"opt/venv/{SITE}/markupsafe/_speedups.cpython-311-aarch64-linux-gnu.so"][-1]
    assert (b"\x7fELF", 183) == (binary[:4], int.from_bytes(binary[18:20], "little"))
    assert f"opt/venv/{SITE}/jinja2/__pycache__/loaders.cpython-311.pyc" in files["end"]
