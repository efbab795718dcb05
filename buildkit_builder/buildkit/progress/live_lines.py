"""Which lines of the live view are shown when there are more than the terminal has rows: pure, no painting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

# How much of a running step is shown, from much to little: log lines, then parts.
_STAGES = ((6, 3), (3, 3), (3, 1), (1, 1), (1, 0), (0, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the view: `left` gives way when the row is narrow, `right` is flush with the other edge."""

    left: str
    right: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One step.

    Attributes:
        head: Its name and state.
        active: It runs, or it failed: it is kept where finished steps are folded away.
        cached: It came from the cache.
        parts: Its parts in progress.
        logs: The last lines it printed, oldest first.
    """

    head: Line
    active: bool = False
    cached: bool = False
    parts: tuple[Line, ...] = ()
    logs: tuple[Line, ...] = ()

    def lines(self, logs: int, parts: int) -> list[Line]:
        """Its rows, with so many log lines and parts at most; a finished step is one row."""
        if not self.active:
            return [self.head]
        return [self.head, *self.parts[:parts], *(self.logs[-logs:] if logs else ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One build: a header and its steps in the order in which they started."""

    header: Line
    blocks: tuple[Block, ...] = ()


def whole(section: Section) -> list[Line]:
    """All rows of a build, whatever the terminal's height: how a finished build stays on the screen."""
    rows = [section.header]
    for block in section.blocks:
        rows.extend([block.head, *block.parts, *block.logs])
    return rows


def fit(sections: Sequence[Section], rows: int) -> list[Line]:
    """The rows of all builds, at most `rows` of them.

    Every build gets an equal share; what one leaves over goes to the others.
    """
    if rows <= 0:
        return []
    if len(sections) > rows:
        hidden = len(sections) - rows + 1
        more = Line(left=f"... and {_count(hidden, 'more build')}", style="dim")
        return [*(section.header for section in sections[: rows - 1]), more]
    wanted = [len(_section_lines(section)) for section in sections]
    lines: list[Line] = []
    for section, share in zip(sections, _shares(wanted, rows), strict=True):
        lines.extend(_fit_section(section, share))
    return lines


def _shares(wanted: Sequence[int], rows: int) -> list[int]:
    """Divide the rows: the modest get what they want, the others the same each."""
    shares = [0] * len(wanted)
    left = rows
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for position, index in enumerate(order):
        shares[index] = min(wanted[index], left // (len(order) - position))
        left -= shares[index]
    return shares


def _section_lines(section: Section) -> list[Line]:
    logs, parts = _STAGES[0]
    return [section.header, *(line for block in section.blocks for line in block.lines(logs, parts))]


def _fit_section(section: Section, rows: int) -> list[Line]:
    lines = _section_lines(section)
    if len(lines) <= rows:
        return lines
    active = [block for block in section.blocks if block.active]
    finished = len(section.blocks) - len(active)
    room = rows - 1
    summary = 1 if finished else 0
    for logs, parts in _STAGES:
        used = sum(len(block.lines(logs, parts)) for block in active)
        if used + summary <= room:
            return [section.header, *_folded(section.blocks, room - used, logs, parts)]
    return _cropped(section.header, active, room)


def _folded(blocks: Sequence[Block], room: int, logs: int, parts: int) -> list[Line]:
    """All active steps, and as many of the last finished ones as `room` allows; the others become one row."""
    finished = [index for index, block in enumerate(blocks) if not block.active]
    shown = len(finished) if len(finished) <= room else room - 1
    hidden = finished[: len(finished) - shown]
    lines = [_summary([blocks[index] for index in hidden])] if hidden else []
    gone = set(hidden)
    for index, block in enumerate(blocks):
        if index not in gone:
            lines.extend(block.lines(logs, parts))
    return lines


def _cropped(header: Line, active: Sequence[Block], room: int) -> list[Line]:
    """Too many active steps even without their logs: the first of them, and how many more there are.

    The header counts the finished ones, so that no row need be spent on them.
    """
    heads = [block.head for block in active]
    if len(heads) <= room:
        return [header, *heads]
    if room > 1:
        more = Line(left=f" => ... and {_count(len(heads) - room + 1, 'more step')}", style="dim")
        return [header, *heads[: room - 1], more]
    # A name says more than a number alone, be it in the header.
    first = heads[0]
    others = f" (and {_count(len(heads) - 1, 'more step')})" if len(heads) > 1 else ""
    if room == 1:
        return [header, replace(first, left=f"{first.left}{others}")]
    return [replace(header, left=f"{header.left}{first.left}{others}")]


def _summary(blocks: Sequence[Block]) -> Line:
    cached = sum(block.cached for block in blocks)
    note = f" ({cached} cached)" if cached else ""
    return Line(left=f" => {_count(len(blocks), 'step')} finished{note}", style="dim")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
