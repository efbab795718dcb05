"""The table of lines of code in the room's README is what counting the programs gives."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import REPOSITORY

README = (REPOSITORY / "buildkit_builder" / "buildkit" / "README.md").read_text(encoding="utf-8")
COMPARED = Path(__file__).with_name("compared.md").read_text(encoding="utf-8")


def lines(text: str) -> int:
    """Lines of code in the blocks of a text: no blank lines, and no comments."""
    blocks = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)
    return sum(bool(line.strip()) and not line.strip().startswith(("#", "//")) for line in "".join(blocks).splitlines())


def sections(text: str, level: str) -> dict[str, str]:
    """What stands under each heading of a level."""
    _, *parts = re.split(rf"^{level} (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_table_is_what_counting_gives() -> None:
    """For each task and each client."""
    examples = re.findall(r"```python\n.*?```", README, re.DOTALL)
    clients = {client: sections(text, "###") for client, text in sections(COMPARED, "##").items()}
    tasks = list(next(iter(clients.values())))
    table = [f"| Task | This package | {' | '.join(clients)} |", "|---|---|---|---|---|"]
    for task, example in zip(tasks, examples, strict=True):
        others = " | ".join(str(lines(programs[task])) for programs in clients.values())
        table.append(f"| {task} | {lines(example)} | {others} |")

    assert "\n".join(table) in README, "\n".join(table)


def test_no_line_of_the_comparison_is_longer_than_ours() -> None:
    """So that nothing looks shorter than it is."""
    assert [] == [line for line in COMPARED.splitlines() if len(line) > 120 and not line.startswith("\t")]
