"""What a program knows of a vertex beside its name, which is for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The part that a vertex plays for whoever made the graph.

    It stays here: it is neither in the digest of the vertex nor told to the daemon. Progress and errors look it up by
    that digest, so nobody's name for a step can pass for one.

    Attributes:
        quiet: It only serves others, in at most a moment: nobody is shown it, unless it fails.
        attempt: It may fail without anything being wrong; what it was tried for is then done otherwise.
        script: What it runs are words of this package, which tell the user nothing: errors leave them out.
    """

    quiet: bool = False
    attempt: bool = False
    script: bool = False

    def __and__(self, other: Role) -> Role:
        """The role of a vertex that plays both: it is only what it is in each of them."""
        return Role(
            quiet=self.quiet and other.quiet,
            attempt=self.attempt and other.attempt,
            script=self.script and other.script,
        )


ORDINARY = Role()
