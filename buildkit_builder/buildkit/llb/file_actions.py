"""Changing files without running anything: copy, make, remove, link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit_builder.buildkit.llb.arguments import check, check_mode, content, several
from buildkit_builder.buildkit.llb.operation import NO_INPUT, NO_OUTPUT, Inputs, Operation, Output, absolute, distinct
from buildkit_builder.buildkit.llb.owner import Owner
from buildkit_builder.buildkit.wire import ops_pb2

if TYPE_CHECKING:
    from buildkit_builder.buildkit.llb.platforms import Platform

# On the wire 0 means the start of 1970 and mode 000, so "leave as it is" needs a value of its own.
_UNSET = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Copies out of another state. `copy` makes it and documents its fields."""

    source: Output
    src: str
    dst: str
    owner: Owner | None
    mode: int | None
    mode_str: str | None
    follow_symlinks: bool
    contents_only: bool
    unpack: bool
    create_dest: bool
    wildcard: bool
    allow_empty_wildcard: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    timestamp: int | None
    replace: bool
    required: tuple[str, ...]

    def __post_init__(self) -> None:
        check(self)
        if self.mode is not None and self.mode_str is not None:
            raise ValueError("A copy has either `mode` or `mode_str`, not both.")
        if self.mode is not None:
            check_mode(self.mode, "mode", 0o7777)

    def capabilities(self) -> Iterator[str]:
        """Ids of what the daemon must be able to do."""
        if self.include or self.exclude:
            yield "file.copy.includeexcludepatterns"
        if self.required:
            yield "file.copy.requiredpaths"
        if self.replace:
            yield "file.copy.alwaysreplaceexistingdestpaths"

    def encode(self, action: ops_pb2.FileAction, lookup: int) -> None:
        """Write it into an empty action."""
        message = action.copy
        message.src = absolute(self.src)
        message.dest = _destination(self.dst)
        message.mode = _UNSET if self.mode is None else self.mode
        message.modeStr = self.mode_str or ""
        if self.mode_str is not None:
            message.mode = 0
        message.followSymlink = self.follow_symlinks
        message.dirCopyContents = self.contents_only
        message.attemptUnpackDockerCompatibility = self.unpack
        message.createDestPath = self.create_dest
        message.allowWildcard = self.wildcard
        message.allowEmptyWildcard = self.allow_empty_wildcard
        message.include_patterns.extend(self.include)
        message.exclude_patterns.extend(self.exclude)
        message.alwaysReplaceExistingDestPaths = self.replace
        message.required_paths.extend(self.required)
        message.timestamp = _time(self.timestamp)
        if self.owner is not None:
            self.owner.encode(message.owner, lookup)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeFile:
    """Writes a file. `mkfile` makes it and documents its fields."""

    path: str
    data: bytes
    mode: int
    owner: Owner | None
    timestamp: int | None

    def __post_init__(self) -> None:
        check(self)
        _check_path(self.path)
        check_mode(self.mode, "mode", 0o777)

    def capabilities(self) -> tuple[str, ...]:
        """Nothing beyond file operations as such."""
        return ()

    def encode(self, action: ops_pb2.FileAction, lookup: int) -> None:
        """Write it into an empty action."""
        message = action.mkfile
        message.path = absolute(self.path)
        message.mode = self.mode
        message.data = self.data
        message.timestamp = _time(self.timestamp)
        if self.owner is not None:
            self.owner.encode(message.owner, lookup)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    """Makes a directory. `mkdir` makes it and documents its fields."""

    path: str
    mode: int
    parents: bool
    owner: Owner | None
    timestamp: int | None

    def __post_init__(self) -> None:
        check(self)
        _check_path(self.path)
        check_mode(self.mode, "mode", 0o777)

    def capabilities(self) -> tuple[str, ...]:
        """Nothing beyond file operations as such."""
        return ()

    def encode(self, action: ops_pb2.FileAction, lookup: int) -> None:
        """Write it into an empty action."""
        message = action.mkdir
        message.path = absolute(self.path)
        message.mode = self.mode
        message.makeParents = self.parents
        message.timestamp = _time(self.timestamp)
        if self.owner is not None:
            self.owner.encode(message.owner, lookup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Removes a file or a tree. `rm` makes it and documents its fields."""

    path: str
    allow_not_found: bool
    wildcard: bool

    def __post_init__(self) -> None:
        check(self)
        _check_path(self.path)

    def capabilities(self) -> Iterator[str]:
        """Ids of what the daemon must be able to do."""
        if self.wildcard:
            yield "file.rm.wildcard"

    def encode(self, action: ops_pb2.FileAction, lookup: int) -> None:
        """Write it into an empty action; there is nothing to look up."""
        action.rm.CopyFrom(
            ops_pb2.FileActionRm(
                path=absolute(self.path), allowNotFound=self.allow_not_found, allowWildcard=self.wildcard
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink:
    """Makes a symbolic link. `symlink` makes it and documents its fields."""

    oldpath: str
    newpath: str
    owner: Owner | None
    timestamp: int | None

    def __post_init__(self) -> None:
        check(self)
        _check_path(self.oldpath)
        _check_path(self.newpath)

    def capabilities(self) -> Iterator[str]:
        """Ids of what the daemon must be able to do."""
        yield "file.symlink.create"

    def encode(self, action: ops_pb2.FileAction, lookup: int) -> None:
        """Write it into an empty action."""
        message = action.symlink
        message.oldpath = self.oldpath
        message.newpath = absolute(self.newpath)
        message.timestamp = _time(self.timestamp)
        if self.owner is not None:
            self.owner.encode(message.owner, lookup)


FileAction = Copy | MakeFile | MakeDirectory | Remove | Symlink


def copy(
    source: Output,
    src: str,
    dst: str,
    *,
    owner: Owner | None = None,
    mode: int | None = None,
    mode_str: str | None = None,
    follow_symlinks: bool = False,
    contents_only: bool = False,
    unpack: bool = False,
    create_dest: bool = False,
    wildcard: bool = False,
    allow_empty_wildcard: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    timestamp: int | None = None,
    replace: bool = False,
    required: Sequence[str] = (),
) -> Copy:
    """Copy a file or directory out of another state.

    Args:
        source: The state to copy from.
        src: Path in `source`.
        dst: Path in the state that is changed. A slash at its end, or `/.`, says that it is a directory.
        owner: Whom the copies belong to; `None` keeps what `source` says.
        mode: Permissions of the copies, up to `0o7777`; `None` keeps what `source` says.
        mode_str: Change of permissions as `chmod` writes it, such as `u+x,go-w`. Needs BuildKit 0.17.
        follow_symlinks: Copy what a symbolic link at `src` leads to.
        contents_only: Copy what is in the directory `src`, not the directory itself.
        unpack: Unpack `src` if it is an archive.
        create_dest: Make missing directories above `dst`. They get `owner` and `mode` too, so a `mode` without `x` is
            of no use with it.
        wildcard: Read `src` as a pattern.
        allow_empty_wildcard: Do not fail if the pattern matches nothing.
        include: Patterns of the paths to copy, relative to `src`; none means all.
        exclude: Patterns of the paths to leave out.
        timestamp: Time of change of the copies, in nanoseconds since 1970; `None` keeps what `source` says.
        replace: Replace what is in the way, even a directory by a file.
        required: Paths that must be there, though `include` would let them be missing.
    """
    return Copy(
        source=source,
        src=src,
        dst=dst,
        owner=owner,
        mode=mode,
        mode_str=mode_str,
        follow_symlinks=follow_symlinks,
        contents_only=contents_only,
        unpack=unpack,
        create_dest=create_dest,
        wildcard=wildcard,
        allow_empty_wildcard=allow_empty_wildcard,
        include=several(include, "include"),
        exclude=several(exclude, "exclude"),
        timestamp=timestamp,
        replace=replace,
        required=several(required, "required"),
    )


def mkfile(
    path: str,
    data: bytes | bytearray | memoryview | str,
    mode: int = 0o644,
    *,
    owner: Owner | None = None,
    timestamp: int | None = None,
) -> MakeFile:
    """Write a file, in a directory that is there.

    Args:
        path: Where.
        data: All that is in it; a text is written as UTF-8.
        mode: Its permissions, up to `0o777`.
        owner: Whom it belongs to; `None` means root.
        timestamp: Its time of change, in nanoseconds since 1970; `None` means now.
    """
    return MakeFile(path=path, data=content(data, "data"), mode=mode, owner=owner, timestamp=timestamp)


def mkdir(
    path: str,
    mode: int = 0o755,
    *,
    parents: bool = False,
    owner: Owner | None = None,
    timestamp: int | None = None,
) -> MakeDirectory:
    """Make a directory.

    Args:
        path: Where.
        mode: Its permissions, up to `0o777`.
        parents: Make missing directories above it too, and do not mind if it is there.
        owner: Whom it belongs to; `None` means root.
        timestamp: Its time of change, in nanoseconds since 1970; `None` means now.
    """
    return MakeDirectory(path=path, mode=mode, parents=parents, owner=owner, timestamp=timestamp)


def rm(path: str, *, allow_not_found: bool = False, wildcard: bool = False) -> Remove:
    """Remove a file, or a directory and all that is in it.

    Args:
        path: What to remove.
        allow_not_found: Do not fail if it is not there.
        wildcard: Read `path` as a pattern.
    """
    return Remove(path=path, allow_not_found=allow_not_found, wildcard=wildcard)


def symlink(oldpath: str, newpath: str, *, owner: Owner | None = None, timestamp: int | None = None) -> Symlink:
    """Make a symbolic link. Needs BuildKit 0.19.

    Args:
        oldpath: The text of the link, which is where it leads.
        newpath: Where the link is made.
        owner: Whom it belongs to; `None` means root.
        timestamp: Its time of change, in nanoseconds since 1970; `None` means now.
    """
    return Symlink(oldpath=oldpath, newpath=newpath, owner=owner, timestamp=timestamp)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileOp(Operation):
    """The vertex of file actions, each on the result of the one before. `State.file` makes it."""

    base: Output
    actions: tuple[FileAction, ...]

    def __post_init__(self) -> None:
        Operation.__post_init__(self)
        if not self.actions:
            raise ValueError("A file operation has at least one action.")
        for owner in map(_owner, self.actions):
            if owner is not None and owner.is_named and (owner.lookup or self.base).op is None:
                raise ValueError(f"There is no `/etc/passwd` in scratch to look up {owner.user!r}:{owner.group!r} in.")

    def dependencies(self) -> tuple[Output, ...]:
        """The state that is changed, then what the actions read, in their order."""
        return distinct([self.base, *(state for action in self.actions for state in _reads(action))])

    def capabilities(self) -> Iterator[str]:
        """Ids of what the daemon must be able to do.

        Go's client names only `file.base`. The others are named too, because a daemon that lacks them would ignore
        the fields without a word.
        """
        yield "file.base"
        for action in self.actions:
            yield from action.capabilities()

    def encode(self, op: ops_pb2.Op, inputs: Inputs, platform: Platform) -> None:
        """Write it; indexes at and above the number of inputs mean results of earlier actions."""
        base = inputs.share(self.base)
        read = [[inputs.share(state) for state in _reads(action)] for action in self.actions]
        last = len(self.actions) - 1
        for index, (action, indexes) in enumerate(zip(self.actions, read, strict=True)):
            message = op.file.actions.add(
                input=base if index == 0 else len(inputs) + index - 1,
                secondaryInput=indexes[0] if isinstance(action, Copy) else NO_INPUT,
                output=0 if index == last else NO_OUTPUT,
            )
            owner = _owner(action)
            action.encode(message, base if owner is None or owner.lookup is None else indexes[-1])


def _owner(action: FileAction) -> Owner | None:
    return None if isinstance(action, Remove) else action.owner


def _reads(action: FileAction) -> list[Output]:
    """The states an action reads beside the one it changes: what it copies, then where it looks up names."""
    states = [action.source] if isinstance(action, Copy) else []
    owner = _owner(action)
    if owner is not None and owner.lookup is not None:
        states.append(owner.lookup)
    return states


def _destination(path: str) -> str:
    """The absolute path, with the ending that tells a directory kept."""
    clean = absolute(path)
    if path.endswith("/") and clean != "/":
        return clean + "/"
    if path.endswith("/."):
        return clean.rstrip("/") + "/."
    return clean


def _check_path(path: str) -> None:
    if not path:
        raise ValueError("The path is empty. Write `/` for the root.")


def _time(timestamp: int | None) -> int:
    return _UNSET if timestamp is None else timestamp
