"""What a frontend of the daemon gave, by platform."""

from __future__ import annotations

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.api.results import Ref, Result
from buildkit_builder.buildkit.build.result import CONFIG_KEY, images_of, result_of
from buildkit_builder.errors import SolveError

ARM64, AMD64 = llb.Platform(architecture="arm64"), llb.Platform(architecture="amd64")


def test_a_platform_is_found_however_it_was_spelled() -> None:
    """The daemon answers in its own spelling."""
    result = Result(refs={"linux/arm64": Ref(id="a"), "linux/amd64": Ref(id="b")}, metadata={
        f"{CONFIG_KEY}/linux/arm64": b"arm", f"{CONFIG_KEY}/linux/amd64": b"amd",
    })  # fmt: skip
    asked = llb.Platform.parse_each(["linux/arm64/v8", "linux/x86_64"])

    assert {ARM64: (Ref(id="a"), b"arm"), AMD64: (Ref(id="b"), b"amd")} == images_of(result, asked)


def test_what_is_returned_is_named_as_daemons_name_it() -> None:
    """Exporters look for refs and configs under one name."""
    images = {llb.Platform(architecture="aarch64"): (Ref(id="a"), b"{}"), AMD64: (Ref(id="b"), b"{}")}
    result = result_of(images)

    assert ["linux/arm64", "linux/amd64"] == list(result.refs)
    assert {f"{CONFIG_KEY}/linux/arm64", f"{CONFIG_KEY}/linux/amd64"} < set(result.metadata)


@pytest.mark.parametrize(
    ("result", "platforms"),
    [
        (Result(refs={"linux/amd64": Ref(id="b")}), (ARM64,)),
        (Result(refs={"linux/amd64": Ref(id="b")}), (AMD64, ARM64)),
        (Result(refs={"linux/riscv64": Ref(id="b")}, ref=Ref()), (AMD64,)),
        (Result(ref=Ref(id="one")), (AMD64, ARM64)),
        (Result(), (AMD64,)),
    ],
)
def test_a_platform_that_nothing_was_made_for_is_no_empty_image(
    result: Result, platforms: tuple[llb.Platform, ...]
) -> None:
    """Nothing is exported in its place."""
    with pytest.raises(SolveError, match="made no image for linux/a"):
        images_of(result, platforms)


def test_one_result_is_the_one_platforms() -> None:
    """A frontend that is asked for one gives it without a name; scratch is a result as well."""
    assert {ARM64: (Ref(id="a"), b"{}")} == images_of(Result(ref=Ref(id="a")), (ARM64,))
    assert {ARM64: (Ref(), b"{}")} == images_of(Result(ref=Ref()), (ARM64,))
