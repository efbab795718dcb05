"""What the engines can do that the suite is run against: facts of their releases, not what the package says of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lane:
    """An engine of `scripts/engine`, by the value of `BUILDKIT_BUILDER_ENGINE`.

    Attributes:
        engine: What its version begins with; empty for the main one, which is whatever Debian has.
        buildkit: The release of BuildKit in it, likewise.
        store: Whether it has the containerd image store: several platforms, annotations, attestations, zstd, a build
            cache in a registry.
        can_have_store: Whether it would have that with another configuration.
        merges: Whether it puts layers on each other that were made side by side.
        remembers: Whether it has a history of builds.
        secret_variables: Whether a step may have a secret as a variable.
        inputs: Whether lines of a Dockerfile can be put on what other steps have made.
    """

    engine: str = ""
    buildkit: str = ""
    store: bool = True
    can_have_store: bool = True
    merges: bool = True
    remembers: bool = True
    secret_variables: bool = True
    inputs: bool = True


LANES = {
    "": Lane(),
    "26": Lane(engine="26.1.", buildkit="0.13"),
    "26-graph": Lane(engine="26.1.", buildkit="0.13", store=False, merges=False),
    "20": Lane(
        engine="20.10.",
        buildkit="0.8",
        store=False,
        can_have_store=False,
        merges=False,
        remembers=False,
        secret_variables=False,
        inputs=False,
    ),
}
