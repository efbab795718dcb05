from __future__ import annotations

from collections.abc import Mapping

import pytest

from buildkit_builder.image.plan import SetEnv, plan
from buildkit_builder.image.spec import ImageSpec

SPEC = ImageSpec(
    reference="r.example/a:1", push=True, base="debian:12", platforms=("linux/amd64",), python_version=(3, 12),
    layers=(), creates_user=False, uv_image="uv:1",
)  # fmt: skip


def environment(build_args: Mapping[str, str], base: Mapping[str, str]) -> tuple[str, str]:
    """`VIRTUALENV` and `UV_PYTHON` as an image on a base with these variables would have them."""
    from buildkit_builder.image.lower.dockerfile_words import expand_value

    first = next(step for step in plan(SPEC, build_args).steps if isinstance(step, SetEnv))
    variables = {key: expand_value(text, base) for key, text in first.variables}
    return variables["VIRTUALENV"], variables["UV_PYTHON"]


@pytest.mark.parametrize(
    ("build_args", "base", "expected"),
    [
        ({}, {}, ("/opt/venv", "/opt/venv/bin/python")),
        ({"VIRTUALENV": "/x"}, {}, ("/x", "/x/bin/python")),
        ({"UV_PYTHON": "/usr/bin/python3"}, {}, ("/opt/venv", "/usr/bin/python3")),
        ({"VIRTUALENV": "/x", "UV_PYTHON": "/y"}, {}, ("/x", "/y")),
        ({}, {"VIRTUALENV": "/base"}, ("/base", "/base/bin/python")),
        ({}, {"UV_PYTHON": "/base/python"}, ("/opt/venv", "/base/python")),
        ({"VIRTUALENV": "/x"}, {"VIRTUALENV": "/base"}, ("/x", "/x/bin/python")),
        ({"VIRTUALENV": "/x"}, {"UV_PYTHON": "/base/python"}, ("/x", "/x/bin/python")),
        ({"UV_PYTHON": "/y"}, {"UV_PYTHON": "/base/python"}, ("/opt/venv", "/y")),
        ({"VIRTUALENV": "/a b}$HOME'\"\\"}, {"HOME": "no"}, ("/a b}$HOME'\"\\", "/a b}$HOME'\"\\/bin/python")),
        ({"OTHER": "1"}, {}, ("/opt/venv", "/opt/venv/bin/python")),
    ],
)
def test_place_of_the_environment(build_args: dict[str, str], base: dict[str, str], expected: tuple[str, str]) -> None:
    """The arguments of Flyte's Dockerfile are taken literally and win over variables of the base."""
    assert expected == environment(build_args, base)
