"""The settings of what an image says of itself: annotations, labels, attestations, its time."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_builder.config import Annotation, Settings
from buildkit_builder.errors import ConfigError

EXTRA = "FLYTE_DOCKER_BUILD_EXTRA_ARGS"


def settings(section: dict[str, Any] | None = None, **environ: str) -> Settings:
    """What a section of the file and variables mean."""
    return Settings.load({"image": {"buildkit": section or {}}}, environ)


def test_annotations_and_labels() -> None:
    """Both are maps; an annotation's name may begin with where it belongs; flags of buildx come last."""
    section = {"annotations": {"a": "b=c", "index:d": "e", "manifest[linux/arm64]:f": "g"}, "labels": {"team": "ml"}}

    found = settings(section, **{EXTRA: "--label team=ops --annotation index-descriptor:h=i"})

    assert (("team", "ml"), ("team", "ops")) == found.labels
    expected = (
        Annotation(key="a", value="b=c"),
        Annotation(key="d", value="e", level="index"),
        Annotation(key="f", value="g", platform="linux/arm64"),
        Annotation(key="h", value="i", level="index-descriptor"),
    )
    assert expected == found.annotations


def test_maps_in_variables() -> None:
    """A variable wins over the file."""
    variables = {"FLYTE_BUILDKIT_LABELS": "a=b, c=d", "FLYTE_BUILDKIT_ANNOTATIONS": "index:a=b"}

    found = settings({"labels": {"x": "y"}}, **variables)

    assert (("a", "b"), ("c", "d")) == found.labels
    assert (Annotation(key="a", value="b", level="index"),) == found.annotations


@pytest.mark.parametrize("name", ["annotations", "labels"])
@pytest.mark.parametrize(
    "value", [["a=b"], {"a": 1}, {1: "a"}, {"": "a"}, {"a=b": "c"}, "a", {"a": "\0"}, {"a\udcff": "b"}]
)
def test_no_map_of_texts(name: str, value: object) -> None:
    """Whatever else is given is refused by the setting's name."""
    with pytest.raises(ConfigError, match=f"`image.buildkit.{name}`.*a map from names to texts"):
        settings({name: value})


@pytest.mark.parametrize(
    ("value", "flags", "expected"),
    [
        (None, "", None),
        (False, "", None),
        (True, "", "mode=min"),
        ("max", "", "mode=max"),
        ("mode=max,version=v1", "", "mode=max,version=v1"),
        ("max", "--provenance=false", None),
        (None, "--provenance mode=max", "mode=max"),
        ("min", "--provenance=true", "mode=min"),
    ],
)
def test_provenance(value: object, flags: str, expected: str | None) -> None:
    """It is a word, or attributes as buildx has them, whose flag wins."""
    assert expected == settings({"provenance": value}, **{EXTRA: flags}).provenance


@pytest.mark.parametrize(
    ("value", "flags", "expected"),
    [
        (None, "", None),
        (True, "", ""),
        ("registry.example/scanner:1", "", "generator=registry.example/scanner:1"),
        (True, "--sbom=false", None),
        (None, "--sbom generator=scanner,A=1", "generator=scanner,A=1"),
        (None, "--sbom true", ""),
    ],
)
def test_sbom(value: object, flags: str, expected: str | None) -> None:
    """It is the name of a scanner's image, or the daemon's own choice; the flag of buildx wins."""
    assert expected == settings({"sbom": value}, **{EXTRA: flags}).sbom


@pytest.mark.parametrize(
    ("section", "flags"),
    [
        ({"provenance": "all"}, ""),
        ({"provenance": "mode=all"}, ""),
        ({"provenance": "min=mode"}, ""),
        ({"provenance": 1}, ""),
        ({"sbom": "two words"}, ""),
        ({"sbom": 1}, ""),
        ({}, "--provenance=mode=all"),
        ({}, "--sbom=scanner"),
        ({}, "--sbom generator="),
    ],
)
def test_attestations_that_are_none(section: dict[str, Any], flags: str) -> None:
    """They are refused, by the setting or by the flag."""
    with pytest.raises(ConfigError, match=r"`image.buildkit.(provenance|sbom)`|--(provenance|sbom) is true, false, or"):
        settings(section, **{EXTRA: flags})


def test_the_time_of_an_image() -> None:
    """The world's own variable wins over the file, ours over that, and a build argument over all."""
    section = {"source_date_epoch": 1}
    variables = {"SOURCE_DATE_EPOCH": "1700000000", "FLYTE_BUILDKIT_SOURCE_DATE_EPOCH": "3"}

    assert settings().epoch is None
    assert "1" == settings(section).epoch
    assert "0" == settings({"source_date_epoch": 0}).epoch
    assert "1700000000" == settings(section, SOURCE_DATE_EPOCH="1700000000").epoch
    assert "3" == settings(section, **variables).epoch
    assert "4" == settings(section, **variables, **{EXTRA: "--build-arg SOURCE_DATE_EPOCH=4"}).epoch


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "99999999999"])
def test_a_time_that_is_none(value: str) -> None:
    """The variable is named."""
    with pytest.raises(ConfigError, match=r"`SOURCE_DATE_EPOCH` is .* must be a number of seconds since 1970"):
        settings(SOURCE_DATE_EPOCH=value)
