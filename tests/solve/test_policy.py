from __future__ import annotations

import re

import pytest

from buildkit_builder.solve.policy import mirrors
from buildkit_builder.wire import sourcepolicy_pb2


def applied(policy: sourcepolicy_pb2.Policy, identifier: str) -> str:
    """What the first rule that fits makes of a source, as the daemon's regular expressions have it."""
    for rule in policy.rules:
        found = re.search(rule.selector.identifier, identifier)
        if found:
            return found.expand(re.sub(r"\$\{(\d)\}", r"\\\1", rule.updates.identifier))
    return identifier


@pytest.mark.parametrize(
    ("source", "mirror", "identifier", "expected"),
    [
        ("docker.io", "m.example", "docker.io/library/a:1", "m.example/library/a:1"),
        ("docker.io/", "m.example/hub/", "docker.io/library/a:1", "m.example/hub/library/a:1"),
        ("ghcr.io/astral-sh", "m.example:5000/uv", "ghcr.io/astral-sh/uv:1", "m.example:5000/uv/uv:1"),
        ("ghcr.io/astral-sh", "m.example", "ghcr.io/astral-shop/uv:1", "ghcr.io/astral-shop/uv:1"),
        ("ghcr.io", "m.example", "ghcr-io/a:1", "ghcr-io/a:1"),
        ("ghcr.io", "m.example", "other.example/ghcr.io/a:1", "other.example/ghcr.io/a:1"),
        ("a.example:5000", "[::1]:5000", "a.example:5000/b/c@sha256:00", "[::1]:5000/b/c@sha256:00"),
    ],
)
def test_mirrors(source: str, mirror: str, identifier: str, expected: str) -> None:
    """A mirror stands in for a registry, or for a part of it, and for nothing that is only called alike."""
    policy = mirrors({source: mirror})

    assert policy is not None
    assert f"docker-image://{expected}" == applied(policy, f"docker-image://{identifier}")


def test_only_images() -> None:
    """Sources that are no images are left alone."""
    policy = mirrors({"example.com": "m.example"})

    assert policy is not None
    assert "https://example.com/a" == applied(policy, "https://example.com/a")


def test_the_wire() -> None:
    """Each rule converts, by a regular expression; the policy has the version that daemons know."""
    policy = mirrors({"a.example": "m.example", "b.example": "n.example"})

    assert policy is not None
    assert (1, 2) == (policy.version, len(policy.rules))
    assert {(sourcepolicy_pb2.CONVERT, sourcepolicy_pb2.REGEX)} == {
        (rule.action, rule.selector.match_type) for rule in policy.rules
    }


def test_the_nearest_mirror_wins() -> None:
    """A mirror of a part of a registry goes before that of the whole, in whichever order they are given."""
    for given in (
        {"ghcr.io": "all.example", "ghcr.io/a/b": "ab.example", "ghcr.io/a": "a.example"},
        {"ghcr.io/a": "a.example", "ghcr.io": "all.example", "ghcr.io/a/b": "ab.example"},
    ):
        policy = mirrors(given)
        assert policy is not None
        assert "docker-image://ab.example/c" == applied(policy, "docker-image://ghcr.io/a/b/c")
        assert "docker-image://a.example/c" == applied(policy, "docker-image://ghcr.io/a/c")
        assert "docker-image://all.example/c" == applied(policy, "docker-image://ghcr.io/c")


def test_no_mirrors() -> None:
    """Without mirrors there is no policy, which old daemons do not know."""
    assert mirrors({}) is None
