"""The `FLYTE_DOCKER_*` variables, which hold arguments of `docker buildx build`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.config import (
    Annotation,
    BuildxSettings,
    ExtraArguments,
    SecretArgument,
    Settings,
    SshArgument,
)
from buildkit_builder.config import buildx as module
from buildkit_builder.errors import ConfigError


def extra(text: str, **environ: str) -> ExtraArguments:
    """What `FLYTE_DOCKER_BUILD_EXTRA_ARGS` means."""
    return Settings.load(None, {module.EXTRA_ARGS: text, **environ}).buildx.extra


def refusal(text: str, variable: str = module.EXTRA_ARGS, **environ: str) -> str:
    """What is said of a variable that is wrong."""
    with pytest.raises(ConfigError) as caught:
        Settings.load(None, {variable: text, **environ})
    return str(caught.value)


def test_without_variables_nothing_is_asked_for() -> None:
    """No variable, and empty ones, give the defaults."""
    expected = BuildxSettings()
    empty = dict.fromkeys((module.CACHE_FROM, module.CACHE_TO, module.BUILDER_NAME, module.EXTRA_ARGS), "")

    assert expected == Settings.load(None, {}).buildx
    assert expected == Settings.load(None, empty).buildx


def test_the_builder_is_named() -> None:
    """The name of the buildx builder is handed on."""
    assert "default" == Settings.load(None, {module.BUILDER_NAME: "default"}).buildx.builder


def test_every_flag_is_understood() -> None:
    """Each flag with a value of its own, written both ways and quoted as in a shell."""
    actual = extra(
        "--build-arg A=1=2 --build-arg=B='two words' --build-arg FROM_ENV --build-arg UNSET "
        "--label a=b --label=empty --annotation key=v=w --annotation index:k=v "
        "--annotation 'manifest[linux/amd64]:k=v' --no-cache --pull=true "
        "--add-host db:10.0.0.1 --add-host six=[::1] --network host "
        "--secret id=a,env=A --secret=id=b,src=/b --secret id=c,type=env,src=C --secret type=file,id=d,source=d "
        "--ssh default --ssh work=/run/agent --ssh keys=/k1,/k2 --provenance=false --sbom generator=s,A=1",
        FROM_ENV="from",
    )

    expected = ExtraArguments(
        build_args=(("A", "1=2"), ("B", "two words"), ("FROM_ENV", "from")),
        labels=(("a", "b"), ("empty", "")),
        annotations=(
            Annotation(key="key", value="v=w"),
            Annotation(key="k", value="v", level="index"),
            Annotation(key="k", value="v", level="manifest", platform="linux/amd64"),
        ),
        no_cache=True,
        pull=True,
        add_hosts=(("db", "10.0.0.1"), ("six", "::1")),
        network="host",
        secrets=(
            SecretArgument(id="a", env="A"),
            SecretArgument(id="b", source=Path("/b")),
            SecretArgument(id="c", env="C"),
            SecretArgument(id="d", source=Path("d")),
        ),
        ssh=(
            SshArgument(),
            SshArgument(id="work", paths=(Path("/run/agent"),)),
            SshArgument(id="keys", paths=(Path("/k1"), Path("/k2"))),
        ),
        attestations=(("provenance", None), ("sbom", "generator=s,A=1")),
    )
    assert expected == actual


def test_a_switch_may_be_written_false() -> None:
    """`--no-cache=false` is as if it were not there."""
    assert ExtraArguments() == extra("--no-cache=false --pull=0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--no-cach", "the flag '--no-cach' is not understood; did you mean --no-cache?"),
        ("--zzz", "the flags understood are --add-host, --annotation, --build-arg, "),
        ("--output type=oci", "--output is not taken from there; use `image.buildkit.compression`"),
        ("--progress=plain", "use `image.buildkit.progress`."),
        ("--cache-to x", "use FLYTE_DOCKER_BUILDER_CACHE_TO."),
        ("--pull false", "a word that belongs to no flag"),
        ("--label", "--label needs a value."),
        ("--label =x", "--label is NAME=VALUE."),
        ("--build-arg =x", "--build-arg is NAME=VALUE"),
        ("--annotation x", "--annotation is NAME=VALUE"),
        ("--add-host x", "--add-host is NAME:ADDRESS"),
        ("--network bridge", "--network is one of default, host, none."),
        ("--no-cache=perhaps", "--no-cache is a switch, and takes true or false."),
        ("--provenance=mode=all", "--provenance is true, false, or attributes such as mode=min or mode=max"),
        ("--sbom scanner", "--sbom is true, false, or attributes such as generator=IMAGE"),
        ("--secret id=x", "--secret is id=ID,env=VARIABLE or id=ID,src=FILE."),
        ("--secret id=x,env=A,src=b", "--secret is id=ID"),
        ("--secret id=x,env=A,mode=1", "--secret is id=ID"),
        ("--ssh =x", "--ssh is ID"),
        ("--label x=\udcff", "--label is not UTF-8"),
        ("--annotation x=\udcff", "--annotation is not UTF-8"),
        ("--label 'x", "not quoted as a shell would have it: No closing quotation."),
    ],
)
def test_a_flag_that_cannot_be_followed_is_named(text: str, expected: str) -> None:
    """The variable and the flag are named, and what to write or where to set it instead."""
    message = refusal(text)

    assert message.startswith(module.EXTRA_ARGS)
    assert expected in message


@pytest.mark.parametrize(
    "text",
    [
        "--build-arg =hunter2",
        "--network hunter2",
        "--secret id=hunter2",
        "--label '=hunter2'",
        "hunter2",
        '--secret "hunter2',
    ],
)
def test_no_value_is_in_a_message(text: str) -> None:
    """A build argument may be a secret, and so may anything that stands in a wrong place."""
    assert "hunter2" not in refusal(text)


def test_no_build_argument_is_in_the_text_of_settings() -> None:
    """Printing settings shows neither build arguments nor a cache's credentials."""
    cache = "type=s3,secret_access_key=hunter2"
    environ = {module.EXTRA_ARGS: "--build-arg T=hunter2", module.CACHE_FROM: cache, module.CACHE_TO: cache}

    assert "hunter2" not in repr(Settings.load(None, environ))


@given(
    st.dictionaries(st.sampled_from([module.CACHE_FROM, module.CACHE_TO, module.BUILDER_NAME]), st.text(), max_size=3),
    st.lists(
        st.one_of(
            st.text(),
            st.builds(
                "{}{}{}".format,
                st.sampled_from(["--secret", "--ssh", "--annotation", "--add-host", "--network", "--pull", "--label"]),
                st.sampled_from(["=", " "]),
                st.text(alphabet="id=env,src:[]'\" abc\n\0"),
            ),
        ),
        max_size=4,
    ),
)
def test_any_variables_are_taken_or_refused(environ: dict[str, str], words: list[str]) -> None:
    """Whatever the variables hold, the outcome is settings or a `ConfigError`."""
    message = ""
    try:
        Settings.load(None, {**environ, module.EXTRA_ARGS: " ".join(words)})
    except ConfigError as error:
        message = str(error)

    assert not message or message.startswith("FLYTE_DOCKER_")
