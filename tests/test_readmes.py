"""The READMEs: their maps, their links, and their examples of settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from buildkit_builder.cli.main import main
from buildkit_builder.config import Settings, variable
from buildkit_builder.config.settings import SETTINGS
from tests.conftest import REPOSITORY

PAGES = sorted(
    page
    for top in ("buildkit_builder", "scripts", "tests")
    for page in (REPOSITORY / top).rglob("README.md")
    if "site-packages" not in page.parts
)
PAGES.insert(0, REPOSITORY / "README.md")
ROOMS = [page for page in PAGES if "buildkit_builder" in page.relative_to(REPOSITORY).parts]
LONGEST = 150


def ids(page: Path) -> str:
    """How a page is named in the name of a test."""
    return str(page.relative_to(REPOSITORY).parent)


def text(page: Path) -> str:
    """What a page says."""
    return page.read_text(encoding="utf-8")


def examples() -> list[tuple[Path, dict[str, Any]]]:
    """Every example of settings, as a whole configuration."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", text(page), re.DOTALL):
            read = yaml.safe_load(block)
            if isinstance(read, dict) and "endpoint" in read:
                read = {"image": {"buildkit": read}}
            if isinstance(read, dict) and "image" in read:
                found.append((page, read))
    return found


EXAMPLES = examples()


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have on the web."""
    headings = re.findall(r"^#+ (.*)$", text(page), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_top_readme_is_short() -> None:
    """The page that a newcomer reads first stays under 150 lines."""
    assert len(text(PAGES[0]).splitlines()) < LONGEST


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Every link inside the repository leads to a file, and its anchor to a heading of that file."""
    for link in re.findall(r"\]\(([^)]+)\)", text(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", ROOMS, ids=ids)
def test_the_map_names_every_module(page: Path) -> None:
    """The table at the top of a room's README names each module of the room."""
    (table,) = re.findall(r"\| Module \| What it holds \|\n(.*?)\n\n", text(page), re.DOTALL)
    modules = {path.stem for path in page.parent.glob("*.py") if not path.stem.startswith("_")}
    packages = {path.parent.name for path in page.parent.glob("*/__init__.py")}

    assert modules | packages <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_of_settings_are_settings(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of a `config.yaml` is read without an error, once the files that it names exist."""
    page, example = EXAMPLES[number]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "client").mkdir()
    for name in re.findall(r"[\w/]+\.pem", text(page)):
        if not name.startswith("/"):
            (tmp_path / name).touch()

    assert Settings() != Settings.load(example, {})


def test_the_variable_of_several_nodes_is_a_setting() -> None:
    """The variable's form of the list of nodes means the same nodes as the list."""
    page = REPOSITORY / "buildkit_builder" / "buildkit" / "find" / "README.md"
    (value,) = re.findall(r"write `(tcp://\S+)`", text(page))

    nodes = Settings.load(None, {"FLYTE_BUILDKIT_ENDPOINT": value}).nodes

    assert ["tcp://amd64.example:1234", "tcp://arm64.example:1234"] == [node.address for node in nodes]


def test_the_steps_of_ci_are_those_of_the_whole_page() -> None:
    """The short job of the top README has only steps of the whole page, which a test runs."""
    (short,) = (
        yaml.safe_load(block)
        for block in re.findall(r"```yaml\n(.*?)```", text(PAGES[0]), re.DOTALL)
        if block.startswith("- uses")
    )
    (whole,) = (
        yaml.safe_load(block)["jobs"]["images"]["steps"]
        for block in re.findall(
            r"```yaml\n(.*?)```", text(REPOSITORY / "buildkit_builder/flyte_plugin/README.md"), re.DOTALL
        )
        if "jobs:" in block
    )

    for step in short:
        assert {**step, **({"run": step["run"].replace("hello.py", "app.py")} if "run" in step else {})} in whole


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_and_variables_exist(page: Path) -> None:
    """Every command of this package that a page names exists, and every variable is that of a setting."""
    commands = set(re.findall(r"`(?:buildkit-builder|flyte buildkit) ([a-z]+)", text(page)))
    variables = set(re.findall(r"FLYTE_BUILDKIT_[A-Z_]+", text(page)))

    assert commands <= set(main.commands)
    assert variables <= {variable(key) for key in SETTINGS}
