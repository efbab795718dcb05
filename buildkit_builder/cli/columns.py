"""Text in columns."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_builder.buildkit.terminal import printable

_GAP = "  "


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "", width: int | None = None) -> str:
    """A table without rules, of as many lines as rows and one more.

    Args:
        head: The columns' names.
        rows: A text for every column.
        right: The names of columns that are set to the right, separated by spaces.
        width: What a line may be long at most; of the last column as much is shown as there is room for. `None` for
            all of it.
    """
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(head))]
    if width is not None:
        room = width - sum(widths[:-1]) - len(_GAP) * (len(head) - 1)
        widths[-1] = max(len(head[-1]), min(widths[-1], room))
    return "\n".join(_line(line, widths, [name in right.split() for name in head]) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    *cells, last = cells
    last = last if len(last) <= widths[-1] else f"{last[: widths[-1] - 1]}…"
    placed = [
        cell.rjust(width) if to_the_right else cell.ljust(width)
        for cell, width, to_the_right in zip([*cells, last], widths, right, strict=True)
    ]
    return _GAP.join(placed).rstrip()
