"""Reading a `flyte.Image`: every constructor, layer and option, and whatever can be wrong with them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flyte
import pytest
from flyte import Image, Secret
from flyte import _image as flyte_layers

from buildkit_builder import flyte_image
from buildkit_builder.errors import ImageError, MissingSourceError, UnsupportedLayerError
from buildkit_builder.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    DockerfileSpec,
    EnvLayer,
    ImageSpec,
    LabelsLayer,
    Layer,
    LocalFiles,
    PipLayer,
    PipOptions,
    RequirementsLayer,
    SecretRef,
    WorkdirLayer,
    secrets_of,
)

TOKEN = SecretRef(
    id="flyte/TOKEN", variable="TOKEN", source_variable="TOKEN", source_file="/etc/secrets/TOKEN"
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh(clean_environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of this machine, none of another test, and a working directory of the test's own."""
    clean_environ.chdir(tmp_path)
    clean_environ.setattr("flyte._initialize._init_config", None)


def base() -> Image:
    """An image without layers, to which layers may be added."""
    return Image.from_base("debian:bookworm").clone(name="mine", registry="reg.example.com/team", extendable=True)


def read(image: Image, **options: Any) -> ImageSpec:
    """The spec of an image that is made of layers."""
    spec = flyte_image.read(image, **options)
    assert isinstance(spec, ImageSpec)
    return spec


def layers(image: Image) -> tuple[Layer, ...]:
    """What the layers of an image were read into."""
    return read(image).layers


def write(path: Path, text: str = "") -> Path:
    """A new file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


# --- constructors ---


def test_from_base_keeps_the_name_and_creates_no_user() -> None:
    """A base image is taken as it was written, and none of its users is replaced."""
    image = base().with_apt_packages("git")
    spec = read(image)

    assert "debian:bookworm" == spec.base
    assert image.uri == spec.reference
    assert spec.reference.startswith("reg.example.com/team/mine:")
    assert spec.push
    assert not spec.creates_user
    assert (AptLayer(packages=("git",)),) == spec.layers


def test_an_image_without_a_registry_is_not_pushed() -> None:
    """Where there is no registry in the name there is nothing to push to."""
    assert not read(Image.from_base("debian").clone(name="mine", extendable=True)).push


def test_from_debian_base_without_flyte_is_made_from_python() -> None:
    """Labels, the flyte user, its home, variables and packages come in the order in which Flyte adds them."""
    spec = read(Image.from_debian_base(python_version=(3, 12), install_flyte=False, registry="r.example.com", name="i"))
    kinds = [type(layer) for layer in spec.layers]

    assert "python:3.12-slim-bookworm" == spec.base
    assert (3, 12) == spec.python_version
    assert spec.creates_user
    assert [LabelsLayer, CommandsLayer, WorkdirLayer, EnvLayer, AptLayer] == kinds
    assert (
        LabelsLayer(
            labels=(
                ("org.opencontainers.image.authors", "Union.AI <info@union.ai>"),
                ("org.opencontainers.image.source", "https://github.com/flyteorg/flyte"),
            )
        )
        == spec.layers[0]
    )
    assert ("PATH", "/opt/venv/bin:$PATH") in spec.layers[3].variables  # type: ignore[union-attr]


def test_from_debian_base_with_flyte_starts_from_the_released_image() -> None:
    """Flyte's own release already has everything, so it is the base and there are no layers but the user's."""
    image = Image.from_debian_base(python_version=(3, 13), flyte_version="2.12.1", registry="r.example.com", name="i")
    spec = read(image.with_pip_packages("httpx"))

    assert "ghcr.io/flyteorg/flyte:py3.13-v2.12.1" == spec.base
    assert not spec.creates_user
    assert (PipLayer(packages=("httpx",)),) == spec.layers


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (None, ("linux/amd64", "linux/arm64")),
        (("linux/arm64",), ("linux/arm64",)),
        (("linux/amd64", "linux/arm64"), ("linux/amd64", "linux/arm64")),
    ],
)
def test_platforms_are_those_of_the_image(platform: Any, expected: tuple[str, ...]) -> None:
    """Every platform is built when the settings name none."""
    image = Image.from_debian_base(install_flyte=False, registry="r.example.com", name="i", platform=platform)

    assert expected == read(image).platforms


def test_settings_narrow_the_platforms() -> None:
    """Of the image's platforms, those that the settings name are built, in the image's order."""
    image = base().clone(platform=("linux/amd64", "linux/arm64"), extendable=True)

    assert ("linux/arm64",) == read(image, platforms=("linux/s390x", "linux/arm64")).platforms
    assert ("linux/amd64", "linux/arm64") == read(image, platforms=("linux/arm64", "linux/amd64")).platforms


def test_settings_that_leave_no_platform_are_an_error() -> None:
    """Both sides of the contradiction are named, and the setting."""
    with pytest.raises(ImageError, match=r"for linux/amd64, and `image\.buildkit\.platforms` leaves only linux/arm64"):
        read(base(), platforms=("linux/arm64",))


def test_uv_is_taken_from_where_flyte_takes_it_unless_told() -> None:
    """The default is read from Flyte's own template; a setting replaces it."""
    assert read(base()).uv_image.startswith("ghcr.io/astral-sh/uv:")
    assert "mirror:5000/uv:1" == read(base(), uv_image="mirror:5000/uv:1").uv_image


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


def test_a_script_that_depends_on_a_local_project_is_not_built(tmp_path: Path) -> None:
    """The project is named, and so is the way to build it anyway."""
    script = write(tmp_path / "job.py", '# /// script\n# dependencies = ["mine @ file:///src/mine"]\n# ///\n')
    (tmp_path / "src").mkdir()
    with pytest.raises(UnsupportedLayerError, match=r"local projects \(/src/mine\).*image\.builder: docker"):
        read(Image.from_uv_script(script, name="job", registry="r.example.com"))


def test_from_dockerfile_is_a_spec_of_its_own(tmp_path: Path) -> None:
    """A Dockerfile is not looked into; it is known by its absolute path."""
    write(tmp_path / "docker" / "Dockerfile.gpu", "FROM scratch\n")
    image = Image.from_dockerfile(
        "docker/Dockerfile.gpu", registry="r.example.com", name="i", platform=("linux/amd64", "linux/arm64")
    )

    assert DockerfileSpec(
        reference=image.uri,
        push=True,
        dockerfile=tmp_path / "docker" / "Dockerfile.gpu",
        platforms=("linux/amd64", "linux/arm64"),
    ) == flyte_image.read(image)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_dockerfile_that_is_not_a_file_is_an_error(tmp_path: Path, kind: str) -> None:
    """The absolute path is in the message, since relative ones start at the working directory."""
    (tmp_path / "folder").mkdir()
    image = Image.from_dockerfile(tmp_path / kind, registry="r.example.com", name="i")
    with pytest.raises(MissingSourceError, match=rf"from_dockerfile: .*{kind}"):
        flyte_image.read(image)


def test_from_ref_name_is_built_on_what_flyte_resolved_it_to() -> None:
    """Flyte puts the image that a name refers to under it as a base before it builds."""
    image = Image.from_ref_name("team").clone(base_image="debian:12", registry="r.example.com", extendable=True)

    assert "debian:12" == read(image.with_env_vars({"A": "1"})).base


def test_from_ref_name_that_was_not_resolved_is_an_error() -> None:
    """The error says where the name has to be given its meaning."""
    with pytest.raises(ImageError, match=r"`team` has no base.*image\.image_refs"):
        read(Image.from_ref_name("team"))


# --- layers and their options ---


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
    """Each command stays one, whatever it consists of."""
    image = base().with_commands(["echo 'a b'", "touch /x && rm /x"], secret_mounts=["TOKEN"])

    assert (CommandsLayer(commands=("echo 'a b'", "touch /x && rm /x"), secrets=(TOKEN,)),) == layers(image)


@pytest.mark.parametrize(
    "command", ["--mount=type=cache,target=/x make", " --network=none make", '["make", "all"]', "<<EOF\nmake\nEOF"]
)
def test_commands_that_are_dockerfile_syntax_are_not_built(command: str) -> None:
    """A shell would fail at them, or silently do nothing; the command and the way out are named."""
    with pytest.raises(UnsupportedLayerError, match=r"(?s)with_commands: `.*make.* is Dockerfile syntax.*docker"):
        read(base().with_commands([command]))


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

    assert (CopyLayer(files=LocalFiles(kind="file", root=one), destination=".", origin="with_source_file"),) == layers(
        base().with_source_file(Path("one.txt"))
    )
    assert (
        CopyLayer(files=LocalFiles(kind="file", root=one), destination="/etc/", origin="with_source_file"),
        CopyLayer(files=LocalFiles(kind="file", root=two), destination="/etc/", origin="with_source_file"),
    ) == layers(base().with_source_file([one, two], dst="/etc/"))


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

    assert (
        CopyLayer(
            files=LocalFiles(kind="folder", root=tmp_path / "src"), destination=destination, origin="with_source_folder"
        ),
    ) == layers(base().with_source_folder(Path("src"), **options))


def test_with_dockerignore_holds_for_every_folder_of_the_image(tmp_path: Path) -> None:
    """Comments and blank lines are gone; a folder copied before the layer is filtered too, files are not."""
    file = write(tmp_path / "src" / "a.py")
    ignore = write(tmp_path / "my.dockerignore", "# nothing\n\n *.pyc \n!keep.pyc\n")
    image = base().with_source_folder(file.parent).with_source_file(file).with_dockerignore(ignore)

    assert (
        CopyLayer(
            files=LocalFiles(kind="folder", root=file.parent, ignore=("*.pyc", "!keep.pyc")),
            destination="./src",
            origin="with_source_folder",
        ),
        CopyLayer(files=LocalFiles(kind="file", root=file), destination=".", origin="with_source_file"),
    ) == layers(image)


def test_the_last_dockerignore_counts(tmp_path: Path) -> None:
    """As Flyte's own builder has it."""
    folder = write(tmp_path / "src" / "a.py").parent
    first, last = write(tmp_path / "first", "a\n"), write(tmp_path / "last", "b\n")
    image = base().with_dockerignore(first).with_source_folder(folder).with_dockerignore(last)

    assert ("b",) == layers(image)[0].ignore  # type: ignore[union-attr]


def test_the_root_folders_dockerignore_holds_where_the_image_names_none(tmp_path: Path) -> None:
    """Flyte knows the root folder from its initialization."""
    folder = write(tmp_path / "src" / "a.py").parent
    write(tmp_path / ".dockerignore", "*.log\n")
    flyte.init(root_dir=tmp_path)

    assert ("*.log",) == layers(base().with_source_folder(folder))[0].ignore  # type: ignore[union-attr]


def test_which_files_a_dockerignore_keeps() -> None:
    """The rules are those of Flyte's own builder: the last pattern that matches decides, folders take their files."""
    keeps = flyte_image.keeps(("build", "*.log", "!keep.log", "**/secret"))

    assert ["a.py", "keep.log", "deep/x.log", ".dockerignore"] == [
        path
        for path in ("a.py", "build/x", "x.log", "keep.log", "deep/x.log", "deep/secret", ".dockerignore")
        if keeps(path)
    ]


def test_a_resolved_code_bundle_is_a_folder(tmp_path: Path) -> None:
    """With `copy_style="none"` Flyte turns a bundle of all files into a folder before it builds."""
    write(tmp_path / "root" / "a.py")
    image = flyte_layers.resolve_code_bundle_layer(
        base().with_code_bundle(copy_style="all", dst="/code"), "none", tmp_path / "root"
    )

    assert (
        CopyLayer(
            files=LocalFiles(kind="folder", root=tmp_path / "root"), destination="/code", origin="with_source_folder"
        ),
    ) == layers(image)


# --- secrets ---


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("TOKEN", TOKEN),
        (Secret("TOKEN"), TOKEN),
        (
            Secret("my-key"),
            SecretRef(
                id="flyte/my-key", variable="MY_KEY", source_variable="MY-KEY", source_file="/etc/secrets/my-key"
            ),
        ),
        (
            Secret("key", group="team"),
            SecretRef(
                id="flyte/team/key",
                variable="TEAM_KEY",
                source_variable="TEAM_KEY",
                source_file="/etc/secrets/team_key",
            ),
        ),
        (Secret("TOKEN", as_env_var="OTHER"), replace(TOKEN, variable="OTHER")),
        (Secret("TOKEN", mount=Path("/etc/flyte/secrets")), replace(TOKEN, variable=None, path="/etc/flyte/secrets")),
        (
            Secret("TOKEN", mount=Path("/etc/flyte/secrets"), as_env_var="OTHER"),
            replace(TOKEN, variable=None, path="/etc/flyte/secrets"),
        ),
    ],
)
def test_where_a_secret_comes_from_and_where_it_goes(secret: Any, expected: SecretRef) -> None:
    """Names and places are those of Flyte's own builder; the id holds neither a value nor anything of this process."""
    assert (expected,) == secrets_of(read(base().with_commands(["true"], secret_mounts=[secret])))


def test_a_secret_asked_for_twice_is_one() -> None:
    """The same secret in one layer is mounted once, and in the image it is looked up once."""
    image = base().with_commands(["true"], secret_mounts=["TOKEN", Secret("TOKEN")]).with_apt_packages(
        "git", secret_mounts=Secret("TOKEN", as_env_var="OTHER")
    )  # fmt: skip
    spec = read(image)

    assert [(TOKEN,), (replace(TOKEN, variable="OTHER"),)] == [layer.secrets for layer in spec.layers]  # type: ignore[union-attr]
    assert ["flyte/TOKEN"] == [secret.id for secret in secrets_of(spec)]


@pytest.mark.parametrize(
    "secrets",
    [
        [Secret("A", mount=Path("/etc/flyte/secrets")), Secret("B", mount=Path("/etc/flyte/secrets"))],
        [Secret("A", as_env_var="X"), Secret("B", as_env_var="X")],
    ],
)
def test_two_secrets_in_one_place_are_an_error(secrets: list[Secret]) -> None:
    """One would silently hide the other, so both are named."""
    with pytest.raises(ImageError, match=r"`A` and `B` of one layer are both to be"):
        read(base().with_commands(["true"], secret_mounts=secrets))  # type: ignore[arg-type]


# --- what is not built, and what is not there ---


@dataclass(frozen=True, repr=True)
class Teleport(flyte_layers.Layer):
    """A layer of a Flyte that does not exist yet."""

    def update_hash(self, hasher: Any, ignore: Any = None) -> None:
        hasher.update(b"teleport")


def uv_project(path: Path) -> Image:
    return base().with_uv_project(write(path / "pyproject.toml", "[project]\nname='x'\nversion='1'\n"))


def poetry_project(path: Path) -> Image:
    write(path / "poetry.lock")
    image: Image = base().with_poetry_project(write(path / "pyproject.toml", "[tool.poetry]\n"))
    return image


def pixi_project(path: Path) -> Image:
    return base().with_pixi_project(write(path / "pixi.toml", "[workspace]\nname = 'x'\n"))


def pixi_script(path: Path) -> Image:
    script = write(path / "job.py", "# /// script\n# [tool.pixi.dependencies]\n# gdal = '*'\n# ///\n")
    return Image.from_pixi_script(script, name="job", registry="r.example.com")


def wheels(path: Path) -> Image:
    write(path / "flyte-1-py3-none-any.whl")
    return base().clone(addl_layer=flyte_layers.PythonWheels(wheel_dir=path, package_name="flyte"), extendable=True)


def code_bundle(_: Path) -> Image:
    return base().with_code_bundle()


def teleport(_: Path) -> Image:
    return base().clone(addl_layer=Teleport(), extendable=True)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (uv_project, "UVProject"),
        (poetry_project, "PoetryProject"),
        (pixi_project, "PixiProject"),
        (pixi_script, "PixiScript"),
        (wheels, "PythonWheels"),
        (code_bundle, "CodeBundleLayer"),
        (teleport, "Teleport"),
    ],
)
def test_a_layer_that_is_not_built_is_named(tmp_path: Path, make: Callable[[Path], Image], name: str) -> None:
    """Known or of a newer Flyte, the layer's class, the Flyte known here and the way out are named."""
    with pytest.raises(UnsupportedLayerError, match=rf"`{name}`.*written for flyte 2\.12\.1.*image\.builder: docker"):
        read(make(tmp_path))


@pytest.mark.parametrize("line", ["COPY a b", "LABEL a=$B", "LABEL a=b\\\nRUN true", "ENV A=1", "labels a=b"])
def test_dockerfile_lines_other_than_plain_labels_are_not_built(line: str) -> None:
    """Flyte itself adds only labels; anything else is named and refused."""
    image = base().clone(addl_layer=flyte_layers._DockerLines((line,)), extendable=True)
    with pytest.raises(UnsupportedLayerError, match=r"The Dockerfile line `"):
        read(image)


@pytest.mark.parametrize("line", ["LABEL", "LABEL a", "LABEL =b", "LABEL 'a=b"])
def test_a_label_that_makes_no_sense_is_an_error(line: str) -> None:
    """The line is in the message."""
    image = base().clone(addl_layer=flyte_layers._DockerLines((line,)), extendable=True)
    with pytest.raises(ImageError, match=rf"The Dockerfile line `{line}` is not"):
        read(image)


def test_labels_are_unquoted() -> None:
    """Quotes go, and one line may hold several labels."""
    image = base().clone(addl_layer=flyte_layers._DockerLines(("label a='b c' d=\"e=f\"", "LABEL g=")), extendable=True)

    assert (LabelsLayer(labels=(("a", "b c"), ("d", "e=f"), ("g", ""))),) == layers(image)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda image: image.with_requirements("gone.txt"), r"with_requirements: the file `/.*gone\.txt` does not"),
        (lambda image: image.with_requirements("folder.txt"), r"with_requirements: `/.*folder\.txt` is not a file"),
        (lambda image: image.with_source_file(Path("gone")), r"with_source_file: the file `/.*gone` does not exist"),
        (lambda image: image.with_source_file(Path("folder.txt")), r"with_source_file: `/.*folder\.txt` is not a file"),
        (lambda image: image.with_source_folder(Path("gone")), r"with_source_folder: `/.*gone` does not exist"),
        (lambda image: image.with_source_folder(Path("file")), r"with_source_folder: `/.*file` is not a folder"),
        (lambda image: image.with_dockerignore(Path("gone")), r"with_dockerignore: the file `/.*gone` does not exist"),
    ],
)  # fmt: skip
def test_a_source_that_is_not_there_is_an_error(tmp_path: Path, add: Callable[[Image], Image], message: str) -> None:
    """The layer and the absolute path are named, although the tag of such an image cannot even be computed."""
    write(tmp_path / "file")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(MissingSourceError, match=message):
        read(add(base()))


def test_a_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """As with any other file."""
    with pytest.raises(MissingSourceError, match=r"from_uv_script: the file `/.*gone\.py` does not exist"):
        read(Image.from_uv_script(tmp_path / "gone.py", name="job", registry="r.example.com"))


def test_an_image_without_a_name_is_an_error() -> None:
    """What Flyte says of it is passed on."""
    with pytest.raises(ImageError, match=r"no name"):
        read(Image.from_base("debian").clone(registry="r.example.com"))
