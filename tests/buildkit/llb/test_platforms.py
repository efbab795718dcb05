from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.buildkit.wire import ops_pb2
from buildkit_builder.errors import ImageError

WORDS = st.from_regex(r"[a-z0-9_.]{1,6}", fullmatch=True)
OPTIONS = st.from_regex(r"[a-z0-9_.]{1,6}", fullmatch=True)


@given(
    st.builds(
        Platform,
        os=st.from_regex(r"[a-z0-9_]{1,6}", fullmatch=True),
        architecture=WORDS,
        variant=st.just("") | WORDS,
        os_version=st.just("") | OPTIONS,
        os_features=st.lists(OPTIONS, max_size=2).map(tuple),
    )
)
def test_the_text_of_a_platform_can_be_read(platform: Platform) -> None:
    """What a platform prints is what it is read from."""
    assert platform == Platform.parse(str(platform))


@given(st.builds(Platform, os=WORDS, architecture=WORDS, variant=WORDS))
def test_normal_form_is_stable(platform: Platform) -> None:
    """A platform in normal form is in normal form."""
    assert platform == Platform(os=platform.os, architecture=platform.architecture, variant=platform.variant)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386/sse2", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("arm64", "linux/arm64"),
        ("ARM64", "linux/arm64"),
        ("arm", "linux/arm/v7"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64"),
        ("linux/x86-64", "linux/amd64"),
        ("x86-64", "linux/amd64"),
        ("windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64"),
    ],
)
def test_aliases_are_translated(text: str, normal: str) -> None:
    """The many spellings of a platform have one normal form."""
    assert normal == str(Platform.parse(text))


@pytest.mark.parametrize(
    "spelled",
    [
        Platform(architecture="aarch64"),
        Platform(architecture="ARM64", variant="V8"),
        Platform(os="Linux", architecture="arm64", variant="8"),
        Platform.from_wire(ops_pb2.Platform(OS="linux", Architecture="arm64", Variant="v8")),
        Platform.parse("ARM64"),
        replace(Platform(), architecture="aarch64"),
        pickle.loads(pickle.dumps(Platform(architecture="arm64"))),
    ],
)
def test_however_it_is_made_it_is_the_same(spelled: Platform) -> None:
    """What it is compared with, looked up by, or printed as never depends on its spelling."""
    assert Platform(architecture="arm64") == spelled
    assert {Platform(architecture="arm64"): 1}[spelled]
    assert "linux/arm64" == str(spelled)


def test_several_are_read_each_once() -> None:
    """In the order in which they are written."""
    read = Platform.parse_each(["linux/arm64/v8", "amd64", "linux/aarch64", "Linux/X86_64"])

    assert (Platform(architecture="arm64"), Platform(architecture="amd64")) == read


@pytest.mark.parametrize("text", ["", "/", "linux/", "linux/a/b/c", "linux/a b", "a(b/c", "linux/*"])
def test_malformed_platforms_are_refused(text: str) -> None:
    """What is not a platform is said to be none."""
    with pytest.raises(ImageError, match="is not a"):
        Platform.parse(text)


@pytest.mark.parametrize("text", ["linux", "toaster"])
def test_an_operating_system_alone_is_refused(text: str) -> None:
    """Without an architecture there is nothing to build for."""
    with pytest.raises(ImageError, match="not an architecture"):
        Platform.parse(text)


def test_the_wire_has_the_normal_form() -> None:
    """Daemons are sent the words that they compare with."""
    sent = Platform(architecture="aarch64", variant="v8", os_version="1", os_features=("a",)).to_wire()

    assert ops_pb2.Platform(OS="linux", Architecture="arm64", OSVersion="1", OSFeatures=["a"]) == sent
    assert Platform(architecture="arm64", os_version="1", os_features=("a",)) == Platform.from_wire(sent)
