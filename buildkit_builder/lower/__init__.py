"""Lowers a plan to LLB, for one platform."""

from __future__ import annotations

from buildkit_builder.lower.image import BuildLines, Environment, Lowered, Question, ResolveImage, lower

__all__ = ["BuildLines", "Environment", "Lowered", "Question", "ResolveImage", "lower"]
