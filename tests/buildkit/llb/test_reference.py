from __future__ import annotations

import pytest

from buildkit_builder.buildkit.llb import ImageReference
from buildkit_builder.errors import ImageError
from tests.buildkit.llb.graphs import DIGEST


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        (f"python:3@{DIGEST}", f"docker.io/library/python:3@{DIGEST}"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest"),
        ("flyteorg/flyte:v2", "docker.io/flyteorg/flyte:v2"),
        ("ghcr.io/flyteorg/flyte:py3.12-v2.0.0", "ghcr.io/flyteorg/flyte:py3.12-v2.0.0"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("registry:5000/a/b/c", "registry:5000/a/b/c:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("MyHost/x", "MyHost/x:latest"),
        ("a__b/c.d-e---f", "docker.io/a__b/c.d-e---f:latest"),
        ("localhost", "docker.io/library/localhost:latest"),
    ],
)
def test_short_names_are_completed_as_docker_does(text: str, full: str) -> None:
    """The full form has registry, repository, and a tag or digest, and is its own full form."""
    assert full == str(ImageReference.parse(text))
    assert full == str(ImageReference.parse(full))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        "a@",
        "a@sha256:1",
        "a b",
        "/a",
        "a/",
        "a//b",
        "-a",
        "a..b",
        "a:-x",
        "h:x/a",
        "http://h/a",
        "a:b:c",
    ],
)
def test_malformed_names_are_refused(text: str) -> None:
    """What cannot be the name of an image is said to be none."""
    with pytest.raises(ImageError, match="is not the name of an image"):
        ImageReference.parse(text)


def test_capitals_in_a_repository_are_refused() -> None:
    """The commonest mistake is named."""
    with pytest.raises(ImageError, match="the repository `library/Python` must be in lower case"):
        ImageReference.parse("Python:3")


def test_ids_of_images_are_refused() -> None:
    """An id is not a name, though it could be read as one."""
    with pytest.raises(ImageError, match="is the id of an image"):
        ImageReference.parse("a" * 64)


def test_names_can_be_pinned() -> None:
    """A digest is added to the name and its tag."""
    pinned = ImageReference.parse("python:3").with_digest(DIGEST)

    assert f"docker.io/library/python:3@{DIGEST}" == str(pinned)
    assert "docker.io/library/python" == pinned.repository
    with pytest.raises(ImageError, match="`sha256` is not a digest"):
        pinned.with_digest("sha256")
