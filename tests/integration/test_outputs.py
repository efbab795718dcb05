"""What an image says of itself and of how it was made, on the real engine: labels, annotations, attestations, time."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flyte import Image
from flyte.errors import ImageBuildError

from buildkit_builder.flyte_plugin.builder import BuildKitImageBuilder
from buildkit_builder.flyte_plugin.checker import BuildKitImageChecker
from buildkit_builder.flyte_plugin.reader import default_uv_image
from tests.conftest import Engine
from tests.integration.conftest import BASE, Build
from tests.integration.daemon import Daemon, daemon
from tests.integration.registry import blob, manifest

DEBIAN = "debian:bookworm-slim"
PYTHON = "python:3.11-slim-bookworm"
EPOCH = 1_700_000_000
SLSA, SPDX = "https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document"
# Says what it found in the file `/marker` of the image.
SCANNER = """#!/bin/sh
cat > "$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json" <<END
{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "subject": [],
 "predicate": {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "marker", "dataLicense": "CC0-1.0",
  "documentNamespace": "https://example.org/marker",
  "creationInfo": {"created": "2023-01-01T00:00:00Z", "creators": ["Tool: test"]},
  "packages": [{"name": "marker", "SPDXID": "SPDXRef-marker", "versionInfo": "$(cat "$BUILDKIT_SCAN_SOURCE/marker")",
   "downloadLocation": "NOASSERTION"}]}}
END
"""


def attestations(reference: str) -> dict[str, Any]:
    """What is attested of an image of one platform, by the type of the statement."""
    index, kind = manifest(reference)
    assert "application/vnd.oci.image.index.v1+json" == kind
    image, attested = index["manifests"]
    assert "attestation-manifest" == attested["annotations"]["vnd.docker.reference.type"]
    assert image["digest"] == attested["annotations"]["vnd.docker.reference.digest"]
    repository = reference.rpartition(":")[0]
    layers = manifest(f"{repository}@{attested['digest']}")[0]["layers"]
    statements = [json.loads(blob(repository, layer["digest"])) for layer in layers]
    return {statement["predicateType"]: statement["predicate"] for statement in statements}


# --- labels and annotations ---


async def test_labels_and_annotations(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the settings are in the config and in the manifest; those of the flags come last."""
    monkeypatch.setenv("FLYTE_BUILDKIT_LABELS", "team=ml,stage=test")
    monkeypatch.setenv("FLYTE_BUILDKIT_ANNOTATIONS", "org.example.a=1")
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--label stage=real --annotation org.example.b=2")

    pulled = await build(base)

    assert {"team": "ml", "stage": "real"}.items() <= pulled.config["config"]["Labels"].items()
    assert {"org.example.a": "1", "org.example.b": "2"} == pulled.manifest["annotations"]


async def test_labels_of_a_dockerfile(
    build: Build, user: Path, engine_registry: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of a Dockerfile has them, too."""
    monkeypatch.setenv("FLYTE_BUILDKIT_LABELS", "team=ml")
    (user / "Dockerfile").write_text(f"FROM {BASE}\n")

    pulled = await build(Image.from_dockerfile(user / "Dockerfile", registry=engine_registry, name=name))

    assert "ml" == pulled.config["config"]["Labels"]["team"]


# --- attestations ---


async def test_provenance(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """`min` says what the image is made from, `max` also how; the image is found to be there as before."""
    image = base.with_commands([f"echo {uuid.uuid4()} > /made"])
    found = {}
    for mode in ("min", "max"):
        monkeypatch.setenv("FLYTE_BUILDKIT_PROVENANCE", mode)
        found[mode] = attestations((await build(image)).reference)[SLSA]

    named = f"pkg:docker/{BASE.replace(':', '@')}?platform=linux%2Famd64"
    for predicate in found.values():
        assert named in [material["uri"] for material in predicate["materials"]]
        assert all("sha256" in material["digest"] for material in predicate["materials"])
    assert "buildConfig" not in found["min"]
    assert found["max"]["buildConfig"]["llbDefinition"]
    repository, _, tag = str(image.uri).rpartition(":")
    assert await BuildKitImageChecker.image_exists(repository, tag)


async def test_annotated_index(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is attested makes an index of an image, which can be annotated as its manifests can."""
    monkeypatch.setenv("FLYTE_BUILDKIT_PROVENANCE", "min")
    monkeypatch.setenv("FLYTE_BUILDKIT_ANNOTATIONS", "index:a=1,manifest-descriptor:b=2,c=3")

    pulled = await build(base)

    index = manifest(pulled.reference)[0]
    assert {"a": "1"} == index["annotations"]
    assert {"b": "2"} == index["manifests"][0]["annotations"]
    assert {"c": "3"} == pulled.manifest["annotations"]


async def test_sbom(base: Image, build: Build, user: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scanner that is named looks at the files of the finished image."""
    (user / "Dockerfile").write_text(f'FROM {BASE}\nCOPY scan.sh /\nENTRYPOINT ["/bin/sh", "/scan.sh"]\n')
    (user / "scan.sh").write_text(SCANNER)
    scanner = await build(
        Image.from_dockerfile(user / "Dockerfile", registry=str(base.registry), name=f"{name}-scanner")
    )
    monkeypatch.setenv("FLYTE_BUILDKIT_SBOM", scanner.reference)
    mark = str(uuid.uuid4())

    pulled = await build(base.with_commands([f"echo {mark} > /marker"]))

    (package,) = attestations(pulled.reference)[SPDX]["packages"]
    assert ("marker", mark) == (package["name"], package["versionInfo"])


async def test_an_engine_that_cannot_attest(
    engine: Engine, user: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the containerd image store it is an error that says so, and nothing is built."""
    assert engine.dockerd is not None
    monkeypatch.setenv("FLYTE_BUILDKIT_PROVENANCE", "min")
    image = Image.from_base(DEBIAN).clone(name=name, registry=engine.registry, extendable=True, python_version=(3, 11))
    with daemon(engine.dockerd, engine.environ, containerd_store=False) as old:
        monkeypatch.setenv("DOCKER_HOST", old.address)
        with pytest.raises(ImageBuildError, match=r"cannot attest an image[\s\S]*containerd-snapshotter"):
            await BuildKitImageBuilder().build_image(image)


# --- time ---


@dataclass(frozen=True, kw_only=True)
class Strangers:
    """Two engines that share nothing but the images that they were given."""

    one: Daemon
    other: Daemon


@pytest.fixture(scope="module")
def strangers(engine: Engine, docker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strangers]:
    """With a base in their stores."""
    assert engine.dockerd is not None
    archive = tmp_path_factory.mktemp("images") / "images.tar"
    images = (PYTHON, default_uv_image())
    subprocess.run([docker, "save", "-o", str(archive), *images], check=True, env=dict(engine.environ))
    with daemon(engine.dockerd, engine.environ) as one, daemon(engine.dockerd, engine.environ) as other:
        one.load(archive)
        other.load(archive)
        yield Strangers(one=one, other=other)


async def test_one_digest_on_two_engines(
    strangers: Strangers, engine: Engine, user: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one spec and one time two engines that know nothing of each other make the same image, to the byte."""
    # They have no bridge.
    monkeypatch.setenv("FLYTE_DOCKER_BUILD_EXTRA_ARGS", "--network host")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    if engine.ca is not None:
        monkeypatch.setenv("FLYTE_BUILDKIT_CA_BUNDLE", str(engine.ca))
    (user / "main.py").write_text("x = 1\n")
    image = Image.from_base(PYTHON).clone(name=name, registry=engine.registry, extendable=True, python_version=(3, 11))
    image = image.with_apt_packages("figlet", "libyaml-0-2").with_pip_packages("markupsafe==3.0.2")
    image = image.with_commands(["mkdir /made && echo made > /made/file"]).with_env_vars({"A": "1"})
    image = image.with_source_file(user / "main.py", dst="/app/")
    found = []
    for where in (strangers.one, strangers.other):
        monkeypatch.setenv("DOCKER_HOST", where.address)
        result = await BuildKitImageBuilder().build_image(image)
        found.append(manifest(str(result.uri)))
        # Times are told in whole seconds.
        await asyncio.sleep(1.1)

    assert found[0] == found[1]


async def test_no_file_is_younger(base: Image, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """What steps made is as old as was asked for, where it would be younger; layers of the base are the base's own."""
    plain = await build(base)
    monkeypatch.setenv("FLYTE_BUILDKIT_SOURCE_DATE_EPOCH", str(EPOCH))

    pulled = await build(base.with_commands(["echo new > /new; echo old > /old; touch -d @1000000000 /old"]))

    of_base, *own = pulled.manifest["layers"]
    assert plain.manifest["layers"][0] == of_base
    times: dict[str, float] = {}
    for layer in own:
        with tarfile.open(fileobj=io.BytesIO(blob(pulled.reference.rpartition(":")[0], layer["digest"]))) as archive:
            times |= {member.name: member.mtime for member in archive}
    assert (EPOCH, 1_000_000_000) == (times["new"], times["old"])
    assert EPOCH == max(times.values())
    assert "2023-11-14T22:13:20Z" == pulled.config["created"]
