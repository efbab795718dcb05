"""The times that the daemon is told of files, from which it sees which of them it has already.

A daemon that has an earlier copy of a tree asks only for files whose size, mode or time is another (protocol:
tonistiigi/fsutil `diff_containerd`). But other content may come under the same time: tools restore times or set them
all to one, and another machine may have files of its own at the same path. A file that is as its last write left it
shows so: the times of its content and of its inode are the same. Of any other, the part of the told time that is
shorter than a millisecond, which no image keeps, stands for what cannot be restored: when the inode was last changed,
and which it is. All such files of one millisecond are told the same time, as programs that compare times while the
image is built, such as `make`, may rely on that.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import blake2b

from buildkit_builder.session.walk import Entry

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

    def are_known(self, entries: Iterable[Entry]) -> bool:
        """Whether these may be told their times before the rest of the tree is listed."""
        return not any(entry.has_content and not self._is_as_written(entry) for entry in entries)

    def note(self, entries: Iterable[Entry]) -> None:
        """Takes account of entries, of all before the time of any is asked for, unless `are_known`."""
        for entry in entries:
            if entry.has_content and not self._is_as_written(entry):
                moment = entry.mtime // _MILLISECOND
                self._marks[moment] = self._marks.get(moment, 0) + self._mark(entry)

    def of(self, entry: Entry) -> int:
        """The time of an entry, in nanoseconds since 1970."""
        time = entry.mtime
        if entry.has_content and not self._is_as_written(entry):
            moment = time // _MILLISECOND
            time = moment * _MILLISECOND + self._marks[moment] % _MILLISECOND
        # What 64 bits cannot hold, before 1677 and after 2262, wraps around, as it does in Docker's clients.
        return (time + (1 << 63)) % (1 << 64) - (1 << 63)

    def _is_as_written(self, entry: Entry) -> bool:
        written = entry.changed == entry.mtime and entry.changed % _SECOND != 0
        return written and is_settled(entry.changed, self._begun)

    def _mark(self, entry: Entry) -> int:
        if not is_settled(entry.changed, self._begun):
            # Whatever is written next might look the same: no later listing is to agree with this one.
            return secrets.randbits(64)
        said = f"{entry.inode} {entry.changed} {entry.path}".encode()
        return int.from_bytes(blake2b(said, digest_size=8).digest(), "big")


def is_settled(changed: int, begun: int) -> bool:
    """Whether a change of a file whose inode was last changed at a time would leave a trace if it came after another.

    Args:
        changed: In nanoseconds since 1970, as are all times.
        begun: When files began to be looked at.
    """
    tick = _TICK if changed % _SECOND else _TICK_OF_WHOLE_SECONDS
    return changed + tick < begun
