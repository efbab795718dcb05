"""The header of a script, beside what Flyte makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli

from buildkit_builder.errors import ImageError, MissingSourceError


@contextmanager
def reading(script: Path, extract: Callable[[str], str | None], layer: str) -> Iterator[None]:
    """Checks a script's header, and has whatever Flyte then makes of it be about the script if it fails.

    Flyte reads TOML so leniently that half a list of dependencies would go missing without a word.

    Args:
        script: The script.
        extract: Flyte's own function that finds the header in a text.
        layer: What the layer is called by the user.

    Raises:
        ImageError: The header makes no sense.
        MissingSourceError: The script cannot be read.
    """
    try:
        dependencies = tomli.loads(extract(script.read_text(encoding="utf-8")) or "").get("dependencies", [])
        if not isinstance(dependencies, list) or not all(isinstance(item, str) and item for item in dependencies):
            raise ValueError("`dependencies` is not a list of packages")
        yield
    except OSError as error:
        raise MissingSourceError(f"{layer}: the file `{script}` cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, AttributeError) as error:
        # The last two are what Flyte does with a header whose tables and lists are not where they belong.
        raise ImageError(f"{layer}: the `# /// script` header of `{script}` makes no sense: {error}.") from error
