from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.llb import ImageConfig, Platform
from buildkit_builder.errors import BaseImageError

ARM64 = Platform(architecture="arm64")
BASE = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-01T00:00:00Z",
    "author": "somebody",
    "docker_version": "27",
    "container_config": {"Cmd": ["/bin/sh"]},
    "moby.buildkit.cache.v0": "xyz",
    "config": {
        "Env": ["PATH=/usr/bin", "EMPTY=", "URL=a=b", "NAKED"],
        "User": "app",
        "WorkingDir": "/work",
        "Entrypoint": ["/entry"],
        "Cmd": ["run"],
        "Shell": ["/bin/bash", "-c"],
        "Labels": {"b": "1", "a": "2"},
        "ExposedPorts": {"8080/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
        "OnBuild": ["RUN true"],
        "Future": [1, 2],
    },
    "history": [{"created_by": "FROM scratch", "created": "2026-01-01T00:00:00Z"}],
    "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
    "future": {"x": 1},
}


def base() -> ImageConfig:
    """A config with everything in it."""
    return ImageConfig.parse(json.dumps(BASE).encode())


def test_a_config_is_read() -> None:
    """Each field says what the document says, in its order."""
    config = base()

    assert [("PATH", "/usr/bin"), ("EMPTY", ""), ("URL", "a=b"), ("NAKED", "")] == list(config.env.items())
    assert ("app", "/work", "SIGINT") == (config.user, config.working_dir, config.stop_signal)
    assert (("/entry",), ("run",), ("/bin/bash", "-c")) == (config.entrypoint, config.cmd, config.shell)
    assert [("b", "1"), ("a", "2")] == list(config.labels.items())
    assert (("8080/tcp",), ("/data",)) == (config.exposed_ports, config.volumes)
    assert (("RUN true",), {"Test": ["CMD", "true"], "Interval": 5}) == (config.on_build, config.healthcheck)
    assert ("sha256:1", "sha256:2") == config.diff_ids
    assert ({"created_by": "FROM scratch", "created": "2026-01-01T00:00:00Z"},) == config.history
    assert ("amd64", Platform()) == (config.architecture, config.platform)


@pytest.mark.parametrize("data", [b"{}", b'{"config": null, "history": null, "rootfs": null, "os": null}'])
def test_a_config_may_say_nothing(data: bytes) -> None:
    """What is absent or null is empty."""
    config = ImageConfig.parse(data)

    assert ({}, "", "", ()) == (config.env, config.user, config.working_dir, config.cmd)
    assert ((), (), None, None, "") == (
        config.history,
        config.diff_ids,
        config.healthcheck,
        config.platform,
        config.architecture,
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "the config is not"),
        (b'{"config": "x"}', "`config` is not"),
        (b'{"config": {"Env": {"A": "1"}}}', "`config.Env` is not"),
        (b'{"config": {"Env": [1]}}', "an item of `config.Env` is not"),
        (b'{"config": {"User": 1000}}', "`config.User` is not"),
        (b'{"config": {"Labels": {"a": 1}}}', "the label `a` is not"),
        (b'{"os": 1}', "`os` is not"),
        (b'{"history": ["x"]}', "an item of `history` is not"),
        (b'{"rootfs": []}', None),
        (b'{"rootfs": ["x"]}', "`rootfs` is not"),
    ],
)
def test_garbage_is_refused(data: bytes, what: str | None) -> None:
    """A config that cannot be used says what is wrong with it; what is merely empty is not wrong."""
    if what is None:
        assert ImageConfig() != ImageConfig.parse(data)
        assert () == ImageConfig.parse(data).diff_ids
    else:
        with pytest.raises(BaseImageError, match=what):
            ImageConfig.parse(data)


def test_what_is_built_keeps_what_is_still_true() -> None:
    """History and unknown fields stay; time of creation, layers and traces of the base's own build go."""
    written = json.loads(base().to_json(Platform()))

    assert {
        "architecture": "amd64",
        "os": "linux",
        "author": "somebody",
        "config": BASE["config"],
        "history": BASE["history"],
        "rootfs": {"type": "layers", "diff_ids": []},
        "future": {"x": 1},
    } == written


def test_the_platform_is_the_one_built_for() -> None:
    """A config gets the platform of the build, in normal form."""
    written = json.loads(base().to_json(Platform(architecture="arm", os_version="1", os_features=("x",))))

    assert ("linux", "arm", "v7", "1", ["x"]) == tuple(
        written[key] for key in ("os", "architecture", "variant", "os.version", "os.features")
    )


def test_the_bases_own_words_for_the_platform_stay() -> None:
    """A base that says `arm64/v8` goes on saying so, as other tools look for it."""
    config = ImageConfig.parse(b'{"os": "linux", "architecture": "arm64", "variant": "v8"}')

    assert "v8" == json.loads(config.to_json(ARM64))["variant"]
    assert "variant" not in json.loads(config.to_json(Platform()))


def test_variables_keep_their_place() -> None:
    """A variable that is set again stays where it was, a new one comes last."""
    config = base().with_env("PATH", "/bin").with_env("NEW", "1").without_env("EMPTY", "ABSENT")

    assert [("PATH", "/bin"), ("URL", "a=b"), ("NAKED", ""), ("NEW", "1")] == list(config.env.items())


@pytest.mark.parametrize("key", ["", "A=B"])
def test_variables_have_names(key: str) -> None:
    """A variable that no process could see is refused."""
    with pytest.raises(ValueError, match="cannot be the name of a variable"):
        base().with_env(key, "x")


def test_verbs_change_one_field() -> None:
    """Each verb gives a config with its field changed; the old config stays."""
    config = (
        base()
        .with_user("root")
        .with_working_dir("/")
        .with_entrypoint(["/new"])
        .with_cmd(["go"])
        .with_shell(["/bin/sh"])
        .with_label("c", "3")
        .with_exposed_ports("9090/tcp", "8080/tcp")
        .with_volumes("/more")
        .with_stop_signal("SIGTERM")
        .with_history("USER root")
    )

    assert ("root", "/", "SIGTERM") == (config.user, config.working_dir, config.stop_signal)
    assert (("/new",), ("go",), ("/bin/sh",)) == (config.entrypoint, config.cmd, config.shell)
    assert {"b": "1", "a": "2", "c": "3"} == config.labels
    assert (("8080/tcp", "9090/tcp"), ("/data", "/more")) == (config.exposed_ports, config.volumes)
    assert {"created_by": "USER root", "empty_layer": True} == config.history[-1]
    assert [1, 2] == json.loads(config.document)["config"]["Future"]
    assert "app" == base().user


def test_fields_can_be_taken_away() -> None:
    """Setting nothing leaves no field."""
    config = base().with_entrypoint([]).with_cmd([]).with_user("")

    assert not {"Entrypoint", "Cmd", "User"} & json.loads(config.document)["config"].keys()


def test_configs_are_equal_by_content() -> None:
    """Two configs that say the same are equal, and can be found in sets."""
    assert base() == base()
    assert {base()} == {base(), base()}
    assert base() != base().with_user("root")


def test_an_image_from_scratch_has_a_usual_config() -> None:
    """An image from scratch starts at the root, with a path where there is one."""
    config = ImageConfig.empty(ARM64)

    assert ("/", ["PATH"]) == (config.working_dir, list(config.env))
    assert [] == list(ImageConfig.empty(Platform(os="windows")).env)
    assert "arm64" == json.loads(config.to_json(ARM64))["architecture"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["config", "history", "rootfs", "os", "x"]), json_values))
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    """Whatever a registry sends, the config can be used, or is refused as any other."""
    data = json.dumps(document).encode()
    with contextlib.suppress(BaseImageError):
        assert "rootfs" in json.loads(ImageConfig.parse(data).to_json(Platform()))
