"""What a uv project depends on that is on this machine, and where projects are put."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_builder.errors import ImageError, MissingSourceError
from buildkit_builder.flyte_plugin.reader.uv_files import editables, is_outside, place_of
from tests.flyte_plugin.reader.images import file, folder, write


def found(pyproject: Path, lock: Path | None = None) -> list[str]:
    """The paths of what a project depends on."""
    return [path for path, _ in editables(pyproject, lock, (), "with_uv_project")]


def depending(folder: Path, *paths: str | Path) -> Path:
    """A project that depends on these paths."""
    sources = "".join(f"p{number} = {{path = '{path}'}}\n" for number, path in enumerate(paths))
    return write(folder / "pyproject.toml", f"[tool.uv.sources]\n{sources}")


# --- of projects without a lock ---


def test_a_project_without_sources_depends_on_nothing(tmp_path: Path) -> None:
    """Neither an empty file nor sources that lie elsewhere name a folder."""
    text = "[tool.uv.sources]\na = {git = 'https://h/a'}\nb = {workspace = true}\nc = {index = 'x'}\n"

    assert [] == found(write(tmp_path / "a" / "pyproject.toml"))
    assert [] == found(write(tmp_path / "b" / "pyproject.toml", text))


def test_dependencies_of_dependencies(tmp_path: Path) -> None:
    """All of them, each by its path relative to the first project, and each once."""
    depending(tmp_path / "libs" / "a", "../b", "../../common")
    depending(tmp_path / "libs" / "b", "../../common/")
    depending(tmp_path / "common")

    assert ["../libs/a", "../libs/b", "../common"] == found(depending(tmp_path / "app", "../libs/a"))


def test_projects_that_depend_on_each_other(tmp_path: Path) -> None:
    """A circle ends where it began."""
    depending(tmp_path / "a", "../b", ".")
    depending(tmp_path / "b", "../a", "../app")

    assert ["../a", "../b"] == found(depending(tmp_path / "app", "../a"))


def test_sources_for_several_platforms(tmp_path: Path) -> None:
    """One package may have a list of sources; those of every platform come along."""
    depending(tmp_path / "x")
    depending(tmp_path / "y")
    text = "[tool.uv.sources]\na = [{path = 'x', marker = 'm'}, {path = 'y'}, {git = 'https://h/a'}]\n"

    assert ["x", "y"] == found(write(tmp_path / "pyproject.toml", text))


def test_members_of_a_workspace(tmp_path: Path) -> None:
    """Every project that a pattern finds, but for the excluded ones, and what they depend on."""
    for name in ("packages/b", "packages/old"):
        depending(tmp_path / name)
    depending(tmp_path / "packages" / "a", "../../vendor")
    depending(tmp_path / "vendor")
    write(tmp_path / "packages" / "notes" / "README.md")
    text = "[tool.uv.workspace]\nmembers = ['packages/*', 'gone/*']\nexclude = ['packages/old']\n"

    assert ["packages/a", "vendor", "packages/b"] == found(write(tmp_path / "pyproject.toml", text))


def test_an_absolute_path_stays_one(tmp_path: Path) -> None:
    """Uv looks for it there in the image as well, and for what is relative to it."""
    depending(tmp_path / "abs", "../other")
    depending(tmp_path / "other")

    assert [f"{tmp_path}/abs", f"{tmp_path}/other"] == found(depending(tmp_path / "app", tmp_path / "abs"))


def test_linked_folders_are_found_by_the_names_that_they_are_called(tmp_path: Path) -> None:
    """Uv takes paths as they are written, so a link is not followed to learn the name."""
    depending(tmp_path / "real" / "deep" / "lib")
    (tmp_path / "lib").symlink_to("real/deep/lib")

    assert ["../lib"] == found(depending(tmp_path / "app", "../lib"))


def test_files_and_folders(tmp_path: Path) -> None:
    """A wheel is a file; a folder comes without what is ignored but with its project file."""
    wheel = write(tmp_path / "wheels" / "x.whl")
    lib = depending(tmp_path / "lib").parent
    pyproject = depending(tmp_path / "app", "../wheels/x.whl", "../lib")

    assert (
        ("../wheels/x.whl", file(wheel)),
        ("../lib", folder(lib, "*.log", always=("pyproject.toml",))),
    ) == editables(pyproject, None, ("*.log",), "with_uv_project")


# --- of projects with a lock ---


def test_a_lock_names_them_all(tmp_path: Path) -> None:
    """Whatever kind of local source they are; the project itself and what comes from an index are none."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    write(tmp_path / "d.whl")
    kinds = ("editable = 'a'", "directory = 'b'", "virtual = 'c'", "path = 'd.whl'", "virtual = '.'", "editable = '.'",
             "registry = 'https://i'", "git = 'https://h'")  # fmt: skip
    text = "version = 1\n" + "".join(f"[[package]]\nname = 'x'\nsource = {{ {kind} }}\n" for kind in kinds)
    lock = write(tmp_path / "uv.lock", text + "[[package]]\nname = 'y'\n")

    assert ["a", "b", "c", "d.whl"] == found(depending(tmp_path, "gone"), lock)


def test_paths_of_a_lock_from_elsewhere_are_the_projects(tmp_path: Path) -> None:
    """The lock is put beside the project, so its paths start there."""
    lock = write(tmp_path / "locks" / "uv.lock", "[[package]]\nname = 'x'\nsource = {editable = 'lib'}\n")
    (tmp_path / "app" / "lib").mkdir(parents=True)

    assert ["lib"] == found(depending(tmp_path / "app"), lock)


# --- what is wrong with them ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not TOML"),
        ("tool = 3", "makes no sense"),
        ("[tool.uv]\nsources = ['a']", "makes no sense"),
        ("[tool.uv.sources]\na = {path = 3}", "makes no sense"),
        ("[tool.uv]\nworkspace = 3", "makes no sense"),
        ("[tool.uv.workspace]\nmembers = 3", "makes no sense"),
        ("[tool.uv.workspace]\nmembers = ['/abs/*']", "makes no sense"),
        ("[tool.uv.workspace]\nmembers = ['']", "makes no sense"),
    ],
)
@pytest.mark.parametrize("deep", [True, False])
def test_a_project_file_that_makes_no_sense_is_named(tmp_path: Path, text: str, message: str, deep: bool) -> None:
    """The file that is wrong, and not the one that led there."""
    bad = write(tmp_path / "bad" / "pyproject.toml", text)
    with pytest.raises(ImageError, match=rf"with_uv_project: `{bad}` {message}"):
        found(depending(tmp_path / "app", "../bad") if deep else bad)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "is not TOML"), (b"package = 3", "makes no sense"), (b"package = [3]", "makes no sense"),
     (b"[[package]]\nsource = 'x'", "makes no sense")],
)  # fmt: skip
def test_a_lock_that_makes_no_sense_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """With what is wrong with it."""
    lock = tmp_path / "uv.lock"
    lock.write_bytes(content)
    with pytest.raises(ImageError, match=rf"with_uv_project: `{lock}` {message}"):
        found(depending(tmp_path), lock)


def test_a_missing_dependency_of_a_dependency_is_named(tmp_path: Path) -> None:
    """Where it was looked for, by the layer that is at fault."""
    depending(tmp_path / "lib", "../gone")
    with pytest.raises(MissingSourceError, match=rf"from_uv_script: .* depends on `\.\./gone`, and `{tmp_path}/gone`"):
        editables(depending(tmp_path / "app", "../lib"), None, (), "from_uv_script")


# --- places ---


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (".", "."),
        ("app", "app"),
        ("a/b c", "a/b c"),
        ("/srv/app", "_flyte_abs_context/srv/app"),
        ("../app", "_flyte_abs_context/app"),
        ("a/../b", "b"),
        ("../../app", "app"),
        ("../../../..", "."),
        ("/", "_flyte_abs_context"),
    ],
)
def test_where_a_project_is_put(path: str, place: str) -> None:
    """Where Flyte's own builder has it in its build context; never outside of that."""
    assert place == place_of(Path(path))


@pytest.mark.parametrize(
    ("path", "place"), [(".", "."), ("app", "app"), ("../app", "_flyte_abs_context/app"), ("a/../b", "b")]
)
def test_a_project_is_put_where_flytes_own_builder_puts_it(tmp_path: Path, path: str, place: str) -> None:
    """Its own function says the same."""
    from flyte._internal.imagebuild.utils import copy_files_to_context

    (tmp_path / "context").mkdir()
    for name in ("work/a", "work/b", "work/app", "app"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    context = tmp_path / "context"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "work")
        copied = copy_files_to_context(Path(path), context, [])

    assert place == place_of(Path(path)) == str(copied.relative_to(context))


@pytest.mark.parametrize(
    ("path", "outside"),
    [("lib", False), ("./lib", False), ("..lib", False), ("a/../lib", False), ("../lib", True), ("a/../../lib", True),
     ("..", True), ("/lib", True)],
)  # fmt: skip
def test_what_is_outside_of_a_project(path: str, outside: bool) -> None:
    """A path that leads out of it, or that starts at the root."""
    assert outside == is_outside(path)
