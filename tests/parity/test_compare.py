"""The comparison itself: that it sees what it should see, and passes over only what the table names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.registry import Entry, Layer, PulledImage
from tests.parity.compare import LINES_MAX, Difference, compare, report
from tests.parity.differences import BETTER, IGNORED

FILE = Entry(kind="file", mode=0o644, uid=0, gid=0, size=1, digest="a")
FOLDER = Entry(kind="folder", mode=0o755, uid=0, gid=0)
LINK = Entry(kind="link", mode=0o777, uid=0, gid=0, link="file")


def layer(entries: Mapping[str, Entry], *gone: str, emptied: tuple[str, ...] = ()) -> Layer:
    """A layer that adds entries and takes paths away."""
    return Layer(digest="sha256:0", entries=entries, gone=frozenset(gone), emptied=frozenset(emptied))


def image(*layers: Layer, name: str = "r/a:1", **config: Any) -> PulledImage:
    """An image of layers, with this inner config."""
    return PulledImage(
        reference=name, manifest={}, config={"architecture": "amd64", "created": name, "config": config}, layers=layers
    )


def named(differences: list[Difference]) -> list[tuple[str, str]]:
    """What differs, and what about it."""
    return [(difference.what, difference.name) for difference in differences]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (FILE, replace(FILE, digest="b")),
        (FILE, replace(FILE, mode=0o600)),
        (FILE, replace(FILE, uid=1)),
        (FILE, replace(FILE, gid=1)),
        (FILE, replace(FILE, xattrs=(("user.x", "1"),))),
        (FILE, FOLDER),
        (LINK, replace(LINK, link="other")),
        (FILE, None),
        (None, FOLDER),
    ],
)
def test_files_that_differ(theirs: Entry | None, ours: Entry | None) -> None:
    """Content, mode, owner, group, attributes, kind, a link's end, and whether there is anything at all."""
    one, other = (image(layer({"usr/x": entry} if entry else {})) for entry in (theirs, ours))

    [difference] = compare(one, other)

    assert ("usr/x", None) == (difference.name, difference.row)
    assert {line[0] for line in difference.lines} == {sign for sign, side in (("-", theirs), ("+", ours)) if side}


@pytest.mark.parametrize(
    ("theirs", "ours", "key"),
    [
        ({"Env": ["A=1", "B=2"]}, {"Env": ["B=2", "A=1"]}, "config.Env"),
        ({"Env": ["_F_IMG_ID=r/a:1"]}, {"Env": ["_F_IMG_ID=r/b:1"]}, "config.Env"),
        ({"Labels": {"a": "1"}}, {"Labels": {"a": "2"}}, "config.Labels.a"),
        ({"User": "root"}, {}, "config.User"),
        ({}, {"Healthcheck": {"Test": ["NONE"]}}, "config.Healthcheck"),
        ({"Shell": ["/bin/sh", "-c"]}, {"Shell": ["/bin/bash", "-c"]}, "config.Shell"),
        ({}, {"NewField": 1}, "config.NewField"),
    ],
)
def test_configs_that_differ(theirs: dict[str, Any], ours: dict[str, Any], key: str) -> None:
    """Every key, known or not, the order of variables, and labels one by one."""
    assert [("config", key)] == named(compare(image(**theirs), image(**ours)))


def test_what_is_the_same() -> None:
    """When it was made, in what layers, and what nobody set; each image names itself."""
    one = image(layer({"a": FOLDER, "a/b": FILE}), name="r/a:1", Env=["_F_IMG_ID=r/a:1"], Cmd=None, Labels={})
    two = image(layer({"a": FOLDER}), layer({"a/b": FILE}), name="r/b:1", Env=["_F_IMG_ID=r/b:1"], Volumes={})

    assert [] == compare(one, two)


def test_layers_on_each_other() -> None:
    """Whiteouts, emptied folders, files over folders, and hard links to files of lower layers."""
    lower = layer(
        {"a": FOLDER, "a/x": FILE, "a/y": FILE, "b": FOLDER, "b/x": FILE, "c": FOLDER, "c/x": FILE, "d": FILE}
    )
    same = Entry(kind="same", mode=0, uid=0, gid=0, link="a/x")
    upper = layer({"b": FOLDER, "b/y": FILE, "c": FILE, "e": same}, "a/y", "d", emptied=("b",))

    assert {"a": FOLDER, "a/x": FILE, "b": FOLDER, "b/y": FILE, "c": FILE, "e": FILE} == image(lower, upper).tree()


def test_a_content_of_which_a_part_may_differ(tmp_path: Path) -> None:
    """Bytecode may name another time, and nothing else; of a record one line may differ, and of a log everything."""
    path = "opt/venv/x/__pycache__/a.pyc"
    record = "opt/venv/x-1.dist-info/RECORD"
    cached = b"x-1.dist-info/uv_cache.json,sha256=%s,9\n"
    cases = {
        (path, b"01234567TIMEcode", b"01234567timecode"): True,
        (path, b"01234567TIMEcode", b"01234567timeCODE"): False,
        (record, b"a,sha256=1,1\n" + cached % b"A", b"a,sha256=1,1\n" + cached % b"B"): True,
        (record, b"a,sha256=1,1\n", b"a,sha256=2,1\n"): False,
        ("var/log/dpkg.log", b"one", b"other"): True,
        ("var/log/dpkg.log/x", b"one", b"other"): False,
    }  # fmt: skip
    for (name, theirs, ours), allowed in cases.items():
        sides = []
        for number, content in enumerate((theirs, ours)):
            archive = tmp_path / f"{number}"
            archive.write_bytes(content)
            entry = replace(FILE, size=len(content), digest=str(number), archive=archive)
            sides.append(image(layer({name: entry})))
        [difference] = compare(*sides)

        assert allowed == (difference.row is not None), name


def test_a_report_is_of_a_length_to_be_read() -> None:
    """However much differs, there is a page of it, and how much more there is."""
    text = report(compare(image(), image(layer({f"f{number}": FILE for number in range(1000)}))))

    assert LINES_MAX + 1 == len(text.splitlines())
    assert text.startswith("path f0\n  +file 0644 0:0\n")
    assert text.endswith("… and 1940 lines more")


def test_every_row_of_the_table_is_shown_by_a_test() -> None:
    """What ours does otherwise is built with both, and has a name of its own."""
    named_by_tests = {
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r'parity\.better\(\s*"([^"]+)"', path.read_text(encoding="utf-8"))
    }

    assert sorted(named_by_tests) == sorted(row.name for row in BETTER)


def test_no_row_of_the_table_covers_what_programs_run() -> None:
    """What may differ is noted somewhere; it is no program, no module, no configuration and no variable."""
    ordinary = (
        "usr/bin/python3",
        "opt/venv/lib/python3.11/site-packages/x/__init__.py",
        "opt/venv/bin/x",
        "etc/passwd",
        "home/flyte/app.py",
        "config.Env",
        "config.User",
        "config.Labels.team",
    )

    assert [] == [
        (row.pattern, name)
        for row in IGNORED
        for name in ordinary
        for what in ("path", "content", "config")
        if row.covers(name, what)
    ]
