"""What an image becomes, shown as a tree, as JSON, and for Graphviz."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from buildkit_builder.cli.plan import as_dot, as_json, as_tree
from buildkit_builder.image.lower import Placed
from tests.conftest import Engine

STEPS = (
    Placed(name="uv", after=()),
    Placed(name="environment", after=(0,)),
    Placed(name="apt git", after=()),
    Placed(name="apt curl", after=(2,)),
    Placed(name="pip numpy", after=(1,)),
    Placed(name='run "x"', after=(3, 4)),
    Placed(name="copy", after=(5,)),
)
OUTLINES = {"linux/amd64": STEPS, "linux/arm64": STEPS[:1]}


def test_a_tree_shows_what_runs_side_by_side() -> None:
    """Below each step stands what waits for it, the last of several that it waits for being its parent."""
    expected = """\
me:1 for linux/amd64
debian:12
├─ uv
│  └─ environment
│     └─ pip numpy
│        └─ run "x"   (joins: apt curl)
│           └─ copy
└─ apt git
   └─ apt curl
me:1 for linux/arm64
debian:12
└─ uv"""
    assert expected == as_tree("me:1", "debian:12", OUTLINES)


def test_nothing_in_a_name_is_obeyed() -> None:
    """Names are the user's own words, and are one line of what can be seen."""
    steps = (
        Placed(name="run \x1b[2J\x1b]0;title\x07\nrm -rf", after=()),
        Placed(name="[quiet] x (wheels)", after=(0,)),
    )

    assert "└─ run  rm -rf\n   └─ [quiet] x (wheels)" in as_tree("me:1", "debian:12", {"linux/amd64": steps})
    for text in (shape("me:1", "debian:12", {"linux/amd64": steps}) for shape in (as_tree, as_json, as_dot)):
        assert not set(text) & {"\x1b", "\x07"}


def test_json_has_every_step_and_what_it_waits_for() -> None:
    """By the numbers of the steps in the list."""
    shown = json.loads(as_json("me:1", "debian:12", OUTLINES))

    assert ("me:1", "debian:12") == (shown["image"], shown["base"])
    assert {"name": 'run "x"', "after": [3, 4]} == shown["platforms"]["linux/amd64"][5]
    assert [{"name": "uv", "after": []}] == shown["platforms"]["linux/arm64"]


def test_a_graph_for_graphviz() -> None:
    """A cluster for each platform, with an edge for every wait; names are quoted."""
    lines = [line.strip() for line in as_dot("me:1", "debian:12", OUTLINES).splitlines()]

    assert 'digraph "me:1" {' == lines[0]
    assert 'label="linux/amd64";' in lines
    assert r'p0_5 [label="run \"x\""];' in lines
    assert {"p0_3 -> p0_5;", "p0_4 -> p0_5;", "p0_base -> p0_0;", "p0_base -> p0_2;"} <= set(lines)
    assert "}" == lines[-1]


def test_the_command_asks_the_daemon_and_builds_nothing(engine: Engine, tmp_path: Path) -> None:
    """The branches of a real image are visible; a Python layer does not wait for system packages."""
    program = tmp_path / "hello.py"
    program.write_text(
        "import flyte\n"
        "image = flyte.Image.from_base('python:3.11-slim-bookworm').clone(name='planned', registry='nowhere:1',\n"
        "    extendable=True, python_version=(3, 11), platform=('linux/amd64',))\n"
        "image = image.with_apt_packages('no-such-package').with_pip_packages('six')\n"
        "env = flyte.TaskEnvironment('e', image=image)\n"
    )
    command = [sys.executable, "-c", "from buildkit_builder.cli.main import main; main()", "plan", str(program), "env"]
    done = subprocess.run(command, env=dict(engine.environ), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    shown = done.stdout.splitlines()[1:]

    assert [
        "python:3.11-slim-bookworm",
        "└─ uv",
        "   └─ the Python 3.11 environment",
        "      ├─ with_apt_packages no-such-package",
        "      └─ with_pip_packages six (wheels)",
    ] == shown


def test_a_file_without_such_an_environment_is_one_clear_error(engine: Engine, tmp_path: Path) -> None:
    """It names the file and what was looked for."""
    program = tmp_path / "hello.py"
    program.write_text("x = 1\n")
    for name, said in (("env", "has no `env`"), ("x", "has no image")):
        command = [
            sys.executable,
            "-c",
            "from buildkit_builder.cli.main import main; main()",
            "plan",
            str(program),
            name,
        ]
        done = subprocess.run(
            command, env=dict(engine.environ), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert 1 == done.returncode
        assert said in done.stderr
        assert "Traceback" not in done.stderr
