"""`from_dockerfile`, built by the daemon's own frontend over our session, on the real engine."""

from __future__ import annotations

import asyncio
import io
import os
import posixpath
import random
import struct
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.buildkit.session.filesync import LocalDirectory
from buildkit_builder.buildkit.session.patterns import parse_dockerignore, read_dockerignore
from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.conftest import BASE, Build
from tests.integration.registry import PulledImage, exists, manifest, pull

EXTRA = "FLYTE_DOCKER_BUILD_EXTRA_ARGS"
DEBIAN = "debian:bookworm-slim"


@pytest.fixture
def dockerfile(user: Path, engine_registry: str, name: str) -> Dockerfile:
    """The Dockerfile of a test."""
    return Dockerfile(user, engine_registry, name)


class Dockerfile:
    """Makes an image of a Dockerfile's text and of files beside it."""

    def __init__(self, folder: Path, registry: str, name: str) -> None:
        self.folder = folder
        self.registry = registry
        self.name = name

    def image(
        self,
        text: str,
        files: Mapping[str, str] | None = None,
        *,
        called: str = "Dockerfile",
        platform: tuple[str, ...] = ("linux/amd64",),
    ) -> Image:
        for path, content in {called: text, **(files or {})}.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        return Image.from_dockerfile(
            self.folder / called,
            registry=self.registry,
            name=self.name,
            platform=platform,  # type: ignore[arg-type]
        )


async def failure(image: Image) -> str:
    """What a build that fails says; nothing is pushed."""
    with pytest.raises(ImageBuildError) as caught:
        await BuildKitImageBuilder().build_image(image)
    assert not exists(str(image.uri))
    return str(caught.value)


# --- what is built ---


async def test_build_arguments(dockerfile: Dockerfile, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build arguments have the values of the extra arguments, of the environment, or their defaults."""
    monkeypatch.setenv(EXTRA, "--build-arg GIVEN='two words' --build-arg FROM_HERE --build-arg BASE=" + DEBIAN)
    monkeypatch.setenv("FROM_HERE", "here")
    image = dockerfile.image(
        "ARG BASE=nothing\nFROM $BASE\nARG GIVEN\nARG FROM_HERE\nARG DEFAULT=default\n"
        'RUN echo "$GIVEN,$FROM_HERE,$DEFAULT" > /args\n'
    )

    pulled = await build(image)

    assert b"two words,here,default\n" == pulled.tree()["args"].content


async def test_labels_and_cache(dockerfile: Dockerfile, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are added; steps are run again when asked for, and only then."""
    image = dockerfile.image(f"FROM {DEBIAN}\nLABEL own=1\nRUN cat /proc/sys/kernel/random/uuid > /made\n")
    monkeypatch.setenv(EXTRA, "--label 'extra=a b'")
    first = await build(image)
    second = await build(image)
    monkeypatch.setenv(EXTRA, "--no-cache")
    third = await build(image)

    assert {"own": "1", "extra": "a b"}.items() <= first.config["config"]["Labels"].items()
    assert first.tree()["made"] == second.tree()["made"]
    assert first.tree()["made"] != third.tree()["made"]


async def test_network_and_hosts(dockerfile: Dockerfile, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps have the network and the hosts of the extra arguments."""
    monkeypatch.setenv(EXTRA, "--network none --add-host db.example:10.1.2.3")
    image = dockerfile.image(
        f"FROM {DEBIAN}\nRUN grep db.example /etc/hosts > /hosts; tail -n +3 /proc/net/dev | cut -d: -f1 > /net\n"
    )

    tree = (await build(image)).tree()

    assert b"10.1.2.3\tdb.example\n" == tree["hosts"].content
    assert b"lo" == tree["net"].content.strip()


async def test_secrets(
    dockerfile: Dockerfile, build: Build, user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of the extra arguments reach the steps that mount them, from a variable and from a file."""
    (tmp_path / "key").write_text("s3cret-of-a-file")
    monkeypatch.setenv("TOKEN", "s3cret-of-a-variable")
    monkeypatch.setenv(EXTRA, f"--secret id=token,env=TOKEN --secret id=key,src={tmp_path / 'key'}")
    image = dockerfile.image(
        f"FROM {DEBIAN}\n"
        "RUN --mount=type=secret,id=token --mount=type=secret,id=key,target=/key "
        "for file in /run/secrets/token /key; do rev $file; echo; done > /seen\n"
    )

    pulled = await build(image)

    assert b"elbairav-a-fo-terc3s,elif-a-fo-terc3s," == pulled.tree()["seen"].content.replace(b"\n", b",")
    assert [] == [path for path, entry in pulled.tree().items() if b"s3cret-of" in entry.content]
    assert "s3cret-of" not in str(pulled.config)


async def test_ssh(dockerfile: Dockerfile, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that mounts an agent asks the agent that the extra arguments name, and gets its answer."""
    socket = Path(f"/tmp/agent-{dockerfile.name[-8:]}")  # sockets want short paths
    answer = b"\x0c" + struct.pack(">I", 0)  # SSH_AGENT_IDENTITIES_ANSWER: no keys
    asked = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readexactly(5))
        writer.write(struct.pack(">I", len(answer)) + answer)
        await writer.drain()
        writer.close()

    image = dockerfile.image(
        f"FROM {BASE}\nCOPY ask.py /ask.py\nRUN --mount=type=ssh,id=mine python3 /ask.py > /answer\n",
        {
            "ask.py": "import os, socket, uuid\n"
            "agent = socket.socket(socket.AF_UNIX)\n"
            "agent.connect(os.environ['SSH_AUTH_SOCK'])\n"
            "agent.sendall(bytes([0, 0, 0, 1, 11]))\n"
            f"print(agent.recv(100).hex())  # {dockerfile.name}\n"
        },
    )
    monkeypatch.setenv(EXTRA, f"--ssh mine={socket}")
    server = await asyncio.start_unix_server(agent, socket)
    try:
        pulled = await build(image)
    finally:
        server.close()
        socket.unlink(missing_ok=True)

    assert [b"\0\0\0\x01\x0b"] == asked
    assert b"000000050c00000000\n" == pulled.tree()["answer"].content


async def test_ssh_without_an_agent(dockerfile: Dockerfile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an agent the error says which is missing, and how to get one."""
    monkeypatch.setenv(EXTRA, "--ssh default")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    said = await failure(dockerfile.image(f"FROM {DEBIAN}\n"))

    assert "SSH_AUTH_SOCK" in said
    assert "ssh-agent" in said


async def test_dockerignore_with_exceptions(dockerfile: Dockerfile, build: Build) -> None:
    """The .dockerignore leaves out what it names, but for its exceptions; `ADD` unpacks nothing that it leaves out."""
    files = {
        ".dockerignore": "# logs\n**/*.log\nnode_modules\n!node_modules/keep\nsecret?\n",
        "app/main.py": "1", "app/deep/x.log": "2", "y.log": "3", "node_modules/drop/a": "4",
        "node_modules/keep/b": "5", "secret1": "6", "secret10": "7",
    }  # fmt: skip

    pulled = await build(dockerfile.image("FROM scratch\nCOPY . /out\nADD app /added\n", files))

    found = sorted(path for path, entry in pulled.tree("out").items() if entry.kind == "file")
    expected = [".dockerignore", "Dockerfile", "app/main.py", "node_modules/keep/b", "secret10"]
    assert [f"out/{path}" for path in expected] == found
    assert ["added/main.py"] == [path for path, entry in pulled.tree("added").items() if entry.kind == "file"]


async def test_dockerignore_that_leaves_out_again(dockerfile: Dockerfile, build: Build) -> None:
    """What a later line leaves out again does not get in, though a line between takes files of its kind back."""
    files = {
        ".dockerignore": "config\n!config/**/*.yaml\nconfig/secret\n",
        "config/app.yaml": "1", "config/app.txt": "2", "config/more/b.yaml": "3",
        "config/secret/db.yaml": "password", "config/secret/deep/db.yaml": "password",
    }  # fmt: skip

    pulled = await build(dockerfile.image("FROM scratch\nCOPY config /data\n", files))

    assert {"data/app.yaml": b"1", "data/more/b.yaml": b"3"} == contents(pulled)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
async def test_dockerignore_of_another_system(
    dockerfile: Dockerfile, build: Build, encoding: str, newline: str
) -> None:
    """Editors on Windows begin the file with a mark, and end lines otherwise."""
    text = "FROM scratch\nCOPY data /data\n"
    image = dockerfile.image(text, {"data/a.env": "password", "data/b.env": "password", "data/c": "1"})
    ignore = newline.join(["**/a.env", "# no comment", "data/b.*", ""])
    (dockerfile.folder / ".dockerignore").write_bytes(ignore.encode(encoding))

    assert {"data/c": b"1"} == contents(await build(image))


@pytest.mark.parametrize("line", ["COPY app /data/", "COPY *.txt /data/", "COPY app/a *.txt /data/"])
async def test_what_no_line_copies_may_be_anything(dockerfile: Dockerfile, build: Build, line: str) -> None:
    """Names that cannot be sent, dead links and pipes lie in a folder, and the image is made of what is copied."""
    image = dockerfile.image(f"FROM scratch\n{line}\n", {"app/a": "1", "x.txt": "2"})
    odd = dockerfile.folder / os.fsdecode(b"caf\xe9")
    (odd / "deep").mkdir(parents=True)
    (odd / os.fsdecode(b"\xff")).write_text("x")
    (dockerfile.folder / "dead").symlink_to(os.fsdecode(b"/gone/\xff"))
    os.mkfifo(dockerfile.folder / "pipe")

    found = contents(await build(image))
    expected = {"COPY app /data/": {"data/a"}, "COPY *.txt /data/": {"data/x.txt"}}
    assert expected.get(line, {"data/a", "data/x.txt"}) == set(found)


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("caf\xe9*\n*.log\n".encode("latin-1"), {"data/a"}),
        ("*.log\n".encode("utf-16"), {"data/a", "data/b.log"}),
        (b"*.log\n\xff\xfe\n!\xff\n", {"data/a"}),
    ],
    ids=["Latin-1", "UTF-16", "neither"],
)
async def test_dockerignore_that_is_not_utf8(
    dockerfile: Dockerfile, build: Build, ignore: bytes, left: set[str]
) -> None:
    """Lines that are not UTF-8 match nothing, as with Docker's clients, and the others what they say."""
    image = dockerfile.image("FROM scratch\nCOPY . /data/\n", {"a": "1", "b.log": "2"})
    (dockerfile.folder / ".dockerignore").write_bytes(ignore)

    assert left == {path for path in contents(await build(image)) if path[5:] not in ("Dockerfile", ".dockerignore")}


def random_ignore(chance: random.Random) -> bytes:
    """Lines as people write them, and worse."""
    parts = [
        "a",
        "b",
        "*",
        "**",
        "*.md",
        "a.md",
        "?b",
        "[ab]",
        "[^a]*",
        "..",
        ".",
        "ä",
        "x y",
        "a+b",
        ".env",
        r"\*",
        "A",
    ]
    lines = []
    for _ in range(chance.randint(1, 5)):
        pattern = "/".join(chance.choice(parts) for _ in range(chance.randint(1, 3)))
        pattern = chance.choice(["", "", "", "/", "./", " "]) + pattern + chance.choice(["", "", "/", " ", "/**"])
        lines.append(chance.choice(["", "", "!", "! "]) + pattern)
    lines.insert(chance.randint(0, len(lines)), chance.choice(["", "# a", "a", "!a/b"]))
    text = chance.choice(["\n", "\r\n"]).join(lines)
    if "!" in map(posixpath.normpath, parse_dockerignore(text)):
        return random_ignore(chance)  # an exception of nothing is an error on both sides
    return text.encode(chance.choice(["utf-8", "utf-8", "utf-8-sig"]))


async def test_dockerignore_means_what_it_means_to_docker(docker: str, engine: Engine, tmp_path: Path) -> None:
    """Of random patterns, the files that are listed are those that `docker buildx build` sends; but see above."""
    chance = random.Random(20)
    tree = [
        "a/b/c.md",
        "a/b/a",
        "a/a.md",
        "b/a.md",
        "b/ab/c",
        "ab/a.md",
        "a.md",
        "b.md",
        "ä/ä.md",
        "x y/a",
        "a+b",
        "A/a",
    ]
    contexts = {f"c{number}": tmp_path / f"c{number}" for number in range(30)}
    for context in contexts.values():
        for path in tree:
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            (context / path).touch()
        (context / ".dockerignore").write_bytes(random_ignore(chance))
    lines = "".join(f"COPY --from={name} . /{name}/\n" for name in contexts)
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\n{lines}")
    given = [word for name, path in contexts.items() for word in ("--build-context", f"{name}={path}")]
    command = [docker, "buildx", "build", "--builder=default", "--quiet", "--output=type=tar,dest=-", *given, "."]
    done = subprocess.run(command, env=dict(engine.environ), cwd=tmp_path, capture_output=True, check=False)
    assert 0 == done.returncode, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        sent = {member.name for member in archive if member.isfile()}

    for name, context in contexts.items():
        patterns = read_dockerignore(context / ".dockerignore")
        entries = LocalDirectory(name, context).entries(exclude=patterns)
        listed = {f"{name}/{entry.path}" for entry in entries if entry.has_content}
        theirs = {path for path in sent if path.startswith(f"{name}/")}
        exceptions = [number for number, pattern in enumerate(patterns) if pattern.startswith("!")]
        if exceptions and any(not pattern.startswith("!") for pattern in patterns[exceptions[0] :]):
            # Here Docker's clients send some of what the last line that matches leaves out.
            assert listed <= theirs, patterns
        else:
            assert listed == theirs, patterns


async def test_dockerignore_of_its_own(dockerfile: Dockerfile, build: Build) -> None:
    """A Dockerfile of another name has its own .dockerignore, which stands in for the folder's."""
    image = dockerfile.image(
        "FROM scratch\nCOPY *.txt /\n",
        {".dockerignore": "b.txt\n", "Dockerfile.dev.dockerignore": "a.txt\n", "a.txt": "a", "b.txt": "b"},
        called="Dockerfile.dev",
    )

    pulled = await build(image)

    assert ["b.txt"] == [path for path, entry in pulled.tree().items() if entry.kind == "file"]


async def test_add_and_heredocs(dockerfile: Dockerfile, build: Build) -> None:
    """`ADD`, `COPY --chmod --chown`, heredocs and `WORKDIR` mean what they mean in Docker."""
    image = dockerfile.image(
        f"FROM {DEBIAN}\nWORKDIR /srv\nADD --chmod=711 data.txt ./added/\nCOPY --chown=12:34 data.txt copied\n"
        "COPY <<EOF /conf\nkey = $HOME\nEOF\n"
        "RUN <<EOF\nset -e\necho one > both\necho two >> both\nEOF\n"
        'ENTRYPOINT ["/bin/true"]\n',
        {"data.txt": "data"},
    )

    pulled = await build(image)

    tree = pulled.tree()
    assert (b"data", 0o711) == (tree["srv/added/data.txt"].content, tree["srv/added/data.txt"].mode)
    assert (12, 34) == (tree["srv/copied"].uid, tree["srv/copied"].gid)
    assert b"one\ntwo\n" == tree["srv/both"].content
    assert tree["conf"].content.startswith(b"key = ")
    assert ["/bin/true"] == pulled.config["config"]["Entrypoint"]


async def test_syntax_line_is_never_pulled(dockerfile: Dockerfile, build: Build) -> None:
    """A `# syntax` line that names what no registry has does not matter: nothing is pulled for it."""
    text = f"# syntax=registry.invalid/none/dockerfile:99\nFROM {DEBIAN}\nENV A=1\n"

    assert "1" == (await build(dockerfile.image(text))).env["A"]


async def test_changed_file(dockerfile: Dockerfile, build: Build) -> None:
    """A file that changes between builds is sent again, one that is gone is not there any more."""
    text = "FROM scratch\nCOPY data /data\n"
    image = dockerfile.image(text, {"data/a": "one", "data/b": "two"})
    first = contents(await build(image))
    (dockerfile.folder / "data" / "a").write_text("changed")
    (dockerfile.folder / "data" / "b").unlink()
    second = contents(await build(image))

    assert {"data/a": b"one", "data/b": b"two"} == first
    assert {"data/a": b"changed"} == second


async def test_platforms(dockerfile: Dockerfile, engine: Engine, user: Path) -> None:
    """Two platforms that need nothing run become one index."""
    image = dockerfile.image(
        "FROM scratch\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCOPY a /\n", {"a": "a"},
        platform=("linux/amd64", "linux/arm64"),
    )  # fmt: skip

    result = await BuildKitImageBuilder().build_image(image)

    assert result.uri is not None
    assert 2 == len(manifest(result.uri)[0]["manifests"])
    for architecture in ("amd64", "arm64"):
        pulled = pull(result.uri, platform=f"linux/{architecture}")
        assert (architecture, architecture) == (pulled.config["architecture"], pulled.env["ARCH"])


async def test_foreign_base(dockerfile: Dockerfile, engine: Engine, docker: str) -> None:
    """A base that the engine has for its own platform only is never taken for another one."""
    reference = f"{engine.registry}/{dockerfile.name}-base:1"
    environ = dict(engine.environ)
    options = ["--builder=default", "--load", "--quiet", "--provenance=false", "--platform=linux/amd64"]
    subprocess.run(
        [docker, "buildx", "build", *options, f"--tag={reference}", "-"],
        input=f"FROM {DEBIAN}\nLABEL for=amd64\n", text=True, check=True, env=environ, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        subprocess.run([docker, "push", "-q", reference], check=True, env=environ, stdout=subprocess.DEVNULL)
        said = await failure(dockerfile.image(f"FROM {reference}\nRUN uname -m > /m\n", platform=("linux/arm64",)))
    finally:
        subprocess.run([docker, "rmi", reference], check=True, env=environ, stdout=subprocess.DEVNULL)

    assert "linux/arm64" in said
    assert "platform" in said


async def test_base_of_one_platform_in_the_engine(dockerfile: Dockerfile, engine: Engine, docker: str) -> None:
    """A base that the engine has for its own platform is taken from the registry for another one."""
    base = dockerfile.image(
        "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n",
        {"amd64": "amd64", "arm64": "arm64"},
        platform=("linux/amd64", "linux/arm64"),
    )
    based = str((await BuildKitImageBuilder().build_image(base)).uri)
    environ = dict(engine.environ)
    subprocess.run([docker, "pull", "-q", based], check=True, env=environ, stdout=subprocess.DEVNULL)
    try:
        image = dockerfile.image(f"FROM {based}\nCOPY more /more\n", {"more": "more"}, platform=("linux/arm64",))
        result = await BuildKitImageBuilder().build_image(image)
    finally:
        subprocess.run([docker, "rmi", based], check=True, env=environ, stdout=subprocess.DEVNULL)

    pulled = pull(str(result.uri), platform="linux/arm64")
    assert (b"arm64", b"more") == (pulled.tree()["arch"].content, pulled.tree()["more"].content)


# --- what is not ---


async def test_failing_step_names_its_line(dockerfile: Dockerfile) -> None:
    """A step that fails is told with its line, its exit code and its last words."""
    said = await failure(dockerfile.image(f"FROM {DEBIAN}\n\nRUN true\nRUN echo its last words >&2; exit 3\n"))

    assert "Dockerfile:4" in said
    assert "exit code 3" in said
    assert "its last words" in said


async def test_missing_copy_source(dockerfile: Dockerfile) -> None:
    """A file that a `COPY` names and that is not there is told by its name and line."""
    said = await failure(dockerfile.image("FROM scratch\nCOPY not-there.txt /\n"))

    assert "not-there.txt" in said
    assert "Dockerfile:2" in said


async def test_syntax_error(dockerfile: Dockerfile) -> None:
    """An instruction that there is not is told with its line."""
    said = await failure(dockerfile.image(f"FROM {DEBIAN}\nRUNN true\n"))

    assert "RUNN" in said
    assert "Dockerfile:2" in said


async def test_missing_base(dockerfile: Dockerfile) -> None:
    """A base image that there is not is told by its name."""
    said = await failure(dockerfile.image("FROM localhost:5000/no/such/base:7\n"))

    assert "no/such/base:7" in said


async def test_required_secret(dockerfile: Dockerfile) -> None:
    """A secret that a step requires and nobody gives is told by its name."""
    said = await failure(dockerfile.image(f"FROM {DEBIAN}\nRUN --mount=type=secret,id=absent,required=true true\n"))

    assert "absent" in said


def contents(image: PulledImage) -> dict[str, bytes]:
    """The files below `data`."""
    return {path: entry.content for path, entry in image.tree("data").items() if entry.kind == "file"}


@pytest.mark.parametrize("spelled", ["linux/arm64/v8", "linux/aarch64", "Linux/ARM64"])
async def test_a_platform_spelled_otherwise(dockerfile: Dockerfile, build: Build, spelled: str) -> None:
    """However it is spelled, the image is for it, and has its files."""
    pulled = await build(dockerfile.image("FROM scratch\nCOPY a /a\n", {"a": "content"}, platform=(spelled,)))

    assert b"content" == pulled.tree()["a"].content
    assert ("linux", "arm64", None) == tuple(map(pulled.config.get, ("os", "architecture", "variant")))


async def test_platforms_spelled_otherwise(dockerfile: Dockerfile, user: Path) -> None:
    """Two spellings of a platform are one; an architecture alone is Linux's, and 32-bit ARM is version 7."""
    names = ("linux/x86_64", "amd64", "linux/arm64/v8", "linux/arm")
    image = dockerfile.image("FROM scratch\nARG TARGETPLATFORM\nCOPY a /a\n", {"a": "content"}, platform=names)

    await BuildKitImageBuilder().build_image(image)

    found = [entry["platform"] for entry in manifest(str(image.uri))[0]["manifests"]]
    assert [("amd64", None), ("arm64", None), ("arm", "v7")] == [
        (entry["architecture"], entry.get("variant")) for entry in found
    ]
    for platform in ("linux/amd64", "linux/arm64"):
        assert b"content" == pull(str(image.uri), platform=platform).tree()["a"].content


@pytest.mark.parametrize(
    ("asked", "setting"),
    [
        (("linux/arm64",), "linux/arm64/v8"),
        (("linux/arm64",), "ARM64"),
        (("linux/amd64", "linux/arm64"), "linux/aarch64"),
        (("linux/aarch64",), "arm64"),
    ],
)
async def test_the_setting_may_spell_a_platform_otherwise(
    dockerfile: Dockerfile,
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, ...],
    setting: str,
) -> None:
    """What the setting leaves to build is found, and nothing else is built."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PLATFORMS", setting)
    pulled = await build(dockerfile.image("FROM scratch\nCOPY a /a\n", {"a": "content"}, platform=asked))

    assert b"content" == pulled.tree()["a"].content
    assert "arm64" == pulled.config["architecture"]
