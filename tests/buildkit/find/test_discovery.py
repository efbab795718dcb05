from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit_builder.buildkit.find.discovery import Discovery, discover
from buildkit_builder.buildkit.find.endpoint import TLS, Endpoint, EndpointOptions
from buildkit_builder.buildkit.find.sockets import ABSENT
from buildkit_builder.errors import EndpointError
from buildkit_builder.flyte_plugin.private_engine import Own, Place, PrivateEngine, started_at


def store_context(home: Path, name: str, host: str, *, skip_verify: bool = False, tls: tuple[str, ...] = ()) -> Path:
    """Write a Docker context as Docker does; returns its TLS folder."""
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker/contexts/meta" / key
    meta.mkdir(parents=True)
    docker = {"Host": host, "SkipTLSVerify": skip_verify}
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": docker}}))
    files = home / ".docker/contexts/tls" / key / "docker"
    files.mkdir(parents=True)
    for file in tls:
        (files / file).write_text("PEM")
    return files


def use_context(home: Path, name: str) -> None:
    """What `docker context use` writes."""
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps({"currentContext": name}))


def search(home: Path, *sockets: str, options: EndpointOptions | None = None, **environ: str) -> Discovery:
    """Search where only `sockets` answer."""
    environ.setdefault("XDG_STATE_HOME", str(home / "state"))
    return discover(
        options or EndpointOptions(),
        environ=environ,
        home=home,
        probe=lambda path: "" if path in sockets else ABSENT,
        own=Own(environ),
    )


def found(home: Path, *sockets: str, options: EndpointOptions | None = None, **environ: str) -> Endpoint:
    """The endpoint that is chosen where only `sockets` answer."""
    (node,) = search(home, *sockets, options=options, **environ).found()
    return node.endpoint


def refusal(home: Path, *sockets: str, options: EndpointOptions | None = None, **environ: str) -> str:
    """The message with which the search fails."""
    with pytest.raises(EndpointError) as caught:
        search(home, *sockets, options=options, **environ).found()
    return str(caught.value)


def test_setting_comes_first(tmp_path: Path) -> None:
    """The `endpoint` setting is taken before every variable, and means a buildkitd."""
    options = EndpointOptions(address="unix:///run/mine.sock")

    endpoint = found(tmp_path, options=options, BUILDKIT_HOST="tcp://b:1", DOCKER_HOST="unix:///d.sock")

    assert (endpoint.address, endpoint.kind) == ("unix:///run/mine.sock", "buildkit")
    assert "`endpoint` setting" in endpoint.reason


def test_buildkit_host_before_docker(tmp_path: Path) -> None:
    """BUILDKIT_HOST is taken before DOCKER_HOST, and means a buildkitd; the host keeps its case."""
    endpoint = found(tmp_path, BUILDKIT_HOST="tcp://BuildKit.Example:1234", DOCKER_HOST="unix:///d.sock")

    assert Endpoint(address="tcp://BuildKit.Example:1234", kind="buildkit", reason="BUILDKIT_HOST names it") == endpoint


def test_docker_host_before_contexts(tmp_path: Path) -> None:
    """DOCKER_HOST is taken before DOCKER_CONTEXT and before the context in use, as `docker` does."""
    store_context(tmp_path, "one", "unix:///one.sock")
    use_context(tmp_path, "one")

    endpoint = found(tmp_path, DOCKER_HOST="unix:///d.sock", DOCKER_CONTEXT="one")

    assert Endpoint(address="unix:///d.sock", kind="docker", reason="DOCKER_HOST names it") == endpoint


def test_context_variable_before_context_in_use(tmp_path: Path) -> None:
    """DOCKER_CONTEXT is taken before the context that config.json names."""
    store_context(tmp_path, "one", "unix:///one.sock")
    store_context(tmp_path, "Two", "unix:///two.sock")
    use_context(tmp_path, "one")

    assert "unix:///one.sock" == found(tmp_path).address
    endpoint = found(tmp_path, DOCKER_CONTEXT="Two")

    assert ("unix:///two.sock", "docker") == (endpoint.address, endpoint.kind)
    assert "DOCKER_CONTEXT" in endpoint.reason
    assert "`Two`" in endpoint.reason


def test_docker_config_moves_the_store(tmp_path: Path) -> None:
    """DOCKER_CONFIG says where config.json and the contexts are."""
    store_context(tmp_path, "one", "unix:///one.sock")
    use_context(tmp_path, "one")

    endpoint = found(tmp_path / "elsewhere", DOCKER_CONFIG=str(tmp_path / ".docker"))

    assert "unix:///one.sock" == endpoint.address


def test_context_default_means_the_default_socket(tmp_path: Path) -> None:
    """The context `default` is no stored one: default sockets are looked for."""
    use_context(tmp_path, "default")

    assert "unix:///var/run/docker.sock" == found(tmp_path, "/var/run/docker.sock").address


def test_unknown_context_lists_the_known(tmp_path: Path) -> None:
    """A context that is not there is an error that names those that are."""
    store_context(tmp_path, "one", "unix:///one.sock")

    message = refusal(tmp_path, DOCKER_CONTEXT="nope")

    assert "no Docker context `nope`" in message
    assert "`default`, `one`" in message


def test_context_of_the_settings_before_variables(tmp_path: Path) -> None:
    """A builder in the settings, here a Docker context, is taken before BUILDKIT_HOST and DOCKER_HOST."""
    store_context(tmp_path, "one", "unix:///one.sock")

    endpoint = found(
        tmp_path, options=EndpointOptions(builder="one"), BUILDKIT_HOST="tcp://b:1", DOCKER_HOST="unix:///d.sock"
    )

    assert "unix:///one.sock" == endpoint.address


def test_context_with_certificates(tmp_path: Path) -> None:
    """A context's own TLS files secure its engine."""
    files = store_context(tmp_path, "far", "tcp://far:2376", tls=("ca.pem", "cert.pem", "key.pem"))

    endpoint = found(tmp_path, DOCKER_CONTEXT="far")

    expected = TLS(ca=str(files / "ca.pem"), cert=str(files / "cert.pem"), key=str(files / "key.pem"))
    assert expected == endpoint.tls


def test_context_that_skips_verification(tmp_path: Path) -> None:
    """A context may say that the server is not to be verified; then it needs no CA."""
    store_context(tmp_path, "far", "tcp://far:2376", skip_verify=True)

    assert TLS(verify=False) == found(tmp_path, DOCKER_CONTEXT="far").tls


def test_context_without_ca(tmp_path: Path) -> None:
    """A context with a client certificate and no CA is an error."""
    store_context(tmp_path, "far", "tcp://far:2376", tls=("cert.pem", "key.pem"))

    assert "TLS without CA" in refusal(tmp_path, DOCKER_CONTEXT="far")


@pytest.mark.parametrize(
    ("sockets", "environ", "address", "kind"),
    [
        (("/var/run/docker.sock", "/run/buildkit/buildkitd.sock"), {}, "unix:///var/run/docker.sock", "docker"),
        (("/run/buildkit/buildkitd.sock",), {}, "unix:///run/buildkit/buildkitd.sock", "buildkit"),
        (("/run/user/7/docker.sock",), {"XDG_RUNTIME_DIR": "/run/user/7"}, "unix:///run/user/7/docker.sock", "docker"),
        (
            ("/run/user/7/buildkit/buildkitd.sock",),
            {"XDG_RUNTIME_DIR": "/run/user/7"},
            "unix:///run/user/7/buildkit/buildkitd.sock",
            "buildkit",
        ),
    ],
)
def test_default_sockets(
    tmp_path: Path, sockets: tuple[str, ...], environ: dict[str, str], address: str, kind: str
) -> None:
    """Without any configuration the first default socket that exists is taken."""
    endpoint = found(tmp_path, *sockets, options=None, **environ)

    assert (address, kind) == (endpoint.address, endpoint.kind)


def test_nothing_found_says_where_it_looked(tmp_path: Path) -> None:
    """Without configuration and sockets the error names the sockets and the setting."""
    message = refusal(tmp_path)

    assert "/var/run/docker.sock" in message
    assert "/run/buildkit/buildkitd.sock" in message
    assert "`endpoint` setting" in message


@pytest.mark.parametrize("address", ["docker", "docker://"])
def test_docker_means_the_engine_in_use(tmp_path: Path, address: str) -> None:
    """The address `docker` is the engine that `docker` itself would use, whatever BUILDKIT_HOST says."""
    options = EndpointOptions(address=address)

    endpoint = found(tmp_path, options=options, BUILDKIT_HOST="tcp://b:1", DOCKER_HOST="tcp://Far:9")

    assert ("tcp://Far:9", "docker") == (endpoint.address, endpoint.kind)
    assert "DOCKER_HOST" in endpoint.reason


def test_docker_with_a_context(tmp_path: Path) -> None:
    """`docker://NAME` is the engine of that context."""
    store_context(tmp_path, "One", "unix:///one.sock")

    assert "unix:///one.sock" == found(tmp_path, options=EndpointOptions(address="docker://One")).address


def test_docker_without_anything(tmp_path: Path) -> None:
    """The address `docker` without configuration is Docker's default socket, there or not."""
    options = EndpointOptions(address="docker")

    assert "unix:///var/run/docker.sock" == found(tmp_path, options=options).address
    rootless = found(tmp_path, "/run/user/7/docker.sock", options=options, XDG_RUNTIME_DIR="/run/user/7")
    assert "unix:///run/user/7/docker.sock" == rootless.address


@pytest.mark.parametrize(
    ("address", "expected"),
    [("docker+unix:///d.sock", "unix:///d.sock"), ("docker+tcp://Far:2375", "tcp://Far:2375")],
)
def test_explicit_engines(tmp_path: Path, address: str, expected: str) -> None:
    """`docker+…` is an engine at that place."""
    endpoint = found(tmp_path, options=EndpointOptions(address=address))

    assert (expected, "docker") == (endpoint.address, endpoint.kind)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("dokcer://x", "Did you mean `docker`?"),
        ("unx:///x", "Did you mean `unix`?"),
        ("/run/x.sock", "Did you mean `unix:///run/x.sock`?"),
        ("frobnicate://x", "`tcp://HOST:PORT`"),
        ("localhost:1234", "`tcp://HOST:PORT`"),
    ],
)
def test_unknown_scheme(tmp_path: Path, address: str, hint: str) -> None:
    """An address of no known form is an error that lists the forms and names the nearest."""
    message = refusal(tmp_path, options=EndpointOptions(address=address))

    assert f"`{address}`" in message
    assert hint in message
    assert "`docker+unix:///PATH`" in message


@pytest.mark.parametrize("address", ["tcp://host", "tcp://", "tcp://host:0", "tcp://host:99999", "tcp://::1:5"])
def test_tcp_needs_host_and_port(tmp_path: Path, address: str) -> None:
    """A TCP address without host or port is an error."""
    assert "tcp://HOST:PORT" in refusal(tmp_path, options=EndpointOptions(address=address))


def test_unix_needs_an_absolute_path(tmp_path: Path) -> None:
    """A relative socket path is an error."""
    assert "unix:///PATH" in refusal(tmp_path, options=EndpointOptions(address="unix://run/x.sock"))


@pytest.fixture
def pem(tmp_path: Path) -> str:
    path = tmp_path / "some.pem"
    path.write_text("PEM")
    return str(path)


def test_tls_with_a_ca_alone(tmp_path: Path, pem: str) -> None:
    """A CA alone is TLS without a client certificate."""
    options = EndpointOptions(address="tcp://b:1", tls_ca=pem, tls_server_name="other")

    assert TLS(ca=pem, server_name="other") == found(tmp_path, options=options).tls


def test_tls_without_a_ca(tmp_path: Path, pem: str) -> None:
    """A client certificate without a CA is an error."""
    options = EndpointOptions(address="tcp://b:1", tls_cert=pem, tls_key=pem)

    assert "TLS without CA" in refusal(tmp_path, options=options)


def test_tls_with_half_a_pair(tmp_path: Path, pem: str) -> None:
    """A certificate without its key, or the reverse, is an error."""
    cert_only = EndpointOptions(address="tcp://b:1", tls_ca=pem, tls_cert=pem)
    key_only = EndpointOptions(address="tcp://b:1", tls_ca=pem, tls_key=pem)

    assert "but no key" in refusal(tmp_path, options=cert_only)
    assert "but no certificate" in refusal(tmp_path, options=key_only)


def test_tls_file_that_is_not_there(tmp_path: Path) -> None:
    """A TLS file that is not there is named."""
    options = EndpointOptions(address="tcp://b:1", tls_ca="/no/such.pem")

    assert "`/no/such.pem`" in refusal(tmp_path, options=options)


def test_tls_on_a_unix_socket(tmp_path: Path, pem: str) -> None:
    """TLS settings with a unix socket contradict each other."""
    options = EndpointOptions(address="unix:///x.sock", tls_ca=pem)

    assert "no TLS" in refusal(tmp_path, options=options)


def test_docker_tls_verify(tmp_path: Path) -> None:
    """DOCKER_TLS_VERIFY takes the certificates of DOCKER_CERT_PATH, and the TLS port where none is given."""
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("PEM")

    endpoint = found(tmp_path, DOCKER_HOST="tcp://Far", DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(tmp_path))

    assert "tcp://Far:2376" == endpoint.address
    expected = TLS(ca=f"{tmp_path}/ca.pem", cert=f"{tmp_path}/cert.pem", key=f"{tmp_path}/key.pem")
    assert expected == endpoint.tls


def test_docker_tls_verify_without_ca(tmp_path: Path) -> None:
    """DOCKER_TLS_VERIFY without a ca.pem is an error that says where it was looked for."""
    message = refusal(tmp_path, DOCKER_HOST="tcp://far:2376", DOCKER_TLS_VERIFY="1")

    assert "TLS without CA" in message
    assert str(tmp_path / ".docker") in message


def test_docker_tls_without_verification(tmp_path: Path) -> None:
    """DOCKER_TLS alone is TLS without verification."""
    assert TLS(verify=False) == found(tmp_path, DOCKER_HOST="tcp://far:2376", DOCKER_TLS="1").tls


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("tcp://far", "tcp://far:2375"),
        ("far:99", "tcp://far:99"),
        ("tcp://[::1]", "tcp://[::1]:2375"),
        ("tcp://:2375", "tcp://localhost:2375"),
        ("tcp://", "tcp://localhost:2375"),
    ],
)
def test_docker_host_defaults(tmp_path: Path, host: str, address: str) -> None:
    """DOCKER_HOST may leave out the scheme, the host and the port."""
    assert address == found(tmp_path, DOCKER_HOST=host).address


def test_docker_host_over_ssh(tmp_path: Path) -> None:
    """An engine over ssh stays one: its address is kept, and it is expected to be a Docker Engine."""
    endpoint = found(tmp_path, DOCKER_HOST="ssh://me@Far:22/run/docker.sock")

    assert ("ssh://me@Far:22/run/docker.sock", "docker") == (endpoint.address, endpoint.kind)


def test_docker_host_of_windows(tmp_path: Path) -> None:
    """An engine at a named pipe is not reached, and the error says by what engines are."""
    message = refusal(tmp_path, DOCKER_HOST="npipe:////./pipe/docker_engine")

    assert "`npipe:////./pipe/docker_engine`" in message
    assert "DOCKER_HOST" in message
    assert "ssh://" in message


def test_damaged_docker_config(tmp_path: Path) -> None:
    """As in docker, a config.json that makes no sense chooses no context; the build says what is wrong with it."""
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text("{")

    assert "unix:///var/run/docker.sock" == found(tmp_path, "/var/run/docker.sock").address


# --- what a shell or a file has put around ---


@pytest.mark.parametrize("around", ["{}\n", " {}", "{} \t", "\n{}\r\n"])
def test_blanks_around_an_address(tmp_path: Path, around: str) -> None:
    """Variables, settings, contexts and builders may have blanks and line breaks around what they say."""
    engine, daemon = around.format("unix:///d.sock"), around.format("unix:///b.sock")
    store_context(tmp_path, "one", engine)
    store = tmp_path / ".docker/buildx/instances"
    store.mkdir(parents=True)
    for name, driver, endpoint in (("far", "remote", daemon), ("box", "docker-container", engine)):
        content = {"Name": name, "Driver": driver, "Nodes": [{"Name": f"{name}0", "Endpoint": endpoint}]}
        (store / name).write_text(json.dumps(content))

    assert "unix:///d.sock" == found(tmp_path, DOCKER_HOST=engine).address
    assert "unix:///b.sock" == found(tmp_path, BUILDKIT_HOST=daemon).address
    assert "unix:///b.sock" == found(tmp_path, options=EndpointOptions(address=daemon)).address
    assert (
        "unix:///d.sock"
        == found(tmp_path, options=EndpointOptions(address=around.format("docker")), DOCKER_HOST=engine).address
    )
    assert "unix:///d.sock" == found(tmp_path, DOCKER_CONTEXT=around.format("one")).address
    assert "unix:///b.sock" == found(tmp_path, BUILDX_BUILDER=around.format("far")).address
    box = found(tmp_path, options=EndpointOptions(builder="box")).engine
    assert box is not None
    assert "unix:///d.sock" == box.address
    assert "`unix:///d.sock`" == search(tmp_path, DOCKER_HOST=engine).looked[-1].found.partition(": ")[0]


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_blank_variables_say_nothing(tmp_path: Path, blank: str) -> None:
    """A variable of blanks is not set, as for docker."""
    socket = "/var/run/docker.sock"
    chosen = found(tmp_path, socket, BUILDKIT_HOST=blank, BUILDX_BUILDER=blank, DOCKER_HOST=blank, DOCKER_CONTEXT=blank)

    assert f"unix://{socket}" == chosen.address


def test_a_builder_in_use_with_an_engine_in_blanks(tmp_path: Path) -> None:
    """Which builder is used with an engine buildx keeps by the engine's address without them."""
    store = tmp_path / ".docker/buildx"
    (store / "instances").mkdir(parents=True)
    node = {"Name": "a", "Endpoint": "tcp://h:1"}
    (store / "instances/mine").write_text(json.dumps({"Name": "mine", "Driver": "remote", "Nodes": [node]}))
    (store / "current").write_text(json.dumps({"Key": "unix:///d.sock", "Name": "mine"}))

    assert "tcp://h:1" == found(tmp_path, DOCKER_HOST="unix:///d.sock\n").address


@pytest.mark.parametrize("path", ["/a%41", "/a b", "/a#b", "/a?b", "/a,b", "/ü", "@name", "@na%me"])
def test_paths_stay_as_they_are(tmp_path: Path, path: str) -> None:
    """Nothing in a socket's path means anything, whoever names it."""
    store_context(tmp_path, "one", f"unix://{path}")

    assert f"unix://{path}" == found(tmp_path, DOCKER_HOST=f"unix://{path}").address
    assert f"unix://{path}" == found(tmp_path, BUILDKIT_HOST=f"unix://{path}").address
    assert f"unix://{path}" == found(tmp_path, options=EndpointOptions(address=f"docker+unix://{path}")).address
    assert f"unix://{path}" == found(tmp_path, DOCKER_CONTEXT="one").address


def test_paths_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for docker a relative path is one from the working folder, if there is anything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/x.sock").touch()

    for given in ("unix://run/x.sock", "unix://./run/x.sock", "unix://run/../run/x.sock"):
        assert f"unix://{tmp_path}/run/x.sock" == found(tmp_path, DOCKER_HOST=given).address
        assert f"unix://{tmp_path}/run/x.sock" == found(tmp_path, options=EndpointOptions(address=given)).address
    assert "unix:///PATH" in refusal(tmp_path, DOCKER_HOST="unix://other/x.sock")


def test_unix_without_a_path(tmp_path: Path) -> None:
    """For docker that is the default socket; a buildkitd has none to mean."""
    assert "unix:///var/run/docker.sock" == found(tmp_path, DOCKER_HOST="unix://").address
    assert "unix:///PATH" in refusal(tmp_path, BUILDKIT_HOST="unix://")
    assert "unix:///PATH" in refusal(tmp_path, BUILDKIT_HOST="unix://@")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b'\xef\xbb\xbf{"currentContext": "one"}', b'{"CURRENTCONTEXT": "one"} x', b'{"currentContext": 1}'],
)
def test_a_config_that_docker_can_read(tmp_path: Path, content: bytes) -> None:
    """Whatever docker takes for its config does not end the search, and chooses what it says."""
    store_context(tmp_path, "one", "unix:///one.sock")
    (tmp_path / ".docker/config.json").write_bytes(content)
    expected = "/one.sock" if b"one" in content else "/var/run/docker.sock"

    assert f"unix://{expected}" == found(tmp_path, "/var/run/docker.sock").address


# --- what was looked at ---


def test_places_in_order(tmp_path: Path) -> None:
    """Every place that was looked at is told in order, with what was found there; the last is the one taken."""
    looked = search(tmp_path, "/run/buildkit/buildkitd.sock", options=EndpointOptions(address="auto")).looked

    assert [
        ("the `endpoint` setting", "`auto`"),
        ("BUILDKIT_HOST", "not set"),
        ("BUILDX_BUILDER", "not set"),
        ("DOCKER_HOST and DOCKER_CONTEXT", "not set"),
        ("the engine of `buildkit-builder engine up`", "none runs"),
        (f"the builder in use ({tmp_path}/.docker/buildx/current)", "the engine's own"),
        (f"the Docker context in use ({tmp_path}/.docker/config.json)", "the default one"),
        ("/var/run/docker.sock, Docker's default socket", "there is none"),
        (f"{tmp_path}/.docker/run/docker.sock, Docker Desktop's socket", "there is none"),
        ("/run/buildkit/buildkitd.sock, buildkitd's default socket", "somebody listens"),
    ] == [(look.place, look.found) for look in looked]


def test_place_that_leads_elsewhere(tmp_path: Path) -> None:
    """Where a name leads to an address, both are told."""
    store_context(tmp_path, "one", "unix:///one.sock")

    assert "`one`: unix:///one.sock" == search(tmp_path, DOCKER_CONTEXT="one").looked[-1].found


def test_socket_that_is_blocked(tmp_path: Path) -> None:
    """A socket that may not be used is passed over for one that may; alone it is taken, so that its error is told."""
    wrong = {"/var/run/docker.sock": "permission denied", "/run/buildkit/buildkitd.sock": ""}

    def chosen() -> str:
        environ = {"XDG_STATE_HOME": str(tmp_path)}
        options = EndpointOptions()
        found = discover(
            options, environ=environ, home=tmp_path, probe=lambda path: wrong.get(path, ABSENT), own=Own(environ)
        )
        return found.found()[0].endpoint.address

    assert "unix:///run/buildkit/buildkitd.sock" == chosen()
    wrong["/run/buildkit/buildkitd.sock"] = ABSENT
    assert "unix:///var/run/docker.sock" == chosen()


def test_private_engine(tmp_path: Path) -> None:
    """The engine of `engine up` comes after variables and before what Docker is set to; a dead one is none."""
    store_context(tmp_path, "one", "unix:///one.sock")
    use_context(tmp_path, "one")
    place = Place.of({"XDG_STATE_HOME": str(tmp_path / "state")})
    place.folder.mkdir(parents=True)
    engine = PrivateEngine(
        address="unix:///mine.sock", kind="buildkit", program="/b", pid=os.getpid(),
        started=started_at(os.getpid()), runtime="/r",
    )  # fmt: skip
    place.write(engine)

    mine = found(tmp_path)

    assert ("unix:///mine.sock", "buildkit") == (mine.address, mine.kind)
    assert f"process {os.getpid()}" in mine.reason
    assert "unix:///d.sock" == found(tmp_path, DOCKER_HOST="unix:///d.sock").address
    place.write(replace(engine, started="1"))
    assert "unix:///one.sock" == found(tmp_path).address


def test_installed_but_not_running(tmp_path: Path) -> None:
    """Where nothing runs, but something is installed that could, the error says how it is started."""
    (tmp_path / "buildkitd").touch(mode=0o755)

    assert f"`{tmp_path}/buildkitd` is installed: `buildkit-builder engine up`" in refusal(tmp_path, PATH=str(tmp_path))
