"""Local files: where they land, whose they are, and what is left out."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import SimpleNamespace

import flyte._initialize
import pytest
from flyte import Image

from tests.parity.bases import Bases
from tests.parity.builders import Parity


def write(folder: Path, *paths: str) -> Path:
    """Makes files whose content is their path; returns the folder."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{path}\n")
    return folder


@pytest.fixture
def source(user: Path) -> Path:
    """A folder as programs have them."""
    folder = write(user / "src", "main.py", "pkg/__init__.py", "pkg/deep/er/module.py", "data/größe ß.txt", ".hidden")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


async def test_file(with_user: Image, parity: Parity, source: Path) -> None:
    """A file into the working directory."""
    image = with_user.with_workdir("/app").with_source_file(source / "main.py")

    assert b"main.py\n" == (await parity.same(image)).tree()["app/main.py"].content


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        ("RUN true", (0, 0)),
        ("RUN groupadd -g 77 flyte", (0, 77)),
        ("RUN useradd -u 88 -g users flyte", (88, 100)),
        ("RUN groupadd -g 77 flyte && useradd -u 88 -g users flyte", (88, 77)),
    ],
    ids=["neither", "group", "user", "both"],
)
async def test_owner(bases: Bases, parity: Parity, source: Path, line: str, owner: tuple[int, int]) -> None:
    """Files are for the user and the group called `flyte`, whatever their numbers; root stands in."""
    image = bases.of(line).with_source_folder(source, dst="/app").with_source_file(source / "run.sh", dst="/new/run.sh")

    tree = (await parity.same(image)).tree()

    assert {owner} == {(tree[path].uid, tree[path].gid) for path in ("app", "app/main.py", "new", "new/run.sh")}


async def test_file_destinations(with_user: Image, parity: Parity, source: Path) -> None:
    """A file under another name, into folders there and not there, to a variable's place, and over another file."""
    image = (
        with_user.with_workdir("/app")
        .with_env_vars({"PLACE": "/opt/place"})
        .with_source_file(source / "main.py", dst="renamed.py")
        .with_source_file(source / "main.py", dst="missing/")
        .with_source_file(source / "main.py", dst="./deep/er/")
        .with_source_file(source / "main.py", dst="/etc")
        .with_source_file(source / "main.py", dst="/made/file")
        .with_source_file(source / "main.py", dst="$PLACE/")
        .with_source_file(source / "main.py", dst="${PLACE}/../up.py")
        .with_source_file(source / "run.sh", dst="renamed.py")
    )

    tree = (await parity.same(image)).tree()

    assert {"app/missing/main.py", "etc/main.py", "made/file", "opt/place/main.py", "opt/up.py"} <= set(tree)
    assert 0o755 == tree["app/renamed.py"].mode


async def test_files(with_user: Image, parity: Parity, source: Path) -> None:
    """A list of files, one below the folder the user stands in by a relative path."""
    image = with_user.with_source_file([source / "main.py", source / "run.sh", Path("src/.hidden")], dst="/app/")

    assert {"app/main.py", "app/run.sh", "app/.hidden"} <= set((await parity.same(image)).tree())


async def test_file_modes(with_user: Image, parity: Parity, source: Path) -> None:
    """Permissions of files are kept, odd ones too; folders are open."""
    for mode in (0o400, 0o444, 0o600, 0o666, 0o711, 0o777):
        (source / f"mode{mode:o}").write_text("x")
        (source / f"mode{mode:o}").chmod(mode)
    (source / "closed").mkdir(mode=0o700)
    (source / "closed" / "inner").write_text("x")
    source.chmod(0o700)
    image = with_user.with_source_folder(source, dst="/app").with_source_file(source / "mode400")

    tree = (await parity.same(image)).tree()

    assert 0o600 == tree["app/mode600"].mode


async def test_special_bits(with_user: Image, parity: Parity, source: Path) -> None:
    """Set-user bits of files and the sticky bit of a folder."""
    (source / "setuid").write_text("x")
    (source / "setuid").chmod(0o4755)
    (source / "pkg").chmod(0o1777)

    assert "app/setuid" in (await parity.same(with_user.with_source_folder(source, dst="/app"))).tree()


async def test_folder(with_user: Image, parity: Parity, source: Path) -> None:
    """A folder into the working directory keeps its name; all of it belongs to the user."""
    image = with_user.with_workdir("/app").with_source_folder(source)

    tree = (await parity.same(image)).tree()

    assert "app/src/pkg/deep/er/module.py" in tree
    assert (1000, 1000) == (tree["app/src/run.sh"].uid, tree["app/src/run.sh"].gid)


async def test_folder_contents(with_user: Image, parity: Parity, source: Path) -> None:
    """Only what is in a folder, into the working directory."""
    image = with_user.with_workdir("/app").with_source_folder(source, copy_contents_only=True)

    tree = (await parity.same(image)).tree()

    assert "app/main.py" in tree
    assert "app/src" not in tree


@pytest.mark.parametrize("destination", ["lib", "lib/", "/opt/app", "/opt/app/", "./a/../b", "/"])
async def test_folder_destinations(with_user: Image, parity: Parity, source: Path, destination: str) -> None:
    """Every way to write where a folder goes: all are the place of its contents."""
    image = with_user.with_workdir("/app").with_source_folder(source, dst=destination)

    place = (Path("/app") / destination).resolve().relative_to("/")
    assert str(place / "main.py") in (await parity.same(image)).tree()


async def test_relative_folder(with_user: Image, parity: Parity, source: Path) -> None:
    """A folder by a path relative to where the user stands, and by one that leads up and down again."""
    image = with_user.with_source_folder(Path("src"), dst="/one").with_source_folder(Path("../work/src"), dst="/two")

    assert {"one/main.py", "two/main.py"} <= set((await parity.same(image)).tree())


async def test_two_folders_onto_one(with_user: Image, parity: Parity, user: Path) -> None:
    """Of two folders copied onto one place, the later one's files win, and the others stay."""
    first = write(user / "first", "common.py", "only-first.py", "sub/first")
    second = write(user / "second", "common.py", "only-second.py", "sub/second")
    (second / "common.py").write_text("of the second\n")
    image = with_user.with_source_folder(first, dst="/app").with_source_folder(second, dst="/app")

    tree = (await parity.same(image)).tree()

    assert b"of the second\n" == tree["app/common.py"].content
    assert {"app/only-first.py", "app/only-second.py", "app/sub/first", "app/sub/second"} <= set(tree)


async def test_folder_onto_a_folder_of_the_base(bases: Bases, parity: Parity, source: Path) -> None:
    """A folder of the base with an owner and a mode of its own, named by a link to it."""
    image = bases.of(
        "RUN useradd --create-home flyte",
        "RUN mkdir -m 0711 /app && chown 7:8 /app && ln -s /app /link",
    ).with_source_folder(source, dst="/link/")

    assert "app/main.py" in (await parity.same(image)).tree()


async def test_folder_onto_a_link(with_user: Image, parity: Parity, source: Path) -> None:
    """A folder inside a copied one is not put into what a link of the same name leads to."""
    image = with_user.with_commands(["mkdir /app /real && ln -s /real /app/pkg"])

    pair = await parity.both_fail(image.with_source_folder(source, dst="/app"))

    assert "cannot copy to non-directory" in pair.ours.error


async def test_folder_over_a_file(with_user: Image, parity: Parity, user: Path) -> None:
    """A folder copied where a file is fails, or replaces it, as with Flyte's own builder."""
    write(user / "src", "name/inner")
    image = with_user.with_commands(["mkdir /app", "echo x > /app/name"]).with_source_folder(user / "src", dst="/app")

    pair = await parity.both_fail(image)

    assert "/app/name" in pair.ours.error


async def test_file_over_a_folder(with_user: Image, parity: Parity, user: Path) -> None:
    """A file copied to a name that a folder has goes into the folder."""
    write(user / "src", "name")
    image = with_user.with_commands(["mkdir -p /app/name"]).with_source_file(user / "src" / "name", dst="/app/name")

    assert "app/name/name" in (await parity.same(image)).tree()


async def test_links(with_user: Image, parity: Parity, source: Path, user: Path) -> None:
    """Links to files become files, wherever they lead; links to folders, and links that lead nowhere, are left out."""
    outside = write(user / "outside", "file.py", "folder/inner.py")
    (source / "to-file").symlink_to("main.py")
    (source / "to-script").symlink_to(source / "run.sh")
    (source / "to-outside").symlink_to(outside / "file.py")
    (source / "to-folder").symlink_to("pkg")
    (source / "to-outer-folder").symlink_to(outside / "folder")
    (source / "to-nothing").symlink_to("missing")
    (source / "chain").symlink_to("to-file")
    image = with_user.with_source_folder(source, dst="/app").with_source_file(source / "to-outside", dst="/app/single/")

    tree = (await parity.same(image)).tree("app")

    assert {"file"} == {tree[f"app/{name}"].kind for name in ("to-file", "to-script", "to-outside", "chain")}


async def test_folder_that_is_a_link(with_user: Image, parity: Parity, source: Path, user: Path) -> None:
    """A folder named by a link to it."""
    (user / "link").symlink_to(source)

    assert "app/main.py" in (await parity.same(with_user.with_source_folder(user / "link", dst="/app"))).tree()


async def test_hard_links_and_empty_folders(with_user: Image, parity: Parity, source: Path) -> None:
    """Hard links become files of their own; folders with nothing in them are left out."""
    (source / "again.py").hardlink_to(source / "main.py")
    (source / "empty").mkdir()
    (source / "nothing.txt").write_bytes(b"")

    tree = (await parity.same(with_user.with_source_folder(source, dst="/app"))).tree()

    assert "app/again.py" in tree
    assert "app/empty" not in tree


async def test_extended_attributes(with_user: Image, parity: Parity, source: Path, user: Path) -> None:
    """Capabilities of programs, and whatever else is noted of files and folders, stay on this machine."""
    bind_ports = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
    (user / "alone").write_text("x")
    for path in (source / "main.py", source / "run.sh", source / "pkg", user / "alone"):
        os.setxattr(path, "user.colour", b"blue")
    for path in (source / "run.sh", user / "alone"):
        os.setxattr(path, "security.capability", bind_ports)
    image = with_user.with_source_folder(source, dst="/app").with_source_file(user / "alone", dst="/app/")

    tree = (await parity.same(image)).tree()

    assert {"app/run.sh", "app/alone"} <= set(tree)
    assert [] == [path for path, entry in tree.items() if path.startswith("app") and entry.xattrs]


async def test_odd_names(with_user: Image, parity: Parity, user: Path) -> None:
    """Names with spaces, quotes, stars, brackets, backslashes and dashes inside a folder."""
    folder = write(
        user / "src", "a b", "it's", 'q"q', "st*r", "[x]", "back\\slash", "-dash", "$HOME", "x" * 200, "..dots"
    )

    tree = (await parity.same(with_user.with_source_folder(folder, dst="/app"))).tree()

    assert {f"app/{name}" for name in ("a b", "st*r", "[x]", "back\\slash", "$HOME")} <= set(tree)


async def test_dockerignore(with_user: Image, parity: Parity, source: Path, user: Path) -> None:
    """Patterns, comments, exceptions and exceptions of exceptions, in the order of the file."""
    write(
        source,
        "drop.log",
        "data/big.bin",
        "data/keep.txt",
        "data/sub/keep.txt",
        "pkg/a.tmp",
        "pkg/deep/b.tmp",
        "t/x.py",
    )
    (user / ".dockerignore").write_text(
        "# left out\n\n*.log\ndata\n!data/keep.txt\n  !data/sub  \ndata/sub/keep.*\n**/*.tmp\n/t\n!**/b.tmp\nnothing\n"
    )
    image = with_user.with_dockerignore(user / ".dockerignore").with_source_folder(source, dst="/app")

    tree = (await parity.same(image)).tree("app")

    assert "app/data/keep.txt" in tree
    assert "app/drop.log" not in tree


async def test_dockerignore_by_another_name(with_user: Image, parity: Parity, source: Path, user: Path) -> None:
    """The last of two files holds, for layers before it as well, whatever its name."""
    write(source, "one.log", "two.txt")
    (user / "first").write_text("*.txt\n")
    (user / "second").write_text("*.log\n")
    image = (
        with_user.with_dockerignore(user / "first")
        .with_source_folder(source, dst="/app")
        .with_dockerignore(user / "second")
    )

    tree = (await parity.same(image)).tree("app")

    assert "app/two.txt" in tree
    assert "app/one.log" not in tree


async def test_dockerignore_of_a_relative_folder(with_user: Image, parity: Parity, source: Path, user: Path) -> None:
    """Patterns that name a folder by its path from where the user stands, one of all but a file below."""
    write(source, "data/big.bin", "data/keep.txt", "src/inner.py")
    write(user / "lib", "kept.py", "left.py")
    (user / ".dockerignore").write_text("src/data\n!src/data/keep.txt\n/src/pkg/deep\nsrc/*.sh\nlib\n!lib/kept.py\n")
    image = (
        with_user.with_dockerignore(Path(".dockerignore"))
        .with_source_folder(Path("src"), dst="/app")
        .with_source_folder(Path("lib/../src"), dst="/again")
        .with_source_folder(Path("../work/src"), dst="/above")
        .with_source_folder(Path("lib"), dst="/all")
    )

    tree = (await parity.same(image)).tree()

    assert {"app/main.py", "app/data/keep.txt", "all/kept.py", "above/run.sh"} <= set(tree)
    assert not {"app/run.sh", "again/run.sh", "all/left.py"} & set(tree)


async def test_dockerignore_of_the_root_folder(
    with_user: Image, parity: Parity, source: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a layer for it, the `.dockerignore` of the folder that Flyte was initialised for holds."""
    write(source, "drop.log", "src/data/x")
    (user / ".dockerignore").write_text("*.log\nsrc/data\n")
    settings = SimpleNamespace(root_dir=user, image_registry=None, client=None)
    monkeypatch.setattr(flyte._initialize, "_get_init_config", lambda: settings)

    tree = (await parity.same(with_user.with_source_folder(Path("src"), dst="/app"))).tree()

    assert "app/drop.log" not in tree
    assert "app/data/größe ß.txt" in tree


async def test_dockerignore_inside_the_folder(with_user: Image, parity: Parity, source: Path) -> None:
    """A `.dockerignore` that lies in a copied folder is a file like others."""
    write(source, "one.log")
    (source / ".dockerignore").write_text("*.log\n")

    assert "app/one.log" in (await parity.same(with_user.with_source_folder(source, dst="/app"))).tree()


async def test_wildcard_patterns(with_user: Image, parity: Parity, user: Path) -> None:
    """Question marks, classes, ranges, doubled stars and patterns with slashes at their ends."""
    folder = write(
        user / "src",
        "a1",
        "a2",
        "b1",
        "ab/c",
        "x/cache/y",
        "x/z/cache/y",
        "cache/top",
        "logs/1.log",
        "logs/2.txt",
        "A1",
    )
    (user / ".dockerignore").write_text("a?\n[B-Z]*\n**/cache/\nlogs/*.log\n!a2\nab/\n")
    image = with_user.with_dockerignore(user / ".dockerignore").with_source_folder(folder, dst="/app")

    assert "app/a2" in (await parity.same(image)).tree("app")
