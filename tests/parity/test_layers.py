"""Layers that install and set things: each alone, with each of its options."""

from __future__ import annotations

from pathlib import Path

import pytest
from flyte import Image

from tests.parity.builders import Parity
from tests.parity.packages import TOKEN, Index

SITE = "opt/venv/lib/python3.11/site-packages"


async def test_nothing_added(base: Image, parity: Parity) -> None:
    """A base with nothing on it gets uv, the environment and Flyte's variables."""
    assert "usr/bin/uv" in (await parity.same(base)).tree()


async def test_apt_packages(base: Image, parity: Parity) -> None:
    """One system package, and after it several at once, one of them by its version and one an option."""
    image = base.with_apt_packages("hello").with_apt_packages("tree=2.*", "--fix-missing", "sl")

    tree = (await parity.same(image)).tree()

    assert {"usr/bin/hello", "usr/games/sl", "usr/bin/tree"} <= set(tree)


async def test_pip_package(base: Image, parity: Parity, index: Index) -> None:
    """One Python package and what it depends on."""
    tree = (await parity.same(base.with_pip_packages("parity-alpha", index_url=index.public))).tree()

    assert f"{SITE}/parity_alpha-1.1.dist-info/METADATA" in tree
    assert f"{SITE}/parity_beta-1.2.dist-info/METADATA" in tree


async def test_pip_versions(base: Image, parity: Parity, index: Index) -> None:
    """Versions with every operator, one of which a shell would take for a redirection, and an environment marker."""
    image = base.with_pip_packages(
        "parity-alpha<1.1", "parity-beta>=1,!=1.2", "parity-gamma == 0.3 ; python_version > '3'", index_url=index.public
    )

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/parity_alpha-1.0.dist-info/METADATA" in tree
    assert f"{SITE}/parity_beta-1.0.dist-info/METADATA" in tree


async def test_pip_extra(base: Image, parity: Parity, index: Index) -> None:
    """A package with an extra, which brings one with a console script."""
    tree = (await parity.same(base.with_pip_packages("parity-alpha[color]", index_url=index.public))).tree()

    assert 0o755 == tree["opt/venv/bin/parity-greet"].mode


async def test_pip_pre_release(base: Image, parity: Parity, index: Index) -> None:
    """A pre-release, where they are wanted."""
    tree = (await parity.same(base.with_pip_packages("parity-alpha", index_url=index.public, pre=True))).tree()

    assert f"{SITE}/parity_alpha-2.0rc1.dist-info/METADATA" in tree


async def test_pip_extra_index(base: Image, parity: Parity, index: Index) -> None:
    """A package of a second index whose dependency is in the first."""
    image = base.with_pip_packages("parity-epsilon", index_url=index.public, extra_index_urls=index.extra)

    assert f"{SITE}/parity_epsilon/__init__.py" in (await parity.same(image)).tree()


async def test_pip_extra_indexes(base: Image, parity: Parity, index: Index) -> None:
    """Two further indexes, the first one having nothing."""
    image = base.with_pip_packages(
        "parity-epsilon", index_url=index.simple("none"), extra_index_urls=[index.extra, index.public]
    )

    assert f"{SITE}/parity_epsilon/__init__.py" in (await parity.same(image)).tree()


async def test_pip_extra_arguments(base: Image, parity: Parity, index: Index) -> None:
    """Arguments of uv's, several of them."""
    image = base.with_pip_packages("parity-alpha", index_url=index.public, extra_args="--no-deps  --verbose")

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/parity_alpha/__init__.py" in tree
    assert f"{SITE}/parity_beta/__init__.py" not in tree


async def test_pip_url(base: Image, parity: Parity, index: Index) -> None:
    """A wheel by its address, with a hash, and dependencies from the index."""
    wheel = "parity_alpha-1.0-py3-none-any.whl"
    requirement = f"parity-alpha @ {index.url(wheel)}#sha256={index.sha256(wheel)}"

    tree = (await parity.same(base.with_pip_packages(requirement, index_url=index.public))).tree()

    assert f"{SITE}/parity_alpha-1.0.dist-info/direct_url.json" in tree


async def test_pip_sources(base: Image, parity: Parity, index: Index) -> None:
    """A package that there are only sources of is built in the step."""
    tree = (await parity.same(base.with_pip_packages("parity-delta", index_url=index.public))).tree()

    assert f"{SITE}/parity_delta/__init__.py" in tree
    assert f"{SITE}/parity_beta-1.0.dist-info/METADATA" in tree


async def test_pip_replaces(base: Image, parity: Parity, index: Index) -> None:
    """A later layer takes away the version that an earlier one installed."""
    image = base.with_pip_packages("parity-beta==1.0", index_url=index.public).with_pip_packages(
        "parity-beta==1.2", index_url=index.public
    )

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/parity_beta-1.2.dist-info/METADATA" in tree
    assert f"{SITE}/parity_beta-1.0.dist-info/METADATA" not in tree


async def test_pip_without_packages(base: Image, parity: Parity) -> None:
    """No package at all is an error of uv's for both."""
    pair = await parity.both_fail(base.with_pip_packages())

    assert "required arguments were not provided" in pair.ours.error
    assert "required arguments were not provided" in pair.theirs.error


async def test_private_index(base: Image, parity: Parity, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private index whose password is a secret, standing as a variable in the URL; it is nowhere in the image."""
    monkeypatch.setenv("INDEX_TOKEN", TOKEN)
    image = base.with_pip_packages("parity-secret", index_url=index.private, secret_mounts="INDEX_TOKEN")

    pulled = await parity.same(image)

    assert f"{SITE}/parity_secret/__init__.py" in pulled.tree()
    assert [] == [path for path, entry in pulled.layers[-1].entries.items() if TOKEN.encode() in entry.content]


async def test_requirements(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """A requirements file, with comments, a marker and an option of its own; it is not in the image."""
    (user / "requirements.txt").write_text(
        f"# what is needed\n--index-url {index.public}\n"
        "parity-alpha==1.0 ; python_version > '3'  # not newer\n\nparity-gamma\n"
    )

    tree = (await parity.same(base.with_workdir("/srv").with_requirements("requirements.txt"))).tree()

    assert f"{SITE}/parity_alpha-1.0.dist-info/METADATA" in tree
    assert f"{SITE}/parity_gamma-0.3.dist-info/METADATA" in tree


async def test_requirements_options(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """Every option of the layer beside the file."""
    (user / "dev.txt").write_text("parity-alpha\nparity-epsilon\n")
    image = base.with_requirements(
        Path("dev.txt"), index_url=index.public, extra_index_urls=(index.extra,), pre=True, extra_args="--no-deps"
    )

    tree = (await parity.same(image)).tree()

    assert f"{SITE}/parity_alpha-2.0rc1.dist-info/METADATA" in tree
    assert f"{SITE}/parity_epsilon-1.0.dist-info/METADATA" in tree


async def test_requirements_with_hashes(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """A locked file, whose hashes are required."""
    wheel = "parity_beta-1.2-py3-none-any.whl"
    (user / "requirements.txt").write_text(f"parity-beta==1.2 \\\n    --hash=sha256:{index.sha256(wheel)}\n")
    image = base.with_requirements("requirements.txt", index_url=index.public, extra_args="--require-hashes")

    assert f"{SITE}/parity_beta-1.2.dist-info/METADATA" in (await parity.same(image)).tree()


async def test_requirements_outside_the_tree(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """A file above the folder that the user stands in, by a relative and by an absolute path."""
    (user.parent / "shared.txt").write_text("parity-beta\n")
    (user.parent / "other.txt").write_text("parity-gamma\n")
    image = base.with_requirements("../shared.txt", index_url=index.public)
    image = image.with_requirements((user.parent / "other.txt").absolute(), index_url=index.public)

    tree = (await parity.same(image)).tree()

    assert {f"{SITE}/parity_beta/__init__.py", f"{SITE}/parity_gamma/__init__.py"} <= set(tree)


async def test_requirements_that_include_others(base: Image, parity: Parity, index: Index, user: Path) -> None:
    """A file that names another one fails for both: only the file itself reaches the step."""
    (user / "requirements.txt").write_text("-r other.txt\n")
    (user / "other.txt").write_text("parity-beta\n")

    pair = await parity.both_fail(base.with_requirements("requirements.txt", index_url=index.public))

    assert "other.txt" in pair.ours.error
    assert "other.txt" in pair.theirs.error
