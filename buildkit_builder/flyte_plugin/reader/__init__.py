"""Reads a `flyte.Image` into a spec: the only room that knows the private names of Flyte's image.

Written for flyte 2.12.1. Reading touches the files that the image names (is it there, what does it say) and nothing
else; whatever is wrong is one `ImageError` before any connection is made.
"""

from __future__ import annotations

from buildkit_builder.flyte_plugin.reader.image import chosen, default_uv_image, enters, keeps, needs_building, read
from buildkit_builder.flyte_plugin.reader.local_files import read_patterns, read_text

__all__ = [
    "chosen",
    "default_uv_image",
    "enters",
    "keeps",
    "needs_building",
    "read",
    "read_patterns",
    "read_text",
]
