from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.session.times import ToldTimes
from buildkit_builder.buildkit.session.walk import MODE_DIR, MODE_SYMLINK, Entry

NOW = 1_700_000_000_000_000_000
THEN = 1_600_000_000_123_456_789
MS = 1_000_000


def file(path: str = "a", mtime: int = THEN, changed: int = THEN + 5, inode: int = 7, folder: int = 3) -> Entry:
    return Entry(path, f"/{path}", 0o644, 5, mtime, has_content=True, inode=inode, changed=changed, folder=folder)


def told(*entries: Entry, begun: int = NOW) -> list[int]:
    """What a daemon is told that is sent these."""
    times = ToldTimes(begun)
    times.note(entries)
    return [times.of(entry) for entry in entries]


def written(path: str = "a", time: int = THEN, folder: int = 3, inode: int = 7) -> Entry:
    """A file as its last write left it."""
    return file(path, time, time, inode, folder)


def test_a_file_as_it_was_written_is_told_at_once() -> None:
    """Its time is known before the rest of the tree is, and is one for all that its folder has of that millisecond."""
    times = ToldTimes(NOW)

    assert times.are_known([written(), written("b")])
    assert times.of(written()) == times.of(written("b", THEN + 5, inode=8))
    assert times.of(written()) // MS == THEN // MS
    assert times.of(written()) < times.of(written(time=THEN + MS))


def test_a_file_as_it_was_written_in_another_folder() -> None:
    """Files that were written at once, in folders of which one may take the place of the other, are told apart."""
    assert told(written()) != told(written(folder=4))


def test_a_file_from_elsewhere_may_be_any() -> None:
    """What is listed by a link, or by itself, may be another file at any time: its inode counts."""
    assert not ToldTimes(NOW).are_known([written(folder=0)])
    assert told(written(folder=0)) != told(written(folder=0, inode=8))


def test_what_is_no_file_has_its_own_time() -> None:
    """Folders, links and devices are told apart by other things, or are not."""
    others = [Entry("d", "/src/d", MODE_DIR, 0, THEN), Entry("l", "/src/l", MODE_SYMLINK, 1, THEN, "d")]

    assert [THEN, THEN] == told(*others)
    assert ToldTimes(NOW).are_known(others)


@pytest.mark.parametrize(
    "other",
    [file(inode=8), file(changed=THEN + 6), file(path="b"), file(mtime=THEN + 2 * MS), file(changed=THEN)],
    ids=["another inode", "changed at another time", "another path", "another time", "as it was written"],
)
def test_another_file_has_another_time(other: Entry) -> None:
    """Whatever cannot be restored, or is seen anyway, makes the difference; without any there is none."""
    assert told(file()) == told(file())
    assert told(file()) != told(other)


@given(st.integers(-(10**18), 10**18), st.integers(0, NOW), st.integers(0, 2**64 - 1))
def test_the_time_is_right_to_the_millisecond(mtime: int, changed: int, inode: int) -> None:
    """No image can tell the told time from the file's own, nor can the order of two files be another."""
    [time] = told(file(mtime=mtime, changed=changed, inode=inode))

    assert mtime // MS == time // MS


@given(st.lists(st.integers(0, 3 * MS), min_size=2, max_size=6))
def test_order_and_equality_stay(offsets: list[int]) -> None:
    """Files of one time are told one time, and older files are never told to be newer."""
    files = [file(f"{number}", THEN + offset) for number, offset in enumerate(offsets)]
    for one, time in zip(files, told(*files), strict=True):
        for other, other_time in zip(files, told(*files), strict=True):
            if one.mtime == other.mtime:
                assert time == other_time
            if one.mtime // MS < other.mtime // MS:
                assert time < other_time


def test_one_of_many_with_one_time_that_changes() -> None:
    """All of them are told another time then, but no others."""
    before = told(file("a"), file("b"), file("c", THEN + MS))
    after = told(file("a"), file("b", inode=8), file("c", THEN + MS))

    assert before[0] == before[1] != after[0] == after[1]
    assert before[2] == after[2]


@pytest.mark.parametrize("changed", [NOW + 1, NOW, NOW - 10 * MS, (NOW // 10**9 - 1) * 10**9])
def test_what_has_just_changed_never_has_the_same_time(changed: int) -> None:
    """What a file system writes within one tick of its clock has one time, and some count in seconds."""
    for mtime in (THEN, changed):
        once, again = told(file(mtime=mtime, changed=changed)), told(file(mtime=mtime, changed=changed))

        assert once != again
        assert once[0] // MS == mtime // MS


@pytest.mark.parametrize("mtime", [10**19, -(10**19), 2**63, 253_402_300_799 * 10**9])
def test_times_that_do_not_fit_wrap_around(mtime: int) -> None:
    """As they do with Docker's clients, which count nanoseconds in 64 bits."""
    for entry in (file(mtime=mtime), Entry("d", "/src/d", MODE_DIR, 0, mtime)):
        [time] = told(entry)

        assert -(2**63) <= time < 2**63
        assert min((time - mtime) % 2**64, (mtime - time) % 2**64) < MS
