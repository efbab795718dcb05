"""Whom files belong to, by number or by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildkit_builder.buildkit.llb.arguments import check, checked
from buildkit_builder.buildkit.llb.operation import Output
from buildkit_builder.buildkit.wire import ops_pb2

_MAX_ID = 2**31 - 1
_MAX_UINT32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a file belongs to.

    Attributes:
        user: Name or number of the user, or `None` to say nothing of it.
        group: Name or number of the group. With `None` and a named user, that user's own group.
        lookup: The state whose `/etc/passwd` and `/etc/group` know the names; `None` means the state that is changed.
    """

    user: str | int | None = None
    group: str | int | None = None
    lookup: Output | None = None

    def __post_init__(self) -> None:
        check(self)
        for value in (self.user, self.group):
            if isinstance(value, str) and (not value or ":" in value):
                raise ValueError(f'`{value}` is not a user or a group. Write `llb.Owner.parse("user:group")` for both.')
            if isinstance(value, int) and not 0 <= value <= _MAX_UINT32:
                raise ValueError(f"{value} is not the number of a user or a group.")
        if self.user is None and self.group is None:
            raise ValueError("An owner names a user, a group or both.")

    @classmethod
    @checked
    def parse(cls, text: str, *, lookup: Output | None = None) -> Owner:
        """Read `user[:group]` as Docker's `--chown` does: digits are numbers, `root` is 0, all else is a name.

        Raises:
            ValueError: If there is no user before the colon or no group after it.
        """
        user, colon, group = text.partition(":")
        if not user or (colon and not group):
            raise ValueError(f"`{text}` is not an owner. Write one as `user` or `user:group`.")
        return cls(user=_number_or_name(user), group=_number_or_name(group) if colon else None, lookup=lookup)

    @property
    def is_named(self) -> bool:
        """Whether a name has to be looked up."""
        return isinstance(self.user, str) or isinstance(self.group, str)

    def encode(self, owner: ops_pb2.ChownOpt, lookup: int) -> None:
        """Write it into a message; `lookup` is the index of the input to find names in."""
        for value, message in ((self.user, owner.user), (self.group, owner.group)):
            if isinstance(value, str):
                message.byName.CopyFrom(ops_pb2.NamedUserOpt(name=value, input=lookup))
            elif value is not None:
                message.byID = value


def _number_or_name(word: str) -> int | str:
    if word == "root":
        return 0
    return int(word) if re.fullmatch("[0-9]+", word) and int(word) <= _MAX_ID else word
