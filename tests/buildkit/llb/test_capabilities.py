from __future__ import annotations

from collections.abc import Iterable

import pytest

from buildkit_builder.buildkit.llb import FIRST_RELEASE, Capabilities
from buildkit_builder.errors import CapabilityError


def test_supported_means_reported_and_enabled() -> None:
    """An id that is absent or switched off is not supported."""
    daemon = Capabilities({"diffop": True, "mergeop": False})

    assert daemon.supports("diffop")
    assert not daemon.supports("mergeop")
    assert not daemon.supports("source.git")
    assert ("mergeop", "source.git") == daemon.missing(["source.git", "diffop", "mergeop"])


def test_a_missing_capability_names_itself_and_its_release() -> None:
    """The user reads what cannot be done, the id, and which release has it."""
    with pytest.raises(CapabilityError) as caught:
        Capabilities({}).require("mergeop", for_what="build branches side by side")

    assert (
        "The daemon cannot build branches side by side (capability `mergeop`, BuildKit 0.10 or newer; "
        "update the daemon, or point the build at a newer one)."
    ) == str(caught.value)


def test_a_capability_that_is_switched_off_says_why() -> None:
    """The daemon's own reason is passed on, and no update is advised."""
    daemon = Capabilities({"mergeop": False, "diffop": False}, {"mergeop": "graphdriver in use"})

    with pytest.raises(CapabilityError, match="this daemon has it switched off: graphdriver in use"):
        daemon.require("mergeop")
    with pytest.raises(CapabilityError, match=r"this daemon has it switched off\)"):
        daemon.require("diffop")


def test_supported_capabilities_pass() -> None:
    """A daemon that has all that is required is not complained of."""
    daemon = Capabilities({"mergeop": True, "diffop": True})

    daemon.require("mergeop")
    daemon.require_all({"mergeop", "diffop"})
    assert () == daemon.missing({"mergeop", "diffop"})


def test_all_missing_capabilities_are_named_at_once() -> None:
    """One error tells all that an update has to bring."""
    with pytest.raises(CapabilityError, match=r"make a symbolic link .*\n.*what `x\.y` stands for .*a newer BuildKit"):
        Capabilities({}).require_all({"x.y", "file.symlink.create"})


def test_modes_in_words_are_known_by_what_came_with_them() -> None:
    """No daemon reports the id of modes in words, so another of the same release answers for it."""
    assert Capabilities({"exec.validexitcode": True}).supports("file.copy.modestring")
    assert not Capabilities({}).supports("file.copy.modestring")
    assert FIRST_RELEASE["exec.validexitcode"] == FIRST_RELEASE["file.copy.modestring"]


def test_what_a_daemon_reported_cannot_be_changed() -> None:
    """The answers stay even if the dictionary they came in does not."""
    reported = {"mergeop": True}
    daemon = Capabilities(reported)
    reported.clear()

    assert daemon.supports("mergeop")
    assert Capabilities({"mergeop": True}) == daemon


@pytest.mark.parametrize("names", [["x.y"], ("x.y",), {"x.y"}, frozenset({"x.y"}), {"x.y": "do it"}, iter(["x.y"])])
def test_ids_may_come_in_anything_that_holds_them(names: Iterable[str]) -> None:
    """They are counted each once, and in no order."""
    assert ("x.y",) == Capabilities().missing(names)
