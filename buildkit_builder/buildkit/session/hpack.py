"""Header compression of HTTP/2 (RFC 7541), as much as a gRPC server needs.

Decoding is complete. Encoding never uses the dynamic table or Huffman codes: our answers hold a few short headers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cache

Header = tuple[bytes, bytes]

_TABLE_SIZE = 4096  # what a peer may use unless told otherwise; we never tell otherwise
_ENTRY_OVERHEAD = 32  # RFC 7541 §4.1
_END_OF_STRING = 256

# RFC 7541 appendix A, entries 1 to 61; a name alone means an empty value.
_STATIC_TABLE: tuple[Header, ...] = tuple(
    (name, value)
    for name, _, value in (
        entry.partition(b"~")
        for entry in (
            b":authority|:method~GET|:method~POST|:path~/|:path~/index.html|:scheme~http|:scheme~https|:status~200|"
            b":status~204|:status~206|:status~304|:status~400|:status~404|:status~500|accept-charset|"
            b"accept-encoding~gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|"
            b"authorization|cache-control|content-disposition|content-encoding|content-language|content-length|"
            b"content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|"
            b"if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|"
            b"proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|"
            b"strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
        ).split(b"|")
    )
)

# RFC 7541 appendix B. The code is canonical, so the length of each symbol's code (a byte each, symbols 0 to 256) is
# all there is to know.
_CODE_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b0806060605050506"
    "06060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f05060506050606"
    "060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817181816171817171717151617"
    "1617171816151416161717151716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a1819"
    "13151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)


@cache
def _huffman_codes() -> dict[int, int]:
    """Maps each code, with a 1 set before its first bit, to its symbol."""
    codes: dict[int, int] = {}
    code = length = 0
    for symbol in sorted(range(len(_CODE_LENGTHS)), key=lambda symbol: (_CODE_LENGTHS[symbol], symbol)):
        code <<= _CODE_LENGTHS[symbol] - length
        length = _CODE_LENGTHS[symbol]
        codes[1 << length | code] = symbol
        code += 1
    return codes


class HpackError(Exception):
    """A header block breaks the rules of RFC 7541."""


class Decoder:
    """The receiving end of one connection's header compression.

    Attributes:
        max_list_size: Bytes that one decoded header list may take before it is refused.
    """

    def __init__(self, max_list_size: int = 16 << 20) -> None:
        self.max_list_size = max_list_size
        self._table: deque[Header] = deque()
        self._table_size = 0
        self._table_limit = _TABLE_SIZE

    def decode(self, block: bytes) -> list[Header]:
        """Decodes one complete header block.

        Args:
            block: The block's fragments, joined.

        Returns:
            The headers in order; names are as sent (lower case).

        Raises:
            HpackError: The block is malformed, or its headers are larger than `max_list_size`.
        """
        try:
            return self._decode(block)
        except IndexError:
            raise HpackError("a header block ends in the middle of a header") from None

    def _decode(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        position = listed = 0
        while position < len(block):
            first = block[position]
            if first & 0x80:
                index, position = _integer(block, position, 7)
                header = self._entry(index)
            elif first & 0xC0 == 0x40:
                header, position = self._literal(block, position, 6)
                self._remember(header)
            elif first & 0xE0 == 0x20:
                limit, position = _integer(block, position, 5)
                self._resize(limit)
                continue
            else:
                header, position = self._literal(block, position, 4)
            listed += len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD
            if listed > self.max_list_size:
                raise HpackError(f"a header list is larger than {self.max_list_size} bytes")
            headers.append(header)
        return headers

    def _literal(self, block: bytes, position: int, prefix: int) -> tuple[Header, int]:
        index, position = _integer(block, position, prefix)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = self._string(block, position)
        value, position = self._string(block, position)
        return (name, value), position

    def _entry(self, index: int) -> Header:
        if not 0 < index <= len(_STATIC_TABLE) + len(self._table):
            raise HpackError(f"there is no header with index {index}")
        if index <= len(_STATIC_TABLE):
            return _STATIC_TABLE[index - 1]
        return self._table[index - len(_STATIC_TABLE) - 1]

    def _remember(self, header: Header) -> None:
        self._table.appendleft(header)
        self._table_size += len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > _TABLE_SIZE:
            raise HpackError(f"a table of {limit} bytes is larger than the {_TABLE_SIZE} allowed")
        self._table_limit = limit
        self._evict()

    def _evict(self) -> None:
        while self._table_size > self._table_limit:
            name, value = self._table.pop()
            self._table_size -= len(name) + len(value) + _ENTRY_OVERHEAD

    def _string(self, block: bytes, position: int) -> tuple[bytes, int]:
        coded = block[position] & 0x80
        length, position = _integer(block, position, 7)
        end = position + length
        if end > len(block):
            raise HpackError("a header block ends in the middle of a string")
        raw = block[position:end]
        return (_huffman(raw) if coded else raw), end


def _huffman(raw: bytes) -> bytes:
    decoded = bytearray()
    code = 1
    for byte in raw:
        code, symbols = _huffman_step(code, byte)
        decoded += symbols
    # What remains must be fewer than 8 bits, all ones (RFC 7541 §5.2); with the leading 1 that is 2^n - 1.
    if code > 0xFF or code & (code + 1):
        raise HpackError("a string is badly padded")
    return bytes(decoded)


@cache
def _huffman_step(code: int, byte: int) -> tuple[int, bytes]:
    """Goes on from the beginning of a code by 8 bits; returns where that leads, and the symbols on the way.

    Remembered for each beginning there is: bit by bit, a peer's megabytes would hold everything else up for long.
    """
    codes = _huffman_codes()
    symbols = bytearray()
    for shift in (7, 6, 5, 4, 3, 2, 1, 0):
        code = code << 1 | (byte >> shift & 1)
        symbol = codes.get(code)
        if symbol is not None:
            if symbol == _END_OF_STRING:
                raise HpackError("a string holds the end-of-string symbol")
            symbols.append(symbol)
            code = 1
    return code, bytes(symbols)


def encode(headers: Iterable[Header]) -> bytes:
    """Encodes headers as literals that no table remembers.

    Args:
        headers: Names in lower case, and values; pseudo-headers first.

    Returns:
        A complete header block.
    """
    block = bytearray()
    for name, value in headers:
        block.append(0)
        for part in (name, value):
            block += _encode_integer(len(part), 7)
            block += part
    return bytes(block)


def _encode_integer(value: int, prefix: int) -> bytes:
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((value,))
    encoded = bytearray((limit,))
    value -= limit
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    limit = (1 << prefix) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > 28:
            raise HpackError("a number in a header block is too large")
