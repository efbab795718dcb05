"""Which steps have to see which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.plan.effects import BARRIER, EVERYTHING, SYSTEM, Effects

VENV = "/opt/venv"
PACKAGES = Effects.of(writes=(SYSTEM,))
WHEELS = Effects.of(reads=("/usr/bin/uv", "/uv.toml"), writes=(VENV,))
ORDERED = Effects.of(reads=(EVERYTHING,), writes=(VENV,))
TOOL = Effects.of(writes=("/usr/bin/uv",))

PLACES = st.one_of(
    st.sampled_from([EVERYTHING, SYSTEM, "/", "/usr/bin/uv"]),
    st.lists(st.sampled_from(["usr", "opt", "venv", "app", "a", "b"]), min_size=1, max_size=3).map(
        lambda parts: "/" + "/".join(parts)
    ),
)
EFFECTS = st.builds(Effects, st.frozensets(PLACES, max_size=2), st.frozensets(PLACES, max_size=2))


def copy(path: str) -> Effects:
    """What a copy to a path does."""
    return Effects.of(writes=(path,))


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        (PACKAGES, PACKAGES),
        (WHEELS, WHEELS),
        (WHEELS, TOOL),
        (ORDERED, PACKAGES),
        (ORDERED, copy("/app")),
        (PACKAGES, copy("/etc/apt/sources.list.d/mine.list")),
        (PACKAGES, copy("/usr/local/share/ca-certificates/")),
        (PACKAGES, copy("/")),
        (copy("/etc/motd"), PACKAGES),
        (copy("/opt/venv/lib/mine"), WHEELS),
        (WHEELS, copy("/opt/venv")),
        (WHEELS, copy("/uv.toml")),
        (copy("/app/a"), copy("/app/b")),
        (copy("/app"), copy("/app/b")),
        (copy("/app/b"), copy("/app")),
        (BARRIER, PACKAGES),
        (PACKAGES, BARRIER),
        (copy("/app"), BARRIER),
    ],
)
def test_what_may_matter_is_seen(later: Effects, earlier: Effects) -> None:
    """Whatever a step reads, or writes as well, it sees as it was in the user's order."""
    assert later.follow(earlier)


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        (WHEELS, PACKAGES),
        (PACKAGES, WHEELS),
        (PACKAGES, ORDERED),
        (PACKAGES, TOOL),
        (copy("/app"), PACKAGES),
        (PACKAGES, copy("/app")),
        (copy("/root/src"), WHEELS),
        (WHEELS, copy("/root/src")),
        (copy("/app"), copy("/root/src")),
        (copy("/opt/app"), WHEELS),
        (copy("/root/a"), copy("/root/b")),
        (copy("/venv2"), copy("/venv")),
        (copy("/usr/bin/mine"), TOOL),
    ],
)
def test_what_cannot_matter_is_not(later: Effects, earlier: Effects) -> None:
    """Packages, the environment and files in different places do not wait for each other."""
    assert not later.follow(earlier)


@given(EFFECTS)
def test_a_barrier_sees_all_and_is_seen_by_all(effects: Effects) -> None:
    """All that does anything."""
    assert bool(effects.writes) == BARRIER.follow(effects)
    assert bool(effects.reads or effects.writes) == effects.follow(BARRIER)


@given(EFFECTS, EFFECTS)
def test_who_writes_first_matters_either_way(one: Effects, other: Effects) -> None:
    """Of two that only write, either both have to see the other or none."""
    one, other = Effects(frozenset(), one.writes), Effects(frozenset(), other.writes)

    assert one.follow(other) == other.follow(one)
