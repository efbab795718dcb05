from __future__ import annotations

from buildkit_builder.buildkit.find.endpoint import Endpoint, split_tcp


def test_split_tcp_keeps_case_and_drops_brackets() -> None:
    """Hosts keep their case; IPv6 hosts lose their brackets."""
    assert ("Host", 1) == split_tcp("tcp://Host:1")
    assert ("::1", 2) == split_tcp("tcp://[::1]:2")


def test_scheme() -> None:
    """An endpoint's scheme is what its address begins with."""
    assert "kube-pod" == Endpoint(address="kube-pod://x?namespace=y", kind="buildkit").scheme
