"""What an installation ahead says that it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution at a version.

    Attributes:
        wheel: The wheel's file name, where it was cheap to know; else this and what follows are empty.
        size: Of the wheel in bytes.
        sha256: Of the wheel, in hexadecimal digits.
    """

    name: str
    version: str = ""
    wheel: str = ""
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was installed ahead.

    Attributes:
        done: All there is to do, some of it, or nothing at all.
        reason: Why it is not all.
        installed: What was installed.
        left: What is known to be left.
    """

    done: Literal["all", "some", "none"]
    reason: str = ""
    installed: tuple[Distribution, ...] = ()
    left: tuple[Distribution, ...] = ()


def read_verdict(content: bytes) -> Verdict:
    """Reads the file `verdict`. What is not understood was done by another version, and counts for nothing."""
    head, _, rest = content.decode(errors="replace").partition("\n")
    first, *lines = rest.splitlines() or [""]
    done, _, reason = first.partition(" ")
    if head != "1" or done not in ("all", "some"):
        return Verdict(done="none", reason=reason if head == "1" else "the verdict is not understood")
    listed = [(sign, _distribution(text)) for sign, _, text in (line.partition(" ") for line in lines)]
    return Verdict(
        done="all" if done == "all" else "some",
        reason=reason,
        installed=tuple(found for sign, found in listed if sign == "+"),
        left=tuple(found for sign, found in listed if sign == "-"),
    )


def _distribution(text: str) -> Distribution:
    named, wheel, size, sha256 = [*text.split(" "), "", "", ""][:4]
    name, _, version = named.partition("==")
    return Distribution(name=name, version=version, wheel=wheel, size=int(size or 0), sha256=sha256)
