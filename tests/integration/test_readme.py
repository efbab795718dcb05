"""The README's example of a client, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import REPOSITORY, Engine
from tests.integration.registry import pull


def test_the_example_of_a_client_runs(engine: Engine, name: str) -> None:
    """It builds a graph, pushes it, and prints the digest of what it pushed."""
    (example,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "localhost:5000/hello:1" in example
    reference = f"{engine.registry}/{name}:1"

    done = subprocess.run(
        [sys.executable, "-c", example.replace("localhost:5000/hello:1", reference)],
        env=dict(engine.environ), cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.stdout.startswith("sha256:"), done.stderr
    assert b"hello\n" == pull(reference).tree()["hello"].content
