from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_builder.buildkit.session.hpack import Decoder, Header, HpackError, encode

REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300))))
def test_what_is_encoded_decodes(headers: list[Header]) -> None:
    """Any headers come back as they were."""
    assert headers == Decoder().decode(encode(headers))


def test_huffman_and_dynamic_table() -> None:
    """The requests of RFC 7541 C.4, which share one table, decode one after the other."""
    decoder = Decoder()

    assert decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == REQUEST
    assert [*REQUEST, (b"cache-control", b"no-cache")] == decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf"))
    assert [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ] == decoder.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))


def test_eviction() -> None:
    """A table that the peer has made small forgets its oldest entries (RFC 7541 §4.3)."""
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x01b")

    assert [(b"a", b"b")] == decoder.decode(b"\xbe")
    with pytest.raises(HpackError, match="index 62"):
        decoder.decode(b"\x20\xbe")


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (b"\x80", "index 0"),
        (b"\xff\xff\xff\xff\xff\xff\x7f", "too large"),
        (b"\x40\x05ab", "middle"),
        (b"\x40", "middle"),
        (b"\x3f\xe2\x1f", "larger than the 4096"),
        (b"\x00\x81\x00\x00", "padded"),
        (b"\x00\x84\xff\xff\xff\xff\x00", "end-of-string"),
    ],
)
def test_malformed_blocks(block: bytes, complaint: str) -> None:
    """A block that breaks the rules is refused with a reason."""
    with pytest.raises(HpackError, match=complaint):
        Decoder().decode(block)


def test_size_limit() -> None:
    """A header list that would grow without bound is refused."""
    with pytest.raises(HpackError, match="larger than 100 bytes"):
        Decoder(max_list_size=100).decode(encode([(b"name", b"v" * 100)]))
