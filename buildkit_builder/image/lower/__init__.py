"""Lowers a plan to LLB, for one platform."""

from __future__ import annotations

from buildkit_builder.image.lower.commands import CA_SECRET
from buildkit_builder.image.lower.image import lower
from buildkit_builder.image.lower.questions import (
    BuildLines,
    Environment,
    Lowered,
    Placed,
    Question,
    Resolved,
    ResolveImage,
)

__all__ = [
    "CA_SECRET",
    "BuildLines",
    "Environment",
    "Lowered",
    "Placed",
    "Question",
    "ResolveImage",
    "Resolved",
    "lower",
]
