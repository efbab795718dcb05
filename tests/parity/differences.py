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
        line: For `content`: only lines of this form may differ, as a regular expression of all of a line.
    """

    pattern: str
    what: What
    reason: str
    start: int = 0
    end: int | None = None
    line: str = ""

    def covers(self, name: str, what: What) -> bool:
        """Whether the row is about this."""
        return self.what == what and re.fullmatch(self.pattern, name) is not None

    def without(self, content: bytes) -> bytes:
        """What must still be alike of a content."""
        if self.line:
            lines = content.splitlines(keepends=True)
            return b"".join(line for line in lines if not re.fullmatch(self.line.encode(), line.rstrip()))
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
        pattern=r"config\.Labels\.buildkit-builder\.identity",
        what="config",
        reason="What an image of ours was made from, so that one made from something else is not taken for it.",
    ),
    Ignored(
        pattern=r"tmp/uv-[0-9a-f]+\.lock",
        what="path",
        reason="Empty, and of no use after the step. Named by where a project was, which is another place ahead.",
    ),
    Ignored(
        pattern=r"var/log/(dpkg|alternatives|apt/history|apt/term|apt/eipp)\.log(\.xz)?",
        what="content",
        reason="Logs of apt and dpkg: every line has a time.",
    ),
    Ignored(
        pattern=r"dev",
        what="path",
        reason="Empty, and mounted over when an image runs. On a base without it, the first step leaves one or not.",
    ),
    Ignored(
        pattern=r"var/lib/apt/lists/.*",
        what="path",
        reason="Package lists are large, and out of date when an image runs. Before a command, which may look for "
        "them, they are put where it would find them; they are as new as the daemon's cache of them.",
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
    Ignored(
        pattern=r".*\.dist-info/uv_cache\.json",
        what="content",
        reason="uv notes when the files of a local project or wheel were last changed, which is when they were copied.",
    ),
    Ignored(
        pattern=r".*\.dist-info/RECORD",
        what="content",
        line=r"[^,]*\.dist-info/uv_cache\.json,sha256=.*",
        reason="The hash of the file above.",
    ),
)

BETTER: tuple[Better, ...] = (
    Better(
        name="environment-of-the-base",
        theirs="The base's `UV_PYTHON` and `VIRTUALENV` are overruled: an ARG of its Dockerfile has the same name.",
        ours="They hold: the base's environment is used, and no other is made.",
        reason="Packages are to go where the base's own packages are, or the one cannot import the other.",
    ),
    Better(
        name="values-with-spaces",
        theirs="A variable's value with a space in it: the build fails, or sets other variables than were asked for.",
        ours="The value is the text, spaces and all.",
        reason="A dictionary of Python has keys and values, and no words of a Dockerfile.",
    ),
    Better(
        name="paths-with-spaces",
        theirs="A local path with a space in it: the build fails, as the Dockerfile takes it for two.",
        ours="It is the path.",
        reason="Folders of users have spaces.",
    ),
    Better(
        name="lines-of-a-command",
        theirs="A command of several lines: the second is taken for an instruction of the Dockerfile.",
        ours="The shell gets the whole text.",
        reason="A script in triple quotes is a script.",
    ),
    Better(
        name="trailing-backslash",
        theirs="A command that ends in a backslash takes in the next instruction: the layer after it is lost.",
        ours="The shell gets the text, and the next layer is a step of its own.",
        reason="A layer must not vanish without a word.",
    ),
    Better(
        name="requirements-ignored",
        theirs="A `.dockerignore` that matches a requirements file, or a file by its name: the build fails.",
        ours="Files that a layer names are there; the patterns are for folders.",
        reason="The patterns are relative to a folder, and Flyte's context is a folder nobody sees.",
    ),
    Better(
        name="ignore-all-but",
        theirs="`*` with exceptions leaves out the context's own folder: nothing can be copied, and the build fails.",
        ours="The patterns hold for the copied folder alone.",
        reason="The usual way to write a list of what is wanted.",
    ),
    Better(
        name="ignored-again",
        theirs="What a later line of a Dockerfile's `.dockerignore` leaves out again may get in: `config`, "
        "`!config/**/*.yaml`, `config/secret`.",
        ours="The last line that matches decides.",
        reason="So Docker's documentation has it; what was left out may be a password.",
    ),
    Better(
        name="ignore-file-encoding",
        theirs="A byte order mark makes a `.dockerignore` lose its first pattern, and a byte that is not UTF-8 all.",
        ours="Every line that can be read holds.",
        reason="Editors on Windows write such files; what was left out may be a password.",
    ),
    Better(
        name="context-in-the-image",
        theirs="`with_source_folder(Path('.'))` copies the build context: its Dockerfile, and files of other layers.",
        ours="The folder's own files, and no others.",
        reason="Nobody asked for a Dockerfile, nor for requirements or locks of elsewhere.",
    ),
    Better(
        name="empty-folders",
        theirs="A folder that holds nothing but empty folders is made, and those are not.",
        ours="Neither is.",
        reason="Of no use either way; folders come with the files in them.",
    ),
    Better(
        name="poetry-secrets",
        theirs="The secrets of a Poetry project are named in its Dockerfile and never supplied.",
        ours="They reach the step.",
        reason="It is what `secret_mounts` is for.",
    ),
)
