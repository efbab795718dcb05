"""Builds one image in a process of its own: `one.py ours|flyte SUBJECT`, the subject as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from subjects import Subject


def main() -> None:
    """Imports no more than the builder that is asked for."""
    if sys.argv[1] == "ours":
        from ours import prepare
    else:
        from theirs import prepare
    asyncio.run(prepare([Subject.from_json(json.loads(sys.argv[2]))])())


if __name__ == "__main__":
    main()
