"""A source tree as the ordered entries that the daemon expects.

Protocol: tonistiigi/fsutil `{walker,stat_unix,hardlinks,filter,followlinks}`: depth first, the siblings in byte order
of their names, a folder before what is in it, the root left out.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, Literal, NamedTuple

from buildkit_builder.buildkit.session.patterns import Matcher
from buildkit_builder.errors import SourceChangedError, SourceError, SourceNameError

# Bits of Go's `io/fs.FileMode`.
MODE_DIR = 1 << 31
MODE_SYMLINK = 1 << 27
MODE_DEVICE = 1 << 26
MODE_NAMED_PIPE = 1 << 25
MODE_SETUID = 1 << 23
MODE_SETGID = 1 << 22
MODE_CHAR_DEVICE = 1 << 21
MODE_STICKY = 1 << 20
MODE_TYPE = 0x8F28_0000

_KINDS = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: MODE_DIR,
    stat.S_IFLNK: MODE_SYMLINK,
    stat.S_IFIFO: MODE_NAMED_PIPE,
    stat.S_IFBLK: MODE_DEVICE,
    stat.S_IFCHR: MODE_DEVICE | MODE_CHAR_DEVICE,
    stat.S_IFSOCK: 0,  # sent as an empty file, as Go does
}
_NO_XATTRS: Mapping[str, bytes] = {}
_FOLDER_MODE = MODE_DIR | 0o755

Keep = Callable[[str, bool], "bool | None"]
Symlinks = Literal["keep", "copy-files"]


class Entry(NamedTuple):
    """One entry of a tree.

    Attributes:
        path: Relative to the root, with `/`.
        source: Where its content is on this machine, or `""` for a folder that exists only in the listing.
        mode: Go's `FileMode`.
        size: Bytes; 0 for folders and hard links.
        mtime: Nanoseconds since 1970.
        link: The text of a symlink, or the path of the entry that a hard link is the same file as.
        device: `st_rdev` of a device, else 0.
        has_content: Whether there are bytes to read: false for sockets, which look like empty files.
        inode: The number of what is read.
        changed: When the inode of what is read was last changed, in nanoseconds since 1970.
        folder: The number of the folder that it was found in under this name; 0 where it is from elsewhere.
    """

    path: str
    source: str
    mode: int
    size: int
    mtime: int
    link: str = ""
    device: int = 0
    has_content: bool = False
    inode: int = 0
    changed: int = 0
    folder: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which entries of a tree are listed: those that both the owner of the tree and the asking side want.

    Attributes:
        exclude: The owner's patterns; what they match is left out.
        keep: Asked before `exclude`, with the path and whether it is a folder: true and false decide instead of the
            patterns, `None` leaves it to them.
        descend: Asked for a folder that `keep` leaves out: whether to look inside nevertheless. By default not.
        symlinks: `"keep"` lists links as links. `"copy-files"` lists a link to a file as a file with the target's
            content, and leaves other links out.
        hard_links: Whether further names of a file are listed as hard links to its first, or as files of their own.
        empty_dirs: Whether folders in which nothing is listed are listed.
        folder_mode: The permissions that folders are listed with, or `None` for their own.
        asked_include: The asking side's patterns of which one must match; none means everything.
        asked_exclude: The asking side's patterns of what it does not want.
    """

    exclude: Sequence[str] = ()
    keep: Keep | None = None
    descend: Callable[[str], bool] | None = None
    symlinks: Symlinks = "keep"
    hard_links: bool = False
    empty_dirs: bool = True
    folder_mode: int | None = None
    asked_include: Sequence[str] = ()
    asked_exclude: Sequence[str] = ()


class _Applied(NamedTuple):
    """Which patterns of each list apply to all that is in a folder."""

    own: int = 0
    include: int = 0
    exclude: int = 0


class _Child(NamedTuple):
    """Something in a folder: scanned, or named by `files` (then a file, or the folder that `tree` lists)."""

    name: str
    source: str
    tree: _Tree | None = None
    scanned: os.DirEntry[str] | None = None
    folder: int = 0  # its number, where scanned

    def is_folder(self) -> bool:
        if self.scanned is not None:
            return self.scanned.is_dir(follow_symlinks=False)
        return self.tree is not None or os.path.isdir(self.source)


@dataclass(slots=True)
class _Folder:
    """A folder on the way from the root to where the walk is."""

    path: str
    children: Iterator[_Child]
    applied: _Applied
    entry: Entry | None = None  # set while it is not listed: it will be, as soon as something in it is


_Tree = dict[str, Any]  # name to another tree, or to the path of a file or folder on this machine


def walk(root: str, selection: Selection) -> Iterator[Entry]:
    """Lists a folder of this machine, lazily.

    Args:
        root: The folder; if it is a symlink, its target.
        selection: What to list.

    Yields:
        The entries in protocol order.

    Raises:
        SourceNameError: A name is not UTF-8.
        SourceChangedError: A folder vanished while it was being listed.
        SourceError: A folder cannot be read.
    """
    source = os.path.realpath(root)
    walker = _Walker(selection)
    return walker.run(walker.scan(source, must_read=True))


def walk_files(files: Mapping[str, str], selection: Selection) -> Iterator[Entry]:
    """Lists files from anywhere as one tree, with folders of mode 0755 and time 0 around them.

    Args:
        files: Path in the tree to the file or folder on this machine; a symlink stands for its target, a folder for
            all that is in it.
        selection: What to list.

    Yields:
        The entries in protocol order.

    Raises:
        SourceError: A path in the tree is absolute or leaves it, is both a file and a folder, or a file is missing.
        SourceNameError: As for `walk`.
    """
    return _Walker(selection).run(_named(_tree(files)))


def _tree(files: Mapping[str, str]) -> _Tree:
    tree: _Tree = {}
    for path, source in files.items():
        *folders, name = path.split("/")
        if path.startswith("/") or posixpath.normpath(path) != path or ".." in folders or name in ("..", "."):
            raise SourceError(f"No file can be put at {path!r}, which is not a path inside a folder.")
        below = tree
        for folder in folders:
            below = below.setdefault(folder, {})
            if isinstance(below, str):
                raise SourceError(f"No file can be put at {path!r}, because {folder!r} is a file.")
        if name in below:
            raise SourceError(f"No file can be put at {path!r}, because something else is put there.")
        below[name] = source
    return tree


def _named(tree: _Tree) -> Iterator[_Child]:
    for name, below in sorted(tree.items(), key=itemgetter(0)):
        yield _Child(name, below) if isinstance(below, str) else _Child(name, "", below)


class _Walker:
    """The state of one walk."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._own = Matcher(selection.exclude)
        self._include = Matcher(selection.asked_include)
        self._exclude = Matcher(selection.asked_exclude)
        self._filtered = bool(self._own or self._include or self._exclude or selection.keep)
        self._copies = selection.symlinks == "copy-files"
        self._first_paths: dict[tuple[int, int], str] = {}

    def run(self, children: Iterator[_Child]) -> Iterator[Entry]:
        stack = [_Folder("", children, _Applied())]
        while stack:
            folder = stack[-1]
            child = next(folder.children, None)
            if child is None:
                stack.pop()
                continue
            path = f"{folder.path}/{child.name}" if folder.path else child.name
            is_folder = child.is_folder()
            listed, entered, applied = True, is_folder, folder.applied
            if self._filtered:
                listed, entered, applied = self._select(path, is_folder, folder.applied)
            if not (listed or entered):
                continue
            entry = self._entry(path, child)
            if entry is None:
                continue
            waits = is_folder and not (listed and self._selection.empty_dirs)
            if not waits:
                for above in stack:
                    if above.entry is not None:
                        yield _carried(above.entry)
                        above.entry = None
                yield _carried(entry)
            if entered:
                below = self.scan(entry.source, must_read=listed) if child.tree is None else _named(child.tree)
                stack.append(_Folder(path, below, applied, entry if waits else None))

    def scan(self, source: str, *, must_read: bool) -> Iterator[_Child]:
        try:
            folder = os.stat(source).st_ino
            with os.scandir(source) as scan:
                scanned = sorted(scan, key=attrgetter("name"))
        except (FileNotFoundError, NotADirectoryError):
            raise SourceChangedError(f"The folder {shown(source)} vanished while it was being sent.") from None
        except OSError as error:
            if must_read:
                raise SourceError(f"The folder {shown(source)} cannot be read: {error.strerror}.") from error
            return
        for entry in scanned:
            yield _Child(entry.name, entry.path, None, entry, folder)

    def _select(self, path: str, is_folder: bool, above: _Applied) -> tuple[bool, bool, _Applied]:
        """Returns whether the path is listed, whether it is entered, and what applies to what is in it."""
        selection = self._selection
        own = include = exclude = 0
        kept = None if selection.keep is None else selection.keep(path, is_folder)
        if kept is None:
            matched, own = self._own.match(path, above.own)
            listed = not matched
            entered = listed or self._own.may_except_below(path)
        else:
            listed = kept
            entered = kept or (is_folder and selection.descend is not None and selection.descend(path))
        if entered and self._include:
            matched, include = self._include.match(path, above.include)
            listed = listed and matched
            entered = matched or self._include.may_match_below(path)
        if entered and self._exclude:
            matched, exclude = self._exclude.match(path, above.exclude)
            listed = listed and not matched
            entered = not matched or self._exclude.may_except_below(path)
        return listed and entered, entered and is_folder, _Applied(own, include, exclude)

    def _entry(self, path: str, child: _Child) -> Entry | None:
        """Returns the entry, or `None` for what has just vanished and for links that are not copied."""
        if child.tree is not None:
            return Entry(path, "", _FOLDER_MODE, 0, 0)
        source, folder = child.source, child.folder
        try:
            if child.scanned is None:
                source = os.path.realpath(source)
                status = os.stat(source)
            elif self._copies and child.scanned.is_symlink():
                source, folder = os.path.realpath(source), 0
                status = os.stat(source)
                if not stat.S_ISREG(status.st_mode):
                    return None
            else:
                status = child.scanned.stat(follow_symlinks=False)
        except OSError as error:
            if child.scanned is None:
                raise SourceError(f"The file {shown(child.source)} cannot be read: {error.strerror}.") from error
            return None
        return self._described(path, source, status, folder)

    def _described(self, path: str, source: str, status: os.stat_result, folder: int) -> Entry | None:
        kind = stat.S_IFMT(status.st_mode)
        mode = _go_mode(status.st_mode)
        if kind == stat.S_IFDIR and self._selection.folder_mode is not None:
            mode = MODE_DIR | self._selection.folder_mode
        if kind == stat.S_IFREG:
            if status.st_nlink > 1 and self._selection.hard_links:
                first = self._first_paths.setdefault((status.st_dev, status.st_ino), path)
                if first != path:
                    return Entry(path, source, mode, 0, status.st_mtime_ns, first)
            size, mtime, changed = status.st_size, status.st_mtime_ns, status.st_ctime_ns
            return Entry(path, source, mode, size, mtime, "", 0, True, status.st_ino, changed, folder)
        if kind == stat.S_IFLNK:
            try:
                link = os.readlink(source)
            except FileNotFoundError:
                return None
            return Entry(path, source, mode, status.st_size, status.st_mtime_ns, link)
        device = status.st_rdev if kind in (stat.S_IFBLK, stat.S_IFCHR) else 0
        return Entry(path, source, mode, 0, status.st_mtime_ns, "", device)


def _go_mode(mode: int) -> int:
    go_mode = mode & 0o777 | _KINDS[stat.S_IFMT(mode)]
    if mode & 0o7000:
        go_mode |= MODE_SETUID if mode & stat.S_ISUID else 0
        go_mode |= MODE_SETGID if mode & stat.S_ISGID else 0
        go_mode |= MODE_STICKY if mode & stat.S_ISVTX else 0
    return go_mode


def _carried(entry: Entry) -> Entry:
    """Refuses what cannot be listed; folders with such names may be looked into for others."""
    for text in (entry.path, entry.link):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise SourceNameError(
                    f"The name of {shown(entry.source or entry.path)} is not UTF-8, which BuildKit cannot carry. "
                    "Rename it, or leave it out."
                ) from None
    return entry


def shown(path: str) -> str:
    r"""Returns a path as an error message can hold it: bytes that are not UTF-8 as `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def xattrs_of(entry: Entry) -> Mapping[str, bytes]:
    """Reads the extended attributes of what is listed, but for Apple's."""
    if not entry.source or not hasattr(os, "listxattr"):
        return _NO_XATTRS
    try:
        names = os.listxattr(entry.source, follow_symlinks=False)
    except OSError:
        return _NO_XATTRS  # the file system has none, or the file is gone, which is noticed elsewhere
    if not names:
        return _NO_XATTRS
    values: dict[str, bytes] = {}
    for name in names:
        if not name.startswith("com.apple."):
            with contextlib.suppress(OSError):  # what may be listed may not always be read
                values[name] = os.getxattr(entry.source, name, follow_symlinks=False)
    return values
