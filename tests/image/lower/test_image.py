"""Steps to a graph and a config, as Flyte's own Dockerfile would give them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit_builder.buildkit import llb
from buildkit_builder.buildkit.wire import ops_pb2
from buildkit_builder.errors import ImageError
from buildkit_builder.image.lower import CA_SECRET, Environment
from buildkit_builder.image.plan import plan
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    EnvLayer,
    LabelsLayer,
    Layer,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    SecretRef,
    WorkdirLayer,
)
from tests.image.lower.driver import (
    AMD64,
    BASE_DIGEST,
    DEFAULT_PATH,
    GOLDEN,
    TOOL_DIGEST,
    Daemon,
    environment_of,
    file_layer,
    folder_layer,
    graph,
    lowered,
    spec,
)

FOLDER = folder_layer("/work/src", "./src")
FILE = file_layer("/work/a.py", ".")
TOKEN = SecretRef(id="flyte/TOKEN", variable="TOKEN", source_variable="TOKEN", source_file="/etc/secrets/TOKEN")
COMMAND = CommandsLayer(commands=("true",))
NVIDIA = "/usr/local/nvidia/bin:/usr/local/cuda/bin"


def env(*layers: Layer, **config: Any) -> dict[str, str]:
    """The variables of an image with these layers on a base with this config."""
    return dict(lowered(spec(*layers), Daemon(config=config)).config.env)


# --- the base ---


def test_images_are_pinned_by_what_they_were_resolved_to() -> None:
    """The digest and the way of looking up are those of the answers."""
    made = graph(lowered(spec()))
    base, uv = made.images

    assert f"docker-image://docker.io/library/debian:12@{BASE_DIGEST}" == base.identifier
    assert "local" == base.attrs["image.resolvemode"]
    assert f"docker-image://ghcr.io/astral-sh/uv:1@{TOOL_DIGEST}" == uv.identifier
    assert "pull" == uv.attrs["image.resolvemode"]


def test_the_environment_stands_in_the_order_of_flytes_dockerfile() -> None:
    """The base's variables keep their places, then come Flyte's, the user's, and the image's own name."""
    made = lowered(
        spec(EnvLayer(variables=(("B", "2"), ("A", "$B/$C"), ("LANG", "de")))),
        Daemon(config={"Env": ["PATH=/usr/bin", "LANG=C", "C=3"]}),
    )

    assert [
        ("PATH", f"/opt/venv/bin:/usr/bin:{NVIDIA}"),
        ("LANG", "de"),
        ("C", "3"),
        ("UV_COMPILE_BYTECODE", "1"),
        ("UV_LINK_MODE", "copy"),
        ("VIRTUALENV", "/opt/venv"),
        ("UV_PYTHON", "/opt/venv/bin/python"),
        ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64"),
        ("B", "2"),
        ("A", "2/3"),
        ("_F_IMG_ID", "reg.example.com/team/mine:1"),
    ] == list(made.config.env.items())


def test_a_base_without_a_path_gets_buildkits() -> None:
    """It is put after the base's variables, and Flyte's folders go around it."""
    made = env(Env=["LANG=C"])

    assert f"/opt/venv/bin:{DEFAULT_PATH}:{NVIDIA}" == made["PATH"]
    assert ["LANG", "PATH", "UV_COMPILE_BYTECODE"] == list(made)[:3]


@pytest.mark.parametrize(
    ("base", "virtualenv", "python"),
    [
        ([], "/opt/venv", "/opt/venv/bin/python"),
        (["VIRTUALENV=/venv"], "/venv", "/venv/bin/python"),
        (["UV_PYTHON=/usr/bin/python3"], "/opt/venv", "/usr/bin/python3"),
        (["VIRTUALENV=/venv", "UV_PYTHON=/py"], "/venv", "/py"),
        (["UV_PYTHON="], "/opt/venv", ""),
    ],
)
def test_the_bases_python_wins(base: list[str], virtualenv: str, python: str) -> None:
    """A variable of the base wins over what Flyte sets by default."""
    made = env(Env=base)

    assert (virtualenv, python) == (made["VIRTUALENV"], made["UV_PYTHON"])
    assert made["PATH"].startswith(f"{virtualenv}/bin:")


@pytest.mark.parametrize(
    ("base", "arguments", "virtualenv", "python"),
    [
        ([], {"VIRTUALENV": "/venv"}, "/venv", "/venv/bin/python"),
        ([], {"UV_PYTHON": "/usr/bin/python3"}, "/opt/venv", "/usr/bin/python3"),
        ([], {"VIRTUALENV": "/a b", "UV_PYTHON": "$A}'\\\"{"}, "/a b", "$A}'\\\"{"),
        ([], {"VIRTUALENV": ""}, "", "/bin/python"),
        (["VIRTUALENV=/base"], {"VIRTUALENV": "/venv"}, "/venv", "/venv/bin/python"),
        (["UV_PYTHON=/base"], {"UV_PYTHON": "/py", "OTHER": "x"}, "/opt/venv", "/py"),
    ],
)
def test_arguments_of_flytes_dockerfile(
    base: list[str], arguments: dict[str, str], virtualenv: str, python: str
) -> None:
    """They stand for themselves, variables and quotes included, and win over variables of the base."""
    made = lowered(spec(), Daemon(config={"Env": base}), build_args=arguments).config.env

    assert (virtualenv, python) == (made["VIRTUALENV"], made["UV_PYTHON"])
    assert "OTHER" not in made


def test_what_else_a_base_says_stays() -> None:
    """Entry point, labels, ports and unknown fields are inherited; the user is root, the shell is bash."""
    base = {
        "Env": ["PATH=/bin"], "Entrypoint": ["/e"], "Cmd": ["c"], "Labels": {"a": "1", "b": "2"}, "User": "1000:1000",
        "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/srv", "Shell": ["/bin/ash", "-ec"], "StopSignal": "SIGINT",
        "FutureField": 1,
    }  # fmt: skip
    made = lowered(spec(LabelsLayer(labels=(("b", "3"), ("c", "$HOME")))), Daemon(config=base)).config
    config = json.loads(made.to_json(AMD64))["config"]
    inherited = ("Entrypoint", "Cmd", "ExposedPorts", "WorkingDir", "StopSignal", "FutureField")

    assert {name: base[name] for name in inherited} == {name: config[name] for name in inherited}
    assert {"a": "1", "b": "3", "c": "$HOME"} == made.labels
    assert "root" == made.user
    assert ("/bin/bash", "-c") == made.shell


def test_commands_run_in_the_bases_shell_as_root() -> None:
    """The shell that Flyte names at the end holds for the image and not for its building."""
    made = graph(lowered(spec(COMMAND), Daemon(config={"Shell": ["/bin/ash", "-ec"], "User": "nobody"})))

    assert [["/bin/ash", "-ec", "true"]] == [list(made.run("with_commands").meta.args)]
    assert {"root"} == {run.meta.user for run in made.runs}
    assert ["/bin/sh", "-c", "true"] == list(graph(lowered(spec(COMMAND))).run("with_commands").meta.args)


def test_instructions_of_the_base_are_carried_out_first() -> None:
    """They are a Dockerfile's, and its frontend carries them out at `FROM`; all else goes on from there."""
    daemon = Daemon(config={"OnBuild": ["COPY . /app", "RUN make"]})
    result = lowered(spec(COMMAND), daemon)
    [question] = daemon.built
    made = graph(result)

    assert ((), "ONBUILD of debian:12") == (question.lines, question.name)
    assert ("COPY . /app", "RUN make") == question.image.config.on_build
    assert "PATH" in question.image.config.env
    assert ["image debian:12"] == names(question.image.state)
    assert made.names.index("carried out: ONBUILD of debian:12") < made.names.index("the Python 3.12 environment")
    assert "1" == environment_of(made.run("with_commands"))["LINES"]
    assert "/lines" == made.run("with_commands").meta.cwd


def test_a_base_without_instructions_asks_for_none() -> None:
    """It would cost a solve."""
    daemon = Daemon()
    lowered(spec(COMMAND), daemon)

    assert [] == daemon.built


def test_an_image_that_creates_the_user_runs_as_it_in_its_home() -> None:
    """The last steps make the home, owned by the user."""
    result = lowered(spec(creates_user=True))
    action = graph(result).action("the flyte user's home")

    assert ("flyte", "/home/flyte") == (result.config.user, result.config.working_dir)
    assert ("/home/flyte", 0o755, True) == (action.mkdir.path, action.mkdir.mode, action.mkdir.makeParents)
    assert "flyte" == action.mkdir.owner.user.byName.name


# --- variables ---


def test_variables_of_one_layer_see_each_other() -> None:
    """Flyte writes an `ENV` for each, so that each may refer to the one before."""
    made = env(EnvLayer(variables=(("A", "1"), ("A", "$A$A"), ("PATH", "/x:$PATH"))))

    assert "11" == made["A"]
    assert f"/x:/opt/venv/bin:{DEFAULT_PATH}:{NVIDIA}" == made["PATH"]


def test_a_value_that_is_not_understood_names_its_variable() -> None:
    """The text is shown, and what is wrong with it."""
    with pytest.raises(ImageError, match=r"with_env_vars A: `\$\{B` is not understood: .*not closed"):
        env(EnvLayer(variables=(("A", "${B"),)))


def test_a_command_sees_the_variables_that_stand_before_it() -> None:
    """Later ones do not change it, so they do not make it run again."""
    before, after = EnvLayer(variables=(("A", "1"),)), EnvLayer(variables=(("B", "2"),))
    run = graph(lowered(spec(before, COMMAND, after))).run("with_commands")

    assert "1" == environment_of(run)["A"]
    assert "B" not in environment_of(run)
    assert "_F_IMG_ID" not in environment_of(run)


# --- working directory ---


@pytest.mark.parametrize(
    ("base", "paths", "expected"),
    [
        ("", ("app",), "/app"),
        ("/srv", ("app",), "/srv/app"),
        ("srv", ("app",), "/srv/app"),
        ("/srv", ("/app",), "/app"),
        ("/srv", ("app", "../lib/./x//y/"), "/srv/lib/x/y"),
        ("/srv", ("$HOME/${D:-d}",), "/root/d"),
        ("/srv", ('"/a b"',), "/a b"),
        ("/srv", ("//app",), "/app"),
        ("/srv", ("../../..",), "/"),
        ("/srv", ("",), "/srv"),
    ],
)
def test_the_working_directory(base: str, paths: tuple[str, ...], expected: str) -> None:
    """Relative paths start at the one before; variables and quotes are a Dockerfile's."""
    layers = [WorkdirLayer(path=path) for path in paths]
    result = lowered(spec(*layers, COMMAND), Daemon(config={"WorkingDir": base, "Env": ["HOME=/root"]}))

    assert expected == result.config.working_dir
    assert expected == graph(result).run("with_commands").meta.cwd


def test_the_working_directory_is_made() -> None:
    """With its parents, for the user of that moment; the root is there already."""
    made = graph(lowered(spec(WorkdirLayer(path="/a/b"), WorkdirLayer(path="/"))))
    action = made.action("with_workdir /a/b")

    assert ("/a/b", 0o755, True) == (action.mkdir.path, action.mkdir.mode, action.mkdir.makeParents)
    assert 0 == action.mkdir.owner.user.byID
    assert [] == made.ops("with_workdir / ")
    assert "with_workdir /" not in made.names


def test_a_working_directory_that_is_not_understood_names_its_layer() -> None:
    """As with a variable."""
    with pytest.raises(ImageError, match=r"with_workdir '/a: `'/a` is not understood"):
        lowered(spec(WorkdirLayer(path="'/a")))


def test_a_relative_working_directory_of_the_base_starts_at_the_root() -> None:
    """Commands and their files stand at an absolute path, as BuildKit has it."""
    layer = RequirementsLayer(file=Path("/work/requirements.txt"), content=b"httpx\n")
    made = graph(lowered(spec(layer), Daemon(config={"WorkingDir": "srv"}))).run("with_requirements")

    assert "/srv" == made.meta.cwd
    assert "/srv/requirements.txt" in [mount.dest for mount in made.mounts]


# --- copies ---


@pytest.mark.parametrize(
    ("destination", "target"),
    [
        (".", "/srv/"),
        ("./", "/srv/"),
        ("", "/srv/"),
        ("./src", "/srv/src"),
        ("dir/", "/srv/dir/"),
        ("dir/.", "/srv/dir/"),
        ("./.", "/srv/"),
        ("/", "/"),
        ("/.", "/"),
        ("/abs", "/abs"),
        ("/abs/", "/abs/"),
        ("//abs//x", "/abs/x"),
        ("..", "/"),
        ("../x", "/x"),
        ("$HOME/x/", "/root/x/"),
    ],
)
@pytest.mark.parametrize("layer", [FOLDER, FILE])
def test_where_a_copy_goes(layer: CopyLayer, destination: str, target: str) -> None:
    """Relative to the working directory; a `/` at the end tells a folder, as in a Dockerfile."""
    daemon = Daemon(config={"WorkingDir": "/srv", "Env": ["HOME=/root"]})
    action = graph(lowered(spec(replace(layer, destination=destination)), daemon)).action("with_source")

    assert target == action.copy.dest
    assert action.copy.createDestPath


def test_what_a_copy_takes() -> None:
    """The contents of a folder, or one file; no character of a name is a wildcard."""
    folder = graph(lowered(spec(FOLDER))).action("with_source_folder").copy
    file = graph(lowered(spec(file_layer("/work/a[1]*.py", ".")))).action("with_source_file").copy

    assert ("/", True, False) == (folder.src, folder.dirCopyContents, folder.allowWildcard)
    assert ("/a[1]*.py", False, False) == (file.src, file.dirCopyContents, file.allowWildcard)


def test_local_sources_carry_the_session_and_their_shared_key() -> None:
    """So that the daemon asks the right client, and only for what changed."""
    [source] = plan(spec(FOLDER)).sources
    made = graph(lowered(spec(FOLDER), environment=Environment(session="s1", shared_keys={source.name: "key"})))
    [op] = made.ops("read src")

    assert f"local://{source.name}" == op.source.identifier
    assert ("s1", "key") == (op.source.attrs["local.session"], op.source.attrs["local.sharedkeyhint"])


def test_copied_files_are_for_the_flyte_user() -> None:
    """By name, in the state that they are copied into, so that the daemon finds whoever is called so by then."""
    made = graph(lowered(spec(FOLDER, COMMAND, FILE), Daemon(history="RUN apt-get update")))
    owners = [op.file.actions[0].copy.owner for op in made.ops("with_source")]

    assert [("flyte", 0)] * 2 == [(owner.user.byName.name, owner.user.byName.input) for owner in owners]
    assert [("flyte", 0)] * 2 == [(owner.group.byName.name, owner.group.byName.input) for owner in owners]


def names(state: llb.State) -> list[str]:
    """The names of the vertices that a state needs."""
    definition = llb.marshal(state, platform=AMD64)
    return [definition.names[digest] for digest in definition.digests if digest in definition.names]


def test_uv_belongs_to_root() -> None:
    """What comes from another image keeps its owner."""
    copied = graph(lowered(spec())).action("uv").copy

    assert ("/uv", "/usr/bin/uv") == (copied.src, copied.dest)
    assert not copied.HasField("owner")


# --- commands ---


def test_caches() -> None:
    """Apt's is one per architecture, uv's is one for all; nobody waits for another to use them."""
    layers = (AptLayer(packages=("git",)), PipLayer(packages=("numpy",)))
    arm64 = llb.Platform(architecture="arm64")
    made = graph(lowered(spec(*layers), platform=arm64))
    [apt] = [mount for mount in made.run("with_apt_packages").mounts if mount.mountType == ops_pb2.CACHE]
    [uv] = [mount for mount in made.run("with_pip_packages").mounts if mount.mountType == ops_pb2.CACHE]

    assert ("apt-lists-and-archives-arm64", ops_pb2.SHARED) == (apt.cacheOpt.ID, apt.cacheOpt.sharing)
    assert apt.dest.startswith("/dev/")
    assert ("/root/.cache/uv", "uv-1", ops_pb2.SHARED) == (uv.dest, uv.cacheOpt.ID, uv.cacheOpt.sharing)
    assert "arm64" == made.ops("with_pip_packages")[0].platform.Architecture


def test_a_requirements_file_is_there_only_while_it_is_installed() -> None:
    """It is mounted, not copied, and cannot be written to."""
    layer = RequirementsLayer(file=Path("/work/requirements.txt"), content=b"httpx\n")
    made = graph(lowered(spec(WorkdirLayer(path="/app"), layer)))
    [mount] = [item for item in made.run("with_requirements").mounts if item.dest.endswith("requirements.txt")]

    assert ("/app/requirements.txt", "/file", True) == (mount.dest, mount.selector, mount.readonly)
    assert b"httpx\n" in made.everything


def test_secrets_are_in_the_graph_by_their_ids_only() -> None:
    """As a variable or as a file, of the layer that asks and of no other."""
    file = SecretRef(
        id="flyte/FILE", path="/etc/flyte/secrets", source_variable="FILE", source_file="/etc/secrets/FILE"
    )
    result = lowered(spec(CommandsLayer(commands=("one",), secrets=(TOKEN, file)), CommandsLayer(commands=("two",))))
    one, two = (graph(result).run(f"with_commands {name}") for name in ("one", "two"))
    [mount] = [mount for mount in one.mounts if mount.mountType == ops_pb2.SECRET]

    assert [("flyte/TOKEN", "TOKEN")] == [(secret.ID, secret.name) for secret in one.secretenv]
    assert ("flyte/FILE", "/etc/flyte/secrets", 0o400) == (mount.secretOpt.ID, mount.dest, mount.secretOpt.mode)
    assert not two.secretenv
    assert "TOKEN" not in dict(result.config.env)
    assert b"/etc/secrets" not in graph(result).everything


# --- what surrounds a build ---

SURROUNDED = Environment(
    proxy=llb.ProxyEnv(http="http://u:pw@proxy", https="http://u:pw@proxy", no="localhost", all="socks5://proxy"),
    ca_bundle=True,
    network="host",
    extra_hosts=(("db", "10.0.0.1"),),
    no_cache=True,
    epoch="1700000000",
)
EVERY_LAYER = (COMMAND, AptLayer(packages=("git",)), PipLayer(packages=("numpy",)), FOLDER, WorkdirLayer(path="/app"))


def test_the_ca_bundle_reaches_every_command_and_not_the_image() -> None:
    """It is a file that only the container has, and variables that only the command has."""
    result = lowered(spec(*EVERY_LAYER), environment=Environment(ca_bundle=True))
    runs = graph(result).runs
    without = lowered(spec(*EVERY_LAYER))

    assert 4 == len(runs)
    for run in runs:
        [mount] = [mount for mount in run.mounts if mount.mountType == ops_pb2.SECRET]
        assert CA_SECRET == mount.secretOpt.ID
        assert mount.dest.startswith("/dev/")
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"):
            assert mount.dest == environment_of(run)[name]
    assert without.config == result.config


def test_an_images_own_choice_of_certificates_stands() -> None:
    """A variable that the image sets is not overruled."""
    layer = EnvLayer(variables=(("SSL_CERT_FILE", "/mine.pem"),))
    run = graph(lowered(spec(layer, COMMAND), environment=Environment(ca_bundle=True))).run("with_commands")

    assert "/mine.pem" == environment_of(run)["SSL_CERT_FILE"]
    assert environment_of(run)["PIP_CERT"].startswith("/dev/")


def test_proxies_are_neither_in_the_image_nor_among_the_variables() -> None:
    """They travel in a field that the cache does not look at."""
    result = lowered(spec(*EVERY_LAYER), environment=SURROUNDED)
    for run in graph(result).runs:
        assert "http://u:pw@proxy" == run.meta.proxy_env.http_proxy
        assert "socks5://proxy" == run.meta.proxy_env.all_proxy
        assert "proxy" not in " ".join(run.meta.env).lower()

    assert b"proxy" not in result.config.to_json(AMD64).lower()


def test_network_and_hosts_reach_every_command() -> None:
    """As given; the default is the daemon's own."""
    for run in graph(lowered(spec(*EVERY_LAYER), environment=SURROUNDED)).runs:
        assert ops_pb2.HOST == run.network
        assert [("db", "10.0.0.1")] == [(host.Host, host.IP) for host in run.meta.extraHosts]
    assert {ops_pb2.UNSET} == {run.network for run in graph(lowered(spec(*EVERY_LAYER))).runs}


@pytest.mark.parametrize("no_cache", [True, False])
def test_no_cache_makes_every_command_run_again(no_cache: bool) -> None:
    """It is said beside the vertices, so their digests stay the same."""
    made = graph(lowered(spec(*EVERY_LAYER), environment=Environment(no_cache=no_cache)))
    definition = made.definition
    commands = [digest for digest in definition.digests if definition.op(digest).HasField("exec")]

    assert [no_cache] * 4 == [definition.metadata_of(digest).ignore_cache for digest in commands]
    assert definition.digests[:-1] == graph(lowered(spec(*EVERY_LAYER))).definition.digests[:-1]


def test_with_a_time_of_their_own_steps_leave_no_trace_of_it() -> None:
    """All commands are told the time; what is known to differ each time is taken away after those that leave it."""
    made = graph(lowered(spec(*EVERY_LAYER), environment=Environment(epoch="1700000000")))

    assert ["SOURCE_DATE_EPOCH=1700000000"] * 4 == [run.meta.env[-1] for run in made.runs]
    ends = {run.meta.args[-1].partition(" && rm -rf ")[2].partition(" ")[0] for run in made.runs}
    assert {"", "/tmp/uv-*.lock", "/var/cache/ldconfig/aux-cache"} == ends
    assert not any("EPOCH" in variable for run in graph(lowered(spec(*EVERY_LAYER))).runs for variable in run.meta.env)


def test_the_image_is_the_same_whatever_surrounds_the_build() -> None:
    """Nothing of the network that it was built in is in the config."""
    assert lowered(spec(*EVERY_LAYER)).config == lowered(spec(*EVERY_LAYER), environment=SURROUNDED).config


# --- the whole ---

TYPICAL = spec(
    LabelsLayer(labels=(("org.opencontainers.image.source", "https://example.com"),)),
    CommandsLayer(commands=("useradd --create-home flyte",)),
    WorkdirLayer(path="/home/flyte"),
    EnvLayer(variables=(("VIRTUAL_ENV", "/opt/venv"), ("PATH", "/opt/venv/bin:$PATH"))),
    AptLayer(packages=("git", "curl")),
    PipLayer(
        packages=("numpy<3",), options=PipOptions(index_url="https://$TOKEN@pypi.example.com/simple"), secrets=(TOKEN,)
    ),
    RequirementsLayer(file=Path("/work/requirements.txt"), content=b"httpx\n"),
    FOLDER,
    FILE,
    creates_user=True,
)


def typical(*, side_by_side: bool) -> str:
    """The graph and the config of a typical image, readable."""
    result = lowered(TYPICAL, environment=Environment(side_by_side=side_by_side))
    config = json.dumps(json.loads(result.config.to_json(AMD64)), indent=2)
    return f"{llb.dump(graph(result).definition)}{config}\n"


GOLDENS = {"typical.json": False, "typical-branches.json": True}


@pytest.mark.parametrize("name", GOLDENS)
def test_a_typical_image_stays_as_it_is(name: str) -> None:
    """The text that was reviewed; `python -m tests.image.lower.test_image` writes it anew."""
    assert (GOLDEN / name).read_text(encoding="utf-8") == typical(side_by_side=GOLDENS[name])


def test_the_same_image_gives_the_same_bytes() -> None:
    """Nothing of the process or the moment enters the graph."""
    first, second = (graph(lowered(TYPICAL, environment=SURROUNDED)) for _ in range(2))

    assert first.everything == second.everything


def test_adding_a_layer_leaves_all_before_it_as_it_was() -> None:
    """So that nothing true is rebuilt: the vertices of the shorter image are among those of the longer."""
    short = graph(lowered(spec(*EVERY_LAYER))).definition
    longer = graph(lowered(spec(*EVERY_LAYER, FILE, PipLayer(packages=("httpx",))))).definition

    assert set(short.digests[:-1]) <= set(longer.digests)


def test_the_name_of_an_image_is_no_part_of_its_graph() -> None:
    """Another tag only changes the config."""
    other = replace(TYPICAL, reference="elsewhere/other:2")

    assert graph(lowered(TYPICAL)).everything == graph(lowered(other)).everything
    assert "elsewhere/other:2" == lowered(other).config.env["_F_IMG_ID"]


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, side_by_side in GOLDENS.items():
        (GOLDEN / name).write_text(typical(side_by_side=side_by_side), encoding="utf-8")
