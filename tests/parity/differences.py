"""The one table of what may differ between what Flyte's own builder makes and what ours makes.

`IGNORED` is what a comparison passes over, each row as narrow as it can be; `BETTER` is what ours does otherwise on
purpose, each row shown by a test that builds with both. Whatever stands in neither fails the suite.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

What = Literal["content", "path", "config"]


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """Something that may differ.

    Attributes:
        pattern: The paths, or for `config` the keys, as a regular expression of all of it.
        what: `path`: whether it is there, and all about it; `content`: only the bytes; `config`: the value.
        reason: Why it cannot be alike, or need not.
        start: For `content`: the first byte that may differ.
        end: The byte after the last one that may differ; `None` for all to the end.
    """

    pattern: str
    what: What
    reason: str
    start: int = 0
    end: int | None = None

    def covers(self, name: str, what: What) -> bool:
        """Whether the row is about this."""
        return self.what == what and re.fullmatch(self.pattern, name) is not None

    def without(self, content: bytes) -> bytes:
        """What must still be alike of a content."""
        return content[: self.start] + (b"" if self.end is None else content[self.end :])


@dataclass(frozen=True, kw_only=True)
class Better:
    """Something that ours does otherwise on purpose.

    Attributes:
        name: What the tests call it.
        theirs: What Flyte's own builder does.
        ours: What ours does instead.
        reason: Why users need it so.
    """

    name: str
    theirs: str
    ours: str
    reason: str


IGNORED: tuple[Ignored, ...] = (
    Ignored(
        pattern=r"var/log/(dpkg|alternatives|apt/history|apt/term|apt/eipp)\.log(\.xz)?",
        what="content",
        reason="Logs of apt and dpkg: every line has a time.",
    ),
    Ignored(
        pattern=r"var/cache/ldconfig/aux-cache",
        what="content",
        reason="ldconfig notes inode numbers and times of the libraries.",
    ),
    Ignored(
        pattern=r".*/__pycache__/[^/]+\.pyc",
        what="content",
        start=8,
        end=12,
        reason="Bytecode names the time of its source, which is when it was installed. The source itself is compared.",
    ),
)

BETTER: tuple[Better, ...] = ()
