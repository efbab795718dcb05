"""Settings from a config.yaml and from variables, and what is said of wrong ones."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder import config
from buildkit_builder.buildkit.llb import platforms
from buildkit_builder.config import Annotation, CacheOption, Settings, TLSSettings, environment, kinds
from buildkit_builder.config import settings as module
from buildkit_builder.config.kinds import LONGEST_SHOWN
from buildkit_builder.errors import ConfigError

README = Path(config.__file__).with_name("README.md")
ROW = re.compile(r"^\| `([a-z_.]+)` \| `([A-Z_]+)` \|", re.MULTILINE)

ALL_TEXT = {
    "FLYTE_BUILDKIT_ENABLED": "on",
    "FLYTE_BUILDKIT_ENDPOINT": "tcp://build:1234",
    "FLYTE_BUILDKIT_TLS_CA": "{file}",
    "FLYTE_BUILDKIT_TLS_CERT": "{file}",
    "FLYTE_BUILDKIT_TLS_KEY": "{file}",
    "FLYTE_BUILDKIT_TLS_SERVER_NAME": "build.example",
    "FLYTE_BUILDKIT_UV_IMAGE": "registry.example/uv:1",
    "FLYTE_BUILDKIT_REGISTRY_MIRRORS": "docker.io=mirror.example/hub, ghcr.io/org=localhost:5000",
    "FLYTE_BUILDKIT_INSECURE_REGISTRIES": "reg.example:5000, [::1]:5000,",
    "FLYTE_BUILDKIT_CA_BUNDLE": "{file}",
    "FLYTE_BUILDKIT_HTTP_PROXY": "http://proxy:1",
    "FLYTE_BUILDKIT_HTTPS_PROXY": "http://proxy:2",
    "FLYTE_BUILDKIT_NO_PROXY": "localhost,.example",
    "FLYTE_BUILDKIT_ALL_PROXY": "socks5://proxy:3",
    "FLYTE_BUILDKIT_COMPRESSION": "zstd",
    "FLYTE_BUILDKIT_COMPRESSION_LEVEL": "22",
    "FLYTE_BUILDKIT_FORCE_COMPRESSION": "yes",
    "FLYTE_BUILDKIT_OCI_MEDIA_TYPES": "True",
    "FLYTE_BUILDKIT_ANNOTATIONS": "a=b,index:c=d",
    "FLYTE_BUILDKIT_LABELS": "a=b,c=d",
    "FLYTE_BUILDKIT_PROVENANCE": "max",
    "FLYTE_BUILDKIT_SBOM": "registry.example/scanner:1",
    "FLYTE_BUILDKIT_SOURCE_DATE_EPOCH": "1700000000",
    "FLYTE_BUILDKIT_CACHE": "registry",
    "FLYTE_BUILDKIT_CACHE_FROM": "registry.example/cache",
    "FLYTE_BUILDKIT_CACHE_TO": "type=registry,mode=max,ref=registry.example/cache",
    "FLYTE_BUILDKIT_PROGRESS": "rawjson",
    "FLYTE_BUILDKIT_PARALLEL": "off",
    "FLYTE_BUILDKIT_PLATFORMS": "linux/amd64,linux/arm64/v8",
    "FLYTE_BUILDKIT_DOCKER_CONFIG": "{file}",
    "FLYTE_BUILDKIT_CREDENTIALS_FOR": "mirror.corp:5000,*",
    "FLYTE_BUILDKIT_CONNECT_TIMEOUT": "2.5",
}
ALL_YAML: dict[str, Any] = {
    "enabled": True,
    "endpoint": "tcp://build:1234",
    "tls": {"ca": "{file}", "cert": "{file}", "key": "{file}", "server_name": "build.example"},
    "uv_image": "registry.example/uv:1",
    "registry_mirrors": {"docker.io": "mirror.example/hub", "ghcr.io/org": "localhost:5000"},
    "insecure_registries": ["reg.example:5000", "[::1]:5000"],
    "ca_bundle": "{file}",
    "http_proxy": "http://proxy:1",
    "https_proxy": "http://proxy:2",
    "no_proxy": "localhost,.example",
    "all_proxy": "socks5://proxy:3",
    "compression": "zstd",
    "compression_level": 22,
    "force_compression": True,
    "oci_media_types": True,
    "annotations": {"a": "b", "index:c": "d"},
    "labels": {"a": "b", "c": "d"},
    "provenance": "max",
    "sbom": "registry.example/scanner:1",
    "source_date_epoch": 1700000000,
    "cache": "registry",
    "cache_from": ["registry.example/cache"],
    "cache_to": [{"type": "registry", "ref": "registry.example/cache", "mode": "max"}],
    "progress": "rawjson",
    "parallel": False,
    "platforms": ["linux/amd64", "linux/arm64/v8"],
    "docker_config": "{file}",
    "credentials_for": ["mirror.corp:5000", "*"],
    "connect_timeout": 2.5,
}


def load(section: object = None, **environ: str) -> Settings:
    """Settings of an `image.buildkit` section and of variables, `HOME` given unless set."""
    return Settings.load({"image": {"buildkit": section}}, {"HOME": "/nowhere", **environ})


def refusal(section: object = None, **environ: str) -> str:
    """What is said of a section, or of variables, that are wrong."""
    with pytest.raises(ConfigError) as caught:
        load(section, **environ)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that exists."""
    path = tmp_path / "file"
    path.write_text("")
    return path


@pytest.fixture
def everything(file: Path) -> Settings:
    """Each setting with a value that is not its default."""
    return Settings(
        endpoint="tcp://build:1234",
        tls=TLSSettings(ca=file, cert=file, key=file, server_name="build.example"),
        uv_image="registry.example/uv:1",
        registry_mirrors=(("docker.io", "mirror.example/hub"), ("ghcr.io/org", "localhost:5000")),
        insecure_registries=("reg.example:5000", "[::1]:5000"),
        ca_bundle=file,
        http_proxy="http://proxy:1",
        https_proxy="http://proxy:2",
        no_proxy="localhost,.example",
        all_proxy="socks5://proxy:3",
        compression="zstd",
        compression_level=22,
        force_compression=True,
        oci_media_types=True,
        annotations=(Annotation(key="a", value="b"), Annotation(key="c", value="d", level="index")),
        labels=(("a", "b"), ("c", "d")),
        provenance="mode=max",
        sbom="generator=registry.example/scanner:1",
        source_date_epoch=1700000000,
        cache="registry",
        cache_from=(CacheOption(type="registry", attributes=(("ref", "registry.example/cache"),)),),
        cache_to=(CacheOption(type="registry", attributes=(("mode", "max"), ("ref", "registry.example/cache"))),),
        progress="rawjson",
        parallel=False,
        platforms=("linux/amd64", "linux/arm64/v8"),
        docker_config=file,
        credentials_for=("mirror.corp:5000", "*"),
        connect_timeout=2.5,
    )


def test_without_configuration_every_setting_has_its_default() -> None:
    """No file and no variable give the defaults."""
    expected = Settings()

    assert expected == Settings.load(None, {})
    assert expected == Settings.load({}, {})
    assert expected == Settings.load({"image": None}, {})
    assert expected == Settings.load({"image": {"builder": "local"}}, {})
    assert expected == load(None)
    assert expected == load({"endpoint": None, "tls": None})


def test_every_setting_from_variables(file: Path, everything: Settings) -> None:
    """Each variable sets its field."""
    environ = {name: text.format(file=file) for name, text in ALL_TEXT.items()}

    assert {module.variable(key) for key in module.SETTINGS} == environ.keys()
    assert everything == load(None, **environ)


def test_every_setting_from_a_file(tmp_path: Path, file: Path, everything: Settings) -> None:
    """Each key of the file sets its field."""
    text = yaml.safe_dump({"image": {"builder": "local", "buildkit": ALL_YAML}}).replace("{file}", str(file))
    path = tmp_path / "config.yaml"
    path.write_text(text)

    assert everything == Settings.load(path, {})


def test_a_variable_wins_over_the_file() -> None:
    """A variable replaces the file's value, an empty one does not."""
    section = {"progress": "plain", "platforms": ["linux/arm64"]}

    actual = load(section, FLYTE_BUILDKIT_PROGRESS="quiet", FLYTE_BUILDKIT_PLATFORMS="")

    assert ("quiet", ("linux/arm64",)) == (actual.progress, actual.platforms)


def test_switched_off_nothing_else_is_read() -> None:
    """With `enabled: false` a mistake elsewhere cannot break Flyte."""
    expected = Settings(enabled=False)

    assert expected == load({"enabled": False, "nonsense": 1}, FLYTE_BUILDKIT_NONSENSE="1")
    assert expected == load({"endpoint": 7}, FLYTE_BUILDKIT_ENABLED="no")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"endpiont": "x"}, "`image.buildkit.endpiont` is not a setting; did you mean `image.buildkit.endpoint`?"),
        ({"server_name": "x"}, "did you mean `image.buildkit.tls.server_name`?"),
        ({"tls": {"sever_name": "x"}}, "`image.buildkit.tls.sever_name` is not a setting; did you mean"),
        ({"tls": {"progress": "x"}}, "did you mean `image.buildkit.progress`?"),
        ({"zzzzzz": "x"}, "`image.buildkit.zzzzzz` is not a setting; known are `image.buildkit.enabled`, "),
        ({7: "x"}, "`image.buildkit.7` is not a setting"),
        ({"parallel": "no"}, "`image.buildkit.parallel` is 'no' (text), but must be true or false."),
        ({"parallel": 1}, "`image.buildkit.parallel` is 1 (a number), but must be true or false."),
        ({"endpoint": 7}, "`image.buildkit.endpoint` is 7 (a number), but must be an address, or a list of nodes: "),
        ({"uv_image": 7}, "`image.buildkit.uv_image` is 7 (a number), but must be one line of text."),
        ({"uv_image": "  "}, "`image.buildkit.uv_image` is '  ' (text), but must be one line of text."),
        ({"tls": "x"}, "`image.buildkit.tls` is 'x' (text), but must be a map."),
        ({"platforms": "linux/amd64"}, "`image.buildkit.platforms` is 'linux/amd64' (text), but must be a list of "),
        ({"platforms": ["amd64/"]}, "such as linux/amd64 or linux/arm64/v8; 'amd64/' (text) is not one."),
        ({"insecure_registries": ["http://x"]}, "without a scheme; 'http://x' (text) is not one."),
        ({"registry_mirrors": ["x"]}, "`image.buildkit.registry_mirrors` is a list, but must be a map from "),
        ({"registry_mirrors": {"docker.io": "https://x"}}, "without a scheme; 'https://x' (text) is neither."),
        ({"compression": "gzipped"}, "'gzipped' (text), but must be gzip, zstd, estargz or uncompressed."),
        ({"compression_level": True}, "is True (true or false), but must be a whole number."),
        ({"compression_level": 10}, "is 10 (a number), but must be 0 to 9 for gzip."),
        ({"compression": "zstd", "compression_level": 23}, "but must be 0 to 22 for zstd."),
        ({"compression": "estargz", "compression_level": -1}, "but must be 0 to 9 for estargz."),
        ({"compression": "uncompressed", "compression_level": 1}, "has no meaning with uncompressed layers."),
        ({"connect_timeout": 0}, "is 0 (a number), but must be a number of seconds above 0 and up to 3600."),
        ({"connect_timeout": float("nan")}, "is nan (a number), but must be a number of seconds"),
        ({"compression_level": 10**5000}, "is a very large number (a number), but must be 0 to 9 for gzip."),
        ({"ca_bundle": "/no/such"}, "is '/no/such' (text), but must be a file, and there is none of that name."),
        ({"ca_bundle": "/"}, "`image.buildkit.ca_bundle` is '/' (text), but must be a file."),
        ({"docker_config": "/no/such"}, "but must be a file, and there is none of that name."),
        ("x", "`image.buildkit` is 'x' (text), but must be a map."),
        (["x"], "`image.buildkit` is a list, but must be a map."),
    ],
)
def test_a_wrong_key_or_value_is_named(section: object, expected: str) -> None:
    """The message has the full key, what was given and what is expected, or the nearest right name."""
    assert expected in refusal(section)


def test_gzip_is_quick_and_the_rest_is_as_it_was_said() -> None:
    """Only where neither a level nor another type is chosen is a level chosen here."""
    assert 1 == load({}).level == load({"compression": "gzip"}).level
    assert 9 == load({"compression_level": 9}).level
    assert None is load({"compression": "zstd"}).level is load({"compression": "uncompressed"}).level


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "FLYTE_BUILDKIT_ENDPIONT",
            "x",
            "`FLYTE_BUILDKIT_ENDPIONT` is not a variable of buildkit-builder; did you mean `FLYTE_BUILDKIT_ENDPOINT`?",
        ),
        ("FLYTE_BUILDKIT_TLSCA", "x", "did you mean `FLYTE_BUILDKIT_TLS_CA`?"),
        ("FLYTE_BUILDKIT_", "x", "is not a variable of buildkit-builder"),
        ("FLYTE_BUILDKIT_PARALLEL", "maybe", "`FLYTE_BUILDKIT_PARALLEL` is 'maybe' (text), but must be true or false."),
        ("FLYTE_BUILDKIT_COMPRESSION_LEVEL", "1.5", "is '1.5' (text), but must be a whole number."),
        ("FLYTE_BUILDKIT_CONNECT_TIMEOUT", "inf", "but must be a number of seconds above 0 and up to 3600."),
        ("FLYTE_BUILDKIT_REGISTRY_MIRRORS", "docker.io", "is 'docker.io' (text), but must be a map from "),
        ("FLYTE_BUILDKIT_PLATFORMS", "linux/amd64;linux/arm64", "is not one."),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, expected: str) -> None:
    """A variable that is unknown or cannot be read is named, and what is expected is said."""
    assert expected in refusal(None, **{name: value})


def test_a_section_that_surely_means_ours_is_refused() -> None:
    """`image.buildKit` would otherwise be ignored without a word."""
    with pytest.raises(ConfigError, match=r"`image\.buildKit` is not a section; did you mean `image\.buildkit`\?"):
        Settings.load({"image": {"buildKit": {}}}, {})


def test_certificate_and_key_need_each_other(file: Path) -> None:
    """One without the other is refused, and the missing one named."""
    cert, key = {"tls": {"cert": str(file)}}, {"tls": {"key": str(file)}}

    assert "`image.buildkit.tls.key` is not" in refusal(cert)
    assert "`image.buildkit.tls.cert` is not" in refusal(key)


def test_paths_become_absolute_and_know_the_home_folder(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is the home folder of the environment given, and a relative path begins at the working folder."""
    monkeypatch.chdir(tmp_path)

    assert file == load({"ca_bundle": "~/file"}, HOME=str(tmp_path)).ca_bundle
    assert file == load({"ca_bundle": "file"}).ca_bundle


def test_a_docker_config_folder_means_the_file_in_it(tmp_path: Path) -> None:
    """As with `DOCKER_CONFIG`, the folder may be named instead of its config.json."""
    assert tmp_path / "config.json" == load({"docker_config": str(tmp_path)}).docker_config


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"image: {buildkit: [", "is not YAML at line 1: "),
        (b"- image", "the configuration file is a list, but must be a map."),
        (b"image: 7", "`image` is 7 (a number), but must be a map."),
        (b"a: 2020-99-99", "is not YAML that can be read."),
        (b"\xff\xfe\xff", "is not YAML that can be read."),
        (b"[" * 5000, "is not YAML"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    """A file that is not YAML, or does not hold a map, is an error that says so."""
    path = tmp_path / "config.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        Settings.load(path, {})

    assert expected in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that cannot be read is an error that names it."""
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: No such file or directory\."):
        Settings.load(tmp_path / "config.yaml", {})


def test_a_proxy_password_is_never_shown() -> None:
    """Neither a message nor the settings' own text holds what a proxy's address holds."""
    secret = "http://user:hunter2@proxy"

    assert "hunter2" not in refusal({"https_proxy": secret + "\n\0"})
    assert "hunter2" not in refusal({"http_proxy": [secret]})
    assert "hunter2" not in repr(load({"http_proxy": secret, "all_proxy": secret}, FLYTE_BUILDKIT_HTTPS_PROXY=secret))


def test_settings_cannot_change_and_can_be_sent_to_a_process(everything: Settings) -> None:
    """Settings are a value: frozen, hashable, and the same after pickling."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        everything.endpoint = "x"  # type: ignore[misc]

    assert everything == pickle.loads(pickle.dumps(everything))
    assert hash(everything) == hash(dataclasses.replace(everything))


def test_the_fields_are_the_settings() -> None:
    """Every key has a field of its name, and every field a key."""
    tls = [f"tls.{field.name}" for field in dataclasses.fields(TLSSettings)]
    # A list of nodes is another form of `endpoint`.
    inner = ("tls", "buildx", "nodes")
    fields = [field.name for field in dataclasses.fields(Settings) if field.name not in inner]

    assert sorted(module.SETTINGS) == sorted(fields + tls)


@pytest.mark.parametrize(
    "text", [README.read_text(encoding="utf-8"), module.__doc__ or ""], ids=["README", "docstring"]
)
def test_the_tables_list_every_setting(text: str) -> None:
    """The room's README and the module's docstring list each key with its variable, in one order."""
    expected = [(key, module.variable(key)) for key in module.SETTINGS]

    assert expected == ROW.findall(text)


def test_the_readme_has_the_table_of_the_docstring() -> None:
    """What is said of a setting is said once, and shown in both places."""
    rows = [line for line in (module.__doc__ or "").splitlines() if line.startswith("|")]

    assert "\n".join(rows) in README.read_text(encoding="utf-8")


def test_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read does not change when the process's environment does."""
    monkeypatch.setenv("FLYTE_BUILDKIT_ENDPOINT", "before")
    read = environment()
    monkeypatch.setenv("FLYTE_BUILDKIT_ENDPOINT", "after")

    assert "before" == read["FLYTE_BUILDKIT_ENDPOINT"]


def test_well_known_folders() -> None:
    """Folders follow `HOME`, `DOCKER_CONFIG` and the XDG rules, which ignore relative paths."""
    bare = {"HOME": "/h"}

    assert Path("/h") == config.home(bare)
    assert Path("/h/.docker/config.json") == config.docker_config_file(bare)
    assert Path("/d/config.json") == config.docker_config_file({**bare, "DOCKER_CONFIG": "/d"})
    assert Path("/h/.cache") == config.cache_home({**bare, "XDG_CACHE_HOME": "relative"})
    assert Path("/c") == config.cache_home({**bare, "XDG_CACHE_HOME": "/c"})
    assert Path("/h/.local/state") == config.state_home(bare)
    assert Path("/r") == config.runtime_home({"XDG_RUNTIME_DIR": "/r"})
    assert config.runtime_home(bare) is None


@pytest.mark.parametrize(("environ", "expected"), [({}, False), ({"CI": "false"}, False), ({"CI": "1"}, True)])
def test_ci_is_what_says_so(environ: dict[str, str], expected: bool) -> None:
    """A CI system sets `CI` to something that does not mean no."""
    assert expected is config.is_ci(environ)


@pytest.mark.parametrize(("environ", "expected"), [({}, True), ({"TERM": "dumb"}, True), ({"TERM": "xterm"}, False)])
def test_a_dumb_terminal_says_so(environ: dict[str, str], expected: bool) -> None:
    """Without `TERM` nothing is promised about the terminal."""
    assert expected is config.is_dumb_terminal(environ)


KEYS = st.one_of(st.sampled_from([*module.SETTINGS, "tls", "ca", "cert"]), st.text(), st.integers(), st.none())
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(), st.binary())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)


def outcome(configuration: Any, environ: dict[str, str]) -> str | None:
    """The message of the refusal, or `None` where the settings were taken."""
    try:
        Settings.load(configuration, environ)
    except ConfigError as error:
        return str(error)
    return None


def test_every_architecture_may_stand_alone() -> None:
    """Whatever is known to be one, in either case, and nothing else."""
    known = platforms._ARCHITECTURES | platforms._ARCHITECTURE_ALIASES.keys() | platforms._ARM_ALIASES.keys() | {"i386"}

    assert known == set(kinds._ARCHITECTURE.split("|"))
    assert all(kinds.PLATFORM.fullmatch(word) for name in known for word in (name, name.upper()))
    assert not kinds.PLATFORM.fullmatch("toaster")


@given(section=st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=6)))
def test_any_section_is_taken_or_refused(section: object) -> None:
    """Whatever the section holds, the outcome is settings or a `ConfigError` of a bounded length."""
    message = outcome({"image": {"buildkit": section}}, {})

    assert message is None or message.endswith((".", "?"))
    assert message is None or len(message) < 1200 + 4 * LONGEST_SHOWN


@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_any_configuration_is_taken_or_refused(whole: dict[str, object]) -> None:
    """Whatever stands where the section should be, the outcome is settings or a `ConfigError`."""
    for configuration in (whole, {"image": whole}):
        message = outcome(configuration, {})

        assert message is None or message.endswith((".", "?"))


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(sorted(ALL_TEXT)), st.text().map("FLYTE_BUILDKIT_".__add__)), st.text(), max_size=6
    )
)
def test_any_variables_are_taken_or_refused(environ: dict[str, str]) -> None:
    """Whatever the variables hold, the outcome is settings or a `ConfigError`."""
    message = outcome(None, environ)

    assert message is None or message.endswith((".", "?"))


@given(content=st.one_of(st.binary(), st.text(alphabet="image: buildkt\n-[]{}&*!%@\"'<>|=0129.~?#,\t").map(str.encode)))
def test_any_file_is_taken_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the file holds, the outcome is settings or a `ConfigError`."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    message = outcome(path, {})

    assert message is None or message.endswith((".", "?"))
