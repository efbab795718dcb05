"""An image as a whole: its constructors, its name and platforms, and what is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flyte
import pytest
from flyte import Image, Secret
from flyte._internal.imagebuild.utils import get_and_list_dockerignore

from buildkit_builder.errors import ImageError, MissingSourceError
from buildkit_builder.flyte_plugin import reader
from buildkit_builder.image.spec import (
    AptLayer,
    CommandsLayer,
    CopyLayer,
    DockerfileSpec,
    EnvLayer,
    LabelsLayer,
    PipLayer,
    PixiProjectLayer,
    PoetryProjectLayer,
    SecretRef,
    UvProjectLayer,
    WorkdirLayer,
    secrets_of,
)
from tests.flyte_plugin.reader.images import base, file_layer, folder_layer, layers, read, write


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
    ) == reader.read(image)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_dockerfile_that_is_not_a_file_is_an_error(tmp_path: Path, kind: str) -> None:
    """The absolute path is in the message, since relative ones start at the working directory."""
    (tmp_path / "folder").mkdir()
    image = Image.from_dockerfile(tmp_path / kind, registry="r.example.com", name="i")
    with pytest.raises(MissingSourceError, match=rf"from_dockerfile: .*{kind}"):
        reader.read(image)


def test_from_ref_name_is_built_on_what_flyte_resolved_it_to() -> None:
    """Flyte puts the image that a name refers to under it as a base before it builds."""
    image = Image.from_ref_name("team").clone(base_image="debian:12", registry="r.example.com", extendable=True)

    assert "debian:12" == read(image.with_env_vars({"A": "1"})).base


def test_from_ref_name_that_was_not_resolved_is_an_error() -> None:
    """The error says where the name has to be given its meaning."""
    with pytest.raises(ImageError, match=r"`team` has no base.*image\.image_refs"):
        read(Image.from_ref_name("team"))


# --- .dockerignore ---


def test_with_dockerignore_holds_for_every_folder_of_the_image(tmp_path: Path) -> None:
    """Comments and blank lines are gone; a folder copied before the layer is filtered too, files are not."""
    file = write(tmp_path / "src" / "a.py")
    ignore = write(tmp_path / "my.dockerignore", "# nothing\n\n *.pyc \n!keep.pyc\n")
    image = base().with_source_folder(file.parent).with_source_file(file).with_dockerignore(ignore)

    assert (
        folder_layer(file.parent, "./src", "*.pyc", "!keep.pyc"),
        file_layer(file),
    ) == layers(image)


@pytest.mark.parametrize("content", [b"# caf\xe9\n*.env\n", b"\xff\n*.env", b"*.env\r\n#x\n", b"\n \n\t*.env \n"])
def test_a_dockerignore_is_read_as_flyte_reads_it_or_better(tmp_path: Path, content: bytes) -> None:
    """Where Flyte reads it, the same patterns; where it is not UTF-8, Flyte would leave nothing out."""
    file = write(tmp_path / "ignore", "")
    file.write_bytes(content)
    image = base().with_dockerignore(file).with_source_folder(write(tmp_path / "src" / "a", "").parent)
    (layer,) = (layer for layer in read(image).layers if isinstance(layer, CopyLayer))

    assert layer.files.ignore[-1] == "*.env"
    if content.isascii():
        assert tuple(get_and_list_dockerignore(image)) == layer.files.ignore


def test_a_dockerignore_that_makes_no_sense(tmp_path: Path) -> None:
    """The file is named."""
    file = write(tmp_path / "ignore", "[z-a]")
    image = base().with_dockerignore(file).with_source_folder(write(tmp_path / "src" / "a", "").parent)

    with pytest.raises(ImageError, match=rf"with_dockerignore: `{file}` makes no sense"):
        read(image)


TEXTS: dict[str, Callable[[str], Image]] = {
    "with_commands": lambda text: base().with_commands(["true", f"echo {text}"]),
    "with_env_vars": lambda text: base().with_env_vars({"A": text}),
    "with_pip_packages": lambda text: base().with_pip_packages("six", text),
    "with_pip_packages: ": lambda text: base().with_pip_packages("six", extra_args=f"--{text}"),
    "with_pip_packages:": lambda text: base().with_pip_packages("six", extra_index_urls=[f"http://{text}"]),
    "with_apt_packages": lambda text: base().with_apt_packages("git", text),
    "with_source_folder": lambda text: base().with_source_folder(Path("src"), dst=f"/{text}"),
    "with_source_file": lambda text: base().with_source_file(Path("src/a"), dst=f"/{text}"),
    "with_workdir": lambda text: base().with_workdir(text),
    "The image": lambda text: Image.from_base(f"debian:{text}").clone(name="x", registry="r", extendable=True),
}


@pytest.mark.parametrize(
    ("text", "why"), [("caf\udce9", "is not UTF-8"), ("\ud800", "is not UTF-8"), ("a\0b", "has a NUL character in it")]
)
@pytest.mark.parametrize("where", TEXTS)
def test_text_that_no_image_can_have(tmp_path: Path, where: str, text: str, why: str) -> None:
    """Which layer, and what: in whatever it stands."""
    write(tmp_path / "src" / "a", "")
    with pytest.raises(ImageError, match=rf"^{where}.*{why}"):
        read(TEXTS[where](text))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda: base().with_commands([3]), "with_commands: 3 is of the type int"),  # type: ignore[list-item]
        (lambda: base().with_commands([("a",)]), r"with_commands: \('a',\) is of the type tuple"),  # type: ignore[list-item]
        (lambda: base().with_pip_packages(b"six"), "with_pip_packages: b'six' is of the type bytes"),  # type: ignore[arg-type]
        (lambda: base().with_apt_packages(None), "with_apt_packages: None is of the type NoneType"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_text(image: Callable[[], Image], message: str) -> None:
    """Commands and packages are texts."""
    with pytest.raises(ImageError, match=f"^{message}"):
        read(image())


def test_a_file_that_a_name_cannot_be_made_of(tmp_path: Path) -> None:
    """Flyte names an image by its files, and could not say which one it stumbled over."""
    write(tmp_path / "src" / "sub" / "a", "")
    write(tmp_path / "src" / "sub" / "caf\udce9", "")

    with pytest.raises(ImageError, match=r"`.*/src/sub/caf\\xe9` is not UTF-8"):
        read(base().with_source_folder(tmp_path / "src"))


def test_the_last_dockerignore_counts(tmp_path: Path) -> None:
    """As Flyte's own builder has it."""
    folder = write(tmp_path / "src" / "a.py").parent
    first, last = write(tmp_path / "first", "a\n"), write(tmp_path / "last", "b\n")
    image = base().with_dockerignore(first).with_source_folder(folder).with_dockerignore(last)

    assert (folder_layer(folder, "./src", "b"),) == layers(image)


@pytest.mark.parametrize(
    ("source", "name", "outer"),
    [
        ("src", ".dockerignore", ("src/data", "!src/data/a")),
        ("src", "other", ()),
        ("work/../src", ".dockerignore", ("src/data", "!src/data/a")),
        ("../{}/src", ".dockerignore", ()),
        ("hidden", ".dockerignore", ()),
    ],
)
def test_patterns_that_name_a_folder_from_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, outer: tuple[str, ...]
) -> None:
    """A `.dockerignore` counts a second time for a relative folder, as in the context of Flyte's own builder."""
    monkeypatch.chdir(tmp_path)
    for path in ("src/a.py", "hidden/a.py", "work/a.py"):
        write(tmp_path / path)
    write(tmp_path / name, "src/data\n!src/data/a\n" + ("hidden\n" if source == "hidden" else ""))
    image = base().with_dockerignore(Path(name)).with_source_folder(Path(source.format(tmp_path.name)))

    [found] = [read for read in layers(image) if isinstance(read, CopyLayer)]

    assert (outer, "src/" if outer else "") == (found.files.outer, found.files.place)


def test_projects_that_are_named_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.dockerignore` counts a second time for them as well, and for what a uv project uses in place."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "app/pyproject.toml", '[tool.uv.sources]\nlib = { path = "lib" }\nnext = { path = "../next" }\n')
    for path in ("app/lib/a", "next/a", "app/poetry.lock", "app/pixi.toml"):
        write(tmp_path / path)
    write(tmp_path / ".dockerignore", "app/*/secret\n")
    project = Path("app/pyproject.toml")
    image = (
        base()
        .with_dockerignore(Path(".dockerignore"))
        .with_uv_project(project)
        .with_uv_project(project, project_install_mode="install_project")
        .with_poetry_project(project, project_install_mode="install_project")
        .with_poetry_project(project.absolute(), project_install_mode="install_project")
        .with_pixi_project(Path("app/pixi.toml"), project_install_mode="install_project")
    )

    used, uv, poetry, absolute, pixi = layers(image)

    assert isinstance(used, UvProjectLayer)
    assert {"lib": "app/lib/", "../next": "next/"} == {path: files.place for path, files in used.editables}
    assert {("app/*/secret",)} == {files.outer for _, files in used.editables}
    for layer, place in ((uv, "app/"), (poetry, "app/"), (absolute, ""), (pixi, "app/")):
        assert isinstance(layer, (UvProjectLayer, PoetryProjectLayer, PixiProjectLayer))
        assert layer.project is not None
        assert (place, ("app/*/secret",) if place else ()) == (layer.project.place, layer.project.outer)


def test_the_root_folders_dockerignore_holds_where_the_image_names_none(tmp_path: Path) -> None:
    """Flyte knows the root folder from its initialization."""
    folder = write(tmp_path / "src" / "a.py").parent
    write(tmp_path / ".dockerignore", "*.log\n")
    flyte.init(root_dir=tmp_path)

    assert (folder_layer(folder, "./src", "*.log"),) == layers(base().with_source_folder(folder))


def test_which_files_a_dockerignore_keeps() -> None:
    """The rules are those of Flyte's own builder: the last pattern that matches decides, folders take their files."""
    keeps = reader.keeps(("build", "*.log", "!keep.log", "**/secret"))

    assert ["a.py", "keep.log", "deep/x.log", ".dockerignore"] == [
        path
        for path in ("a.py", "build/x", "x.log", "keep.log", "deep/x.log", "deep/secret", ".dockerignore")
        if keeps(path)
    ]


@pytest.mark.parametrize(
    ("patterns", "entered"),
    [
        ((".venv", "build"), []),
        ((".venv", "!.venv/keep", "build"), [".venv"]),
        (("build", "!build/a/b.txt"), ["build", "build/a"]),
        (("build", "!**/b.txt"), []),
        (("build", "!build"), ["build"]),
        (("*", "!src/a.py"), ["src"]),
    ],
)
def test_which_left_out_folders_are_looked_into(patterns: tuple[str, ...], entered: list[str]) -> None:
    """Only those below which an exception is named, so that no others are walked for nothing."""
    enters = reader.enters(patterns)

    assert entered == [path for path in (".venv", "build", "build/a", "src") if enters(path)]


# --- the registry ---


def test_registry_secret() -> None:
    """Credentials for registries go to no layer: they are the image's own."""
    image = base().clone(registry_secret=Secret("reg", group="team"), extendable=True).with_commands(["true"])
    spec = read(image)

    assert SecretRef(
        id="flyte/team/reg", variable="TEAM_REG", source_variable="TEAM_REG", source_file="/etc/secrets/team_reg"
    ) == spec.registry_secret  # fmt: skip
    assert () == secrets_of(spec)


def test_registry_secret_by_name() -> None:
    """A constructor takes it too, by its key alone."""
    image = Image.from_debian_base(install_flyte=False, registry="r.example.com", name="i", registry_secret="REG")

    assert "flyte/REG" == getattr(read(image).registry_secret, "id", None)
    assert read(base()).registry_secret is None


def test_registry_secret_of_a_dockerfile(tmp_path: Path) -> None:
    """An image of a Dockerfile is pulled and pushed with it as well."""
    file = write(tmp_path / "Dockerfile", "FROM scratch\n")
    spec = reader.read(Image.from_dockerfile(file, registry="r.example.com", name="i").clone(registry_secret="REG"))

    assert isinstance(spec, DockerfileSpec)
    assert "flyte/REG" == getattr(spec.registry_secret, "id", None)


# --- what is not there ---


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
        (lambda image: image.with_uv_project("gone/p.toml"), r"with_uv_project: the file `/.*gone/p\.toml` does not"),
        (lambda image: image.with_uv_project("folder.txt"), r"with_uv_project: `/.*folder\.txt` is not a file"),
        (lambda image: image.with_uv_project("file", Path("l")), r"with_uv_project: the file `/.*/l` does not exist"),
        (lambda image: image.with_poetry_project("gone"), r"with_poetry_project: the file `/.*gone` does not exist"),
        (lambda image: image.with_poetry_project("file"), r"with_poetry_project: the file `/.*poetry\.lock` does not"),
        (lambda image: image.with_pixi_project("gone"), r"with_pixi_project: the file `/.*gone` does not exist"),
        (lambda image: image.with_pixi_project("empty"), r"with_pixi_project: the file `/.*pyproject\.toml` does not"),
        (lambda image: image.with_pixi_project("file", Path("l")), r"with_pixi_project: the file `/.*/l` does not"),
    ],
)  # fmt: skip
def test_a_source_that_is_not_there_is_an_error(tmp_path: Path, add: Callable[[Image], Image], message: str) -> None:
    """The layer and the absolute path are named, although the tag of such an image cannot even be computed."""
    write(tmp_path / "file")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingSourceError, match=message):
        read(add(base()))


def test_an_image_without_a_name_is_an_error() -> None:
    """What Flyte says of it is passed on."""
    with pytest.raises(ImageError, match=r"no name"):
        read(Image.from_base("debian").clone(registry="r.example.com"))
