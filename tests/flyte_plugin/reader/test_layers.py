"""Layers one by one, but for projects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flyte
import pytest
from flyte import Image, Secret
from flyte import _image as flyte_layers

from buildkit_builder.errors import ImageError, MissingSourceError, UnsupportedLayerError
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    DockerfileLayer,
    EnvLayer,
    LabelsLayer,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    UvProjectLayer,
    WorkdirLayer,
)
from tests.flyte_plugin.reader.images import (
    TOKEN,
    base,
    file_layer,
    folder,
    folder_layer,
    layer,
    layers,
    read,
    with_layer,
    write,
)


def test_with_apt_packages() -> None:
    """Packages keep their order; secrets come with the layer."""
    image = base().with_apt_packages("git", "curl=8.*", secret_mounts=["TOKEN"])

    assert (AptLayer(packages=("git", "curl=8.*"), secrets=(TOKEN,)),) == layers(image)


def test_with_pip_packages() -> None:
    """All options of the installer are read."""
    image = base().with_pip_packages(
        "numpy<3", "torch", index_url="https://a", extra_index_urls="https://b", pre=True, extra_args="--no-cache",
        secret_mounts=Secret("TOKEN"),
    )  # fmt: skip
    options = PipOptions(index_url="https://a", extra_index_urls=("https://b",), pre=True, extra_args="--no-cache")

    assert (PipLayer(packages=("numpy<3", "torch"), options=options, secrets=(TOKEN,)),) == layers(image)


def test_with_pip_packages_without_packages() -> None:
    """No packages are no packages; what to install may be among the extra arguments."""
    image = base().with_pip_packages(extra_args="-r /deps.txt")

    assert (PipLayer(packages=(), options=PipOptions(extra_args="-r /deps.txt")),) == layers(image)


def test_with_requirements(tmp_path: Path) -> None:
    """The file's content is read, so that nothing changes between planning and building."""
    file = write(tmp_path / "requirements.txt", "numpy\nhttpx\n")
    image = base().with_requirements(
        "requirements.txt", index_url="https://a", extra_index_urls=("https://b",), pre=True, extra_args="-v",
        secret_mounts=["TOKEN"],
    )  # fmt: skip
    options = PipOptions(index_url="https://a", extra_index_urls=("https://b",), pre=True, extra_args="-v")

    assert (
        RequirementsLayer(file=file, content=b"numpy\nhttpx\n", options=options, secrets=(TOKEN,)),
    ) == layers(image)  # fmt: skip


def test_with_commands() -> None:
    """Each command stays one, whatever it consists of, and each has the secrets."""
    image = base().with_commands(["echo 'a b'", "touch /x && rm /x"], secret_mounts=["TOKEN"])

    assert (
        CommandsLayer(commands=("echo 'a b'",), secrets=(TOKEN,)),
        CommandsLayer(commands=("touch /x && rm /x",), secrets=(TOKEN,)),
    ) == layers(image)


@pytest.mark.parametrize(
    "command", ["--mount=type=cache,target=/x make", " --network=none make", '["make", "all"]', "<<EOF\nmake\nEOF"]
)
def test_commands_in_the_syntax_of_a_dockerfile_are_lines_of_one(command: str) -> None:
    """A shell would fail at them, or silently do nothing."""
    assert (DockerfileLayer(lines=(f"RUN  {command}",)),) == layers(base().with_commands([command]))


def test_commands_of_both_kinds_keep_their_order() -> None:
    """Each is read for itself."""
    kinds = [type(found).__name__ for found in layers(base().with_commands(["a", '["b"]', "c"]))]

    assert ["CommandsLayer", "DockerfileLayer", "CommandsLayer"] == kinds


def test_secrets_of_a_command_in_the_syntax_of_a_dockerfile() -> None:
    """They are mounted as Flyte's own builder mounts them, under ids that are the same in every process."""
    file = Secret("KEY", group="team", mount=Path("/etc/flyte/secrets"))
    found = layer(base().with_commands(['["make"]'], secret_mounts=[Secret("TOKEN", as_env_var="T"), file]))
    mounts = (
        "--mount=type=secret,id=flyte/TOKEN,env=T "
        "--mount=type=secret,id=flyte/team/KEY,target=/etc/flyte/secrets"
    )  # fmt: skip

    assert (f'RUN {mounts} ["make"]',) == found.lines
    assert ["flyte/TOKEN", "flyte/team/KEY"] == [secret.id for secret in found.secrets]


@pytest.mark.parametrize("command", ['[ "$A" = b ] && true', "cat <<EOF > /x\na\nEOF", "", "[1]", "true --mount=x"])
def test_commands_of_a_shell_are(command: str) -> None:
    """Whatever else they look like."""
    assert (CommandsLayer(commands=(command,)),) == layers(base().with_commands([command]))


def test_with_env_vars_keeps_the_order_and_writes_values_as_text() -> None:
    """A number that slipped through is written as Flyte would write it."""
    image = base().with_env_vars({"B": "2", "A": "$B", "N": 3})  # type: ignore[dict-item]

    assert (EnvLayer(variables=(("B", "2"), ("A", "$B"), ("N", "3"))),) == layers(image)


@pytest.mark.parametrize("name", ["", "A=B", "A B", "A\n"])
def test_a_variable_that_no_environment_can_hold_is_an_error(name: str) -> None:
    """The name is in the message."""
    with pytest.raises(ImageError, match=r"with_env_vars: `"):
        read(base().with_env_vars({name: "1"}))


def test_with_workdir() -> None:
    """The path is taken as it was written."""
    assert (WorkdirLayer(path="relative/$HOME"),) == layers(base().with_workdir("relative/$HOME"))


def test_with_source_file(tmp_path: Path) -> None:
    """One file, or several into the same place."""
    one, two = write(tmp_path / "one.txt"), write(tmp_path / "two.txt")

    assert (file_layer(one),) == layers(base().with_source_file(Path("one.txt")))
    assert (file_layer(one, "/etc/"), file_layer(two, "/etc/")) == layers(
        base().with_source_file([one, two], dst="/etc/")
    )


@pytest.mark.parametrize(
    ("options", "destination"),
    [
        ({}, "./src"),
        ({"copy_contents_only": True}, "."),
        ({"dst": "/app"}, "/app"),
        ({"dst": "/app", "copy_contents_only": True}, "/app"),
    ],
)
def test_with_source_folder(tmp_path: Path, options: dict[str, Any], destination: str) -> None:
    """Flyte says where the folder goes: under its own name unless only its contents are wanted."""
    write(tmp_path / "src" / "a.py")

    assert (folder_layer(tmp_path / "src", destination),) == layers(base().with_source_folder(Path("src"), **options))


# --- scripts ---


def test_from_uv_script_installs_what_the_header_names(tmp_path: Path) -> None:
    """The dependencies of the script become packages, with the options of the constructor."""
    script = write(
        tmp_path / "job.py",
        """\
        # /// script
        # requires-python = ">=3.12"
        # dependencies = ["httpx>=0.27", "numpy"]
        # ///
        """,
    )
    image = Image.from_uv_script(
        script, name="job", registry="r.example.com", python_version=(3, 12), index_url="https://a",
        extra_index_urls=["https://b", "https://c"], pre=True, extra_args="--no-deps", secret_mounts="TOKEN",
    )  # fmt: skip
    options = PipOptions(
        index_url="https://a", extra_index_urls=("https://b", "https://c"), pre=True, extra_args="--no-deps"
    )

    assert (
        PipLayer(packages=("httpx>=0.27", "numpy"), options=options, secrets=(TOKEN,), origin="from_uv_script")
        == layers(image)[-1]
    )
    assert (3, 12) == read(image).python_version


def test_a_uv_script_without_dependencies_adds_no_layer(tmp_path: Path) -> None:
    """There is nothing to install, so nothing is run."""
    script = write(tmp_path / "job.py", '# /// script\n# requires-python = ">=3.12"\n# ///\n')
    image = Image.from_uv_script(script, name="job", registry="r.example.com")

    assert PipLayer not in {type(layer) for layer in layers(image)}


@pytest.mark.parametrize(
    "text",
    [
        "print('no header')\n",
        "# /// script\n# dependencies = [\n# ///\n",
        "# /// script\n# dependencies = 3\n# ///\n",
        '# /// script\n# dependencies = "numpy"\n# ///\n',
        '# /// script\n# dependencies = ["numpy"\n# ///\n',
        "# /// script\n# dependencies = [[1]]\n# ///\n",
        '# /// script\n# tool = "uv"\n# ///\n',
        "# /// script\n",
        "# /// script\n# \x00\n# ///\n",
    ],
)
def test_a_bad_script_header_is_an_error_that_names_the_script(tmp_path: Path, text: str) -> None:
    """Whatever stands where a PEP 723 header should, the error is one sentence about the script."""
    script = write(tmp_path / "job.py", text)
    with pytest.raises(ImageError, match=r"from_uv_script: the `# /// script` header of `.*job\.py` makes no sense"):
        read(Image.from_uv_script(script, name="job", registry="r.example.com"))


def test_a_script_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are reported as a bad header and not as a traceback."""
    script = tmp_path / "job.py"
    script.write_bytes(b"# /// script\n# dependencies = ['\xff']\n# ///\n")
    with pytest.raises(ImageError, match=r"from_uv_script"):
        read(Image.from_uv_script(script, name="job", registry="r.example.com"))


def test_a_script_that_depends_on_local_projects(tmp_path: Path) -> None:
    """Git comes first, for versions that are taken from it; then each project is installed, with its own lock."""
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "pyproject.toml", "[project]\nname = 'one'\n")
    write(one / "uv.lock")
    write(two / "pyproject.toml", "[project]\nname = 'two'\n")
    write(tmp_path / "ignore", "*.log\n")
    script = write(
        tmp_path / "job.py",
        f'# /// script\n# dependencies = ["one @ file://{one}", "httpx", "two @ file://{two}"]\n# ///\n',
    )
    image = Image.from_uv_script(
        script, name="job", registry="r.example.com", index_url="https://a", pre=True, extra_args="-v",
        secret_mounts="TOKEN",
    ).clone(extendable=True).with_dockerignore(tmp_path / "ignore")  # fmt: skip
    always = ("pyproject.toml", "uv.lock")
    first = UvProjectLayer(
        pyproject=one / "pyproject.toml",
        lock=one / "uv.lock",
        options=PipOptions(pre=True, extra_args="-v"),
        secrets=(TOKEN,),
        project=folder(one, "*.log", always=always),
        place=f"_flyte_abs_context{one}",
        origin="from_uv_script",
    )
    second = replace(
        first, pyproject=two / "pyproject.toml", lock=None, project=folder(two, "*.log", always=always),
        place=f"_flyte_abs_context{two}",
    )  # fmt: skip
    packages = PipLayer(
        packages=("httpx",), options=PipOptions(index_url="https://a", pre=True, extra_args="-v"), secrets=(TOKEN,),
        origin="from_uv_script",
    )  # fmt: skip

    assert (packages, AptLayer(packages=("git",)), first, second) == layers(image)[-4:]


def test_a_local_project_of_a_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The script's constructor and the missing file are named."""
    script = write(tmp_path / "job.py", f'# /// script\n# dependencies = ["x @ file://{tmp_path}/x"]\n# ///\n')
    with pytest.raises(MissingSourceError, match=r"from_uv_script: the file `/.*x/pyproject\.toml` does not exist"):
        read(Image.from_uv_script(script, name="job", registry="r.example.com"))


def test_a_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """As with any other file."""
    with pytest.raises(MissingSourceError, match=r"from_uv_script: the file `/.*gone\.py` does not exist"):
        read(Image.from_uv_script(tmp_path / "gone.py", name="job", registry="r.example.com"))


# --- layers of another Flyte ---


@dataclass(frozen=True, repr=True)
class Teleport(flyte_layers.Layer):
    """A layer of a Flyte that does not exist yet."""

    def update_hash(self, hasher: Any, ignore: Any = None) -> None:
        hasher.update(b"teleport")


def test_a_layer_of_a_newer_flyte_is_named() -> None:
    """Its class, the Flyte known here, the one that is installed, and the way out."""
    with pytest.raises(
        UnsupportedLayerError,
        match=rf"`Teleport`.*flyte 2\.12\.1 \(installed: {flyte.__version__}\).*`image\.builder: docker`",
    ):
        read(with_layer(Teleport()))


def test_every_layer_of_this_flyte_is_known() -> None:
    """Whatever class of layer the installed Flyte has, but for those that only others derive from."""
    from buildkit_builder.flyte_plugin.reader.layers import _READERS

    classes = {
        kind
        for kind in vars(flyte_layers).values()
        if isinstance(kind, type) and issubclass(kind, flyte_layers.Layer) and kind is not flyte_layers.Layer
    }

    assert classes == {kind for kind, _ in _READERS}


# --- lines of a Dockerfile ---


@pytest.mark.parametrize(
    "line",
    [
        "COPY --from=alpine /a /b", "LABEL a=$B", "LABEL a=b\\\nRUN true", "ENV A=1", "labels a=b",
        "LABEL", "LABEL a", "LABEL =b", "LABEL 'a=b", "LABEL a b",
    ],
)  # fmt: skip
def test_lines_of_a_dockerfile_are_left_to_its_frontend(line: str) -> None:
    """All lines of a layer, where one of them is anything but plain labels; sense and nonsense alike."""
    image = with_layer(flyte_layers._DockerLines(("LABEL x=y", line)))

    assert (DockerfileLayer(lines=("LABEL x=y", line)),) == layers(image)


def test_labels_are_unquoted() -> None:
    """Quotes go, and one line may hold several labels."""
    image = with_layer(flyte_layers._DockerLines(("label a='b c' d=\"e=f\"", "LABEL g=")))

    assert (LabelsLayer(labels=(("a", "b c"), ("d", "e=f"), ("g", ""))),) == layers(image)
