"""Which node builds for which platform."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.find.endpoint import Endpoint
from buildkit_builder.buildkit.find.nodes import Ability, Node, assign
from buildkit_builder.buildkit.llb import Platform
from buildkit_builder.errors import CapabilityError

AMD64, ARM64, ARM = (Platform.parse(name) for name in ("linux/amd64", "linux/arm64", "linux/arm/v7"))
# As daemons list them: their own first, then what emulators are there for.
OF_AMD64 = tuple(map(Platform.parse, ("linux/amd64", "linux/amd64/v2", "linux/386", "linux/arm64", "linux/riscv64")))
OF_ARM64 = tuple(map(Platform.parse, ("linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/amd64")))


def node(name: str, *platforms: Platform) -> Node:
    """A node, with the platforms of its settings."""
    return Node(name=name, endpoint=Endpoint(address=f"tcp://{name}:1", kind="buildkit"), platforms=platforms)


def shared(wanted: list[Platform], *abilities: Ability) -> list[tuple[str, tuple[Platform, ...], tuple[Platform, ...]]]:
    """Who builds for what, and which of it is emulated."""
    return [(share.node.name, share.platforms, share.emulated) for share in assign(wanted, abilities)]


def test_what_a_processor_runs_by_itself() -> None:
    """Its own architecture, with all its variants and the 32-bit one; the rest of what a daemon lists is emulated."""
    amd, arm = Ability.of(node("amd"), OF_AMD64), Ability.of(node("arm"), OF_ARM64)

    assert ["linux/amd64", "linux/amd64/v2", "linux/386"] == [str(platform) for platform in amd.native]
    assert ["linux/arm64", "linux/riscv64"] == [str(platform) for platform in amd.emulated]
    assert ["linux/arm64", "linux/arm/v7", "linux/arm/v6"] == [str(platform) for platform in arm.native]


def test_what_the_settings_say_counts_as_native() -> None:
    """Platforms of the settings are what the node is there for; what its daemon adds is what it could emulate."""
    ability = Ability.of(node("a", Platform.parse("linux/arm64/v8")), OF_AMD64)

    assert (ARM64,) == ability.native
    assert AMD64 in ability.emulated
    assert ARM64 not in ability.emulated


def test_each_platform_goes_where_it_runs() -> None:
    """The order of the nodes is the user's, that of a node's platforms the image's."""
    amd, arm = Ability.of(node("amd"), OF_AMD64), Ability.of(node("arm"), OF_ARM64)

    assert [("amd", (AMD64,), ()), ("arm", (ARM, ARM64), ())] == shared([ARM, AMD64, ARM64], amd, arm)


def test_the_first_of_several_that_run_it() -> None:
    """Always the same one, which has it in its cache."""
    one, two = Ability.of(node("one"), OF_AMD64), Ability.of(node("two"), OF_AMD64)

    assert [("one", (AMD64,), ())] == shared([AMD64], one, two)


def test_emulated_only_where_no_node_runs_it() -> None:
    """A node further down that runs it comes before one that emulates it."""
    amd, arm = Ability.of(node("amd"), OF_AMD64), Ability.of(node("arm"), OF_ARM64)

    assert [("arm", (ARM64,), ())] == shared([ARM64], amd, arm)
    assert [("amd", (ARM64,), (ARM64,))] == shared([ARM64], amd)
    assert [("arm", (ARM64, AMD64), (AMD64,))] == shared([ARM64, AMD64], arm)


def test_spellings_of_a_platform() -> None:
    """`linux/arm64/v8` and `linux/aarch64` are `linux/arm64`; a share keeps the image's own spelling."""
    arm = Ability.of(node("arm"), OF_ARM64)
    wanted = Platform.parse("linux/arm64/v8")

    assert [("arm", (wanted,), ())] == shared([wanted], arm)


def test_a_platform_that_no_node_has() -> None:
    """The error says which, what the nodes have, and what to do."""
    with pytest.raises(CapabilityError) as caught:
        assign([AMD64, Platform.parse("linux/s390x")], [Ability.of(node("a", AMD64)), Ability.of(node("b"))])

    message = str(caught.value)
    assert message.startswith("No node can build for linux/s390x: a has linux/amd64; b has none.")
    assert "Add a node" in message


PLATFORMS = st.sampled_from([AMD64, ARM64, ARM, Platform.parse("linux/riscv64")])


@given(
    wanted=st.lists(PLATFORMS, min_size=1, max_size=4, unique=True),
    reported=st.lists(st.permutations([AMD64, ARM64, ARM]), min_size=1, max_size=4),
)
def test_every_platform_is_built_once(wanted: list[Platform], reported: list[list[Platform]]) -> None:
    """Whatever the nodes have, each platform is in one share, and emulated only if no node runs it."""
    abilities = [Ability.of(node(f"n{number}"), platforms) for number, platforms in enumerate(reported)]
    if Platform.parse("linux/riscv64") in wanted:
        with pytest.raises(CapabilityError):
            assign(wanted, abilities)
        return

    shares = assign(wanted, abilities)

    assert sorted(wanted) == sorted(platform for share in shares for platform in share.platforms)
    for share in shares:
        for platform in share.platforms:
            runs = any(platform in ability.native for ability in abilities)
            assert runs is (platform not in share.emulated)
