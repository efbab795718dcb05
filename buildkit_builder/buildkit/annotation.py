"""Annotations: what a manifest or an index says of an image."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ANNOTATION = re.compile(
    r"(?:(?P<level>manifest-descriptor|index-descriptor|manifest|index)(?:\[(?P<platform>[^\]]*)\])?:)?(?P<key>[^=]+)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """An annotation of the image's manifest or index.

    Attributes:
        key: Its name.
        value: Its text.
        level: What carries it: `manifest`, `index`, `manifest-descriptor` or `index-descriptor`.
        platform: The only platform it is for, or empty for all.
    """

    key: str
    value: str
    level: str = "manifest"
    platform: str = ""

    @classmethod
    def parse(cls, name: str, value: str) -> Annotation | None:
        """Read a name as buildx does: `LEVEL[PLATFORM]:KEY`, or only the key. Return `None` for a malformed name."""
        found = _ANNOTATION.fullmatch(name)
        if found is None:
            return None
        return cls(key=found["key"], value=value, level=found["level"] or "manifest", platform=found["platform"] or "")
