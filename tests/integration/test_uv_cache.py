"""The cache of uv, which steps of many builds use at the same time without a lock."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import subprocess
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from flyte import Image

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from tests.conftest import Engine
from tests.integration.conftest import BASE
from tests.parity.packages import BACKEND, Package, serve, write_sdist
from tests.parity.tools import UV_IMAGE

BUILDS, ROUNDS, PACKAGES, SOURCES, MODULES = 8, 2, 24, 4, 20
# Every file of every distribution is what its wheel says, and every module is there to be imported.
CHECK = """\
import base64, hashlib, importlib, importlib.metadata as metadata, sys
wanted, found = set(sys.argv[1:]), set()
for distribution in metadata.distributions():
    name = distribution.metadata["Name"]
    if not name.startswith("stress-"):
        continue
    found.add(name)
    for path in distribution.files:
        data = path.locate().read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert path.hash is None or path.hash.value == digest, path
    importlib.import_module(name.replace("-", "_"))
assert wanted == found, wanted ^ found
"""


def write_wheel(folder: Path, name: str, content: str) -> Path:
    """Writes a wheel of so many modules that unpacking it takes a while."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}/__init__.py": "",
        **{f"{module}/m{number}.py": f"X = {content!r}\nY = {list(range(200))!r}\n" for number in range(MODULES)},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stress\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{path},sha256={_hash(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name_in_wheel, text in files.items():
            archive.writestr(zipfile.ZipInfo(name_in_wheel), text)
    return path


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def cold_cache(engine: Engine, docker: str, user: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A version of uv that nobody has used yet, and so a cache with nothing in it."""
    uv_image = f"stress-uv:{uuid.uuid4().hex[:12]}"
    environ = dict(engine.environ)
    subprocess.run([docker, "tag", UV_IMAGE, uv_image], check=True, env=environ)
    monkeypatch.setenv("FLYTE_BUILDKIT_UV_IMAGE", uv_image)
    # The index is on this machine's loopback.
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--network host")
    yield uv_image
    subprocess.run([docker, "rmi", uv_image], check=True, env=environ, stdout=subprocess.DEVNULL)


async def build(*images: Image) -> None:
    await asyncio.gather(*(BuildKitImageBuilder().build_image(image) for image in images))


def installed(engine: Engine, name: str, packages: Sequence[str], index: str, extra: str = "") -> Image:
    """An image with these packages, in which they are checked."""
    image = Image.from_base(BASE).clone(name=name, registry=engine.registry, extendable=True, python_version=(3, 11))
    image = image.with_pip_packages(*packages, index_url=index, extra_args=extra or None)
    return image.with_commands([f"$UV_PYTHON - {' '.join(packages)} <<'EOF'\n{CHECK}EOF"])


async def test_eight_builds_at_once_on_a_cold_cache(engine: Engine, name: str, cold_cache: str, tmp_path: Path) -> None:
    """Each environment is whole, file by file, in every round; and what is in the cache then is whole as well.

    The sets of packages overlap, and some packages have to be built, so that steps fill the same entries at once.
    """
    for turn in range(ROUNDS):
        chance = random.Random(turn)
        folder = tmp_path / str(turn)
        folder.mkdir()
        token = uuid.uuid4().hex
        names = [f"stress-{number}" for number in range(PACKAGES)]
        files = [write_wheel(folder, each, token) for each in names]
        sources = [f"stress-built-{number}" for number in range(SOURCES)]
        # A comment in the backend makes the sources of each round new to the cache.
        backend = f"# {token}\n{BACKEND}"
        files += [write_sdist(folder, Package(name=each, version="1.0"), backend=backend) for each in sources]
        with serve(files) as index:
            sets = [
                sorted({*names[number::BUILDS], *chance.sample(names, PACKAGES // 2), *chance.sample(sources, 2)})
                for number in range(BUILDS)
            ]
            await build(
                *(
                    installed(engine, f"{name}-{turn}-{number}", packages, index.public)
                    for number, packages in enumerate(sets)
                )
            )
            everything = sorted({package for packages in sets for package in packages})
            asked = len(index.seen)

            # Without asking the index again: all that it takes is in the cache, and is checked once more.
            await build(installed(engine, f"{name}-{turn}-all", everything, index.public, "--offline"))

            assert asked == len(index.seen)
