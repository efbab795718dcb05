"""Lowers a plan to LLB, for one platform."""

from __future__ import annotations

from buildkit_builder.lower.image import Environment, Lowered, Question, ReadFile, ResolveImage, lower

__all__ = ["Environment", "Lowered", "Question", "ReadFile", "ResolveImage", "lower"]
