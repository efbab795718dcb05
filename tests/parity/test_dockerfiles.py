"""Dockerfiles, lines of them, and bases that have instructions for what is built on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from flyte import Image
from flyte._image import _DockerLines

from tests.conftest import Engine
from tests.parity.bases import Bases
from tests.parity.builders import Parity


def lines(image: Image, *text: str) -> Image:
    """The image with lines of a Dockerfile, as Flyte's default image has them."""
    return image.clone(addl_layer=_DockerLines(text))


async def test_stages(engine: Engine, repository: str, parity: Parity, user: Path) -> None:
    """Stages, arguments, copies between stages and from an image, and everything that a config can say."""
    (user / "app").mkdir()
    (user / "app" / "main.py").write_text("x = 1\n")
    (user / "app" / "left-out.log").write_text("no\n")
    (user / ".dockerignore").write_text("**/*.log\n")
    (user / "Dockerfile").write_text(
        "ARG VERSION=3.11\n"
        "FROM python:${VERSION}-slim-bookworm AS build\n"
        "ARG GREETING=hello\n"
        "WORKDIR /work\n"
        'RUN echo "$GREETING" > made && mkdir -p deep/er && ln made deep/er/linked\n'
        "FROM python:${VERSION}-slim-bookworm AS unused\n"
        "RUN exit 1\n"
        "FROM python:${VERSION}-slim-bookworm\n"
        "COPY --from=build --chmod=0640 --chown=7:8 /work /opt/work\n"
        "COPY --from=ghcr.io/astral-sh/uv:0.13.4 /uv /bin/uv\n"
        "COPY app /app\n"
        "ADD --chmod=755 app/main.py /bin/tool\n"
        "RUN --mount=type=bind,source=app,target=/seen ls /seen > /listing\n"
        'ENV A=1 B="two words"\n'
        "LABEL one=1\n"
        "USER nobody\n"
        "EXPOSE 80\n"
        "VOLUME /data\n"
        "STOPSIGNAL SIGINT\n"
        "HEALTHCHECK --retries=2 CMD true\n"
        "ONBUILD RUN echo built\n"
        'ENTRYPOINT ["/bin/tool"]\n'
        'CMD ["x"]\n'
    )
    image = Image.from_dockerfile(user / "Dockerfile", registry=engine.registry, name=repository)

    tree = (await parity.same(image)).tree()

    assert b"main.py\n" == tree["listing"].content
    assert "app/left-out.log" not in tree


async def test_another_name(engine: Engine, repository: str, parity: Parity, user: Path) -> None:
    """A Dockerfile of another name in another folder, with an ignore file of its own, named by a relative path."""
    folder = user / "images"
    folder.mkdir()
    (folder / "app.Dockerfile").write_text("FROM debian:bookworm-slim\nCOPY . /context/\n")
    (folder / "app.Dockerfile.dockerignore").write_text("*\n!kept*\n")
    for name in ("kept-1", "kept-2", "other"):
        (folder / name).write_text(name)
    image = Image.from_dockerfile(Path("images/app.Dockerfile"), registry=engine.registry, name=repository)

    tree = (await parity.same(image)).tree("context/")

    assert ["context/kept-1", "context/kept-2"] == sorted(tree)


async def test_arguments(
    engine: Engine, repository: str, parity: Parity, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments, labels and hosts of the extra arguments reach a Dockerfile."""
    monkeypatch.setenv(
        "FLYTE_DOCKER_BUILD_EXTRA_ARGS",
        "--network host --build-arg WHO='the world' --label team=data --add-host db.example:10.1.2.3",
    )
    (user / "Dockerfile").write_text(
        "FROM debian:bookworm-slim\nARG WHO\nARG NOBODY=none\n"
        "RUN echo $WHO $NOBODY > /who; grep db.example /etc/hosts > /host\n"
    )
    image = Image.from_dockerfile(user / "Dockerfile", registry=engine.registry, name=repository)

    tree = (await parity.same(image)).tree()

    assert b"the world none\n" == tree["who"].content


async def test_links_in_a_context(engine: Engine, repository: str, parity: Parity, user: Path) -> None:
    """In a context, links stay links, empty folders stay, and modes are kept."""
    context = user / "context"
    (context / "empty").mkdir(parents=True, mode=0o711)
    (context / "file").write_text("x")
    (context / "file").chmod(0o604)
    (context / "hard").hardlink_to(context / "file")
    (context / "soft").symlink_to("file")
    (context / "dead").symlink_to("/nowhere")
    (context / "Dockerfile").write_text("FROM debian:bookworm-slim\nCOPY . /context/\nCOPY soft* /globbed/\n")
    image = Image.from_dockerfile(context / "Dockerfile", registry=engine.registry, name=repository)

    tree = (await parity.same(image)).tree()

    assert ("link", "folder") == (tree["context/dead"].kind, tree["context/empty"].kind)


async def test_dockerfile_that_fails(engine: Engine, repository: str, parity: Parity, user: Path) -> None:
    """A typing error in a Dockerfile is reported with its line."""
    (user / "Dockerfile").write_text("FROM debian:bookworm-slim\nRUNN true\n")

    pair = await parity.both_fail(Image.from_dockerfile(user / "Dockerfile", registry=engine.registry, name=repository))

    assert "unknown instruction: RUNN" in pair.ours.error
    assert "unknown instruction: RUNN" in pair.theirs.error


async def test_labels(base: Image, parity: Parity) -> None:
    """Labels as Flyte's default image has them, quoted in every way."""
    image = lines(
        base,
        "LABEL org.opencontainers.image.authors='Union.AI <info@union.ai>'",
        'LABEL one="1" two=2 "the third"=\'a b\' four="it\'s"',
        "LABEL five=$LANG six=a\\ b",
    )

    labels = (await parity.same(image)).config["config"]["Labels"]

    assert "Union.AI <info@union.ai>" == labels["org.opencontainers.image.authors"]


async def test_any_line(with_user: Image, parity: Parity, user: Path) -> None:
    """Any instruction between layers: what was set before holds in it, and what it sets holds after it."""
    (user / "main.py").write_text("x = 1\n")
    image = lines(
        with_user.with_env_vars({"BEFORE": "1"}).with_workdir("/srv"),
        "ARG LOCAL=argument",
        "RUN echo $BEFORE $LOCAL $PWD > lines",
        "USER flyte",
        'SHELL ["/bin/bash", "-c"]',
        'ENV DURING="$BEFORE 2" PATH=/lines:$PATH',
        "WORKDIR below",
        'ENTRYPOINT ["/bin/sh"]',
        'CMD ["-c", "true"]',
        "EXPOSE 9000",
        "HEALTHCHECK NONE",
    ).with_commands(['[[ -n "$DURING" ]] && id -un > /srv/below/who; echo $0 $BASH_VERSION > /dev/null'])

    pulled = await parity.same(image.with_source_file(user / "main.py"))

    assert b"1 argument /srv\n" == pulled.tree()["srv/lines"].content
    assert b"flyte\n" == pulled.tree()["srv/below/who"].content
    assert "srv/below/main.py" in pulled.tree()


async def test_copy_in_a_line(base: Image, parity: Parity) -> None:
    """A line may copy from an image, and use a heredoc."""
    image = lines(
        base, "COPY --from=ghcr.io/astral-sh/uv:0.13.4 /uv /opt/uv", "COPY <<END /opt/text\nsome $LANG\ntext\nEND"
    )

    tree = (await parity.same(image)).tree()

    assert b"some C.UTF-8\ntext\n" == tree["opt/text"].content


async def test_command_in_a_dockerfiles_syntax(base: Image, parity: Parity) -> None:
    """Options of `RUN`, a list of words and a heredoc are taken as a Dockerfile takes them."""
    image = base.with_commands(
        [
            "--mount=type=tmpfs,target=/scratch --network=none echo x > /scratch/x && ls /scratch > /list",
            '["/bin/sh", "-c", "echo \\"$0\\" $UV_LINK_MODE > /words", "zero"]',
            "<<END\nset -e\necho here > /here\nEND",
        ]
    )

    tree = (await parity.same(image)).tree()

    assert b"here\n" == tree["here"].content
    assert b"zero copy\n" == tree["words"].content


async def test_instructions_of_the_base(bases: Bases, parity: Parity) -> None:
    """`ONBUILD` instructions of a base are carried out first, and are not inherited."""
    image = bases.of(
        "ONBUILD RUN echo built by $(id -un) > /onbuild",
        "ONBUILD ENV FROM_BASE=yes",
        "ONBUILD WORKDIR /on",
        "ONBUILD USER nobody",
    ).with_commands(["echo $FROM_BASE >> /onbuild"])

    pulled = await parity.same(image)

    assert pulled.tree()["onbuild"].content.endswith(b"yes\n")
    assert "OnBuild" not in pulled.config["config"]
