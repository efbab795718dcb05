"""The settings `cache`, `cache_from` and `cache_to`: text as buildx writes it, and YAML."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.config import CacheOption, Settings, cache
from buildkit_builder.config.kinds import UnfitError
from buildkit_builder.errors import ConfigError


def settings(section: dict[str, Any] | None = None, **environ: str) -> Settings:
    """What a section of the file and variables mean."""
    return Settings.load({"image": {"buildkit": section or {}}}, environ)


def refusal(section: dict[str, Any] | None = None, **environ: str) -> str:
    """What is said of a setting that is wrong."""
    with pytest.raises(ConfigError) as caught:
        settings(section, **environ)
    return str(caught.value)


def option(kind: str, **attributes: str) -> CacheOption:
    """A cache, with `_` for `-` in the names of attributes."""
    return CacheOption(type=kind, attributes=tuple((key.replace("_", "-"), text) for key, text in attributes.items()))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("registry", "registry"),
        ("gha", "gha"),
        ("registry.example/team/cache", "registry.example/team/cache"),
        ("registry.example/cache/", "registry.example/cache"),
        ("localhost:5000", "localhost:5000"),
        ("build-registry:5000/cache", "build-registry:5000/cache"),
        ("off", None),
        (False, None),
    ],
)
def test_where_caches_go(value: object, expected: str | None) -> None:
    """`cache` is a word, or a registry and a path; `off` is what YAML makes of it, too."""
    assert expected == settings({"cache": value}).cache


def test_a_variable_turns_caches_off() -> None:
    """What the file asks for can be turned off for a moment."""
    assert settings({"cache": "registry"}, FLYTE_BUILDKIT_CACHE="off").cache is None


@pytest.mark.parametrize(
    "value", ["regsitry", "team/cache", "registry.example/Cache", "https://registry.example", 1, True]
)
def test_a_place_that_is_none(value: object) -> None:
    """What is neither a word nor a registry is refused, with what would do."""
    assert "`registry`, `gha`, `off`, or a registry and path" in refusal({"cache": value})


def test_every_form_says_the_same() -> None:
    """Text, a map and a list of either are read alike; a name without attributes is a reference in a registry."""
    text = "type=registry,ref=r.example/c,mode=max,force-compression=true"
    expected = option("registry", ref="r.example/c", mode="max", force_compression="true")
    written = {"type": "registry", "ref": "r.example/c", "mode": "max", "force-compression": True}

    for value in (text, written, [text], [written]):
        assert (expected,) == settings({"cache_to": value}).cache_to
    assert (option("registry", ref="r.example/c"),) == settings({"cache_to": "r.example/c"}).cache_to


def test_fields_are_read_as_buildx_reads_them() -> None:
    """A field in double quotes may hold a comma, and names of attributes may be written in capitals."""
    found = settings({"cache_to": 'type=local,"dest=/a,b",MODE=max'}).cache_to

    assert (option("local", dest="/a,b", mode="max"),) == found


def test_a_variable_holds_one_cache_a_line() -> None:
    """Lines are caches, empty ones are none, and a line of references is one cache each."""
    lines = "\n  type=gha,scope=a \n\nr.example/a:1,r.example/b:2\n"

    found = settings({"cache_from": "r.example/other"}, FLYTE_BUILDKIT_CACHE_FROM=lines).cache_from

    references = (option("registry", ref="r.example/a:1"), option("registry", ref="r.example/b:2"))
    assert (option("gha", scope="a"), *references) == found


def test_flytes_own_variables_are_added() -> None:
    """They work each alone, beside the settings, and what is named twice is used once."""
    section = {"cache_from": ["r.example/a", "r.example/b"]}

    found = settings(section, FLYTE_DOCKER_BUILDER_CACHE_FROM="r.example/b\nr.example/c")

    assert ["r.example/a", "r.example/b", "r.example/c"] == [entry.get("ref") for entry in found.cache_from]
    assert () == found.cache_to
    to = settings(FLYTE_DOCKER_BUILDER_CACHE_TO="type=inline")
    assert ((), (option("inline"),)) == (to.cache_from, to.cache_to)


@pytest.mark.parametrize("kind", [name for name in cache.TYPES if name != "inline"])
def test_every_attribute_is_known(kind: str) -> None:
    """Whatever a type of cache has may be given, all at once."""
    samples = {
        "registry.insecure": "true", "mode": "max", "ignore-error": "false", "oci-mediatypes": "true",
        "image-manifest": "true", "compression": "zstd", "compression-level": "22", "force-compression": "1",
        "reset": "true", "digest": f"sha256:{'0' * 64}", "version": "2", "timeout": "10m", "touch_refresh": "1h30m",
        "upload_parallelism": "4", "use_path_style": "true", "disable_accept_encoding": "false",
        "retry_mode": "adaptive", "retry_max_attempts": "5", "url": "https://a.example", "url_v2": "https://a.example",
        "endpoint_url": "http://a.example:9000", "account_url": "https://a.example",
    }  # fmt: skip
    for setting, known in (("cache_from", cache.TYPES[kind].reads), ("cache_to", cache.TYPES[kind].writes)):
        given_attributes = {name: samples.get(name, "text") for name in known}

        (found,) = getattr(settings({setting: {"type": kind, **given_attributes}}), setting)

        assert (kind, given_attributes) == (found.type, dict(found.attributes))


def test_what_only_writing_knows_is_left_out_of_reading() -> None:
    """One text may serve for both: reading has no use for a mode."""
    (found,) = settings({"cache_from": "type=registry,ref=r.example/c,mode=max"}).cache_from

    assert option("registry", ref="r.example/c") == found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ref=r.example/c", "it names no `type`"),
        ("type=registry", "it is a registry cache without `ref`"),
        ("type=local,dst=/a", "it has the attribute `dst`, which a local cache does not know: `dest` may be meant"),
        ("type=local,src=/a", "it is a local cache without `dest`"),
        ("type=regsitry,ref=a", "and the types are registry, inline, local, gha, s3, azblob"),
        ("type=inline,mode=max", "it has the attribute `mode`, which a inline cache does not know: it has none"),
        ("type=registry,ref=a,mode=all", "`mode` that must be min or max"),
        ("type=registry,ref=a,ignore-error=perhaps", "`ignore-error` that must be true or false"),
        ("type=gha,timeout=ten", "`timeout` that must be a duration such as `10m`"),
        ("type=s3,upload_parallelism=0", "`upload_parallelism` that must be a whole number above 0"),
        ("type=registry,ref=a,compression-level=10", "which goes to 9 with gzip layers"),
        ("type=registry,ref=a,compression=uncompressed,compression-level=1", "no meaning with uncompressed layers"),
        ("type=registry,ref=a,oci-mediatypes=false,image-manifest=true", "`image-manifest` that needs `oci-"),
        ("type=registry,ref=a,oci-mediatypes=false,compression=zstd", "`compression` that needs `oci-mediatypes`"),
        ('type=registry,"ref=a', "it is not a list of fields"),
        ("type=registry,ref", "it has a field that is not NAME=VALUE"),
        (["r.example/a", "type=s3,bukket=b"], "its entry 2 has the attribute `bukket`"),
        ([{"type": "registry", "ref": ["a"]}], "it has in `ref` a list, and not text"),
        (5, "it is 5 (a number)"),
    ],
)  # fmt: skip
def test_a_cache_to_write_that_is_wrong(value: object, expected: str) -> None:
    """The setting, the entry and what is wrong with it are said."""
    said = refusal({"cache_to": value})

    assert said.startswith("`image.buildkit.cache_to` is ")
    assert expected in said


def test_an_inline_cache_is_read_from_its_image() -> None:
    """Reading one by its type is refused with the way to do it."""
    assert "`type=registry,ref=IMAGE`" in refusal({"cache_from": "type=inline"})


def test_flytes_own_variable_that_is_wrong() -> None:
    """The variable is named."""
    assert "FLYTE_DOCKER_BUILDER_CACHE_TO must be a cache" in refusal(FLYTE_DOCKER_BUILDER_CACHE_TO="type=registry")


@pytest.mark.parametrize("setting", ["cache_from", "cache_to"])
def test_credentials_are_never_repeated(setting: str) -> None:
    """Neither a message nor what a setting looks like in a log has the value of an attribute."""
    text = "type=s3,secret_access_key=hush,retry_mode=none"

    assert "hush" not in refusal({setting: text})
    assert "hush" not in refusal({setting: [text]})
    assert "hush" not in refusal(None, **{f"FLYTE_BUILDKIT_{setting.upper()}": text})
    assert "hush" not in repr(settings({setting: "type=s3,secret_access_key=hush"}))


@given(text=st.text(alphabet=st.sampled_from('type=registry,"ref\n local;dest=x'), max_size=60), writes=st.booleans())
def test_any_text_is_a_cache_or_an_error(text: str, writes: bool) -> None:
    """Nothing but caches or the one error comes of whatever is written."""
    found: tuple[CacheOption, ...] = ()
    with contextlib.suppress(UnfitError):
        found = cache.parse_lines(text, writes=writes)

    assert all(entry.type in cache.TYPES for entry in found)
