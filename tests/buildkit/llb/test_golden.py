"""Typical graphs as text, so that a change of what is sent to daemons is seen in review.

To write the texts anew after a change that is meant: `python -m tests.buildkit.llb.test_golden`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_builder.buildkit import llb
from tests.buildkit.llb.graphs import AMD64, typical

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "llb"


@pytest.mark.parametrize("name", sorted(typical()))
def test_typical_graphs_stay_as_they_are(name: str) -> None:
    """A typical graph gives the text that was reviewed, and the text gives the graph."""
    definition = llb.marshal(typical()[name], platform=AMD64)
    text = (GOLDEN / f"{name}.json").read_text(encoding="utf-8")

    assert text == llb.dump(definition)
    assert definition == llb.parse(text)


def write() -> None:
    """Write the texts anew."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, state in typical().items():
        (GOLDEN / f"{name}.json").write_text(llb.dump(llb.marshal(state, platform=AMD64)), encoding="utf-8")


if __name__ == "__main__":
    write()
