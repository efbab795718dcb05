"""The times that the daemon is told of files, from which it sees which of them it has already.

A daemon that has an earlier copy of a tree asks only for files whose size, mode or time is another (protocol:
tonistiigi/fsutil `diff_containerd`). But other content may come under the same time: tools restore times or set them
all to one, and another machine, or another folder of this one, may have files of its own at the same path. So the part
of a told time that is shorter than a millisecond, which no image keeps, stands for what cannot be restored.

That is when the inode was last changed, and which it is. All such files of one millisecond are told the same time, as
programs that compare times while the image is built, such as `make`, may rely on that. Most files, though, are as their
last write left them, and show so: the times of their content and of their inode are the same. They could only be others
in another folder, for which their part of the time stands, and which is known before the whole tree is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import blake2b

from buildkit_builder.buildkit.session.walk import Entry

_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
# How long after a change another one may leave the same times: file systems read a clock that ticks.
_TICK = 50 * _MILLISECOND
_TICK_OF_WHOLE_SECONDS = 3 * _SECOND


class ToldTimes:
    """The times told of the files of one listing.

    Args:
        begun: When listing began, in nanoseconds since 1970.
    """

    def __init__(self, begun: int) -> None:
        self._begun = begun
        self._marks: dict[int, int] = {}  # by the millisecond of the files that they stand for
        self._folder_marks: dict[tuple[int, int], int] = {}

    def are_known(self, entries: Iterable[Entry]) -> bool:
        """Whether these may be told their times before the rest of the tree is listed."""
        return all(not entry.has_content or self._is_as_written(entry) for entry in entries)

    def note(self, entries: Iterable[Entry]) -> None:
        """Takes account of entries, of all before the time of any is asked for, unless `are_known`."""
        for entry in entries:
            if entry.has_content and not self._is_as_written(entry):
                moment = entry.mtime // _MILLISECOND
                self._marks[moment] = self._marks.get(moment, 0) + self._mark(entry)

    def of(self, entry: Entry) -> int:
        """The time of an entry, in nanoseconds since 1970."""
        time = entry.mtime
        if entry.has_content:
            moment = time // _MILLISECOND
            is_as_written = self._is_as_written(entry)
            mark = self._mark_of_folder(entry.folder, moment) if is_as_written else self._marks[moment]
            time = moment * _MILLISECOND + mark % _MILLISECOND
        # What 64 bits cannot hold, before 1677 and after 2262, wraps around, as it does in Docker's clients.
        return (time + (1 << 63)) % (1 << 64) - (1 << 63)

    def _mark_of_folder(self, folder: int, moment: int) -> int:
        mark = self._folder_marks.get((folder, moment))
        if mark is None:
            mark = self._folder_marks[folder, moment] = _digest(f"{folder} {moment}")
        return mark

    def _is_as_written(self, entry: Entry) -> bool:
        written = entry.changed == entry.mtime and entry.changed % _SECOND != 0 and entry.folder != 0
        return written and is_settled(entry.changed, self._begun)

    def _mark(self, entry: Entry) -> int:
        if not is_settled(entry.changed, self._begun):
            # Whatever is written next might look the same: no later listing is to agree with this one.
            return secrets.randbits(64)
        return _digest(f"{entry.inode} {entry.changed} {entry.path}")


def is_settled(changed: int, begun: int) -> bool:
    """Whether a change of a file whose inode was last changed at a time would leave a trace if it came after another.

    Args:
        changed: In nanoseconds since 1970, as are all times.
        begun: When files began to be looked at.
    """
    tick = _TICK if changed % _SECOND else _TICK_OF_WHOLE_SECONDS
    return changed + tick < begun


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
