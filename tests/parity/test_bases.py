"""Bases: what they bring is kept, changed or obeyed as Flyte's own builder does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flyte import Image

from tests.conftest import Engine
from tests.integration import registry
from tests.parity.bases import AMD64, Bases
from tests.parity.builders import Parity
from tests.parity.packages import Index


async def test_everything_a_config_can_say(bases: Bases, parity: Parity) -> None:
    """Entrypoint, command, labels, ports, volumes, shell, health check, stop signal and the rest are kept."""
    image = bases.of(
        'ENTRYPOINT ["/bin/sh", "-c"]',
        'CMD ["echo", "one two"]',
        'LABEL team=data "with space"="a \\"quoted\\" value" empty=',
        "EXPOSE 8080 53/udp",
        "VOLUME /data /var/lib/x",
        "STOPSIGNAL SIGQUIT",
        "HEALTHCHECK --interval=5s --timeout=2s --retries=4 CMD curl -f localhost || exit 1",
        "ENV QUOTED='it is' DOLLAR='$x' EQUALS=a=b",
        "WORKDIR /opt/app",
        "USER nobody:nogroup",
    ).with_env_vars({"MORE": "1"})

    config = (await parity.same(image)).config["config"]

    assert ["/bin/sh", "-c"] == config["Entrypoint"]
    assert {"8080/tcp", "53/udp"} == set(config["ExposedPorts"])


async def test_shell(bases: Bases, parity: Parity) -> None:
    """Commands run in the base's shell, with the base's options."""
    image = bases.of('SHELL ["/bin/bash", "-o", "pipefail", "-c"]').with_commands(
        ["shopt -o pipefail > /option; [[ a == a ]] && echo $BASH_VERSION | wc -l > /bash", "set -- x; echo $0 > /zero"]
    )

    assert b"pipefail" in (await parity.same(image)).tree()["option"].content


async def test_user(bases: Bases, parity: Parity, user: Path) -> None:
    """A base that runs as somebody else: layers are made by root, and root is the image's user."""
    (user / "main.py").write_text("x = 1\n")
    image = (
        bases.of("RUN useradd --create-home flyte && useradd --uid 2000 app", "WORKDIR /home/app", "USER app")
        .with_commands(["id > who; mkdir made"])
        .with_workdir("below")
        .with_source_file(user / "main.py")
    )

    pulled = await parity.same(image)

    assert "root" == pulled.config["config"]["User"]
    assert (0, 0) == (pulled.tree()["home/app/below"].uid, pulled.tree()["home/app/below"].gid)


async def test_user_of_a_base_without_a_history(
    bases: Bases, parity: Parity, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied files are for a `flyte` user of a base that does not say how it was made."""
    (user / "main.py").write_text("x = 1\n")
    # No more than a shell, which stands in for a Python, with its libraries.
    base = bases.made(
        "RUN useradd -u 5678 flyte && mkdir /small",
        "RUN cp -L --parents /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') /etc/passwd /etc/group /small",
    )
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--network host --build-arg UV_PYTHON=/bin/sh")
    image = bases.of(f"COPY --from={base} /small /", start="scratch").with_source_file(user / "main.py", dst="/app/")

    assert 5678 == (await parity.same(image)).tree()["app/main.py"].uid


async def test_user_made_by_a_command(base: Image, parity: Parity, user: Path) -> None:
    """Copied files are for a `flyte` user that an earlier layer made."""
    (user / "main.py").write_text("x = 1\n")
    image = base.with_commands(["useradd -u 4567 flyte"]).with_source_file(user / "main.py", dst="/app/")

    assert 4567 == (await parity.same(image)).tree()["app/main.py"].uid


async def test_environment_of_its_own(bases: Bases, parity: Parity, index: Index) -> None:
    """A base that names its interpreter in `UV_PYTHON` gets no other from ours, and packages go there."""
    image = bases.of(
        "RUN python -m venv --without-pip /srv/env",
        "ENV VIRTUAL_ENV=/srv/env UV_PYTHON=/srv/env/bin/python PATH=/srv/env/bin:$PATH",
    ).with_pip_packages("parity-gamma", index_url=index.public)

    pair = await parity.better("environment-of-the-base", image)

    ours, theirs = pair.ours.pulled, pair.theirs.pulled
    assert ("/srv/env/bin/python", "/opt/venv/bin/python") == (ours.env["UV_PYTHON"], theirs.env["UV_PYTHON"])
    assert "srv/env/bin/parity-greet" in ours.tree()
    assert "opt/venv" not in ours.tree()
    assert "opt/venv/bin/parity-greet" in theirs.tree()


async def test_environment_elsewhere(bases: Bases, parity: Parity, index: Index) -> None:
    """A base that says in `VIRTUALENV` where its environment is, as an image made with that argument does."""
    image = bases.of("ENV VIRTUALENV=/srv/made").with_pip_packages("parity-gamma", index_url=index.public)

    pair = await parity.better("environment-of-the-base", image)

    assert "srv/made/bin/parity-greet" in pair.ours.pulled.tree()
    assert "opt/venv/bin/parity-greet" in pair.theirs.pulled.tree()


async def test_environment_by_an_argument(
    bases: Bases, parity: Parity, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that is there is used by both where the extra arguments name its interpreter."""
    monkeypatch.setenv(
        "FLYTE_DOCKER_BUILD_EXTRA_ARGS",
        "--network host --build-arg UV_PYTHON=/srv/env/bin/python --build-arg VIRTUALENV=/srv/env",
    )
    image = bases.of("RUN python -m venv --without-pip /srv/env", "ENV UV_PYTHON=/usr/bin/python3")

    tree = (await parity.same(image.with_pip_packages("parity-gamma", index_url=index.public))).tree()

    assert "srv/env/bin/parity-greet" in tree
    assert "opt/venv" not in tree


async def test_newer_python(bases: Bases, parity: Parity, index: Index) -> None:
    """Python 3.13, and the version of it that the image asks for."""
    image = bases.named("python:3.13-slim-bookworm").clone(python_version=(3, 13))

    tree = (await parity.same(image.with_pip_packages("parity-alpha[color]", index_url=index.public))).tree()

    assert "opt/venv/lib/python3.13/site-packages/parity_gamma/__init__.py" in tree


@pytest.mark.parametrize("python_version", [(3, 11), (3, 13)], ids=lambda version: "{}.{}".format(*version))
async def test_released_image(
    bases: Bases, parity: Parity, index: Index, user: Path, python_version: tuple[int, int]
) -> None:
    """Flyte's released image, whose environment and user are there already."""
    (user / "main.py").write_text("x = 1\n")
    image = (
        Image.from_debian_base(
            python_version=python_version,
            registry=bases.engine.registry,
            name=bases.repository,
            platform=AMD64,
        )
        .with_pip_packages("parity-gamma", index_url=index.public)
        .with_source_file(user / "main.py")
    )

    pulled = await parity.same(image)

    assert "opt/venv/bin/parity-greet" in pulled.tree()
    assert "home/flyte/main.py" in pulled.tree()


async def test_debian_image_without_flyte(engine: Engine, repository: str, parity: Parity, user: Path) -> None:
    """The Debian image that Flyte describes layer by layer: labels, the user and its home, variables, compilers."""
    (user / "main.py").write_text("x = 1\n")
    image = Image.from_debian_base(
        python_version=(3, 11), install_flyte=False, registry=engine.registry, name=repository, platform=AMD64
    ).with_source_file(user / "main.py")

    pulled = await parity.same(image)

    assert ("flyte", "/home/flyte") == (pulled.config["config"]["User"], pulled.config["config"]["WorkingDir"])
    assert "usr/bin/gcc" in pulled.tree()


async def test_image_by_a_name_of_the_config(bases: Bases, parity: Parity) -> None:
    """A base that the image names and the config knows, which Flyte fills in before it asks the builder."""
    named = Image.from_ref_name("company").clone(
        name=bases.repository, registry=bases.engine.registry, extendable=True, python_version=(3, 11), platform=AMD64
    )
    image = named.with_env_vars({"ANSWER": "42"}).clone(base_image=bases.made("ENV COMPANY=example"))

    pulled = await parity.same(image)

    assert ("example", "42") == (pulled.env["COMPANY"], pulled.env["ANSWER"])


async def test_image_on_an_image(base: Image, bases: Bases, parity: Parity, index: Index) -> None:
    """An image of Flyte's as the base of another, which was pushed and is fetched again."""
    first = base.with_env_vars({"STAGE": "first", "PATH": "/opt/first/bin:$PATH"}).with_pip_packages(
        "parity-beta==1.0", index_url=index.public
    )
    await parity.same(first)
    second = bases.named(first.uri).with_env_vars({"STAGE": "${STAGE},second"})
    second = second.with_pip_packages("parity-alpha", index_url=index.public)

    pulled = await parity.same(second)

    assert "first,second" == pulled.env["STAGE"]
    assert second.uri == pulled.env["_F_IMG_ID"]


async def test_clone_with_every_field(bases: Bases, engine: Engine, repository: str, parity: Parity) -> None:
    """A clone of a clone, with another base, name, registry, version of Python and platform."""
    image = (
        bases.named("debian:bookworm-slim")
        .with_env_vars({"KEPT": "1"})
        .clone(
            registry=engine.registry,
            name=f"{repository}/cloned/deeper",
            base_image="python:3.13-slim-bookworm",
            python_version=(3, 13),
            platform="linux/amd64",
            extendable=True,
        )
        .with_commands(["/opt/venv/bin/python --version > /version"])
    )

    pulled = await parity.same(image)

    assert b"Python 3.13" == pulled.tree()["version"].content[:11]
    assert "1" == pulled.env["KEPT"]


async def test_base_by_its_digest(base: Image, bases: Bases, parity: Parity) -> None:
    """A base in a registry, named by its digest."""
    await parity.same(base)
    digest = registry.digest_of(base.uri)

    assert "/opt/venv" == (await parity.same(bases.named(f"{base.uri.rpartition(':')[0]}@{digest}"))).env["VIRTUALENV"]
