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


