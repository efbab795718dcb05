"""Layers one by one, but for projects."""

from __future__ import annotations

IMPORTS



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


def test_a_script_that_depends_on_a_local_project_is_not_built(tmp_path: Path) -> None:
    """The project is named, and so is the way to build it anyway."""
    script = write(tmp_path / "job.py", '# /// script\n# dependencies = ["mine @ file:///src/mine"]\n# ///\n')
    (tmp_path / "src").mkdir()
    with pytest.raises(UnsupportedLayerError, match=r"local projects \(/src/mine\).*image\.builder: docker"):
        read(Image.from_uv_script(script, name="job", registry="r.example.com"))


# --- lines of a Dockerfile ---


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


